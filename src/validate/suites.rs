//! Published figures of whole systems: files of passes, and what was measured of them.

use std::path::Path;

use anyhow::{Result, bail};
use moecast_profiles::seed::Seed;
use moecast_sim::forward::Mode;
use moecast_sim::forward::estimate::Precision;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::Errors;
use crate::cli::{self, Global};
use crate::keys;
use crate::offload;
use crate::offload::file::Offloads;
use crate::output::{Output, one_line};
use crate::pass::file::Passes;
use crate::pass::{self, Ran};
use crate::variants::{Judged, Suite, Typed, Variant, table};

/// Systems that ship with moecast: a name for errors, and the file.
const SHIPPED: &[(&str, &str)] = &[
    ("deepseek-h800", include_str!("../../examples/systems/deepseek-h800.toml")),
    ("exflow", include_str!("../../examples/systems/exflow.toml")),
    ("flashmoe", include_str!("../../examples/systems/flashmoe.toml")),
    ("fsmoe", include_str!("../../examples/systems/fsmoe.toml")),
    ("hecate", include_str!("../../examples/systems/hecate.toml")),
    ("sglang-96-h100", include_str!("../../examples/systems/sglang-96-h100.toml")),
    ("sglang-gb200", include_str!("../../examples/systems/sglang-gb200.toml")),
    ("tutel", include_str!("../../examples/systems/tutel.toml")),
];

/// Machines with experts in several memories that ship with moecast.
const SHIPPED_OFFLOADS: &[(&str, &str)] = &[
    ("hobbit", include_str!("../../examples/offload/hobbit.toml")),
    ("hybrimoe", include_str!("../../examples/offload/hybrimoe.toml")),
    ("ktransformers", include_str!("../../examples/offload/ktransformers.toml")),
    ("pre-gated", include_str!("../../examples/offload/pre-gated.toml")),
    ("sn40l", include_str!("../../examples/offload/sn40l.toml")),
];

/// A file of either kind.
enum Kind {
    Passes(Passes),
    Offloads(Offloads),
}

impl Kind {
    fn read(path: &Path) -> Result<Self> {
        let typed: toml::Table = keys::read_toml(path)?;
        if keys::find(&typed, "base.machine").is_some() {
            return Ok(Self::Offloads(Offloads::read(path)?));
        }
        Ok(Self::Passes(Passes::read(path)?))
    }

    fn shipped() -> Result<Vec<Self>> {
        let passes =
            SHIPPED.iter().map(|(name, text)| Ok(Self::Passes(Passes::parse(text, name)?)));
        let offloads = SHIPPED_OFFLOADS.iter();
        let offloads =
            offloads.map(|(name, text)| Ok(Self::Offloads(Offloads::parse(text, name)?)));
        passes.chain(offloads).collect()
    }

    fn names(&self) -> (&str, &str) {
        match self {
            Self::Passes(suite) => (&suite.name, &suite.about),
            Self::Offloads(suite) => (&suite.name, &suite.about),
        }
    }

    fn outcome(&self, folder: &Path, seed: Seed) -> Outcome {
        match self {
            Self::Passes(suite) => {
                let run = |variant: &Variant<_>| {
                    Ran::new(variant, folder, Mode::Step, Precision::default(), seed)
                };
                outcome(suite, run, pass::judge)
            }
            Self::Offloads(suite) => {
                let run = |variant: &Variant<_>| offload::Ran::new(variant, folder, seed);
                outcome(suite, run, offload::judge)
            }
        }
    }
}

/// What came of one file.
struct Outcome {
    judged: Vec<Judged>,
    /// Variants that could not be run, and why.
    skipped: Vec<(String, String)>,
}

pub(super) fn run(arguments: &cli::Validate, global: &Global, output: &Output) -> Result<()> {
    let (suites, folder) = match &arguments.suite {
        Some(path) => (vec![Kind::read(path)?], path.parent().unwrap_or(Path::new(""))),
        None => (Kind::shipped()?, Path::new("")),
    };
    let spinner = output.spinner("validate");
    let outcomes: Vec<Outcome> =
        suites.iter().map(|suite| suite.outcome(folder, Seed(global.seed))).collect();
    spinner.finish_and_clear();
    answer(&suites, &outcomes, output)?;
    let all: Vec<&Judged> = outcomes.iter().flat_map(|outcome| &outcome.judged).collect();
    let worse: Vec<String> = all.iter().filter_map(|row| row.worsened()).collect();
    match worse.first() {
        Some(first) => bail!("{first}; {} of {} figures are worse", worse.len(), all.len()),
        None => Ok(()),
    }
}

