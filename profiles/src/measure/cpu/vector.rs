//! Vectors of f32, one type for each instruction set: loads that widen, and sums of products.
//!
//! The compiler does not keep a tile of sums in registers when loops over arrays are left to it
//! (a fifth of the speed was seen), so the few operations that matter are spelled out here.
#![expect(unsafe_code, reason = "loads from pointers; callers have checked features and bounds")]

use super::kernel::Bf16;

/// Some f32 side by side.
///
/// # Safety
/// Every method needs a processor with the type's instructions; loads read `LANES` values.
pub(super) trait Vector: Copy {
    /// How many.
    const LANES: usize;
    /// Zeros.
    unsafe fn zero() -> Self;
    /// Loads `LANES` values.
    unsafe fn load_f32(from: *const f32) -> Self;
    /// Loads and widens `LANES` values.
    unsafe fn load_bf16(from: *const Bf16) -> Self;
    /// Loads and widens `LANES` values.
    unsafe fn load_i8(from: *const i8) -> Self;
    /// Asks for what lies there to be brought nearer; a wish, of any address.
    unsafe fn prefetch<T>(_from: *const T) {}
    /// self + a * b.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    /// The sum over lanes.
    unsafe fn sum(self) -> f32;
}

/// For every processor.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; 4]);

impl Vector for Portable {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; 4])
    }

    #[inline(always)]
    unsafe fn load_f32(from: *const f32) -> Self {
        // SAFETY: the caller gives `LANES` values.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const Bf16) -> Self {
        // SAFETY: the caller gives `LANES` values.
        let stored = unsafe { from.cast::<[u16; 4]>().read_unaligned() };
        Self(stored.map(|bits| f32::from_bits(u32::from(bits) << 16)))
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        // SAFETY: the caller gives `LANES` values.
        Self(unsafe { from.cast::<[i8; 4]>().read_unaligned() }.map(f32::from))
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] + a.0[lane] * b.0[lane]))
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        self.0.iter().sum()
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::*;

    use super::{Bf16, Vector};

    /// AVX-512 F.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512(__m512);

    /// AVX2 and FMA.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256);

    // SAFETY, for all: the caller has the features and gives `LANES` values to load.
    impl Vector for Avx512 {
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn zero() -> Self {
            Self(unsafe { _mm512_setzero_ps() })
        }

        #[inline(always)]
        unsafe fn load_f32(from: *const f32) -> Self {
            Self(unsafe { _mm512_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn load_bf16(from: *const Bf16) -> Self {
            let wide = unsafe { _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())) };
            Self(unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)) })
        }

        #[inline(always)]
        unsafe fn load_i8(from: *const i8) -> Self {
            let wide = unsafe { _mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())) };
            Self(unsafe { _mm512_cvtepi32_ps(wide) })
        }

        #[inline(always)]
        unsafe fn prefetch<T>(from: *const T) {
            unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) };
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
        }

        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            unsafe { _mm512_reduce_add_ps(self.0) }
        }
    }

    // SAFETY, for all: the caller has the features and gives `LANES` values to load.
    impl Vector for Avx2 {
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn zero() -> Self {
            Self(unsafe { _mm256_setzero_ps() })
        }

        #[inline(always)]
        unsafe fn load_f32(from: *const f32) -> Self {
            Self(unsafe { _mm256_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn load_bf16(from: *const Bf16) -> Self {
            let wide = unsafe { _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())) };
            Self(unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide)) })
        }

        #[inline(always)]
        unsafe fn load_i8(from: *const i8) -> Self {
            let wide = unsafe { _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast())) };
            Self(unsafe { _mm256_cvtepi32_ps(wide) })
        }

        #[inline(always)]
        unsafe fn prefetch<T>(from: *const T) {
            unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) };
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            Self(unsafe { _mm256_fmadd_ps(a.0, b.0, self.0) })
        }

        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            let mut lanes = [0.0_f32; 8];
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), self.0) };
            lanes.iter().sum()
        }
    }
}
