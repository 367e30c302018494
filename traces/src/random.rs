//! Random variates from a generator of random bits, the same on every platform: basic arithmetic
//! and square roots are exact by IEEE 754, and everything else is `libm`'s.

use moecast_profiles::seed::Generator;
use rand::Rng;

/// Uniform in (0, 1), both ends excluded: the middle of one of 2^52 equal intervals.
#[expect(clippy::cast_precision_loss, reason = "52 bits fit")]
pub(crate) fn unit(bits: &mut Generator) -> f64 {
    ((bits.next_u64() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
}

/// Exponential with mean 1, by inversion.
pub(crate) fn exponential(bits: &mut Generator) -> f64 {
    -libm::log(unit(bits))
}

/// Normal with mean 0 and deviation 1, by Marsaglia's polar method; the second value of each pair
/// is not kept, so that a draw depends on the stream alone.
pub(crate) fn normal(bits: &mut Generator) -> f64 {
    loop {
        let (x, y) = (2.0 * unit(bits) - 1.0, 2.0 * unit(bits) - 1.0);
        let square = x * x + y * y;
        if square > 0.0 && square < 1.0 {
            return x * (-2.0 * libm::log(square) / square).sqrt();
        }
    }
}

/// Gamma with this shape and scale 1, by Marsaglia and Tsang, "A simple method for generating
/// gamma variables" (2000): about one normal and one logarithm a draw. Shapes below 1 are drawn
/// one higher and scaled back, as section 6 of the paper says.
pub(crate) fn gamma(shape: f64, bits: &mut Generator) -> f64 {
    if shape < 1.0 {
        let boost = libm::exp(libm::log(unit(bits)) / shape);
        return gamma(shape + 1.0, bits) * boost;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(bits);
        let root = 1.0 + c * x;
        if root <= 0.0 {
            continue;
        }
        let v = root * root * root;
        if libm::log(unit(bits)) < 0.5 * x * x + d - d * v + d * libm::log(v) {
            return d * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use moecast_profiles::seed::Seed;

    use super::*;

    /// Mean and variance of 200 000 draws.
    fn moments(mut draw: impl FnMut(&mut Generator) -> f64) -> (f64, f64) {
        let mut bits = Seed(1).stream("test");
        let draws: Vec<f64> = (0..200_000).map(|_| draw(&mut bits)).collect();
        let count = 200_000.0;
        let mean = draws.iter().sum::<f64>() / count;
        (mean, draws.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count)
    }

    /// Standard errors are below 0.4% of the mean and 1.2% of the variance here; the bounds are
    /// about four of them.
    #[test]
    fn moments_are_those_of_the_textbook() {
        let check = |name: &str, (mean, variance): (f64, f64), expected: (f64, f64)| {
            assert!((mean - expected.0).abs() < 0.016, "{name}: mean {mean}");
            assert!((variance / expected.1 - 1.0).abs() < 0.05, "{name}: variance {variance}");
        };
        check("unit", moments(unit), (0.5, 1.0 / 12.0));
        check("exponential", moments(exponential), (1.0, 1.0));
        check("normal", moments(normal), (0.0, 1.0));
        // Mean and variance of a gamma of scale 1 are its shape.
        for shape in [0.25, 0.9, 1.0, 2.5] {
            check("gamma", moments(|bits| gamma(shape, bits)), (shape, shape));
        }
    }

    /// A third of a normal lies within 0.43 deviations, 95% within 1.96.
    #[test]
    fn the_normal_has_the_right_shape() {
        let within =
            |limit: f64| moments(|bits| if normal(bits).abs() < limit { 1.0 } else { 0.0 }).0;
        assert!((within(0.430_727) - 1.0 / 3.0).abs() < 0.005);
        assert!((within(1.959_964) - 0.95).abs() < 0.002);
    }

    /// Golden: a change of any of these shifts every generated load.
    #[test]
    fn draws_are_the_same_bits_everywhere() {
        let mut bits = Seed(0).stream("test");
        let draws = [exponential(&mut bits), normal(&mut bits), gamma(0.5, &mut bits)];
        let expected = [0x3fd2_5003_de99_6e52, 0xbfeb_8f4b_813e_5a97, 0x3fef_4ee9_777d_1757];
        assert_eq!(draws.map(f64::to_bits), expected);
    }
}