fn outcome<T: Typed + Sync, R: Send>(
    suite: &Suite<T>,
    run: impl Fn(&Variant<T>) -> Result<R> + Sync + Send,
    judge: impl Fn(&Suite<T>, &[R]) -> Vec<Judged>,
) -> Outcome
where
    T::Unit: Sync,
{
    let runs: Vec<Result<R>> = suite.variants.par_iter().map(run).collect();
    let (mut ran, mut skipped) = (Vec::new(), Vec::new());
    for (variant, run) in suite.variants.iter().zip(runs) {
        match run {
            Ok(own) => ran.push(own),
            Err(error) => skipped.push((variant.name.clone(), one_line(&error))),
        }
    }
    Outcome { judged: judge(suite, &ran), skipped }
}

fn answer(suites: &[Kind], outcomes: &[Outcome], output: &Output) -> Result<()> {
    let all: Vec<&Judged> = outcomes.iter().flat_map(|outcome| &outcome.judged).collect();
    let of = |times: bool| {
        let own = all.iter().filter(|row| row.relative == times);
        Errors::of(own.map(|row| row.error()))
    };
    let (throughput, speed_ups) = (of(false), of(true));
    if output.wants_json() {
        let rows: Vec<Value> = all.iter().map(|row| row.json()).collect();
        let skipped = suites.iter().zip(outcomes).flat_map(|(suite, outcome)| {
            let one = |(variant, why): &(String, String)| {
                json!({ "system": suite.names().0, "variant": variant, "reason": why })
            };
            outcome.skipped.iter().map(one)
        });
        let skipped: Vec<Value> = skipped.collect();
        let summary = json!({ "throughput": throughput, "times": speed_ups });
        output.json(&json!({ "summary": summary, "rows": rows, "skipped": skipped }))?;
        return Ok(());
    }
    for suite in suites {
        let (name, about) = suite.names();
        output.note(&format!("{name}: {about}"))?;
    }
    output.note("")?;
    output.table(&table(&all))?;
    for (what, errors) in [("throughputs", throughput), ("ratios", speed_ups)] {
        if errors.count > 0 {
            output.note(&format!(
                "\n{} {what}: median error {:.1}%, within 20%: {:.0}%",
                errors.count,
                errors.median_ape * 100.0,
                errors.within_20 * 100.0
            ))?;
        }
    }
    output.note("no constant was fitted on any of them")?;
    for row in &all {
        output.note(&format!("note: {}: {}", row.title, row.source))?;
        for assumed in &row.assumed {
            output.note(&format!("      assumed: {assumed}"))?;
        }
    }
    for (variant, why) in outcomes.iter().flat_map(|outcome| &outcome.skipped) {
        output.note(&format!("skipped: {variant}: {why}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `moecast validate` runs them all and holds their bounds; here the smallest one is run.
    #[test]
    fn shipped_systems_are_sound_and_one_is_within_its_bounds() {
        for (name, text) in SHIPPED {
            let suite = Passes::parse(text, name).unwrap();
            assert_eq!(suite.name, *name);
            assert!(suite.published.iter().all(|own| own.error_max.is_some()), "{name}");
        }
        for (name, text) in SHIPPED_OFFLOADS {
            let suite = Offloads::parse(text, name).unwrap();
            assert_eq!(suite.name, *name);
            assert!(suite.published.iter().all(|own| own.error_max.is_some()), "{name}");
        }
        let (name, text) = SHIPPED.iter().find(|(name, _)| *name == "sglang-gb200").unwrap();
        let mut suite = Passes::parse(text, name).unwrap();
        suite.variants.truncate(1);
        let Outcome { judged, skipped } = Kind::Passes(suite).outcome(Path::new(""), Seed(0));
        assert!(skipped.is_empty() && judged.len() == 2, "{skipped:?}");
        for row in &judged {
            assert_eq!(row.worsened(), None);
        }
    }

    #[test]
    fn wrong_files_are_answered_in_a_line() {
        let (_, right) = SHIPPED.iter().find(|(name, _)| *name == "sglang-96-h100").unwrap();
        for (from, to, expected) in [
            ("measured = 57674", "measured = 0", "measured 0; expected a number above 0"),
            (
                "batch.requests = 16 }",
                "batch.request = 16 }",
                "unknown; did you mean `batch.requests`",
            ),
            (
                "over = \"decode EP72, 256 requests, unbalanced\"",
                "over = \"x\"",
                "variant x; expected one of",
            ),
        ] {
            let error = Passes::parse(&right.replacen(from, to, 1), "own.toml").err().unwrap();
            let said = format!("{error:#}");
            assert!(said.contains(expected) && said.lines().count() == 1, "{said}");
        }
    }
}
