//! What to time on a kind of device, in which order, and how long that takes at most.

use std::fmt;

use crate::sample::{Family, Sample, routing};

/// A plan is estimated to take fewer seconds than this.
pub const SECONDS_MAX: f64 = 300.0;
/// Repeats before those that count.
pub(super) const WARM_UP: u32 = 2;
/// Fewest and most repeats that count, and the time they should take together, microseconds.
pub(super) const REPEATS_MIN: u32 = 5;
pub(super) const REPEATS_MAX: u32 = 40;
const BUDGET_US: f64 = 150_000.0;
/// Setting a point up: allocations, random data, threads, heuristics. Microseconds.
const SETUP_US: f64 = 50_000.0;

const MIB: u64 = 1 << 20;
/// `[hidden, inter, topk, experts]`: Qwen3-30B-A3B, Qwen3-235B-A22B, DeepSeek-V3.
const MODELS: [[u32; 4]; 3] = [[2048, 768, 8, 128], [4096, 1536, 8, 128], [7168, 2048, 8, 256]];

/// A device, as far as its plan goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The processor of this machine.
    Cpu {
        /// Threads that may work at once.
        threads: u32,
        /// The instruction set that the kernels use: `avx2`.
        instructions: String,
        /// Whether a folder for the storage benchmark was named.
        storage: bool,
    },
    /// A CUDA device.
    Cuda,
}

/// One thing to time: a [`Sample`] without its time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// What is timed.
    pub family: Family,
    /// Implementation and data type.
    pub variant: String,
    /// As [`Sample::shape`].
    pub shape: Vec<u32>,
    /// As [`Sample::at`].
    pub at: Vec<u64>,
}

/// Points in the order in which they are timed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// For which device.
    pub kind: Kind,
    /// The points; none twice.
    pub points: Vec<Point>,
}

impl Point {
    fn new(family: Family, variant: &str, shape: &[u32], at: &[u64]) -> Self {
        Self { family, variant: variant.to_owned(), shape: shape.to_vec(), at: at.to_vec() }
    }

    /// The point that `sample` timed.
    #[must_use]
    pub fn of(sample: &Sample) -> Self {
        Self::new(sample.family, &sample.variant, &sample.shape, &sample.at)
    }

    /// Whether `sample` timed this point.
    #[must_use]
    pub fn is_of(&self, sample: &Sample) -> bool {
        self.family == sample.family
            && self.variant == sample.variant
            && self.shape == sample.shape
            && self.at == sample.at
    }

    /// Whether it has the fields of its family.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let fields = self.family.fields();
        self.shape.len() == fields.shape.len() && self.at.len() == fields.at.len()
    }

    /// The sample of this point, `time_us` in microseconds.
    #[must_use]
    pub fn sample(&self, time_us: f64, spread: Option<f64>) -> Sample {
        let Self { family, variant, shape, at } = self.clone();
        Sample { family, variant, shape, at, time_us, spread }
    }
}

/// The point's id: unique within a plan, and readable.
impl fmt::Display for Point {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.family.name(), self.variant)?;
        let fields = self.family.fields();
        for (name, value) in fields.shape.iter().zip(&self.shape) {
            write!(formatter, " {name}={value}")?;
        }
        for (name, value) in fields.at.iter().zip(&self.at) {
            write!(formatter, " {name}={value}")?;
        }
        Ok(())
    }
}

impl Plan {
    /// How long timing every point takes on a slow device of the kind, seconds.
    #[must_use]
    pub fn seconds_estimated(&self) -> f64 {
        self.points.iter().map(|point| self.seconds_of(point)).sum()
    }

    /// How long timing `point` takes on a slow device of the kind, seconds: for progress bars.
    #[must_use]
    pub fn seconds_of(&self, point: &Point) -> f64 {
        let time_us = if point.is_complete() { estimate_us(&self.kind, point) } else { 1.0 };
        (SETUP_US + time_us * f64::from(WARM_UP + repeats(time_us))) / 1e6
    }
}

/// How often something that takes `time_us` is repeated.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to a small positive range"
)]
pub(super) fn repeats(time_us: f64) -> u32 {
    (BUDGET_US / time_us).clamp(f64::from(REPEATS_MIN), f64::from(REPEATS_MAX)) as u32
}

