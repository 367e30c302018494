//! Our own kernels: compiled once for the device, launched here and nowhere else.
#![expect(unsafe_code, reason = "a kernel launch cannot be checked; each says what it relies on")]

use std::sync::Arc;

use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, CudaView, DriverError, LaunchConfig,
    PushKernelArg,
};
use cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts, sys};

use super::layout::{COLUMNS, HEAD, THREADS};

/// What is compiled.
const SOURCE: &str = include_str!("kernels.cu");

/// Bits of random numbers from 0.5 to 1 of either sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// Two bf16 a word.
    Bf16,
    /// Four e4m3 a word.
    Fp8,
}

impl Pattern {
    /// Random bits that are kept, and bits that are set.
    fn bits(self) -> (u32, u32) {
        match self {
            Self::Bf16 => (0x807f_807f, 0x3f00_3f00),
            Self::Fp8 => (0x8787_8787, 0x3030_3030),
        }
    }
}

/// The kernels by their tasks.
pub(super) struct Kernels {
    nothing: CudaFunction,
    hold: CudaFunction,
    fill_random: CudaFunction,
    silu_and_multiply: CudaFunction,
    gate_up: [CudaFunction; 2],
    down: [CudaFunction; 2],
    attention: [CudaFunction; 3],
    attention_merge: CudaFunction,
}

/// A grouped product: tokens x k by experts x n x k, in tiles.
pub(super) struct Experts<'a> {
    pub(super) x: &'a CudaView<'a, u32>,
    pub(super) first: &'a CudaView<'a, u32>,
    /// The up projection, where the first is the gate.
    pub(super) second: Option<&'a CudaView<'a, u32>>,
    pub(super) tiles: &'a CudaSlice<i32>,
    pub(super) tile_rows: usize,
    pub(super) n: i32,
    pub(super) k: i32,
}

/// One step of attention.
pub(super) struct Attention<'a> {
    pub(super) queries: &'a CudaSlice<u32>,
    pub(super) keys: &'a CudaView<'a, u32>,
    pub(super) values: &'a CudaView<'a, u32>,
    /// Batch, heads, heads of keys, context.
    pub(super) shape: [i32; 4],
    pub(super) group: usize,
    pub(super) splits: usize,
}

type Launched = Result<(), DriverError>;

impl Kernels {
    /// Compiles for compute `capability`, or says why not.
    pub(super) fn compile(
        context: &Arc<CudaContext>,
        capability: (i32, i32),
    ) -> Result<Self, String> {
        // SAFETY: the library is looked up by NVRTC's names alone.
        if !unsafe { sys::is_culib_present() } {
            return Err("no NVRTC library is installed (it comes with CUDA)".to_owned());
        }
        if capability.0 < 8 {
            let (major, minor) = capability;
            return Err(format!("compute capability {major}.{minor}; expected 8.0 or newer"));
        }
        let options = CompileOptions { options: options(capability), ..Default::default() };
        let ptx = compile_ptx_with_opts(SOURCE, options).map_err(|error| error.to_string())?;
        let module = context.load_module(ptx).map_err(|error| error.to_string())?;
        let load = |name: &str| {
            module.load_function(name).map_err(|error| format!("kernel {name}: {error}"))
        };
        Ok(Self {
            nothing: load("nothing")?,
            hold: load("hold")?,
            fill_random: load("fill_random")?,
            silu_and_multiply: load("silu_and_multiply")?,
            gate_up: [load("expert_gate_up_16")?, load("expert_gate_up_64")?],
            down: [load("expert_down_16")?, load("expert_down_64")?],
            attention: [load("attention_1")?, load("attention_4")?, load("attention_8")?],
            attention_merge: load("attention_merge")?,
        })
    }

    /// A kernel that does nothing.
    pub(super) fn nothing(&self, stream: &CudaStream) -> Launched {
        // SAFETY: it has no arguments and touches nothing.
        unsafe { stream.launch_builder(&self.nothing).launch(blocks(1, 1, 1)) }.map(drop)
    }

