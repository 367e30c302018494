//! The multiple-choice knapsack of one block: one width for each expert, a sum of bits that is not
//! exceeded, the least cost, and some widths that must occur.
//!
//! Widths are small integers, so that dynamic programming over the bits spent is exact: with `E`
//! experts, `W` widths, `U` units of bits above the narrowest and `R` widths that must occur,
//! O(E W U 2^R) time and O(E U 2^R) bytes. 512 experts at 1, 2 and 3 bits are 2 MB.

/// Widths as numbers of units above the narrowest, and how many bits a unit is.
pub(super) struct Units {
    narrowest: usize,
    unit: usize,
    /// `[W]`.
    pub(super) steps: Vec<usize>,
}

impl Units {
    /// The units of `widths`, which ascend.
    pub(super) fn new(widths: &[u8]) -> Self {
        let narrowest = usize::from(widths.first().copied().unwrap_or(1));
        let above = || widths.iter().map(|&width| usize::from(width) - narrowest);
        let unit = above().fold(0, greatest_common).max(1);
        Self { narrowest, unit, steps: above().map(|bits| bits / unit).collect() }
    }

    /// Units that `experts` experts can spend of `bits`; `None` where they cannot even all have the
    /// narrowest width.
    pub(super) fn spare(&self, bits: usize, experts: usize) -> Option<usize> {
        let most = experts * self.steps.last().copied().unwrap_or(0);
        Some((bits.checked_sub(experts * self.narrowest)? / self.unit).min(most))
    }
}

fn greatest_common(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common(b, a % b) }
}

/// `[units + 1]` the least cost of `costs` `[E][W]` with at most so many units.
pub(super) fn curve(costs: &[Vec<f64>], steps: &[usize], units: usize) -> Vec<f64> {
    let mut sums = vec![0.0; units + 1];
    for row in costs {
        let mut next = vec![f64::INFINITY; units + 1];
        for (&step, &cost) in steps.iter().zip(row) {
            for (best, before) in next[step.min(units + 1)..].iter_mut().zip(&sums) {
                *best = best.min(before + cost);
            }
        }
        sums = next;
    }
    sums
}

/// The index of the width of each expert `[E]` that costs least with at most `units` units, where
/// every width of `required` (indices) occurs; `None` where that cannot be. Equal costs go to the
/// narrower width.
pub(super) fn solve(
    costs: &[Vec<f64>],
    steps: &[usize],
    units: usize,
    required: &[usize],
) -> Option<Vec<usize>> {
    let masks = 1 << required.len();
    let flag = |width: usize| {
        required.iter().position(|known| *known == width).map_or(0, |at| 1_usize << at)
    };
    let mut sums = vec![f64::INFINITY; masks * (units + 1)];
    // No expert yet, no width seen, at most any number of units.
    sums[..=units].fill(0.0);
    let mut chosen: Vec<Vec<u8>> = Vec::with_capacity(costs.len());
    for row in costs {
        let mut next = vec![f64::INFINITY; sums.len()];
        let mut choice = vec![u8::MAX; sums.len()];
        for (width, (&step, &cost)) in steps.iter().zip(row).enumerate() {
            for seen in 0..masks {
                let into = (seen | flag(width)) * (units + 1);
                for spent in step..=units {
                    let sum = sums[seen * (units + 1) + spent - step] + cost;
                    if sum < next[into + spent] {
                        next[into + spent] = sum;
                        choice[into + spent] =
                            u8::try_from(seen * steps.len() + width).expect("few widths");
                    }
                }
            }
        }
        chosen.push(choice);
        sums = next;
    }
    let mut seen = masks - 1;
    let mut spent = units;
    if !sums[seen * (units + 1) + spent].is_finite() {
        return None;
    }
    let mut widths = Vec::with_capacity(costs.len());
    for choice in chosen.iter().rev() {
        let code = usize::from(choice[seen * (units + 1) + spent]);
        let width = code % steps.len();
        widths.push(width);
        spent -= steps[width];
        seen = code / steps.len();
    }
    widths.reverse();
    Some(widths)
}
