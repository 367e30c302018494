//! `moecast trace cache`: a trace through caches of experts, one job for every policy and size.

mod answer;

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use moecast_profiles::seed::Seed;
use moecast_profiles::{builtin, model::ModelShape};
use moecast_sim::cache::{Entry, Sees, find};
use moecast_sim::replay::{Capacity, Granularity, Outcome, Partition, Replay, curve};
use moecast_traces::split::split;
use moecast_traces::{RoutingTrace, format};
use rayon::prelude::*;

use crate::cli::Global;
use crate::cli::trace::cache::{Cache, GranularityArgument, PoolArgument};
use crate::facts;
use crate::output::{Measure, Output};

/// Shares of all experts, in eighths, that are replayed where no size is given.
const EIGHTHS: [u64; 5] = [1, 2, 3, 4, 6];

/// One policy with one capacity.
struct Job {
    entry: &'static Entry,
    capacity: Capacity,
}

/// What it found, and how fast.
struct Answer {
    job: Job,
    outcome: Outcome,
    seconds: f64,
}

pub(crate) fn run(arguments: &Cache, global: &Global, output: &Output) -> Result<()> {
    let trace = format::read(&arguments.trace)?;
    let mut notes = Vec::new();
    let jobs = jobs(arguments, &trace)?;
    let (training, judged) = parts(arguments, &trace, global, &jobs, &mut notes)?;
    let sizes = expert_bytes(arguments, &trace)?;
    if sizes.is_empty() {
        notes.push("bytes of an expert are not known: --model says them".to_owned());
    }
    let partition = match arguments.pool {
        PoolArgument::Global => Partition::Global,
        PoolArgument::PerLayer => Partition::PerLayer,
        PoolArgument::Planned => Partition::Planned(arguments.layer_slots.clone()),
    };
    let seed = Seed(global.seed);
    let replay =
        Replay::new(&judged, &training, granularity(arguments), partition, sizes.clone(), seed)
            .with_context(|| arguments.trace.display().to_string())?
            .with_windows(arguments.windows.get());
    if jobs.iter().any(|job| matches!(job.capacity, Capacity::Bytes(_))) && sizes.is_empty() {
        let path = arguments.trace.display();
        anyhow::bail!(
            "{path}: --bytes: the trace does not say the bytes of an expert; expected --model, or \
             --slots"
        );
    }
    let at_once = jobs.len().min(rayon::current_num_threads());
    let answers = replay_all(&replay, jobs, output)?;
    let curve = arguments.curve.then(|| curve::lru(&replay));
    let told = answer::Told { arguments, trace: &judged, notes, at_once };
    answer::print(&told, &answers, curve.as_ref(), output)
}

fn granularity(arguments: &Cache) -> Granularity {
    match arguments.granularity {
        GranularityArgument::Access => Granularity::Access,
        GranularityArgument::Layer => Granularity::Layer,
        GranularityArgument::Token => Granularity::Token,
    }
}

/// Every policy with every size, sizes within policies.
fn jobs(arguments: &Cache, trace: &RoutingTrace) -> Result<Vec<Job>> {
    let planned = arguments.pool == PoolArgument::Planned;
    ensure!(
        planned != arguments.layer_slots.is_empty(),
        "trace cache: --pool planned and --layer-slots go together"
    );
    ensure!(
        !planned || (arguments.slots.is_empty() && arguments.bytes.is_empty()),
        "trace cache: --slots or --bytes with --pool planned; expected --layer-slots alone"
    );
    ensure!(
        !(planned && arguments.curve),
        "trace cache: --curve with --pool planned; expected pools of equal size"
    );
    let header = trace.header();
    let experts = header.moe_layers() as u64 * u64::from(header.experts);
    let mut capacities: Vec<Capacity> = if planned {
        let sum = arguments.layer_slots.iter().try_fold(0_u64, |sum, &n| sum.checked_add(n));
        vec![Capacity::Slots(sum.context("trace cache: --layer-slots: more than 2^64 in all")?)]
    } else if !arguments.bytes.is_empty() {
        arguments.bytes.iter().map(|bytes| Capacity::Bytes(bytes.0)).collect()
    } else if !arguments.slots.is_empty() {
        arguments.slots.iter().map(|&slots| Capacity::Slots(slots)).collect()
    } else {
        let least = header.moe_layers() as u64;
        let shares = EIGHTHS.iter().map(|eighths| (experts * eighths / 8).max(least));
        shares.map(Capacity::Slots).collect()
    };
    capacities.dedup();
    let mut jobs = Vec::new();
    for name in &arguments.policy {
        let entry = find(name)?;
        jobs.extend(capacities.iter().map(|&capacity| Job { entry, capacity }));
    }
    Ok(jobs)
}

/// What policies are fitted to, and what they are judged on.
fn parts(
    arguments: &Cache,
    trace: &RoutingTrace,
    global: &Global,
    jobs: &[Job],
    notes: &mut Vec<String>,
) -> Result<(RoutingTrace, RoutingTrace)> {
    if let Some(share) = arguments.heldout {
        let path = arguments.trace.display().to_string();
        let parts = split(trace, share, Seed(global.seed), &path)?;
        notes.push(format!("judged on the held-out part: {}", parts.how));
        return Ok((parts.train, parts.heldout));
    }
    let fitted = jobs.iter().find(|job| job.entry.sees == Sees::Training);
    if let Some(job) = fitted {
        let name = job.entry.name;
        notes.push(format!("{name} was fitted to what it is judged on; --heldout 0.3 separates"));
    }
    Ok((trace.clone(), trace.clone()))
}

/// Bytes of an expert of every layer: of the model that was named, of the recorder, or of the
/// preset that the trace names; none where nobody knows.
fn expert_bytes(arguments: &Cache, trace: &RoutingTrace) -> Result<Vec<u64>> {
    let header = trace.header();
    let of = |model: &ModelShape| vec![model.expert_bytes().0; header.moe_layers()];
    if let Some(name) = &arguments.model {
        let model = facts::model(name)?;
        ensure!(
            model.experts == header.experts,
            "trace cache: --model {name} has {} experts; the trace has {}",
            model.experts,
            header.experts
        );
        return Ok(of(&model));
    }
    if !header.expert_bytes.is_empty() {
        return Ok(header.expert_bytes.clone());
    }
    let known = builtin::model(&header.model).ok();
    let fits = known.filter(|model| model.experts == header.experts);
    Ok(fits.map_or_else(Vec::new, |model| of(&model)))
}

fn replay_all(replay: &Replay<'_>, jobs: Vec<Job>, output: &Output) -> Result<Vec<Answer>> {
    let bar = output.progress("replay", jobs.len() as u64, Measure::Count);
    let answers = jobs.into_par_iter().map(|job| {
        let ready = replay.job(job.entry, job.capacity)?;
        let start = Instant::now();
        let outcome = ready.run();
        let seconds = start.elapsed().as_secs_f64();
        bar.inc(1);
        Ok(Answer { job, outcome, seconds })
    });
    let answers = answers.collect();
    bar.finish_and_clear();
    answers
}
