//! The experts of the busiest rank, for one layer: our grouped kernel, and cuBLASLt in a loop.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use cudarc::driver::{CudaSlice, CudaView, DevicePtr};

use super::super::{Point, timed_rows};
use super::kernels::{Experts, Pattern};
use super::layout::{COLUMNS, DEPTH, Rotation, tile_rows, tiles};
use super::lt::{Handle, Number};
use super::{Cuda, Device, HOLD_KERNELS, OrFail, Timing, to_i32, unsupported};

/// Rows of matrices are multiples of this many numbers: 256 bytes, the alignment that cuBLASLt
/// chooses algorithms for, and whole blocks of our kernels.
const ALIGNED: usize = 128;
const _: () = assert!(ALIGNED.is_multiple_of(COLUMNS) && ALIGNED.is_multiple_of(DEPTH));

/// What is computed: experts of three matrices each, in bf16.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Job {
    hidden: usize,
    inner: usize,
    /// Tokens of each expert of the rank.
    counts: Vec<u64>,
}

impl Job {
    /// The job of `point`: tensor parallelism cuts the inner dimension, expert parallelism the
    /// experts.
    fn of(point: &Point) -> Timing<Self> {
        let [hidden, inter, topk, experts, tp, ep, matrices, _] = point.shape[..] else {
            return Err(unsupported(format!("{} fields of shape", point.shape.len())));
        };
        let inner = inter / tp.max(1);
        let (hidden, inner) = (hidden as usize, inner as usize);
        let divides = |value: usize| value.is_multiple_of(ALIGNED);
        if matrices != 3 || !divides(hidden) || !divides(inner) || hidden * inner == 0 {
            let why = format!("{matrices} matrices of {hidden} x {inner}; only 3, by {ALIGNED}");
            return Err(unsupported(why));
        }
        let counts = timed_rows(point.at[1], topk, experts, ep, point.at[0]);
        if counts.iter().sum::<u64>() == 0 {
            return Err(unsupported("no tokens".to_owned()));
        }
        Ok(Self { hidden, inner, counts })
    }

    fn rows(&self) -> usize {
        usize::try_from(self.counts.iter().sum::<u64>()).unwrap_or(usize::MAX)
    }

    /// Words (two numbers) of one matrix of all experts.
    fn matrix_words(&self) -> usize {
        self.counts.len() * self.hidden * self.inner / 2
    }
}

/// Activations: tokens in, gate and up, gated, tokens out.
struct Buffers {
    x: CudaSlice<u32>,
    gate_up: CudaSlice<u32>,
    gated: CudaSlice<u32>,
    out: CudaSlice<u32>,
}

impl Buffers {
    fn new(device: &Device, job: &Job) -> Timing<Self> {
        let rows = job.rows();
        device.room_for(2 * rows * (2 * job.hidden + 3 * job.inner))?;
        let words = |words: usize| device.stream.alloc_zeros(words).or_fail("a buffer");
        Ok(Self {
            x: device.random_bytes(2 * rows * job.hidden, Pattern::Bf16)?,
            gate_up: words(rows * job.inner)?,
            gated: words(rows * job.inner / 2)?,
            out: words(rows * job.hidden / 2)?,
        })
    }
}

impl Cuda {
    /// gate, up, silu and down of every active expert of the busiest rank.
    pub(super) fn time_experts(
        &mut self,
        point: &Point,
        grouped: bool,
        repeats: usize,
    ) -> Timing<Vec<f64>> {
        let job = Job::of(point)?;
        if !grouped {
            self.open_lt()?;
        }
        let lt = self.lt.take();
        let rotation = Rotation::new(3 * 4 * job.matrix_words(), self.device.l2_bytes);
        let times = self.with_random(Pattern::Bf16, &rotation).and_then(|(device, weights)| {
            let part = |repeat: usize| {
                let start = rotation.offset(repeat) / 4;
                weights.slice(start..start + 3 * job.matrix_words())
            };
            match lt.as_ref().and_then(Option::as_ref).filter(|_| !grouped) {
                Some(handle) => time_loop(device, handle, &job, repeats, part),
                None => time_grouped(device, &job, repeats, part),
            }
        });
        self.lt = lt;
        times
    }
}