/// What to time on `kind`: cheap and general points first, so that an interrupted run is of use.
#[must_use]
pub fn plan_for(kind: &Kind) -> Plan {
    let points = match kind {
        Kind::Cpu { threads, instructions, storage } => {
            cpu_points((*threads).max(1), instructions, *storage)
        }
        Kind::Cuda => cuda_points(),
    };
    Plan { kind: kind.clone(), points }
}

fn cpu_points(threads: u32, instructions: &str, storage: bool) -> Vec<Point> {
    let mut points = Vec::new();
    for mib in [256, 512] {
        points.push(Point::new(Family::DeviceCopy, "host", &[], &[mib * MIB]));
    }
    for in_flight in [1, 2, 4, 10].into_iter().filter(|count| *count == 1 || *count <= threads) {
        for mib in [1, 4, 16, 64] {
            points.push(Point::new(Family::HostCopy, "host/to-host", &[in_flight], &[mib * MIB]));
        }
    }
    if storage {
        for in_flight in [1, 4] {
            points.push(Point::new(Family::StorageRead, "sequential", &[in_flight], &[16 * MIB]));
        }
        for in_flight in [1, 4, 10] {
            points.push(Point::new(Family::StorageRead, "random", &[in_flight], &[4 * MIB]));
        }
    }
    for weights in ["bf16", "f32", "int8"] {
        let variant = format!("{weights}/{instructions}");
        for [hidden, inter, ..] in MODELS {
            for threads in thread_counts(threads) {
                for rows in [1, 2, 4, 8, 16, 64] {
                    let shape = [threads, hidden, inter];
                    points.push(Point::new(Family::CpuExpert, &variant, &shape, &[rows]));
                }
            }
        }
    }
    points
}

/// 1, the most, and powers of two between: the largest four where there are more.
fn thread_counts(most: u32) -> Vec<u32> {
    let mut counts: Vec<u32> =
        (0..32).map(|power| 1 << power).take_while(|count| *count < most).collect();
    counts.push(most);
    let many = counts.len().saturating_sub(4);
    if many > 0 {
        counts.drain(1..=many.min(counts.len() - 2));
    }
    counts
}

fn cuda_points() -> Vec<Point> {
    let mut points = Vec::new();
    for variant in ["kernel", "graph"] {
        for kernels in [1, 10, 100, 1000] {
            points.push(Point::new(Family::Launch, variant, &[], &[kernels]));
        }
    }
    for mib in [1, 4, 16, 64, 256, 1024] {
        points.push(Point::new(Family::DeviceCopy, "driver", &[], &[mib * MIB]));
    }
    let copies: [(&str, &[u32]); 5] = [
        ("pinned/to-device", &[1, 2, 4, 10]),
        ("pinned/to-host", &[1, 2, 4, 10]),
        ("pinned/both", &[1, 2, 4, 10]),
        ("pageable/to-device", &[1, 4, 10]),
        ("pageable/to-host", &[1, 4, 10]),
    ];
    for (variant, in_flight) in copies {
        for in_flight in in_flight {
            for mib in [1, 4, 16, 64] {
                points.push(Point::new(Family::HostCopy, variant, &[*in_flight], &[mib * MIB]));
            }
        }
    }
    for variant in ["cublaslt/bf16", "cublaslt/fp8"] {
        for (n, k) in [(5120, 2048), (2048, 4096), (9216, 4096), (4096, 8192), (24576, 1536)] {
            for m in [1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192] {
                points.push(Point::new(Family::Gemm, variant, &[n, k], &[m]));
            }
        }
    }
    points.extend(attention_points());
    points.extend(expert_points());
    points
}

fn attention_points() -> Vec<Point> {
    let mut points = Vec::new();
    for [heads, kv_heads] in [[32, 4], [32, 8], [64, 4], [16, 16]] {
        for batch in [1, 8, 32, 128] {
            for context in [512, 2048, 8192, 32768] {
                if batch * context <= 1 << 20 {
                    let shape = [heads, kv_heads, 128, 0];
                    let at = [batch, context];
                    points.push(Point::new(Family::DecodeAttention, "nvrtc/bf16", &shape, &at));
                }
            }
        }
    }
    points
}

