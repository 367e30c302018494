//! Products of stored weights with activations, compiled once for each instruction set.
//!
//! Weights are widened to f32 as they are read and summed in f32. A tile of a few outputs and a
//! few rows of activations keeps its sums in registers while the compiler turns the loop over
//! lanes into vector instructions; weights are read once from memory for all rows.

use std::array::from_fn;

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
    /// A random one from random bits: floats of either sign from 0.5 to 1, integers of any value.
    fn random(bits: u32) -> Self;
}

impl Weight for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    fn random(bits: u32) -> Self {
        Self::from_bits(bits & 0x807f_ffff | 0x3f00_0000)
    }
}

/// The upper half of an f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bf16(pub(super) u16);

impl Weight for Bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
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
#[expect(unsafe_code, reason = "the processor has the instructions of what is called")]
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
        Level::Portable => by_tiles::<W, 4, false>(matrix, inputs, out),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx2,fma")]
fn product_avx512<W: Weight>(matrix: Matrix<'_, W>, inputs: &[f32], out: &mut [f32]) {
    by_tiles::<W, 16, true>(matrix, inputs, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn product_avx2<W: Weight>(matrix: Matrix<'_, W>, inputs: &[f32], out: &mut [f32]) {
    by_tiles::<W, 8, true>(matrix, inputs, out);
}

#[inline(always)]
fn by_tiles<W: Weight, const LANES: usize, const FUSED: bool>(
    matrix: Matrix<'_, W>,
    inputs: &[f32],
    out: &mut [f32],
) {
    let (width, outputs) = (matrix.width, matrix.weights.len() / matrix.width);
    let rows = inputs.len() / width;
    assert_eq!(out.len(), rows * outputs, "a product of {rows} rows by {outputs} outputs");
    let mut first = 0;
    while first < outputs {
        let mut row = 0;
        while row < rows {
            // Narrow vectors have few registers: half as many outputs a tile.
            let (done, many) = match (outputs - first, rows - row) {
                (4.., 4..) if LANES >= 16 => {
                    (4, tile::<W, LANES, FUSED, 4, 4>(matrix, inputs, out, first, row))
                }
                (4.., 4..) => {
                    tile::<W, LANES, FUSED, 2, 4>(matrix, inputs, out, first, row);
                    (4, tile::<W, LANES, FUSED, 2, 4>(matrix, inputs, out, first + 2, row))
                }
                (4.., 2..) => (4, tile::<W, LANES, FUSED, 4, 2>(matrix, inputs, out, first, row)),
                (4.., _) => (4, tile::<W, LANES, FUSED, 4, 1>(matrix, inputs, out, first, row)),
                _ => (1, tile::<W, LANES, FUSED, 1, 1>(matrix, inputs, out, first, row)),
            };
            row += many;
            if row >= rows {
                first += done;
            }
        }
    }
}

/// `OUT` outputs from `first` of `ROWS` rows from `row`; gives `ROWS`.
#[inline(always)]
fn tile<W: Weight, const LANES: usize, const FUSED: bool, const OUT: usize, const ROWS: usize>(
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
    let whole = width / LANES * LANES;
    let mut sums = [[[0.0_f32; LANES]; ROWS]; OUT];
    let mut start = 0;
    while start < whole {
        let activations: [[f32; LANES]; ROWS] = from_fn(|row| lanes(inputs[row], start));
        for index in 0..OUT {
            let stored: [W; LANES] = lanes(weights[index], start);
            for row in 0..ROWS {
                for lane in 0..LANES {
                    let (weight, activation) = (stored[lane].widen(), activations[row][lane]);
                    let sum = &mut sums[index][row][lane];
                    *sum = add_product::<FUSED>(*sum, weight, activation);
                }
            }
        }
        start += LANES;
    }
    let outputs = matrix.weights.len() / width;
    for index in 0..OUT {
        let scale = matrix.scales.map_or(1.0, |scales| scales[first + index]);
        for lane in 0..ROWS {
            let rest = weights[index][whole..].iter().zip(&inputs[lane][whole..]);
            let rest: f32 = rest.map(|(weight, input)| weight.widen() * input).sum();
            let sum: f32 = sums[index][lane].iter().sum();
            out[(row + lane) * outputs + first + index] = (sum + rest) * scale;
        }
    }
    ROWS
}

#[inline(always)]
fn lanes<T: Copy, const LANES: usize>(from: &[T], start: usize) -> [T; LANES] {
    let part: &[T; LANES] = from[start..start + LANES].try_into().expect("LANES values");
    *part
}

#[inline(always)]
fn add_product<const FUSED: bool>(sum: f32, a: f32, b: f32) -> f32 {
    if FUSED { a.mul_add(b, sum) } else { sum + a * b }
}