fn time_grouped<'a>(
    device: &Device,
    job: &Job,
    repeats: usize,
    part: impl Fn(usize) -> CudaView<'a, u32>,
) -> Timing<Vec<f64>> {
    let mut buffers = Buffers::new(device, job)?;
    let tile_rows = tile_rows(&job.counts);
    let tiles = tiles(&job.counts, tile_rows);
    if tiles.len() / 3 > 65_535 {
        return Err(unsupported(format!("{} tiles; a grid has 65,535", tiles.len() / 3)));
    }
    let tiles = device.stream.clone_htod(&tiles).or_fail("tiles")?;
    let (hidden, inner, words) = (to_i32(job.hidden)?, to_i32(job.inner)?, job.matrix_words());
    device.timed(repeats, HOLD_KERNELS, |repeat| {
        let weights = part(repeat);
        let [gate, up, down] =
            [0, 1, 2].map(|index| weights.slice(index * words..(index + 1) * words));
        let x = buffers.x.as_view();
        let gate_up = Experts {
            x: &x,
            first: &gate,
            second: Some(&up),
            tiles: &tiles,
            tile_rows,
            n: inner,
            k: hidden,
        };
        let kernels = &device.kernels;
        kernels.experts(&device.stream, &gate_up, &mut buffers.gated).or_fail("experts")?;
        let gated = buffers.gated.as_view();
        let down =
            Experts { x: &gated, first: &down, second: None, n: hidden, k: inner, ..gate_up };
        kernels.experts(&device.stream, &down, &mut buffers.out).or_fail("experts")
    })
}

/// Three launches for each active expert. Products are prepared before the clock starts, one for
/// each token count.
fn time_loop<'a>(
    device: &Device,
    handle: &Handle,
    job: &Job,
    repeats: usize,
    part: impl Fn(usize) -> CudaView<'a, u32>,
) -> Timing<Vec<f64>> {
    let Job { hidden, inner, ref counts } = *job;
    let mut buffers = Buffers::new(device, job)?;
    let mut products = BTreeMap::new();
    for count in counts.iter().filter(|count| **count > 0) {
        let m = super::to_usize(*count)?;
        if let Entry::Vacant(entry) = products.entry(m) {
            let gate_up = handle.product(Number::Bf16, [m, 2 * inner, hidden])?;
            entry.insert((gate_up, handle.product(Number::Bf16, [m, hidden, inner])?));
        }
    }
    let (stream, inner_argument) = (&device.stream, to_i32(inner)?);
    device.timed(repeats, HOLD_KERNELS, |repeat| {
        let weights = part(repeat).device_ptr(stream).0;
        let down = weights + 2 * 4 * job.matrix_words() as u64;
        let [x, gate_up] = [&buffers.x, &buffers.gate_up].map(|buffer| buffer.device_ptr(stream).0);
        let place = |base: u64, rows: usize, width: usize| base + (2 * rows * width) as u64;
        let mut first = 0;
        for (expert, count) in counts.iter().enumerate() {
            let m = super::to_usize(*count)?;
            if let Some((product, _)) = products.get(&m) {
                let weights = place(weights, expert, 2 * hidden * inner);
                let (x, out) = (place(x, first, hidden), place(gate_up, first, 2 * inner));
                product.queue(stream, [weights, x, out])?;
            }
            first += m;
        }
        let rows = job.rows();
        let view = buffers.gate_up.as_view();
        let kernels = &device.kernels;
        let gated = &mut buffers.gated;
        kernels.silu_and_multiply(stream, &view, gated, rows, inner_argument).or_fail("silu")?;
        let [gated, out] = [&buffers.gated, &buffers.out].map(|buffer| buffer.device_ptr(stream).0);
        let mut first = 0;
        for (expert, count) in counts.iter().enumerate() {
            let m = super::to_usize(*count)?;
            if let Some((_, product)) = products.get(&m) {
                let weights = place(down, expert, hidden * inner);
                let (x, out) = (place(gated, first, inner), place(out, first, hidden));
                product.queue(stream, [weights, x, out])?;
            }
            first += m;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::loads::{Cache, Statistics};
    use crate::measure::{Kind, plan_for};
    use crate::sample::Family;

    #[test]
    fn the_kernels_take_every_expert_point_of_the_plan() {
        let mut jobs = 0;
        for point in plan_for(&Kind::Cuda).points {
            if point.family == Family::ExpertGemm {
                let job = Job::of(&point).unwrap();
                let mut cache = Cache::default();
                let found = cache.statistics(&point.shape, &point.at);
                let rows: Vec<u32> =
                    job.counts.iter().map(|count| u32::try_from(*count).unwrap()).collect();
                assert_eq!(found, Statistics::of(&rows), "{point}");
                assert_eq!(job.counts.len(), (point.shape[3] / point.shape[5]) as usize, "{point}");
                let all = point.at[1] * u64::from(point.shape[2]);
                let rows = job.rows() as u64;
                assert!(rows <= all && rows * u64::from(point.shape[5]) >= all, "{point}");
                let tiles = tiles(&job.counts, tile_rows(&job.counts)).len() / 3;
                assert!(tiles > 0 && tiles <= 65_535, "{point}: {tiles} tiles");
                jobs += 1;
            }
        }
        assert!(jobs > 100);
    }

    #[test]
    fn odd_shapes_are_unsupported() {
        let mut points = plan_for(&Kind::Cuda).points;
        points.retain(|point| point.family == Family::ExpertGemm);
        for (field, value) in [(0, 100), (1, 33), (6, 2)] {
            let mut point = points[0].clone();
            point.shape[field] = value;
            assert!(Job::of(&point).is_err(), "{point}");
        }
    }
}