/// `tokens` are those of all ranks together; the busiest rank's experts are timed.
fn expert_points() -> Vec<Point> {
    let mut points = Vec::new();
    for [hidden, inter, topk, experts] in MODELS {
        for ep in [1, 8] {
            for variant in ["nvrtc/bf16", "cublaslt-loop/bf16"] {
                for skew_percent in [0, 60, 120] {
                    for tokens in [1, 8, 32, 128, 512, 2048, 8192] {
                        let shape = [hidden, inter, topk, experts, 1, ep, 3, routing::MEASURE];
                        let at = [skew_percent, tokens];
                        points.push(Point::new(Family::ExpertGemm, variant, &shape, &at));
                    }
                }
            }
        }
    }
    points
}

/// A slow device of each kind: bytes and operations a microsecond, and a fixed cost.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn estimate_us(kind: &Kind, point: &Point) -> f64 {
    let shape = |index: usize| f64::from(point.shape[index]);
    let at = |index: usize| point.at[index] as f64;
    let (bytes, operations) = match (point.family, kind) {
        (Family::CpuExpert, _) => {
            let weights = 3.0 * shape(1) * shape(2);
            let slots = shape(0).min(64.0);
            // Memory is shared by the threads, arithmetic is not.
            (4.0 * weights / slots.min(4.0), 2.0 * weights * at(0) / slots)
        }
        (Family::HostCopy | Family::StorageRead, _) => (shape(0) * at(0), 0.0),
        (Family::DeviceCopy, _) => (2.0 * at(0), 0.0),
        (Family::Launch, _) => (0.0, at(0) * 1e6),
        (Family::Gemm, _) => {
            let (n, k, m) = (shape(0), shape(1), at(0));
            (2.0 * (n * k + m * k + m * n), 2.0 * m * n * k)
        }
        (Family::DecodeAttention, _) => {
            let cache = at(0) * at(1) * shape(2);
            (4.0 * cache * shape(1), 4.0 * cache * shape(0))
        }
        (Family::ExpertGemm, _) => {
            let (weights, local) = (3.0 * shape(0) * shape(1), shape(3) / shape(5));
            let picks = at(1) * shape(2);
            (2.0 * weights * local.min(picks), 2.0 * weights * picks)
        }
        // No plan times the others.
        _ => (0.0, 0.0),
    };
    let (bytes_a_us, operations_a_us) = match (kind, point.family) {
        (Kind::Cpu { .. }, Family::StorageRead) => (500.0, 1.0),
        (Kind::Cpu { .. }, _) => (6e3, 12e3),
        (Kind::Cuda, Family::HostCopy) => (10e3, 1.0),
        (Kind::Cuda, Family::DecodeAttention) => (500e3, 20e6),
        (Kind::Cuda, _) => (800e3, 60e6),
    };
    5.0 + bytes / bytes_a_us + operations / operations_a_us
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds() -> Vec<Kind> {
        let cpu =
            |threads, storage| Kind::Cpu { threads, instructions: "avx2".to_owned(), storage };
        vec![Kind::Cuda, cpu(1, false), cpu(2, true), cpu(16, true), cpu(256, true)]
    }

    #[test]
    fn points_have_the_fields_of_their_family_and_are_unique() {
        for kind in kinds() {
            let points = plan_for(&kind).points;
            for point in &points {
                assert!(point.is_complete(), "{point}");
                assert!(point.is_of(&point.sample(1.0, None)));
                assert_eq!(Point::of(&point.sample(1.0, None)), *point);
            }
            let mut ids: Vec<String> = points.iter().map(Point::to_string).collect();
            ids.sort_unstable();
            assert!(ids.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }

    #[test]
    fn a_run_takes_less_than_five_minutes() {
        for kind in kinds() {
            let seconds = plan_for(&kind).seconds_estimated();
            assert!(seconds > 10.0 && seconds < SECONDS_MAX, "{kind:?}: {seconds} s");
        }
    }

    #[test]
    fn thread_counts_hold_one_and_the_most() {
        assert_eq!(thread_counts(1), [1]);
        assert_eq!(thread_counts(2), [1, 2]);
        assert_eq!(thread_counts(6), [1, 2, 4, 6]);
        assert_eq!(thread_counts(96), [1, 32, 64, 96]);
    }

    #[test]
    fn storage_is_read_only_where_a_folder_was_named() {
        let reads = |kind| {
            plan_for(kind).points.iter().filter(|point| point.family == Family::StorageRead).count()
        };
        assert_eq!(kinds().iter().map(reads).collect::<Vec<_>>(), [0, 0, 5, 5, 5]);
    }
}
