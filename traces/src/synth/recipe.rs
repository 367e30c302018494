//! The named knobs of the generative model.

use moecast_profiles::registry::find;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How popular the experts of a layer are, over everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Popularity {
    /// Weights `exp(skew * z)`, z the quantiles of a standard normal.
    LogNormal,
    /// Weights `load ^ skew` of the loads in [`Recipe::loads`], expert by expert.
    Recorded,
    /// Weights `1 / rank^skew`.
    Zipf,
}

/// Who chooses: tokens their experts, or experts their tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// Every token its `top_k` experts.
    #[default]
    Token,
    /// Every expert the same number of a request's tokens, of the prompt and of the answer.
    Expert,
}

impl Choice {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde wants")]
    fn is_token(&self) -> bool {
        *self == Self::Token
    }
}

/// What makes a synthetic trace; every number can be set by its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Shape of the popularity of experts.
    pub popularity: Popularity,
    /// Who chooses.
    #[serde(skip_serializing_if = "Choice::is_token")]
    pub choice: Choice,
    /// [`KNOBS`] says what the numbers do.
    pub skew: f64,
    /// Of `skew`, between layers.
    pub skew_spread: f64,
    /// Between domains.
    pub domain_skew: f64,
    /// Between requests.
    pub request_skew: f64,
    /// Of prompt tokens.
    pub memory: f64,
    /// Of generated tokens.
    pub decode_memory: f64,
    /// Of memory.
    pub decay: f64,
    /// Of layers.
    pub affinity: f64,
    /// Of popularity.
    pub drift: f64,
    /// Of picks.
    #[serde(skip_serializing_if = "is_zero")]
    pub skipped: f64,
    /// Number of domains; requests are of one each, in turn.
    pub domains: u16,
    /// `[M][E]` recorded picks of every expert, with [`Popularity::Recorded`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub loads: Vec<Vec<u64>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde wants")]
fn is_zero(share: &f64) -> bool {
    *share == 0.0
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            popularity: Popularity::LogNormal,
            choice: Choice::Token,
            skew: 1.0,
            skew_spread: 0.0,
            domain_skew: 0.5,
            request_skew: 0.5,
            memory: 0.5,
            decode_memory: 0.5,
            decay: 1.4,
            affinity: 0.2,
            drift: 0.0,
            skipped: 0.0,
            domains: 4,
            loads: Vec::new(),
        }
    }
}

/// Most domains: each has popularity of its own.
pub const DOMAINS_MAX: u16 = 256;

/// A knob that is a number.
pub struct Knob {
    /// Name as typed.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Smallest and largest valid value.
    pub range: (f64, f64),
    /// The value in a recipe.
    pub of: fn(&mut Recipe) -> &mut f64,
}

moecast_profiles::named!(Knob);

const SHARE: (f64, f64) = (0.0, 0.99);
const SKEW: (f64, f64) = (0.0, 8.0);

/// Every knob that is a number, alphabetical.
pub const KNOBS: &[Knob] = &[
    Knob {
        name: "affinity",
        about: "share of fresh picks that follow the pick of the layer before; also the \
                correlation of popularity from layer to layer",
        range: (0.0, 1.0),
        of: |recipe| &mut recipe.affinity,
    },
    Knob {
        name: "decay",
        about: "how fast memory fades: the token d tokens ago is repeated with weight 1 / d^decay",
        range: (0.0, 8.0),
        of: |recipe| &mut recipe.decay,
    },
    Knob {
        name: "decode_memory",
        about: "share of a generated token's picks that repeat a pick of an earlier token",
        range: SHARE,
        of: |recipe| &mut recipe.decode_memory,
    },
    Knob {
        name: "domain_skew",
        about: "deviation of the experts' log weights between domains; 0 makes domains alike",
        range: SKEW,
        of: |recipe| &mut recipe.domain_skew,
    },
    Knob {
        name: "drift",
        about: "turn of popularity from the first request to the last; 1 ends at an unrelated one",
        range: (0.0, 1.0),
        of: |recipe| &mut recipe.drift,
    },
    Knob {
        name: "memory",
        about: "share of a prompt token's picks that repeat a pick of an earlier token",
        range: SHARE,
        of: |recipe| &mut recipe.memory,
    },
    Knob {
        name: "request_skew",
        about: "deviation of the experts' log weights between requests of a domain",
        range: SKEW,
        of: |recipe| &mut recipe.request_skew,
    },
    Knob {
        name: "skew",
        about: "popularity over everything: deviation of the log weights, or Zipf's exponent; 0 \
                is even",
        range: SKEW,
        of: |recipe| &mut recipe.skew,
    },
    Knob {
        name: "skew_spread",
        about: "deviation of the logarithm of `skew` between layers; 0 makes layers alike",
        range: (0.0, 2.0),
        of: |recipe| &mut recipe.skew_spread,
    },
    Knob {
        name: "skipped",
        about: "share of picks that go to no expert that computes: the number of a token's \
                experts is binomial, as with null experts or routing by a threshold",
        range: (0.0, 1.0),
        of: |recipe| &mut recipe.skipped,
    },
];

