//! How long generated prompts and answers are.

use std::fmt;
use std::str::FromStr;

use moecast_profiles::seed::{Generator, Seed};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::random::normal;
use crate::requests::load::RequestLengths;
use crate::requests::trace::{RequestHeader, RequestTrace};

/// Longest prompt or answer that is generated, in tokens.
pub const LENGTH_MAX: u32 = 1 << 24;

/// Lengths of generated requests.
#[derive(Clone, Copy, Debug)]
pub enum Lengths<'a> {
    /// Prompts and answers are drawn independently of each other.
    Drawn {
        /// Prompts.
        input: Length,
        /// Answers.
        output: Length,
    },
    /// Prompt and answer of a request drawn at random, with replacement, from a trace: whatever
    /// they have to do with each other is kept. Shared prefixes are not.
    Recorded(&'a RequestTrace),
}

/// Distribution of a length, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Length {
    /// Always the same.
    Fixed {
        /// Tokens.
        tokens: u32,
    },
    /// Log-normal, rounded and kept between 1 and [`LENGTH_MAX`].
    LogNormal {
        /// Mean in tokens.
        mean: f64,
        /// Coefficient of variation: standard deviation over mean.
        cv: f64,
    },
    /// Uniform over the whole numbers from `low` to `high` times `nominal`, both rounded down and
    /// at least 1, as the random ranges of serving benchmarks (InferenceX: 0.8 to 1).
    Uniform {
        /// Tokens.
        nominal: u32,
        /// Shortest, as a share of `nominal`.
        low: f64,
        /// Longest, as a share of `nominal`.
        high: f64,
    },
}

impl Lengths<'_> {
    /// # Errors
    /// When a distribution has a parameter out of range.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Drawn { input, output } => {
                input.check("input length")?;
                output.check("output length")
            }
            Self::Recorded(_) => Ok(()),
        }
    }

    pub(super) fn sampler(&self, seed: Seed) -> Sampler<'_> {
        Sampler {
            lengths: self,
            input: seed.stream("lengths/input"),
            output: seed.stream("lengths/output"),
            recorded: seed.stream("lengths/recorded"),
            clamped: 0,
        }
    }
}

impl Length {
    fn check(&self, which: &str) -> Result<()> {
        let tokens = 1..=LENGTH_MAX;
        let (place, found, expected) = match *self {
            Self::Fixed { tokens: found } if !tokens.contains(&found) => {
                ("tokens", found.to_string(), format!("1 to {LENGTH_MAX}"))
            }
            Self::LogNormal { mean, .. } if !(1.0..=f64::from(LENGTH_MAX)).contains(&mean) => {
                ("mean", mean.to_string(), format!("1 to {LENGTH_MAX} tokens"))
            }
            Self::LogNormal { cv, .. } if !(0.0..=10.0).contains(&cv) => {
                ("cv", cv.to_string(), "0 to 10".to_owned())
            }
            Self::Uniform { nominal, .. } if !tokens.contains(&nominal) => {
                ("nominal", nominal.to_string(), format!("1 to {LENGTH_MAX} tokens"))
            }
            Self::Uniform { low, high, .. } if !(low >= 0.0 && low <= high && high <= 2.0) => {
                let expected = "0 <= low <= high <= 2: shares of the nominal length";
                ("low and high", format!("{low} and {high}"), expected.to_owned())
            }
            Self::Fixed { .. } | Self::LogNormal { .. } | Self::Uniform { .. } => return Ok(()),
        };
        Err(Error::invalid(which, place, found, expected))
    }

    /// A length, and whether it had to be moved between 1 and [`LENGTH_MAX`].
    fn draw(&self, bits: &mut Generator) -> (u32, bool) {
        match *self {
            Self::Fixed { tokens } => (tokens, false),
            Self::Uniform { nominal, low, high } => {
                let share = |share: f64| whole((f64::from(nominal) * share).floor()).0;
                (bits.random_range(share(low)..=share(high)), false)
            }
            Self::LogNormal { mean, cv } => {
                let variance = libm::log1p(cv * cv);
                let center = libm::log(mean) - variance / 2.0;
                whole(libm::exp(center + variance.sqrt() * normal(bits)).round())
            }
        }
    }
}

