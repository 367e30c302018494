//! `moecast serve`: a service under load.
//!
//! A run is service.json, requests.csv and service.toml. `moecast report` has no page for it: the
//! page of a service is that of a study, also of one with a single point.

mod faults;
mod load;
mod requests;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use moecast_profiles::units::Nanos;
use moecast_sim::serving::faults::FaultRecord;
use moecast_sim::serving::file::{Metric, ServiceFile, StopFile};
use moecast_sim::serving::power::PowerModel;
use moecast_sim::serving::record::{
    PassRecord, Recorder, RecorderSettings, RequestRecord, ServingSummary, Slo, TimelinePoint,
};
use moecast_sim::serving::{self, Observer, Served};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cli::{self, Global};
use crate::files;
use crate::output::{Measure, Output, Table};

pub(crate) use load::{
    Loaded, calibration, each_path, load, moved, plain, read_file, requests_of, seen_from,
};

/// Version of `service.json`.
const VERSION: u32 = 1;
/// Points of the timeline.
const TIMELINE_POINTS_MAX: usize = 512;
/// Requests that a run must have finished before it may stop early.
const REQUESTS_MIN: u64 = 100;

/// A finished run, as `service.json` holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceRun {
    /// Version of this file.
    pub(crate) version: u32,
    /// Version of moecast that wrote it.
    pub(crate) tool: String,
    pub(crate) model: String,
    pub(crate) engine: String,
    pub(crate) gpu: String,
    pub(crate) gpus: u32,
    /// How a replica of every pool is divided, and how many replicas there are.
    pub(crate) layout: Vec<String>,
    /// Kernel costs.
    pub(crate) cost: String,
    /// `all requests served`, or the precision that was reached.
    pub(crate) stopped: String,
    pub(crate) requests_sent: u64,
    /// Requests that faults left without an answer; they are in none of the times.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) requests_lost: u64,
    /// Requests that waited to the end for a replica that never came back; neither are they.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) requests_unserved: u64,
    /// How often requests went back to the router because their rank was lost.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) requests_retried: u64,
    /// What every fault did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) faults: Vec<faults::Outcome>,
    pub(crate) summary: ServingSummary,
    pub(crate) timeline: Vec<TimelinePoint>,
    /// What a reader must know to judge the figures.
    pub(crate) remarks: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

pub(crate) fn run(arguments: &cli::Serve, global: &Global, output: &Output) -> Result<()> {
    let file = read_file(&arguments.scenario)?;
    let folder = arguments.scenario.parent().unwrap_or(Path::new("")).to_owned();
    let shown = arguments.scenario.display().to_string();
    let loaded = load(file, &folder, global.seed).with_context(|| shown.clone())?;
    let bar = output.progress("serve", loaded.service.requests(), Measure::Count);
    let retries = !loaded.file.faults.is_empty();
    let mut csv = arguments.out.as_ref().map(|_| requests::Csv::new(retries));
    let made =
        simulate(&loaded, csv.as_mut(), &mut |done| bar.set_position(done)).context(shown)?;
    bar.finish_and_clear();
    if let Some(out) = &arguments.out {
        write(&made, &loaded, csv.unwrap_or_else(|| requests::Csv::new(retries)), out)?;
    }
    let mut object: Value = json!(made);
    object["out"] = json!(arguments.out);
    if output.json(&object)? {
        return Ok(());
    }
    print(&made, &loaded, output)?;
    match &arguments.out {
        Some(out) => output.line(&format!(
            "run: {} (every request: {})",
            out.join("service.json").display(),
            out.join("requests.csv").display()
        )),
        None => output.note("nothing was written: --out FOLDER keeps the run and every request"),
    }
}

