use crate::cli::Global;
use crate::output::Output;
use crate::{files, measured};
use anyhow::Result;
use moecast_profiles::calibration::{Factors, read_runs};
use moecast_profiles::seed::Seed;
use rayon::prelude::*;
use std::collections::BTreeMap;

pub(crate) fn run(
    arguments: &crate::cli::Validate,
    global: &Global,
    output: &Output,
) -> Result<()> {
    let bytes = files::read_small(&arguments.runs, 64 << 20)?;
    let runs = read_runs(&bytes, "runs")?;
    let seed = Seed(global.seed);
    let mut services: BTreeMap<String, Result<_, String>> = BTreeMap::new();
    for run in &runs {
        services
            .entry(measured::key(run))
            .or_insert_with(|| measured::service(run, None, seed).map_err(|e| format!("{e:#}")));
    }
    for (k, s) in &services {
        if let Err(e) = s {
            output.note(&format!("{k}: {e}"))?;
        }
    }
    let rows: Vec<String> = runs
        .par_iter()
        .filter_map(|run| {
            let service = services[&measured::key(run)].as_ref().ok()?;
            let engine = moecast_profiles::engine::find(&run.engine).ok()?;
            let t = std::time::Instant::now();
            let service = match service.under(measured::load(run, seed).ok()?) {
                Ok(s) => s,
                Err(e) => return Some(format!("# {} {e}", run.id)),
            };
            let p = measured::predict(&service, Factors::of(engine.at(&run.version)));
            Some(format!(
                "{},{},{},{},{},{:.1}",
                run.id,
                p.ttft_ms,
                p.tpot_ms,
                run.ttft_ms,
                run.tpot_ms,
                t.elapsed().as_secs_f64() * 1e3
            ))
        })
        .collect();
    for r in rows {
        output.line(&r)?;
    }
    Ok(())
}
