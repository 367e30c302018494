//! Files of a base, variants that change keys of it, and what was published of them; and what was
//! published beside what is simulated. `pass` and `offload` read them, `validate` judges them.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use toml::Table;

use crate::keys;
use crate::output::{Output, Table as Printed};

/// What a variant is, as typed.
pub(crate) trait Typed: DeserializeOwned {
    /// Keys that are a name or a table: a variant that changes an entry drops the name.
    const NAMES_OR_TABLES: &'static [&'static str];
    /// What a published figure counts.
    type Unit: Unit;
}

/// What a published figure counts.
pub(crate) trait Unit: Copy + DeserializeOwned + Serialize {
    /// Whether it is a ratio to another variant.
    fn relative(self) -> bool;
    /// Digits behind the point.
    fn digits(self) -> usize;
}

/// A file as typed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTyped<U> {
    name: String,
    about: String,
    /// Keys of a variant.
    base: Table,
    #[serde(default)]
    variants: Vec<VariantTyped>,
    #[serde(default = "Vec::new")]
    published: Vec<Published<U>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VariantTyped {
    name: String,
    #[serde(default)]
    set: Table,
}

/// Variants of one system, and what was published of them.
pub(crate) struct Suite<T: Typed> {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) variants: Vec<Variant<T>>,
    pub(crate) published: Vec<Published<T::Unit>>,
}

/// One of them, by name.
pub(crate) struct Variant<T> {
    pub(crate) name: String,
    pub(crate) typed: T,
}

/// A figure that somebody measured.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Published<U> {
    pub(crate) variant: String,
    /// What it is compared with, where the unit is a ratio.
    #[serde(default)]
    pub(crate) over: Option<String>,
    pub(crate) unit: U,
    pub(crate) measured: f64,
    pub(crate) source: String,
    /// Absolute error that it may not exceed: what it was when somebody last looked.
    #[serde(default)]
    pub(crate) error_max: Option<f64>,
    /// What the source does not say, or moecast does not do.
    #[serde(default)]
    pub(crate) assumed: Vec<String>,
}

impl<T: Typed> Suite<T> {
    /// Reads the file at `path`.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        Self::resolve(keys::read_toml(path)?).context(shown)
    }

    /// Reads a file that ships with moecast.
    pub(crate) fn parse(text: &str, name: &str) -> Result<Self> {
        let typed = toml::from_str(text).with_context(|| name.to_owned())?;
        Self::resolve(typed).with_context(|| name.to_owned())
    }

    fn resolve(typed: FileTyped<T::Unit>) -> Result<Self> {
        let FileTyped { name, about, base, variants, published } = typed;
        let mut found: Vec<Variant<T>> = Vec::new();
        let all = if variants.is_empty() {
            vec![VariantTyped { name: name.clone(), set: Table::new() }]
        } else {
            variants
        };
        for VariantTyped { name, set } in all {
            let twice = found.iter().any(|own| own.name == name);
            ensure!(!twice, "variant {name}: twice; expected another name");
            let typed = changed(&base, set).with_context(|| format!("variant {name}"))?;
            found.push(Variant { name, typed });
        }
        let suite = Self { name, about, variants: found, published };
        suite.check()?;
        Ok(suite)
    }

    fn check(&self) -> Result<()> {
        for Published { variant, over, unit, measured, .. } in &self.published {
            for name in std::iter::once(variant).chain(over) {
                self.find("published: variant", name)?;
            }
            ensure!(
                *measured > 0.0 && measured.is_finite(),
                "published of {variant}: measured {measured}; expected a number above 0"
            );
            ensure!(
                unit.relative() == over.is_some(),
                "published of {variant}: over; expected with the unit times, and with no other"
            );
        }
        Ok(())
    }

    /// The variant `name`, which `place` asks for.
    pub(crate) fn find(&self, place: &str, name: &str) -> Result<&Variant<T>> {
        let Some(found) = self.variants.iter().find(|own| own.name == name) else {
            let names: Vec<&str> = self.variants.iter().map(|own| own.name.as_str()).collect();
            bail!("{place} {name}; expected one of {}", names.join(", "));
        };
        Ok(found)
    }

    /// What was published of variants that ran, beside what `simulated` says of a variant and the
    /// one that it is over.
    pub(crate) fn judge(
        &self,
        ran: &[&str],
        simulated: impl Fn(T::Unit, &str, Option<&str>) -> f64,
    ) -> Vec<Judged> {
        let has = |name: &String| ran.contains(&name.as_str());
        let all = self.published.iter();
        all.filter(|own| has(&own.variant) && own.over.as_ref().is_none_or(has))
            .map(|own| {
                let simulated = simulated(own.unit, &own.variant, own.over.as_deref());
                Judged::new(&self.name, own, simulated)
            })
            .collect()
    }
}

