//! What several widths of the same experts take together: as separate copies, or nested, the narrow
//! one inside the wide one (D2MoE, Wang et al., MobiCom 2025, arXiv 2504.15299).
//!
//! Nested widths share their high bits, so that the widest one holds all: only its bits are stored,
//! and a narrower one is the first of its bit planes.

/// Bytes of `weights` weights in each of `widths` bits, one copy per width, rounded up.
#[must_use]
pub fn separate_bytes(weights: u64, widths: &[u8]) -> u128 {
    let bits: u128 = widths.iter().map(|&width| u128::from(width)).sum();
    (u128::from(weights) * bits).div_ceil(8)
}

/// Bytes of `weights` weights in the widest of `widths` bits, which holds the others.
#[must_use]
pub fn nested_bytes(weights: u64, widths: &[u8]) -> u128 {
    let bits = widths.iter().copied().max().unwrap_or(0);
    (u128::from(weights) * u128::from(bits)).div_ceil(8)
}

/// Bytes of the bit planes that lead from `have` bits to `want`: what a load of a nested expert
/// moves when a narrower one is there already.
#[must_use]
pub fn added_bytes(weights: u64, have: u8, want: u8) -> u128 {
    (u128::from(weights) * u128::from(want.saturating_sub(have))).div_ceil(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// LLaMA-MoE-v1-3.5B: 32 layers of LLaMA-2-7B whose feed-forward (hidden 4096, intermediate
    /// 11008) is cut into experts; attention 4096 x 4096, vocabulary 32000, all as in its config.
    const EXPERTS: u64 = 32 * 3 * 4096 * 11008;
    const ATTENTION: u64 = 32 * 4 * 4096 * 4096;
    const EMBEDDINGS: u64 = 2 * 32000 * 4096;
    const WIDTHS: [u8; 3] = [2, 3, 4];

    fn gigabytes(bytes: u128) -> f64 {
        bytes as f64 / 1e9
    }

    /// D2MoE says 9.62 GB for separate copies and 3.81 GB nested. The experts alone are 4.87 and
    /// 2.16 GB; the published figures are reached, within 1.3%, only when every copy is a whole
    /// model, with attention in 4 bits and embeddings in 16. Their exact values would need the
    /// group size and the format of the scales, which the paper does not say.
    #[test]
    fn published_memory_of_separate_and_nested_copies() {
        let (separate, nested) = (separate_bytes(EXPERTS, &WIDTHS), nested_bytes(EXPERTS, &WIDTHS));
        assert!((gigabytes(separate) - 4.870).abs() < 1e-3, "{separate}");
        assert!((gigabytes(nested) - 2.164).abs() < 1e-3, "{nested}");
        let rest = separate_bytes(ATTENTION, &[4]) + separate_bytes(EMBEDDINGS, &[16]);
        let published = [(separate + 3 * rest, 9.62), (nested + rest, 3.81)];
        for (bytes, published) in published {
            let off = gigabytes(bytes) / published - 1.0;
            assert!(off.abs() < 0.013, "{} of {published}: {off}", gigabytes(bytes));
        }
    }

    #[test]
    fn planes_add_up_to_the_widest() {
        assert_eq!(nested_bytes(80, &WIDTHS), 40);
        let planes = [added_bytes(80, 0, 2), added_bytes(80, 2, 3), added_bytes(80, 3, 4)];
        assert_eq!(planes.iter().sum::<u128>(), 40);
        assert_eq!((added_bytes(80, 4, 2), separate_bytes(3, &[1])), (0, 1));
    }
}