    /// Keeps `stream` busy for `cycles`.
    pub(super) fn hold(&self, stream: &CudaStream, cycles: i64) -> Launched {
        // SAFETY: it touches no memory.
        unsafe { stream.launch_builder(&self.hold).arg(&cycles).launch(blocks(1, 1, 1)) }.map(drop)
    }

    /// Fills `words` with random numbers.
    pub(super) fn fill_random(
        &self,
        stream: &CudaStream,
        words: &mut CudaSlice<u32>,
        pattern: Pattern,
    ) -> Launched {
        let (count, (keep, set)) = (words.len() as u64, pattern.bits());
        let mut builder = stream.launch_builder(&self.fill_random);
        builder.arg(words).arg(&count).arg(&keep).arg(&set);
        // SAFETY: the kernel writes `count` words, the length of the buffer.
        unsafe { builder.launch(blocks(4096, 1, 256)) }.map(drop)
    }

    /// silu(gate) * up of `rows` rows of 2 x `inner` bf16 numbers.
    pub(super) fn silu_and_multiply(
        &self,
        stream: &CudaStream,
        gate_up: &CudaView<'_, u32>,
        out: &mut CudaSlice<u32>,
        rows: usize,
        inner: i32,
    ) -> Launched {
        let count = rows as u64 * u64::from(inner.unsigned_abs());
        assert!(gate_up.len() as u64 >= count && out.len() as u64 >= count / 2);
        let grid = u32::try_from(count.div_ceil(256)).unwrap_or(u32::MAX);
        let mut builder = stream.launch_builder(&self.silu_and_multiply);
        builder.arg(gate_up).arg(out).arg(&count).arg(&inner);
        // SAFETY: `count` numbers are written, twice as many read: the buffers hold them.
        unsafe { builder.launch(blocks(grid, 1, 256)) }.map(drop)
    }

    /// A grouped product into `out`, gated where `job` has two matrices.
    pub(super) fn experts(
        &self,
        stream: &CudaStream,
        job: &Experts<'_>,
        out: &mut CudaSlice<u32>,
    ) -> Launched {
        let (n, k) = (job.n.unsigned_abs() as usize, job.k);
        assert!(n.is_multiple_of(COLUMNS), "{n} columns");
        let kernels = if job.second.is_some() { &self.gate_up } else { &self.down };
        let kernel = &kernels[usize::from(job.tile_rows == 64)];
        let tiles = u32::try_from(job.tiles.len() / 3).unwrap_or(u32::MAX);
        let columns = u32::try_from(n / COLUMNS).unwrap_or(u32::MAX);
        let mut builder = stream.launch_builder(kernel);
        builder.arg(job.x).arg(job.first).arg(job.second.unwrap_or(job.first)).arg(out);
        builder.arg(job.tiles).arg(&job.n).arg(&k);
        // SAFETY: `experts.rs` sizes the buffers from the counts that the tiles are made of.
        unsafe { builder.launch(blocks(columns, tiles, THREADS)) }.map(drop)
    }

    /// Attention of one new token a request, and the merge of its splits into `out`.
    pub(super) fn attention(
        &self,
        stream: &CudaStream,
        job: &Attention<'_>,
        [partial, state]: [&mut CudaSlice<f32>; 2],
        out: &mut CudaSlice<u32>,
    ) -> Launched {
        let [batch, heads, kv_heads, context] = job.shape;
        let rows = batch.unsigned_abs() * heads.unsigned_abs();
        let splits = u32::try_from(job.splits).unwrap_or(u32::MAX);
        let span = context.unsigned_abs().div_ceil(splits).cast_signed();
        let places = rows as usize * job.splits;
        assert!(partial.len() >= places * HEAD && state.len() >= places * 2);
        let group = u32::try_from(job.group).unwrap_or(1);
        let kernel = &self.attention[match group {
            1 => 0,
            4 => 1,
            _ => 2,
        }];
        let mut builder = stream.launch_builder(kernel);
        builder.arg(job.queries).arg(job.keys).arg(job.values).arg(&mut *partial).arg(&mut *state);
        builder.arg(&heads).arg(&kv_heads).arg(&context).arg(&span);
        // SAFETY: `attention.rs` sizes queries, keys and values; the rest is checked above.
        unsafe { builder.launch(blocks(rows / group, splits, THREADS)) }?;
        let splits = splits.cast_signed();
        let mut builder = stream.launch_builder(&self.attention_merge);
        builder.arg(&*partial).arg(&*state).arg(out).arg(&splits);
        // SAFETY: reads what the first kernel wrote, writes a head for each block.
        unsafe { builder.launch(blocks(rows, 1, THREADS)) }.map(drop)
    }
}