/// `base` with the keys of `set`.
fn changed<T: Typed>(base: &Table, set: Table) -> Result<T> {
    let (mut table, changes) = (base.clone(), keys::flat(set));
    for (key, value) in &changes {
        let first = key.split('.').next().unwrap_or_default();
        let either = T::NAMES_OR_TABLES.contains(&first) && first.len() < key.len();
        if either && table.get(first).is_some_and(|own| !own.is_table()) {
            table.remove(first);
        }
        keys::set(&mut table, key, value.clone())?;
    }
    table.try_into().map_err(|error| keys::explained(&error, &changes))
}

/// A published figure beside the simulated one.
pub(crate) struct Judged {
    pub(crate) system: String,
    pub(crate) title: String,
    variant: String,
    over: Option<String>,
    unit: Value,
    digits: usize,
    pub(crate) relative: bool,
    pub(crate) measured: f64,
    pub(crate) simulated: f64,
    pub(crate) source: String,
    pub(crate) assumed: Vec<String>,
    error_max: Option<f64>,
}

impl Judged {
    fn new<U: Unit>(system: &str, published: &Published<U>, simulated: f64) -> Self {
        let Published { variant, over, unit, measured, source, error_max, assumed } =
            published.clone();
        Self {
            system: system.to_owned(),
            title: match &over {
                Some(over) => format!("{variant} over {over}"),
                None => variant.clone(),
            },
            variant,
            over,
            unit: serde_json::to_value(unit).unwrap_or_default(),
            digits: unit.digits(),
            relative: unit.relative(),
            measured,
            simulated,
            source,
            assumed,
            error_max,
        }
    }

    pub(crate) fn error(&self) -> f64 {
        self.simulated / self.measured - 1.0
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "system": self.system, "variant": self.variant, "over": self.over, "unit": self.unit,
            "measured": self.measured, "predicted": self.simulated, "error": self.error(),
            "source": self.source, "assumed": self.assumed,
        })
    }

    /// What is worse than the file says it was.
    pub(crate) fn worsened(&self) -> Option<String> {
        let (error, most) = (self.error() * 100.0, self.error_max? * 100.0);
        let title = &self.title;
        (error.abs() > most)
            .then(|| format!("{title}: off by {error:+.1}%; expected at most {most:.1}%"))
    }
}

/// Published figures as a table.
pub(crate) fn table(judged: &[&Judged]) -> Printed {
    let mut table = Printed::new(&["system", "figure", "unit", "published", "simulated", "error"]);
    for row in judged {
        let digits = |value: f64| format!("{value:.*}", row.digits);
        table.row([
            row.system.clone(),
            row.title.clone(),
            row.unit.as_str().unwrap_or_default().to_owned(),
            digits(row.measured),
            digits(row.simulated),
            format!("{:+.1}%", row.error() * 100.0),
        ]);
    }
    table
}

/// Published figures and what was assumed for them, below the variants that ran.
pub(crate) fn print(judged: &[Judged], output: &Output) -> Result<()> {
    if judged.is_empty() {
        return Ok(());
    }
    output.note("")?;
    output.table(&table(&judged.iter().collect::<Vec<_>>()))?;
    let mut assumed: Vec<&String> = judged.iter().flat_map(|row| &row.assumed).collect();
    assumed.dedup();
    assumed.into_iter().try_for_each(|line| output.note(&format!("assumed: {line}")))
}