/// Runs a loaded service. `progress` is told how many requests are done.
pub(crate) fn simulate(
    loaded: &Loaded,
    csv: Option<&mut requests::Csv>,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<ServiceRun> {
    let (service, file) = (&loaded.service, &loaded.file);
    let (recorder, faults) = (recorder(loaded)?, Vec::new());
    let mut watch = Watch { recorder, csv, stop: file.stop, faults };
    // On a thread of the pool: what it splits need not wake one.
    let run = || serving::run(service, &mut watch, &mut |done| progress(done));
    let (served, ()) = rayon::join(run, || ());
    let Watch { recorder, faults, .. } = watch;
    let mut remarks = loaded.remarks.clone();
    if served.lost + served.unserved > 0 {
        remarks.push("requests without an answer are in none of the times".to_owned());
    }
    Ok(ServiceRun {
        version: VERSION,
        tool: tool(),
        model: loaded.model.clone(),
        engine: file.engine.clone(),
        gpu: file.gpu.clone(),
        gpus: service.gpus(),
        layout: loaded.layouts.clone(),
        cost: loaded.cost.clone(),
        stopped: stopped(&served, file.stop),
        requests_sent: served.sent,
        requests_lost: served.lost,
        requests_unserved: served.unserved,
        requests_retried: served.retried,
        faults: faults::outcomes(&file.faults, &faults),
        summary: recorder.summary(served.end),
        timeline: recorder.timeline(),
        remarks,
    })
}

/// What keeps the figures of a run of `loaded`.
pub(crate) fn recorder(loaded: &Loaded) -> Result<Recorder> {
    let (service, file) = (&loaded.service, &loaded.file);
    Ok(Recorder::new(RecorderSettings {
        gpus: service.gpus(),
        gpus_per_node: u32::from(loaded.gpus_per_node),
        replicas: service.replicas(),
        ranks_per_replica: service.ranks_per_replica(),
        slo: slo(file)?,
        power: PowerModel::of(&loaded.device),
        price_per_gpu_hour: file.price_per_gpu_hour,
        timeline_points_max: TIMELINE_POINTS_MAX,
    })?)
}

pub(crate) fn tool() -> String {
    concat!("moecast ", env!("CARGO_PKG_VERSION")).to_owned()
}

fn stopped(served: &Served, stop: Option<StopFile>) -> String {
    match stop {
        Some(stop) if served.stopped_early => format!(
            "the interval of {} was within {}% after {} of {} requests",
            metric_name(stop.metric),
            stop.precision * 100.0,
            served.completed,
            served.sent
        ),
        _ if served.lost + served.unserved > 0 => format!(
            "{} of {} requests served, {} lost and {} unserved",
            served.completed, served.sent, served.lost, served.unserved
        ),
        _ => "all requests served".to_owned(),
    }
}

fn metric_name(metric: Metric) -> &'static str {
    match metric {
        Metric::EndToEnd => "end-to-end",
        Metric::Tpot => "tpot",
        Metric::Ttft => "ttft",
    }
}

pub(crate) fn slo(file: &ServiceFile) -> Result<Slo> {
    let time = |key: &str, limit: Option<f64>| -> Result<Option<Nanos>> {
        let Some(limit) = limit else { return Ok(None) };
        let valid = limit > 0.0 && limit < 1e12;
        ensure!(valid, "slo.{key}: {limit}; expected milliseconds above 0");
        Ok(Some(Nanos::ceil_from(limit * 1e6)))
    };
    let wanted = file.slo;
    Ok(Slo {
        ttft: time("ttft_ms", wanted.ttft_ms)?,
        tpot: time("tpot_ms", wanted.tpot_ms)?,
        end_to_end: time("end_to_end_ms", wanted.end_to_end_ms)?,
    })
}

/// A recorder that also writes every request, and says when it has seen enough.
struct Watch<'a> {
    recorder: Recorder,
    csv: Option<&'a mut requests::Csv>,
    stop: Option<StopFile>,
    faults: Vec<FaultRecord>,
}

impl Observer for Watch<'_> {
    fn request(&mut self, record: &RequestRecord) {
        self.recorder.request(record);
        if let Some(csv) = &mut self.csv {
            csv.add(record);
        }
    }

    fn pass(&mut self, pass: &PassRecord<'_>) {
        self.recorder.pass(pass);
    }

    fn fault(&mut self, record: &FaultRecord) {
        self.faults.push(record.clone());
    }

    fn token_gaps(&mut self, gap: Nanos, count: u32) {
        self.recorder.token_gaps(gap, count);
    }

    fn enough(&self) -> bool {
        let Some(stop) = self.stop else { return false };
        let statistic = match stop.metric {
            Metric::EndToEnd => self.recorder.end_to_end(),
            Metric::Tpot => self.recorder.tpot(),
            Metric::Ttft => self.recorder.ttft(),
        };
        statistic.count() >= REQUESTS_MIN
            && statistic.relative_half_width().is_some_and(|width| width <= stop.precision)
    }
}

