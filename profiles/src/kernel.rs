//! Closed forms of kernel times: what a kernel would take if its time followed from bytes,
//! operations and a few constants. Tables of measurements correct them (`table`).
//!
//! One [`Kernel`] per family of samples; times are microseconds, bandwidths TB/s, rates TFLOP/s,
//! so that bytes over (bandwidth x 1e6) are microseconds.

mod attention;
mod collective;
mod exchange;
pub(crate) mod expert_gemm;
pub(crate) mod fast;
mod gemm;
pub(crate) mod loads;
mod mla;
mod transfer;

pub(crate) use exchange::distinct_ranks;

use crate::fit::Parameter;
use crate::hardware::Device;
use crate::sample::{Family, Sample};

/// What a form may know about one call, precomputed: meaning of each number is the form's own.
pub(crate) type Features = [f64; 16];

/// The machine that forms are bounded by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Machine {
    /// Memory bandwidth by the datasheet, TB/s.
    pub(crate) bandwidth: f64,
    /// 16-bit rate by the datasheet, TFLOP/s.
    pub(crate) rate_bf16: f64,
    /// 8-bit float rate by the datasheet, TFLOP/s.
    pub(crate) rate_fp8: f64,
    /// Streaming multiprocessors.
    pub(crate) multiprocessors: f64,
}

impl Machine {
    pub(crate) fn of(device: &Device) -> Self {
        Self {
            bandwidth: device.memory_bandwidth.value.0 as f64 * 1e-12,
            rate_bf16: device.flops_bf16.value.0 as f64 * 1e-12,
            rate_fp8: device.flops_fp8.value.0 as f64 * 1e-12,
            multiprocessors: f64::from(device.multiprocessors.value),
        }
    }

    /// Bounds for a machine that no preset describes: about an H200.
    pub(crate) fn unknown() -> Self {
        Self { bandwidth: 4.8, rate_bf16: 989.0, rate_fp8: 1979.0, multiprocessors: 132.0 }
    }
}

/// What the samples of one table share: the variant and the shape fields that split tables.
#[derive(Clone, Debug)]
pub(crate) struct Group<'a> {
    pub(crate) variant: &'a str,
    pub(crate) machine: Machine,
}

impl Group<'_> {
    /// The data types of the variant, without its kernel: `triton/fp8/bfloat16` has two.
    fn types(&self) -> impl Iterator<Item = &str> {
        self.variant.split('/').skip(1)
    }

    /// The type at `index`; the empty text where the variant has fewer.
    fn type_at(&self, index: usize) -> &str {
        self.types().nth(index).unwrap_or("")
    }

    /// The datasheet's rate for products of `data_type`, TFLOP/s.
    fn rate(&self, data_type: &str) -> f64 {
        let Machine { rate_bf16, rate_fp8, .. } = self.machine;
        match data_type {
            "fp8" | "fp8_block" | "sq" | "int8" | "w4afp8" => rate_fp8,
            "nvfp4" | "w4a8_mxfp4_mxfp8" => 2.0 * rate_fp8,
            _ => rate_bf16,
        }
    }
}

/// Bytes that one weight takes with its scales.
///
/// Sources: block scales of 128 x 128 (fp8_block) and 32 (mxfp4) or 16 (nvfp4) values as the
/// formats define them; 4-bit integers with a 16-bit scale per 128 values.
fn weight_bytes(data_type: &str) -> f64 {
    match data_type {
        "fp8" | "int8_wo" | "sq" | "int8" => 1.0,
        "fp8_block" => 1.0 + 4.0 / 16_384.0,
        "int4_wo" | "w4afp8" => 0.516,
        "w4a16_mxfp4" | "w4a8_mxfp4_mxfp8" | "mxfp4" => 0.531_25,
        "nvfp4" => 0.5625,
        "f32" => 4.0,
        _ => 2.0,
    }
}

/// Bytes that one activation takes with its scales, at the products of `data_type` weights.
fn activation_bytes(data_type: &str) -> f64 {
    match data_type {
        "fp8" | "sq" | "int8" => 1.0,
        "fp8_block" => 1.0 + 4.0 / 128.0,
        "nvfp4" => 0.5625,
        "f32" => 4.0,
        _ => 2.0,
    }
}

