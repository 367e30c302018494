//! `moecast offload`: experts in GPU memory, host memory and storage; who is copied, when, and who
//! computes what is missing.

pub(crate) mod build;
pub(crate) mod file;
pub(crate) mod routing;

use std::path::Path;

use anyhow::{Context, Result};
use moecast_profiles::seed::Seed;
use moecast_profiles::units::Bytes;
use moecast_sim::offload::{Run, Summary};
use rayon::prelude::*;
use serde_json::{Value, json};

use self::build::Built;
use self::file::{OffloadFile, Offloads, Unit};
use crate::cli::{self, Global};
use crate::output::{Measure, Output, Table};
use crate::variants::{self, Judged, Variant};

/// A variant that was run.
pub(crate) struct Ran {
    pub(crate) name: String,
    pub(crate) built: Built,
    pub(crate) run: Run,
    pub(crate) summary: Summary,
}

impl Ran {
    pub(crate) fn new(variant: &Variant<OffloadFile>, folder: &Path, seed: Seed) -> Result<Self> {
        let at = || format!("variant {}", variant.name);
        let built = build::build(&variant.typed, folder, seed).with_context(at)?;
        let run = built.run().with_context(at)?;
        Ok(Self { name: variant.name.clone(), summary: run.summary(), run, built })
    }

    fn memory_max(&self) -> u64 {
        self.built.memory_max(&self.run)
    }

    fn json(&self) -> Result<Value> {
        let mut object = serde_json::to_value(&self.summary)?;
        object["variant"] = json!(self.name);
        object["about"] = json!(self.built.about);
        object["prefetcher"] = json!(self.built.setup.prefetcher.name);
        object["prefetch_accuracy"] = json!(self.built.setup.prefetcher.accuracy.name());
        object["gpu_memory_bytes_max"] = json!(self.memory_max());
        object["all_expert_bytes"] = json!(self.built.expert_bytes);
        let rate =
            |[hits, all]: &[u64; 2]| if *all == 0 { 0.0 } else { *hits as f64 / *all as f64 };
        object["hit_rate_per_layer"] =
            json!(self.run.per_layer.iter().map(rate).collect::<Vec<_>>());
        Ok(object)
    }
}

/// What was published of the variants of `suite` that `ran`.
pub(crate) fn judge(suite: &Offloads, ran: &[Ran]) -> Vec<Judged> {
    let of = |name: &str| ran.iter().find(|own| own.name == name).expect("it ran");
    let names: Vec<&str> = ran.iter().map(|own| own.name.as_str()).collect();
    suite.judge(&names, |unit, variant, over| {
        let own = of(variant);
        let base = || of(over.expect("checked on reading"));
        match unit {
            Unit::TokensPerSecond => own.summary.decode_tokens_per_second,
            Unit::Ttft => own.summary.ttft[0],
            Unit::Tpot => own.summary.tpot[0],
            Unit::HitRate => own.summary.hit_rate,
            Unit::Times => {
                own.summary.decode_tokens_per_second / base().summary.decode_tokens_per_second
            }
            Unit::TimesPrefill => base().summary.ttft[0] / own.summary.ttft[0],
            Unit::TimesMemory => base().memory_max() as f64 / own.memory_max() as f64,
        }
    })
}

pub(crate) fn run(arguments: &cli::Offload, global: &Global, output: &Output) -> Result<()> {
    let suite = Offloads::read(&arguments.file)?;
    let folder = arguments.file.parent().unwrap_or(Path::new(""));
    let chosen: Vec<&Variant<OffloadFile>> = match &arguments.variant {
        None => suite.variants.iter().collect(),
        Some(name) => vec![suite.find("--variant", name)?],
    };
    let bar = output.progress("offload", chosen.len() as u64, Measure::Count);
    let ran: Vec<Ran> = chosen
        .par_iter()
        .map(|variant| {
            let own = Ran::new(variant, folder, Seed(global.seed));
            bar.inc(1);
            own
        })
        .collect::<Result<_>>()?;
    bar.finish_and_clear();
    let judged = judge(&suite, &ran);
    if output.wants_json() {
        let variants: Vec<Value> = ran.iter().map(Ran::json).collect::<Result<_>>()?;
        let published: Vec<Value> = judged.iter().map(Judged::json).collect();
        output.json(&json!({
            "name": suite.name, "about": suite.about, "variants": variants, "published": published,
        }))?;
        return Ok(());
    }
    print(&suite, &ran, &judged, output)
}

/// How often prefetchers were right, where there are any.
fn print_foresight(ran: &[Ran], output: &Output) -> Result<()> {
    let mut table = Table::new(&["variant", "prefetcher", "accuracy", "right", "foreseen"]);
    let each = |shares: &[f64]| {
        let percent = |share: &f64| format!("{:.1}%", share * 100.0);
        shares.iter().map(percent).collect::<Vec<_>>().join(" ")
    };
    let wished = |own: &&Ran| !own.summary.prefetch_precision.is_empty();
    for own in ran.iter().filter(wished) {
        let prefetcher = own.built.setup.prefetcher;
        table.row([
            own.name.clone(),
            prefetcher.name.to_owned(),
            prefetcher.accuracy.name().to_owned(),
            each(&own.summary.prefetch_precision),
            each(&own.summary.prefetch_recall),
        ]);
    }
    if !ran.iter().any(|own| wished(&own)) {
        return Ok(());
    }
    output.note("")?;
    output.table(&table)?;
    output.note(
        "of the experts wished for one, two, ... layers ahead, the share that routers then chose \
         (right); of those chosen, the share that was wished for (foreseen). An accuracy that is \
         given, or published, stands for what no recording holds; others follow from it",
    )
}

fn print(suite: &Offloads, ran: &[Ran], judged: &[Judged], output: &Output) -> Result<()> {
    output.note(&format!("{}: {}\n", suite.name, suite.about))?;
    let mut table = Table::new(&[
        "variant",
        "tokens/s",
        "TTFT",
        "TPOT",
        "hits",
        "late",
        "link",
        "CPU",
        "GPU",
        "GPU memory",
        "changed",
    ]);
    let percent = |share: f64| format!("{:.1}%", share * 100.0);
    for own in ran {
        let summary = &own.summary;
        table.row([
            own.name.clone(),
            format!("{:.2}", summary.decode_tokens_per_second),
            format!("{:.3} s", summary.ttft[0]),
            format!("{:.1} ms", summary.tpot[0] * 1e3),
            percent(summary.usual_hit_rate()),
            percent(summary.late),
            percent(summary.link_utilisation),
            percent(summary.processor_utilisation),
            percent(summary.gpu_utilisation),
            Bytes(own.memory_max()).to_string(),
            percent(summary.changed_tokens),
        ]);
    }
    output.table(&table)?;
    output.note(
        "tokens/s while generating; hits of generated tokens, one look-up an expert and layer, a \
         whole layer at a time; late: of these, still on their way; changed: tokens whose experts \
         or precision a rule changed",
    )?;
    print_foresight(ran, output)?;
    variants::print(judged, output)?;
    output.details(ran.iter().map(|own| format!("{}: {}", own.name, own.built.about)))
}