/// Writes service.json, requests.csv and the service.toml that repeats this run.
fn write(made: &ServiceRun, loaded: &Loaded, csv: requests::Csv, out: &Path) -> Result<()> {
    let file = seen_from(&loaded.file, out)?;
    let text = toml::to_string(&file)?;
    let written: [(PathBuf, Vec<u8>); 3] = [
        ("service.json".into(), serde_json::to_vec(made)?),
        ("service.toml".into(), text.into_bytes()),
        ("requests.csv".into(), csv.into_bytes()),
    ];
    for (name, bytes) in written {
        files::write_bytes(&out.join(name), &bytes)?;
    }
    Ok(())
}

fn print(made: &ServiceRun, loaded: &Loaded, output: &Output) -> Result<()> {
    let summary = &made.summary;
    output.note(&format!(
        "{} on {} {} ({}) under {}: {} requests, {}\n",
        made.model,
        made.gpus,
        made.gpu,
        made.layout.join(", "),
        made.engine,
        summary.requests,
        made.stopped
    ))?;
    let mut times = Table::new(&["ms", "mean", "+/- 95%", "p50", "p90", "p99", "max"]);
    for (name, of) in [
        ("TTFT", &summary.ttft_ms),
        ("TPOT", &summary.tpot_ms),
        ("ITL", &summary.itl_ms),
        ("end to end", &summary.end_to_end_ms),
        ("queue", &summary.queue_ms),
    ] {
        let interval = of.mean_ci95.map_or_else(|| "-".to_owned(), |half| format!("{half:.2}"));
        let [mean, p50, p90, p99, max] =
            [of.mean, of.p50, of.p90, of.p99, of.max].map(|value| format!("{value:.2}"));
        times.row([name.to_owned(), mean, interval, p50, p90, p99, max]);
    }
    output.table(&times)?;
    output.note("")?;
    output.table(&rates(made, slo(&loaded.file)? != Slo::default()))?;
    output.note("")?;
    for fault in &made.faults {
        output.line(&fault.line())?;
    }
    output.remarks(&made.remarks)?;
    output.details(loaded.details.iter().cloned())
}

/// What the service did as a whole; `limited` by an SLO or not.
fn rates(made: &ServiceRun, limited: bool) -> Table {
    let summary = &made.summary;
    let mut table = Table::new(&["whole run", "figure"]);
    let share = |value: f64| format!("{:.1}%", value * 100.0);
    let busiest = summary.rank_utilisation.iter().flatten().copied().fold(0.0_f64, f64::max);
    let mut rows = vec![
        ("output tokens/s", format!("{:.0}", summary.output_tokens_per_second)),
        ("output tokens/s per GPU", format!("{:.1}", summary.output_tokens_per_second_per_gpu)),
        ("all tokens/s per GPU", format!("{:.1}", summary.total_tokens_per_second_per_gpu)),
        ("requests/s", format!("{:.3}", summary.requests_per_second)),
    ];
    if limited {
        let goodput = format!("{:.3}", summary.goodput_requests_per_second);
        rows.push(("requests/s within the SLO", goodput));
        rows.push(("requests within the SLO", share(summary.goodput_share)));
    }
    rows.extend([
        ("running, mean", format!("{:.1}", summary.running_mean)),
        ("running on a replica, most", format!("{:.0}", summary.running_max)),
        ("waiting, mean", format!("{:.1}", summary.waiting_mean)),
        ("waiting for a replica, most", format!("{:.0}", summary.waiting_max)),
        ("KV cache in use, mean", share(summary.kv_use_mean)),
        ("KV cache in use, most", share(summary.kv_use_max)),
        ("preemptions", summary.preemptions.to_string()),
        ("busiest rank computes", share(busiest)),
        ("expert imbalance, max over mean", format!("{:.3}", summary.imbalance_mean)),
        ("power per GPU, W", format!("{:.0}", summary.power_w_per_gpu_mean)),
    ]);
    if let Some(cost) = summary.cost_per_million_output_tokens {
        rows.push(("cost per million output tokens", format!("{cost:.3}")));
    }
    for (name, value) in rows {
        table.row([name.to_owned(), value]);
    }
    table
}