fn options((major, minor): (i32, i32)) -> Vec<String> {
    let device = format!("--gpu-architecture=compute_{major}{minor}");
    vec![device, "--std=c++17".to_owned(), "--fmad=true".to_owned()]
}

fn blocks(across: u32, down: u32, threads: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (across, down, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::cuda::layout::DEPTH;

    #[test]
    fn the_source_has_the_kernels_and_constants_of_the_host() {
        for name in ["nothing", "hold", "fill_random", "silu_and_multiply", "attention_merge"] {
            assert!(SOURCE.contains(&format!("void {name}(")), "{name}");
        }
        for rows in [16, 64] {
            assert!(SOURCE.contains(&format!("EXPERT_KERNEL(expert_gate_up_{rows}, {rows}, 2)")));
            assert!(SOURCE.contains(&format!("EXPERT_KERNEL(expert_down_{rows}, {rows}, 1)")));
        }
        for group in [1, 4, 8] {
            assert!(SOURCE.contains(&format!("ATTENTION_KERNEL(attention_{group}, {group})")));
        }
        for (name, value) in [("COLUMNS", COLUMNS), ("DEPTH", DEPTH), ("HEAD", HEAD)] {
            assert!(SOURCE.contains(&format!("constexpr int {name} = {value};")), "{name}");
        }
        assert!(SOURCE.contains(&format!("constexpr int THREADS = {THREADS};")));
        assert!(!SOURCE.contains("#include"), "NVRTC finds no headers on most machines");
    }

    /// Needs the library alone, no device: a machine without it has nothing to check here.
    #[test]
    fn the_source_compiles_where_nvrtc_is_installed() {
        // SAFETY: the library is looked up by NVRTC's names alone.
        if unsafe { sys::is_culib_present() } {
            for capability in [(8, 0), (8, 9), (9, 0)] {
                let options = CompileOptions { options: options(capability), ..Default::default() };
                let ptx = compile_ptx_with_opts(SOURCE, options).unwrap().to_src();
                assert!(ptx.contains("expert_gate_up_64") && ptx.contains("mma.sync"));
            }
        }
    }

    /// Shared memory of a block without asking for more is 48 KiB.
    #[test]
    fn the_largest_tile_fits_into_shared_memory() {
        let (rows, stages, stride, bytes) = (64, 3, 40, 2);
        assert!(stages * stride * bytes * (rows + 2 * COLUMNS) <= 48 << 10);
    }

    #[test]
    fn random_numbers_are_neither_zero_nor_infinite() {
        let (keep, set) = Pattern::Bf16.bits();
        for word in [set, keep | set] {
            let value = f32::from_bits(word & 0xffff_0000).abs();
            assert!((0.5..1.0).contains(&value), "{value}");
        }
        // e4m3: sign, 4 bits of exponent (bias 7), 3 of mantissa: 0x30 is 0.5, 0x37 is 0.9375.
        assert_eq!(Pattern::Fp8.bits(), (0x8787_8787, 0x3030_3030));
        assert_eq!(options((9, 0))[0], "--gpu-architecture=compute_90");
    }
}