/// `(a^p + b^p)^(1/p)`, the smooth maximum of two times that partly overlap.
fn smooth_max(a: f64, b: f64, p: f64) -> f64 {
    let (large, small) = if a > b { (a, b) } else { (b, a) };
    if large <= 0.0 {
        return 0.0;
    }
    large * (1.0 + (small / large).powf(p)).powf(1.0 / p)
}

/// Where an axis of a table takes its coordinate from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Axis {
    /// A field of [`Sample::shape`], logarithmic.
    Shape(usize),
    /// A field of [`Sample::at`], logarithmic.
    At(usize),
    /// 0 where [`Sample::at`] of this index is 0, else 1.
    Class(usize),
}

impl Axis {
    pub(crate) fn value(self, shape: &[u32], at: &[u64]) -> u64 {
        match self {
            Self::Shape(index) => u64::from(shape[index]),
            Self::At(index) => at[index],
            Self::Class(index) => u64::from(at[index] > 0),
        }
    }

    pub(crate) fn coordinate(self, value: u64) -> f64 {
        match self {
            Self::Class(_) => value as f64,
            Self::Shape(_) | Self::At(_) => (value.max(1) as f64).ln(),
        }
    }
}

/// The closed forms of one family and how its tables are laid out.
pub(crate) struct Kernel {
    /// Fields of the shape that split tables.
    pub(crate) split: &'static [usize],
    /// Fields of the shape that tell shapes of one table apart.
    pub(crate) shape: &'static [usize],
    /// Axes of the residuals of one shape; at most three.
    pub(crate) axes: &'static [Axis],
    /// Fields of the shape that make a model: whole models are left out to judge unseen shapes.
    pub(crate) model: &'static [usize],
    /// Names of the forms; the one that fits best is kept.
    pub(crate) forms: &'static [&'static str],
    /// Parameters with bounds.
    pub(crate) parameters: fn(&Group) -> Vec<Parameter>,
    /// What the form may know about a sample.
    pub(crate) features: fn(&Sample, &Group, &mut loads::Cache) -> Features,
    /// The form: microseconds.
    pub(crate) time: fn(form: usize, parameters: &[f64], features: &Features) -> f64,
    /// A shape as a point; shapes near each other behave alike.
    pub(crate) place: fn(shape: &[u32]) -> [f64; 6],
}

/// The closed forms of `family`.
pub(crate) fn kernel(family: Family) -> &'static Kernel {
    match family {
        Family::AllGather => &collective::ALL_GATHER,
        Family::AllReduce => &collective::ALL_REDUCE,
        Family::AllToAll => &collective::ALL_TO_ALL,
        Family::ReduceScatter => &collective::REDUCE_SCATTER,
        Family::Combine => &exchange::COMBINE,
        Family::Dispatch => &exchange::DISPATCH,
        Family::CpuExpert => &transfer::CPU_EXPERT,
        Family::DecodeAttention => &attention::DECODE,
        Family::PrefillAttention => &attention::PREFILL,
        Family::DecodeMla => &mla::DECODE,
        Family::DecodeMlaModule => &mla::DECODE_MODULE,
        Family::PrefillMla => &mla::PREFILL,
        Family::PrefillMlaModule => &mla::PREFILL_MODULE,
        Family::DeviceCopy => &transfer::DEVICE_COPY,
        Family::ExpertGemm => &expert_gemm::KERNEL,
        Family::Gemm => &gemm::KERNEL,
        Family::HostCopy => &transfer::HOST_COPY,
        Family::Launch => &transfer::LAUNCH,
        Family::StorageRead => &transfer::STORAGE_READ,
    }
}

/// The logarithm of a count; 0 for 0.
fn ln(count: u32) -> f64 {
    f64::from(count.max(1)).ln()
}

fn no_place(_: &[u32]) -> [f64; 6] {
    [0.0; 6]
}

/// Shorthand for the tables of parameters.
const fn parameter(name: &'static str, low: f64, start: f64, high: f64) -> Parameter {
    Parameter { name, low, start, high }
}
