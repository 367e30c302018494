//! The closed form with everything folded into it that one model's shape decides: a handful of
//! multiplications and one pass over the rows are left.

use crate::kernel::Features;
use crate::kernel::fast::SmoothMax;

/// The form of one shape, microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    overlap: SmoothMax,
    fixed: f64,
    /// Bytes of one active expert, and operations of one padded row.
    memory: f64,
    compute: f64,
    /// Beside them, per active expert, row and token of the batch.
    expert: f64,
    row: f64,
    token: f64,
    /// Tiles of `1 << tile` rows, and their weight, in batches of at most `few` tokens and more.
    few: f64,
    tiles: [(u32, f64); 2],
}

/// What is asked of the rows: active experts, all rows, and rows of the busiest expert.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) active: u32,
    pub(crate) rows: u64,
    pub(crate) hottest: u32,
}

impl Bound {
    /// `features` of any batch of the shape; `local` experts of `topk` picks.
    pub(crate) fn new(
        form: usize,
        parameters: &[f64],
        features: &Features,
        topk: f64,
        local: f64,
    ) -> Self {
        let &[
            t0,
            bandwidth,
            rate,
            p,
            expert,
            row_h,
            row_i,
            token_h,
            pick,
            width_ns,
            extra,
            un,
            few,
        ] = parameters
        else {
            panic!("thirteen parameters, not {}", parameters.len());
        };
        let (hidden, width) = (features[8], features[9]);
        let unaligned = 1.0 + features[12] * (un - 1.0);
        let tiles = match form {
            0 => [(0, 1.0); 2],
            1 => [(4, 1.0); 2],
            2 => [(6, 1.0); 2],
            3 => [(7, 1.0); 2],
            _ => [(4, few), (6, 1.0)],
        };
        Self {
            overlap: SmoothMax::new(1.0 + p),
            fixed: t0 + width_ns * (hidden + width) * 1e-3,
            memory: features[10] / bandwidth * unaligned,
            compute: features[11] * (width + extra) / rate * unaligned,
            expert,
            row: (row_h * hidden + row_i * width) * 1e-6,
            token: (token_h * hidden + topk * pick * (hidden + width)) * 1e-6,
            few: local,
            tiles,
        }
    }

    /// Time of `rows` per expert in a batch of `tokens`, and what the rows are.
    #[inline]
    pub(crate) fn time(&self, tokens: u64, rows: &[u32]) -> (f64, Load) {
        let (tile, weight) = self.tiles[usize::from(tokens as f64 > self.few)];
        let fill = (1_u64 << tile) - 1;
        let hottest = rows.iter().copied().max().unwrap_or(0);
        let active: u32 = rows.iter().map(|rows| u32::from(*rows > 0)).sum();
        let most = (u64::from(hottest) + fill).saturating_mul(rows.len() as u64);
        let (total, padded) = if most <= u64::from(u32::MAX) {
            let fill = fill as u32;
            let total: u32 = rows.iter().sum();
            let padded: u32 = rows.iter().map(|rows| (rows + fill) >> tile).sum();
            (u64::from(total), u64::from(padded))
        } else {
            let wide = || rows.iter().map(|rows| u64::from(*rows));
            (wide().sum(), wide().map(|rows| (rows + fill) >> tile).sum())
        };
        let padded = (padded << tile) as i64 as f64 * weight;
        let (experts, all) = (f64::from(active), total as i64 as f64);
        let time = self.fixed
            + self.overlap.of(experts * self.memory, padded * self.compute)
            + experts * self.expert
            + (all * self.row + tokens as i64 as f64 * self.token);
        (time, Load { active, rows: total, hottest })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{KERNEL, features_of};
    use super::*;
    use crate::kernel::loads::Statistics;

    proptest! {
        #[test]
        fn the_bound_form_is_the_form(
            rows in prop::collection::vec(0..5000_u32, 1..64),
            tokens in 1..100_000_u64,
            inter in prop::sample::select(vec![2048_u32, 1000]),
            overlap in 0.2..8.0_f64,
        ) {
            // 256 experts on 8 ranks; every parameter counts.
            let shape = [7168, inter, 8, 256, 1, 8, 3, 0];
            let parameters =
                [21.2, 5.28, 1408.0, overlap, 0.2, 0.3, 1.0, 2.0, 0.5, 0.4, 20.0, 2.0, 1.5];
            let features = features_of(&shape, tokens as f64, &Statistics::of(&rows), 1.0);
            for form in 0..KERNEL.forms.len() {
                let exact = (KERNEL.time)(form, &parameters, &features);
                let bound = Bound::new(form, &parameters, &features, 8.0, 32.0);
                let (found, load) = bound.time(tokens, &rows);
                prop_assert!((found / exact - 1.0).abs() < 2e-4, "{form}: {found} {exact}");
                let total: u64 = rows.iter().map(|&rows| u64::from(rows)).sum();
                prop_assert_eq!(load.rows, total);
                prop_assert_eq!(Some(load.hottest), rows.iter().copied().max());
            }
        }
    }
}
