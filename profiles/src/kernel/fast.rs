//! Logarithm, exponential and smooth maximum for hot paths: short series instead of the
//! library's last bit.
//!
//! They are within 1e-6 of the exact ones, which is nothing beside the 0.4% steps of stored
//! residuals, and take a few nanoseconds. Portable: additions and multiplications only.

/// Rounds to whole numbers when it is added and taken away again: 1.5 x 2^52.
const ROUND: f64 = 6_755_399_441_055_744.0;
const MANTISSA_BITS: u32 = 52;

/// The logarithm to base 2 of a positive, normal number.
#[inline]
pub(crate) fn log2(value: f64) -> f64 {
    // The mantissa is brought between the square roots of a half and of two.
    const SQRT_HALF: u64 = std::f64::consts::FRAC_1_SQRT_2.to_bits();
    let above = value.to_bits().wrapping_sub(SQRT_HALF) as i64 >> MANTISSA_BITS;
    let mantissa = f64::from_bits(value.to_bits().wrapping_sub((above as u64) << MANTISSA_BITS));
    let part = (mantissa - 1.0) / (mantissa + 1.0);
    let square = part * part;
    let series = (1.0 + square * (1.0 / 3.0)) + square * square * (0.2 + square * (1.0 / 7.0));
    above as f64 + part * series * (2.0 * std::f64::consts::LOG2_E)
}

/// Two to the power of `value`, which is held between -1000 and 1000.
#[inline]
pub(crate) fn exp2(value: f64) -> f64 {
    let value = value.clamp(-1000.0, 1000.0);
    let shifted = value + ROUND;
    let part = (value - (shifted - ROUND)) * std::f64::consts::LN_2;
    // In pairs, which a processor adds side by side.
    let square = part * part;
    let high = (1.0 / 24.0 + part * (1.0 / 120.0)) + square * (1.0 / 720.0);
    let series = (1.0 + part) + square * ((0.5 + part * (1.0 / 6.0)) + square * high);
    // The low bits of `shifted` are the whole number; the exponent's bias is added to it.
    f64::from_bits((shifted.to_bits().wrapping_add(1023)) << MANTISSA_BITS) * series
}

/// Steps of a tabulated smooth maximum.
const STEPS: usize = 512;

/// `(a^p + b^p)^(1/p)` of one `p`, as [`super::smooth_max`] within 0.02%: what the smaller adds
/// to the larger, tabulated over their ratio.
#[derive(Clone, Debug)]
pub(crate) struct SmoothMax(Box<[f32]>);

impl SmoothMax {
    /// Tabulates for `p`, at least 1.
    pub(crate) fn new(p: f64) -> Self {
        let factor = |step| super::smooth_max(1.0, step as f64 / STEPS as f64, p) as f32;
        // One more, so that equal times have an upper neighbour too.
        Self((0..=STEPS).map(factor).chain([factor(STEPS)]).collect())
    }

    /// Of two times, neither below 0.
    #[inline]
    pub(crate) fn of(&self, a: f64, b: f64) -> f64 {
        let (large, small) = if a > b { (a, b) } else { (b, a) };
        if small <= 0.0 {
            return large;
        }
        let place = (small / large) as f32 * STEPS as f32;
        let index = (place as usize).min(STEPS);
        let (low, high) = (self.0[index], self.0[index + 1]);
        large * f64::from(low + (place - index as f32) * (high - low))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn logarithms_and_powers_are_near_the_exact_ones(
            exponent in -300.0..300.0_f64,
            power in -900.0..900.0_f64,
        ) {
            let value = exponent.exp2();
            prop_assert!((log2(value) - value.log2()).abs() < 1e-7, "{value}");
            prop_assert!((exp2(power) / power.exp2() - 1.0).abs() < 1e-6, "{power}");
        }

        #[test]
        fn the_smooth_maximum_is_near_the_exact_one(
            a in 0.0..1e6_f64,
            ratio in 0.0..1.5_f64,
            p in 1.2..9.0_f64,
        ) {
            let exact = super::super::smooth_max(a, a * ratio, p);
            let found = SmoothMax::new(p).of(a, a * ratio);
            prop_assert!((found - exact).abs() <= exact * 2e-4, "{found} {exact}");
        }

        #[test]
        fn the_smooth_maximum_grows_with_either_time(
            a in 0.0..1e6_f64,
            b in 0.0..1e6_f64,
            more in 1.0..1.1_f64,
            p in 1.2..9.0_f64,
        ) {
            // Up to the seventh digit, which a ratio in 32 bits has no more of.
            let timer = SmoothMax::new(p);
            prop_assert!(timer.of(a * more, b) >= timer.of(a, b) * (1.0 - 1e-6));
            prop_assert!(timer.of(a, b * more) >= timer.of(a, b) * (1.0 - 1e-6));
        }
    }

    #[test]
    fn whole_powers_and_nothing() {
        for whole in -60..60 {
            assert!((log2(f64::from(whole).exp2()) - f64::from(whole)).abs() < 1e-12);
            assert!((exp2(f64::from(whole)) / f64::from(whole).exp2() - 1.0).abs() < 1e-15);
        }
        assert_eq!(SmoothMax::new(2.0).of(0.0, 0.0), 0.0);
        assert_eq!(SmoothMax::new(2.0).of(0.0, 3.0), 3.0);
    }
}
