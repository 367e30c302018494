//! One gated expert: down(silu(gate(x)) * up(x)), its outputs shared out over threads.
//!
//! Weights of every repeat are another part of the store, one after the other, so that what a
//! repeat reads was last touched a whole store ago. `int8` weights have a scale an output;
//! `bf16` and `int8` are widened as they are read, activations are f32 (weight-only).

use std::sync::{Mutex, RwLock};

use super::super::TimingError;
use super::kernel::{Bf16, Instructions, Matrix, Weight, product};
use super::system::Facts;
use super::threads::{Barrier, share, time_together};
use super::unsupported;
use crate::seed::Seed;
use rand::Rng;

#[cfg(test)]
mod tests;

/// Outputs are dealt to threads in blocks of this many.
const BLOCK: usize = 4;

/// What to compute how often.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) threads: usize,
    pub(super) hidden: usize,
    pub(super) inter: usize,
    pub(super) rows: usize,
    pub(super) repeats: u32,
    pub(super) instructions: Instructions,
}

impl Job {
    /// Weights of one expert.
    fn weights(&self) -> usize {
        3 * self.hidden * self.inter
    }
}

/// Random weights of one type at a time.
#[derive(Default)]
pub(super) enum Store {
    #[default]
    Empty,
    F32(Vec<f32>),
    Bf16(Vec<Bf16>),
    Int8(Vec<i8>),
}

impl Store {
    /// Times `job` with weights of the type called `name`.
    pub(super) fn time(
        &mut self,
        name: &str,
        job: &Job,
        facts: &Facts,
    ) -> Result<Vec<f64>, TimingError> {
        // What another type held is given back first.
        match (name, &self) {
            ("f32", Self::F32(_)) | ("bf16", Self::Bf16(_)) | ("int8", Self::Int8(_)) => {}
            ("f32", _) => *self = Self::F32(Vec::new()),
            ("bf16", _) => *self = Self::Bf16(Vec::new()),
            ("int8", _) => *self = Self::Int8(Vec::new()),
            _ => return Err(unsupported(format!("no weights of type `{name}`"))),
        }
        match self {
            Self::Empty => Err(unsupported("no weights".to_owned())),
            Self::F32(weights) => time_in(weights, job, facts, false),
            Self::Bf16(weights) => time_in(weights, job, facts, false),
            Self::Int8(weights) => time_in(weights, job, facts, true),
        }
    }
}

fn time_in<W: Weight>(
    store: &mut Vec<W>,
    job: &Job,
    facts: &Facts,
    scaled: bool,
) -> Result<Vec<f64>, TimingError> {
    let wanted = job.weights() + 2 * facts.cache_bytes / size_of::<W>();
    let bytes = wanted * size_of::<W>();
    if store.len() < wanted {
        if bytes > facts.memory_bytes / 2 {
            return Err(unsupported(format!("{bytes} bytes are more than half the free memory")));
        }
        *store = random(wanted);
    }
    let inputs = random_activations(job.rows * job.hidden);
    let scales = scaled.then(|| vec![1.0 / 128.0; job.hidden.max(job.inter)]);
    Ok(time_and_compute(store, &inputs, scales.as_deref(), job).0)
}

/// Random weights, from 16 MiB of random bits that are used again: drawing takes longer.
fn random<W: Weight>(count: usize) -> Vec<W> {
    let mut rng = Seed(0).stream("measure/cpu/weights");
    let drawn: Vec<W> = (0..count.min(1 << 22)).map(|_| W::random(rng.next_u32())).collect();
    drawn.iter().copied().cycle().take(count).collect()
}

fn random_activations(count: usize) -> Vec<f32> {
    let mut rng = Seed(0).stream("measure/cpu/activations");
    (0..count).map(|_| f32::random(rng.next_u32())).collect()
}