/// A whole float as a length, and whether it had to be moved between 1 and [`LENGTH_MAX`].
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
fn whole(tokens: f64) -> (u32, bool) {
    let clamped = tokens.clamp(1.0, f64::from(LENGTH_MAX));
    (clamped as u32, clamped.to_bits() != tokens.to_bits())
}

/// Draws lengths, each kind from its own stream.
pub(super) struct Sampler<'a> {
    lengths: &'a Lengths<'a>,
    input: Generator,
    output: Generator,
    recorded: Generator,
    clamped: u64,
}

impl Sampler<'_> {
    pub(super) fn draw(&mut self) -> RequestLengths {
        match self.lengths {
            Lengths::Drawn { input, output } => {
                let (input_tokens, input_clamped) = input.draw(&mut self.input);
                let (output_tokens, output_clamped) = output.draw(&mut self.output);
                self.clamped += u64::from(input_clamped) + u64::from(output_clamped);
                RequestLengths { input_tokens, output_tokens }
            }
            Lengths::Recorded(trace) => {
                let index = self.recorded.random_range(0..trace.count() as u64);
                let request = trace.get(usize::try_from(index).expect("an index of memory"));
                RequestLengths {
                    input_tokens: request.input_tokens,
                    output_tokens: request.output_tokens,
                }
            }
        }
    }

    /// Says in `header` what the lengths cost in truth.
    pub(super) fn remark(&self, header: &mut RequestHeader) {
        header.count(self.clamped, &format!("lengths moved between 1 and {LENGTH_MAX} tokens"));
        if let Lengths::Recorded(trace) = self.lengths {
            header.inputs.clone_from(&trace.header().inputs);
            if trace.block_count() > 0 {
                header.remarks.push("the prefixes of the recorded requests are lost".to_owned());
            }
        }
    }
}

impl fmt::Display for Lengths<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drawn { input, output } => write!(f, "input {input}, output {output}"),
            Self::Recorded(trace) => {
                let source = &trace.header().source;
                write!(f, "lengths drawn from {} requests of {source}", trace.count())
            }
        }
    }
}

impl FromStr for Length {
    type Err = Error;

    /// Reads `512`, `lognormal:MEAN,CV` or `uniform:NOMINAL,LOW,HIGH`.
    fn from_str(text: &str) -> Result<Self> {
        let (kind, numbers) = text.split_once(':').unwrap_or(("fixed", text));
        let numbers: Option<Vec<f64>> =
            numbers.split(',').map(|number| number.trim().parse().ok()).collect();
        let whole = |number: f64| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
            let tokens = number as u32;
            (number == f64::from(tokens)).then_some(tokens)
        };
        let length = match (kind, numbers.as_deref()) {
            ("fixed", Some(&[tokens])) => whole(tokens).map(|tokens| Self::Fixed { tokens }),
            ("lognormal", Some(&[mean, cv])) => Some(Self::LogNormal { mean, cv }),
            ("uniform", Some(&[nominal, low, high])) => {
                whole(nominal).map(|nominal| Self::Uniform { nominal, low, high })
            }
            _ => None,
        };
        let length = length.ok_or_else(|| {
            let expected = "TOKENS, lognormal:MEAN,CV or uniform:TOKENS,LOW,HIGH";
            Error::invalid("length", "distribution", text.escape_debug().to_string(), expected)
        })?;
        length.check("length")?;
        Ok(length)
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed { tokens } => write!(f, "fixed {tokens}"),
            Self::LogNormal { mean, cv } => write!(f, "log-normal of mean {mean} and CV {cv}"),
            Self::Uniform { nominal, low, high } => {
                write!(f, "uniform from {low} to {high} of {nominal}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_typed() {
        let read = |text: &str| text.parse::<Length>().map_err(|error| error.to_string());
        assert_eq!(read("512"), Ok(Length::Fixed { tokens: 512 }));
        assert_eq!(read("lognormal:800,1.2"), Ok(Length::LogNormal { mean: 800.0, cv: 1.2 }));
        let uniform = Length::Uniform { nominal: 1024, low: 0.8, high: 1.0 };
        assert_eq!(read("uniform:1024,0.8,1"), Ok(uniform));
        for wrong in ["", "0", "1.5", "-3", "lognormal:800", "uniform:1,2,1", "zipf:3", "nan"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