impl Recipe {
    /// Sets the knob called `name`.
    ///
    /// # Errors
    /// When there is no such knob or the value is out of its range; nothing is changed then.
    pub fn set(&mut self, name: &str, value: f64) -> Result<()> {
        let knob = find("knob", KNOBS, name)?;
        let mut changed = self.clone();
        *(knob.of)(&mut changed) = value;
        changed.check("--set")?;
        *self = changed;
        Ok(())
    }

    /// Sets a knob as typed, `NAME=VALUE`: a number, `popularity=zipf` or `domains=2`.
    ///
    /// # Errors
    /// When it is not of that form, and as [`Self::set`].
    pub fn set_text(&mut self, text: &str) -> Result<()> {
        let refuse = |found: &str, expected: &str| {
            Err(Error::invalid("--set", text.escape_debug().to_string(), found, expected))
        };
        let Some((name, value)) = text.split_once('=').map(|(n, v)| (n.trim(), v.trim())) else {
            return refuse("no `=`", "NAME=VALUE");
        };
        match name {
            "popularity" => {
                self.popularity = match value {
                    "log-normal" => Popularity::LogNormal,
                    "zipf" => Popularity::Zipf,
                    _ => return refuse(value, "log-normal or zipf"),
                };
                self.loads.clear();
            }
            "choice" => {
                self.choice = match value {
                    "expert" => Choice::Expert,
                    "token" => Choice::Token,
                    _ => return refuse(value, "expert or token"),
                };
            }
            "domains" => match value.parse() {
                Ok(count @ 1..=DOMAINS_MAX) => self.domains = count,
                _ => return refuse(value, &format!("1 to {DOMAINS_MAX}")),
            },
            _ => match value.parse() {
                Ok(number) => self.set(name, number)?,
                Err(_) => return refuse(value, "a number"),
            },
        }
        Ok(())
    }

    /// Checks every knob. `path` is named in the error.
    ///
    /// # Errors
    /// When a knob is outside its range.
    pub fn check(&self, path: &str) -> Result<()> {
        let mut copy = self.clone();
        let refuse = |name: &str, found: String, expected: String| {
            Err(Error::invalid(path, format!("knob `{name}`"), found, expected))
        };
        for knob in KNOBS {
            let value = *(knob.of)(&mut copy);
            let (low, high) = knob.range;
            if !(low..=high).contains(&value) {
                return refuse(knob.name, value.to_string(), format!("{low} to {high}"));
            }
        }
        if !(1..=DOMAINS_MAX).contains(&self.domains) {
            return refuse("domains", self.domains.to_string(), format!("1 to {DOMAINS_MAX}"));
        }
        if (self.popularity == Popularity::Recorded) == self.loads.is_empty() {
            let found = format!("{} layers", self.loads.len());
            return refuse("loads", found, "layers of loads with `recorded` only".to_owned());
        }
        Ok(())
    }

    /// Checks that recorded loads are of `layers` x `experts`. `path` is named in the error.
    ///
    /// # Errors
    /// When they are not.
    pub fn check_shape(&self, layers: usize, experts: u16, path: &str) -> Result<()> {
        let wide = |row: &&Vec<u64>| row.len() != usize::from(experts);
        let wrong = self.loads.iter().find(wide).map(Vec::len);
        if self.loads.is_empty() || (self.loads.len() == layers && wrong.is_none()) {
            return Ok(());
        }
        let found = format!("{} layers x {}", self.loads.len(), wrong.unwrap_or(experts.into()));
        let expected = format!("{layers} layers x {experts} experts");
        Err(Error::invalid(path, "knob `loads`", found, expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knobs_are_alphabetical_and_the_default_is_in_range() {
        assert!(KNOBS.is_sorted_by(|a, b| a.name < b.name));
        Recipe::default().check("test").unwrap();
    }

    #[test]
    fn a_wrong_knob_is_told_in_one_line() {
        let mut recipe = Recipe::default();
        let answer = recipe.set("skwe", 1.0).unwrap_err().to_string();
        assert!(answer.contains("did you mean `skew`?"), "{answer}");
        let answer = recipe.set("memory", 1.5).unwrap_err().to_string();
        assert_eq!(answer, "--set: knob `memory`: 1.5; expected 0 to 0.99");
        let answer = recipe.set("skew", f64::NAN).unwrap_err().to_string();
        assert_eq!(answer, "--set: knob `skew`: NaN; expected 0 to 8");
        let mut answer = |text| recipe.set_text(text).unwrap_err().to_string();
        assert_eq!(answer("skew"), "--set: skew: no `=`; expected NAME=VALUE");
        assert_eq!(answer("skew=x"), "--set: skew=x: x; expected a number");
        assert_eq!(answer("domains=0"), "--set: domains=0: 0; expected 1 to 256");
        let expected = "--set: popularity=even: even; expected log-normal or zipf";
        assert_eq!(answer("popularity=even"), expected);
        assert_eq!(recipe, Recipe::default());
        recipe.set_text("popularity=zipf").unwrap();
        recipe.set_text("domains = 2").unwrap();
        assert_eq!((recipe.popularity, recipe.domains), (Popularity::Zipf, 2));
    }
}