/// The times, and what the last repeat computed (rows x hidden).
fn time_and_compute<W: Weight>(
    store: &[W],
    inputs: &[f32],
    scales: Option<&[f32]>,
    job: &Job,
) -> (Vec<f64>, Vec<f32>) {
    let Job { threads, hidden, inter, rows, .. } = *job;
    let gated: Vec<RwLock<Vec<f32>>> = (0..threads).map(|_| RwLock::default()).collect();
    let results: Vec<Mutex<Vec<f32>>> = (0..threads).map(|_| Mutex::default()).collect();
    let places = (store.len() / job.weights()).max(1);
    let workers = (0..threads)
        .map(|thread| {
            let (gated, result) = (&gated, &results[thread]);
            let mut worker = Worker::new(thread, job);
            move |repeat: usize, barrier: &Barrier| {
                let expert = &store[repeat % places * job.weights()..][..job.weights()];
                let (gate_up, down) = expert.split_at(2 * hidden * inter);
                worker.gate_and_up(gate_up, scales, inputs);
                gated[thread].write().expect("no thread panics").clone_from(&worker.gate);
                barrier.wait();
                worker.gather(gated);
                worker.down(down, scales);
                result.lock().expect("no thread panics").clone_from(&worker.out);
            }
        })
        .collect();
    let times = time_together(workers, job.repeats as usize);
    let mut out = vec![0.0; rows * hidden];
    for (thread, result) in results.iter().enumerate() {
        let part = share(hidden, BLOCK, thread, threads);
        let result = result.lock().expect("no thread panics");
        scatter(&result, &mut out, &part, hidden);
    }
    (times, out)
}

/// What one thread computes, and where.
struct Worker<'a> {
    job: &'a Job,
    thread: usize,
    gate: Vec<f32>,
    up: Vec<f32>,
    gathered: Vec<f32>,
    out: Vec<f32>,
}

impl<'a> Worker<'a> {
    fn new(thread: usize, job: &'a Job) -> Self {
        let inter = share(job.inter, BLOCK, thread, job.threads).len();
        let hidden = share(job.hidden, BLOCK, thread, job.threads).len();
        Self {
            job,
            thread,
            gate: vec![0.0; job.rows * inter],
            up: vec![0.0; job.rows * inter],
            gathered: vec![0.0; job.rows * job.inter],
            out: vec![0.0; job.rows * hidden],
        }
    }

    /// silu(gate) * up of this thread's part of the inner dimension, in `gate`.
    fn gate_and_up<W: Weight>(&mut self, weights: &[W], scales: Option<&[f32]>, inputs: &[f32]) {
        let Job { threads, hidden, inter, instructions, .. } = *self.job;
        let part = share(inter, BLOCK, self.thread, threads);
        let (gate, up) = weights.split_at(hidden * inter);
        let scales = scales.map(|scales| &scales[part.clone()]);
        for (weights, out) in [(gate, &mut self.gate), (up, &mut self.up)] {
            let weights = &weights[part.start * hidden..part.end * hidden];
            product(instructions, Matrix { weights, width: hidden, scales }, inputs, out);
        }
        for (gate, up) in self.gate.iter_mut().zip(&self.up) {
            *gate *= up / (1.0 + (-*gate).exp());
        }
    }

    /// Every thread's part, side by side.
    fn gather(&mut self, parts: &[RwLock<Vec<f32>>]) {
        let Job { threads, inter, .. } = *self.job;
        for (thread, gated) in parts.iter().enumerate() {
            let part = share(inter, BLOCK, thread, threads);
            let gated = gated.read().expect("no thread panics");
            scatter(&gated, &mut self.gathered, &part, inter);
        }
    }

    /// This thread's part of the outputs, in `out`.
    fn down<W: Weight>(&mut self, weights: &[W], scales: Option<&[f32]>) {
        let Job { threads, hidden, inter, instructions, .. } = *self.job;
        let part = share(hidden, BLOCK, self.thread, threads);
        let scales = scales.map(|scales| &scales[part.clone()]);
        let weights = &weights[part.start * inter..part.end * inter];
        product(
            instructions,
            Matrix { weights, width: inter, scales },
            &self.gathered,
            &mut self.out,
        );
    }
}

/// Writes rows of `part` columns into rows of `width`.
fn scatter(part: &[f32], whole: &mut [f32], columns: &std::ops::Range<usize>, width: usize) {
    if columns.is_empty() {
        return;
    }
    for (from, to) in part.chunks(columns.len()).zip(whole.chunks_mut(width)) {
        to[columns.clone()].copy_from_slice(from);
    }
}
