//! `moecast capacity`: the fewest GPUs that hold limits at a load, or the largest load that GPUs
//! hold.
//!
//! More replicas keep more requests within their limits, up to noise, so the answer is found by
//! bisection; the answer and its neighbour are both simulated in full and shown.

mod arrivals;
mod judge;
mod layouts;
mod row;
mod search;
mod table;

use std::path::Path;

use anyhow::{Result, bail, ensure};
use moecast_profiles::engine;
use moecast_profiles::hardware::Hardware;
use moecast_profiles::units::Nanos;
use moecast_sim::serving::ServiceFile;
use moecast_sim::serving::record::Slo;
use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;

use crate::cli::Global;
use crate::cli::serving::Capacity;
use crate::output::Output;
use crate::serve;
use judge::Target;
use row::{Ask, Row};

/// Version of the answer with `--json`.
const VERSION: u32 = 1;

/// The whole answer; keys are stable.
#[derive(Clone, Debug, Serialize)]
struct Answer {
    version: u32,
    tool: String,
    model: String,
    engine: String,
    /// Requests per second; absent where the largest was asked for.
    rate: Option<f64>,
    slo: Limits,
    /// Share of the requests that must keep the limits.
    goodput: f64,
    rows: Vec<Row>,
    remarks: Vec<String>,
}

/// Limits in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Limits {
    ttft_ms: Option<f64>,
    tpot_ms: Option<f64>,
    end_to_end_ms: Option<f64>,
}

pub(crate) fn run(arguments: &Capacity, global: &Global, output: &Output) -> Result<()> {
    let path = &arguments.service;
    let file = with_limits(serve::read_file(path)?, arguments);
    let folder = path.parent().unwrap_or(Path::new(""));
    let target = Target { slo: serve::slo(&file)?, goodput: arguments.goodput };
    ensure!(
        target.slo != Slo::default(),
        "{}: no limits; expected --ttft, --tpot or --end-to-end, or [slo] in the file",
        path.display()
    );
    let share = target.goodput;
    ensure!(share > 0.0 && share <= 1.0, "--goodput: {share}; expected a share, at most 1");
    let ask = Ask {
        target,
        rate: arguments.rate,
        rate_max: arguments.rate_max,
        replicas_max: arguments.replicas_max,
        duration: arguments.duration,
        seed: global.seed,
    };
    let files = files(&file, arguments)?;
    let spinner = output.spinner("capacity");
    let rows: Vec<Row> = files
        .into_par_iter()
        .with_max_len(1)
        .map(|file| row::answer(file, folder, &ask))
        .collect::<Result<_>>()?;
    spinner.finish_and_clear();
    let answer = answer(&file, &ask, rows);
    if output.json(&json!(answer))? {
        return Ok(());
    }
    table::print(&answer, output)
}

/// Remarks of all rows, each with the row that it is about where it is not about all.
fn remarks(rows: &[Row]) -> Vec<String> {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.skipped.is_none()).collect();
    let mut remarks: Vec<String> = Vec::new();
    for row in &rows {
        for remark in &row.remarks {
            let is_shared = rows.iter().all(|other| other.remarks.contains(remark));
            let said = if is_shared { remark.clone() } else { format!("{}: {remark}", row.name()) };
            if !remarks.contains(&said) {
                remarks.push(said);
            }
        }
    }
    remarks
}

fn answer(file: &ServiceFile, ask: &Ask, rows: Vec<Row>) -> Answer {
    // A trace says its rate only when it has been read.
    let tried = rows.iter().find_map(|row| row.tried.first()).map(|tried| tried.rate);
    Answer {
        version: VERSION,
        tool: serve::tool(),
        model: file.model.clone(),
        engine: file.engine.clone(),
        rate: if ask.rate_max { None } else { ask.rate.or(tried) },
        slo: Limits {
            ttft_ms: file.slo.ttft_ms,
            tpot_ms: file.slo.tpot_ms,
            end_to_end_ms: file.slo.end_to_end_ms,
        },
        goodput: ask.target.goodput,
        remarks: remarks(&rows),
        rows,
    }
}

/// The limits of the command line stand before those of the file.
fn with_limits(mut file: ServiceFile, arguments: &Capacity) -> ServiceFile {
    let ms = |limit: Nanos| limit.as_micros() / 1e3;
    for (limit, slot) in [
        (arguments.ttft, &mut file.slo.ttft_ms),
        (arguments.tpot, &mut file.slo.tpot_ms),
        (arguments.end_to_end, &mut file.slo.end_to_end_ms),
    ] {
        *slot = limit.map(ms).or(*slot);
    }
    // Runs that end early would leave out the requests that wait longest.
    file.stop = None;
    file
}

/// The service on every kind of GPU in every layout.
fn files(file: &ServiceFile, arguments: &Capacity) -> Result<Vec<ServiceFile>> {
    engine::find(&file.engine)?;
    let (gpus, prices) = (&arguments.gpu, &arguments.price);
    if prices.len() > 1 && prices.len() != gpus.len() {
        bail!("--price: {} prices; expected one, or {}: one a GPU", prices.len(), gpus.len());
    }
    if let Some(price) = prices.iter().find(|price| !(price.is_finite() && **price >= 0.0)) {
        bail!("--price: {price}; expected a price of 0 or more");
    }
    ensure!(
        arguments.layout.is_empty() || file.decode.is_none(),
        "--layout: the service has a pool for prompts and one for answers; expected layouts in \
         the file"
    );
    let mut files = Vec::new();
    let names = if gpus.is_empty() { std::slice::from_ref(&file.gpu) } else { gpus.as_slice() };
    for (index, gpu) in names.iter().enumerate() {
        Hardware::from_spec(&format!("{gpu}:1x1"))?;
        let mut one = ServiceFile { gpu: gpu.clone(), ..file.clone() };
        if *gpu != file.gpu {
            // What was measured or built on the file's GPU says nothing of another.
            (one.profile, one.profile_sha256, one.gpus_per_node) = (None, None, None);
        }
        one.price_per_gpu_hour =
            prices.get(index).or(prices.last()).copied().or(one.price_per_gpu_hour);
        for layout in &arguments.layout {
            files.push(ServiceFile { layout: layouts::parse(layout)?, ..one.clone() });
        }
        if arguments.layout.is_empty() {
            files.push(one);
        }
    }
    Ok(files)
}
