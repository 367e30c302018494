//! `moecast pass`: one forward pass of full batches, and what overlap, placement or another
//! exchange would change.

pub(crate) mod build;
pub(crate) mod file;
mod timeline;

use std::path::Path;

use anyhow::{Context, Result, bail};
use moecast_profiles::seed::Seed;
use moecast_sim::forward::Mode;
use moecast_sim::forward::estimate::{Estimate, Precision};
use moecast_sim::lanes::Kind;
use serde_json::{Value, json};

use self::build::Built;
use self::file::{PassFile, Passes, Unit};
use crate::cli::{self, Global};
use crate::output::{Output, Table, show_micros};
use crate::variants::{self, Judged, Variant};

/// A variant that was run.
pub(crate) struct Ran {
    pub(crate) name: String,
    pub(crate) built: Built,
    pub(crate) estimate: Estimate,
}

impl Ran {
    /// Draws and runs passes of `variant`; paths in it start at `folder`.
    pub(crate) fn new(
        variant: &Variant<PassFile>,
        folder: &Path,
        mode: Mode,
        precision: Precision,
        seed: Seed,
    ) -> Result<Self> {
        let built = build::build(&variant.typed, folder, seed)
            .with_context(|| format!("variant {}", variant.name))?;
        let estimate = built.forward.estimate(mode, precision);
        Ok(Self { name: variant.name.clone(), built, estimate })
    }

    fn per_gpu(&self) -> f64 {
        self.estimate.tokens_per_second() / f64::from(self.built.gpus)
    }

    fn json(&self) -> Value {
        let Estimate { passes, time, half_width, alone, imbalance, tokens } = &self.estimate;
        let alone: serde_json::Map<String, Value> = Kind::ALL
            .iter()
            .zip(alone)
            .map(|(kind, nanos)| (kind.name().to_owned(), json!(nanos * 1e-3)))
            .collect();
        json!({
            "variant": self.name, "about": self.built.about, "gpus": self.built.gpus,
            "passes": passes, "tokens": tokens, "time_us": time * 1e-3,
            "time_us_ci95": half_width * 1e-3, "alone_us": alone, "imbalance": imbalance,
            "tokens_per_second": self.estimate.tokens_per_second(),
            "tokens_per_second_per_gpu": self.per_gpu(),
        })
    }
}

/// What was published of the variants of `passes` that `ran`.
pub(crate) fn judge(passes: &Passes, ran: &[Ran]) -> Vec<Judged> {
    let of = |name: &str| ran.iter().find(|own| own.name == name).expect("it ran");
    let names: Vec<&str> = ran.iter().map(|own| own.name.as_str()).collect();
    passes.judge(&names, |unit, variant, over| {
        let own = of(variant);
        match unit {
            Unit::PerGpu => own.per_gpu(),
            Unit::PerNode => own.per_gpu() * f64::from(own.built.gpus_per_node),
            Unit::Milliseconds => own.estimate.time * 1e-6,
            Unit::Times => own.per_gpu() / of(over.expect("checked on reading")).per_gpu(),
        }
    })
}

pub(crate) fn run(arguments: &cli::Pass, global: &Global, output: &Output) -> Result<()> {
    let passes = Passes::read(&arguments.file)?;
    let folder = arguments.file.parent().unwrap_or(Path::new(""));
    let precision = Precision { relative: arguments.precision, ..Precision::default() };
    let chosen: Vec<&Variant<PassFile>> = match &arguments.variant {
        None => passes.variants.iter().collect(),
        Some(name) => vec![passes.find("--variant", name)?],
    };
    let mode = arguments.mode.into();
    let bar = output.progress("pass", chosen.len() as u64, crate::output::Measure::Count);
    let mut ran = Vec::new();
    for variant in chosen {
        ran.push(Ran::new(variant, folder, mode, precision, Seed(global.seed))?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let judged = judge(&passes, &ran);
    if let Some(path) = &arguments.timeline {
        let [own] = &ran[..] else {
            bail!("--timeline: {} variants; expected --variant with one", ran.len());
        };
        timeline::write(path, own, arguments.window, output)?;
    }
    let answer = json!({
        "name": passes.name, "about": passes.about, "mode": mode.name(),
        "variants": ran.iter().map(Ran::json).collect::<Vec<_>>(),
        "published": judged.iter().map(Judged::json).collect::<Vec<_>>(),
    });
    if output.json(&answer)? {
        return Ok(());
    }
    print(&passes, mode, &ran, &judged, output)
}

fn print(
    passes: &Passes,
    mode: Mode,
    ran: &[Ran],
    judged: &[Judged],
    output: &Output,
) -> Result<()> {
    output.note(&format!("{}: {} ({} mode)\n", passes.name, passes.about, mode.name()))?;
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| ran.iter().any(|own| own.estimate.alone[*kind as usize] > 0.0))
        .collect();
    let mut headings = vec!["variant", "pass", "tokens/s per GPU", "imbalance"];
    headings.extend(kinds.iter().map(|kind| kind.name()));
    let mut table = Table::new(&headings);
    for own in ran {
        let Estimate { time, half_width, alone, imbalance, .. } = &own.estimate;
        let mut cells = vec![
            own.name.clone(),
            format!("{} ± {:.1}%", show_micros(time * 1e-3), half_width / time * 100.0),
            format!("{:.0}", own.per_gpu()),
            format!("{imbalance:.2}"),
        ];
        cells.extend(kinds.iter().map(|kind| show_micros(alone[*kind as usize] * 1e-3)));
        table.row(cells);
    }
    output.table(&table)?;
    output.note(
        "parts are what their operations take alone, one after the other; the pass is what \
         overlap makes of them",
    )?;
    variants::print(judged, output)?;
    output.details(ran.iter().map(|own| format!("{}: {}", own.name, own.built.about)))
}
