//! Products of stored weights with activations, compiled once for each instruction set.
//!
//! Weights are widened to f32 as they are read and summed in f32. A tile of a few outputs and a
//! few rows of activations keeps its sums in registers; weights are read once from memory for
//! all rows.
#![expect(unsafe_code, reason = "vector instructions, called only where they were detected")]

use std::array::from_fn;

#[cfg(target_arch = "x86_64")]
use super::vector::x86;
use super::vector::{Portable, Vector};

/// An instruction set that this processor was seen to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instructions(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Instructions {
    /// Every one that this processor has, the best first.
    pub(super) fn all() -> Vec<Self> {
        let mut levels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
            if avx2 && wide {
                levels.push(Self(Level::Avx512));
            }
            if avx2 {
                levels.push(Self(Level::Avx2));
            }
        }
        levels.push(Self(Level::Portable));
        levels
    }

    /// The best that this processor has.
    pub(super) fn detect() -> Self {
        Self::all()[0]
    }

    /// The one called `name`, if this processor has it.
    pub(super) fn find(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|instructions| instructions.name() == name)
    }

    /// Its name in variants.
    pub(super) fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            Level::Portable => "portable",
        }
    }
}

/// A number as weights are stored.
pub(super) trait Weight: Copy + Send + Sync + 'static {
    /// Its value, before the scale of its row.
    fn widen(self) -> f32;
    /// Some of them, widened.
    ///
    /// # Safety
    /// As [`Vector`]: the instructions are there, and as many values as `V` has lanes.
    unsafe fn load<V: Vector>(from: *const Self) -> V;
    /// A random one from random bits: floats of either sign from 0.5 to 1, integers of any value.
    fn random(bits: u32) -> Self;
}

impl Weight for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: handed on.
        unsafe { V::load_f32(from) }
    }

    fn random(bits: u32) -> Self {
        Self::from_bits(bits & 0x807f_ffff | 0x3f00_0000)
    }
}

/// The upper half of an f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Bf16(pub(super) u16);

impl Weight for Bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: handed on.
        unsafe { V::load_bf16(from) }
    }

    fn random(bits: u32) -> Self {
        Self((f32::random(bits).to_bits() >> 16) as u16)
    }
}

impl Weight for i8 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from(self)
    }

    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: handed on.
        unsafe { V::load_i8(from) }
    }

    fn random(bits: u32) -> Self {
        bits.to_le_bytes()[0].cast_signed()
    }
}

/// A matrix of weights, row by row, one row an output.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, W> {
    /// The weights: outputs x width.
    pub(super) weights: &'a [W],
    /// Inputs of an output.
    pub(super) width: usize,
    /// What each output is multiplied by.
    pub(super) scales: Option<&'a [f32]>,
}

/// Fills `out` (rows x outputs) with the product of `inputs` (rows x width) and `matrix`.
pub(super) fn product<W: Weight>(
    instructions: Instructions,
    matrix: Matrix<'_, W>,
    inputs: &[f32],
    out: &mut [f32],
) {
    match instructions.0 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Instructions` holds this level only where `all` saw the features.
        Level::Avx512 => unsafe { product_avx512(matrix, inputs, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { product_avx2(matrix, inputs, out) },
        // SAFETY: needs no features.
        Level::Portable => unsafe { by_tiles::<W, Portable>(matrix, inputs, out) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx2,fma")]
fn product_avx512<W: Weight>(matrix: Matrix<'_, W>, inputs: &[f32], out: &mut [f32]) {
    // SAFETY: this function is of the features.
    unsafe { by_tiles::<W, x86::Avx512>(matrix, inputs, out) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn product_avx2<W: Weight>(matrix: Matrix<'_, W>, inputs: &[f32], out: &mut [f32]) {
    // SAFETY: this function is of the features.
    unsafe { by_tiles::<W, x86::Avx2>(matrix, inputs, out) }
}

/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
unsafe fn by_tiles<W: Weight, V: Vector>(matrix: Matrix<'_, W>, inputs: &[f32], out: &mut [f32]) {
    let (width, outputs) = (matrix.width, matrix.weights.len() / matrix.width);
    let rows = inputs.len() / width;
    assert_eq!(out.len(), rows * outputs, "a product of {rows} rows by {outputs} outputs");
    let mut first = 0;
    while first < outputs {
        let mut row = 0;
        // Wide vectors have many registers: more outputs a tile, so fewer loads a product.
        let high = match outputs - first {
            6.. if V::LANES >= 16 && rows >= 4 => 6,
            4.. => 4,
            _ => 1,
        };
        while row < rows {
            // SAFETY: handed on.
            row += unsafe {
                match (high, rows - row) {
                    (6, 4..) => tile::<W, V, 6, 4>(matrix, inputs, out, first, row),
                    (6, _) => tile::<W, V, 6, 1>(matrix, inputs, out, first, row),
                    (4, 4..) => {
                        tile::<W, V, 2, 4>(matrix, inputs, out, first, row);
                        tile::<W, V, 2, 4>(matrix, inputs, out, first + 2, row)
                    }
                    (4, 2..) => tile::<W, V, 4, 2>(matrix, inputs, out, first, row),
                    (4, _) => tile::<W, V, 4, 1>(matrix, inputs, out, first, row),
                    _ => tile::<W, V, 1, 1>(matrix, inputs, out, first, row),
                }
            };
        }
        first += high;
    }
}

/// `OUT` outputs from `first` of `ROWS` rows from `row`; gives `ROWS`.
///
/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
unsafe fn tile<W: Weight, V: Vector, const OUT: usize, const ROWS: usize>(
    matrix: Matrix<'_, W>,
    inputs: &[f32],
    out: &mut [f32],
    first: usize,
    row: usize,
) -> usize {
    let width = matrix.width;
    let weights: [&[W]; OUT] =
        from_fn(|index| &matrix.weights[(first + index) * width..(first + index + 1) * width]);
    let inputs: [&[f32]; ROWS] =
        from_fn(|index| &inputs[(row + index) * width..(row + index + 1) * width]);
    let whole = width / V::LANES * V::LANES;
    // SAFETY: the caller has the instructions; every slice has `width` values.
    let mut sums = [[unsafe { V::zero() }; ROWS]; OUT];
    for start in (0..whole).step_by(V::LANES) {
        for index in 0..OUT {
            let stored = weights[index].as_ptr().wrapping_add(start);
            // The next tile's weights are far enough ahead; processors see a row end too late.
            // SAFETY: a prefetch may be of any address.
            unsafe { V::prefetch(stored.wrapping_add(OUT * width)) };
            // SAFETY: `start` + `LANES` is at most `width`.
            let weight = unsafe { W::load::<V>(stored) };
            for lane in 0..ROWS {
                // SAFETY: as above.
                let input = unsafe { V::load_f32(inputs[lane].as_ptr().add(start)) };
                let sum = &mut sums[index][lane];
                // SAFETY: the caller has the instructions.
                *sum = unsafe { sum.add_product(weight, input) };
            }
        }
    }
    let outputs = matrix.weights.len() / width;
    for index in 0..OUT {
        let scale = matrix.scales.map_or(1.0, |scales| scales[first + index]);
        for lane in 0..ROWS {
            let rest = weights[index][whole..].iter().zip(&inputs[lane][whole..]);
            let rest: f32 = rest.map(|(weight, input)| weight.widen() * input).sum();
            // SAFETY: the caller has the instructions.
            let sum = unsafe { sums[index][lane].sum() };
            out[(row + lane) * outputs + first + index] = (sum + rest) * scale;
        }
    }
    ROWS
}
