//! Draws from a fixed distribution in constant time: Walker's alias method, by Vose's
//! construction ("A linear algorithm for generating random numbers with a given distribution",
//! 1991). One table entry is 8 bytes; a draw is one multiplication and one look-up.

/// One column of the table: keep its own index, or take the other one.
#[derive(Clone, Copy, Debug, Default)]
struct Column {
    /// Share of the column that is its own index, in units of 2^-32.
    own: u32,
    other: u32,
}

/// A distribution over `0..len`.
#[derive(Clone, Debug, Default)]
pub(super) struct Alias {
    columns: Vec<Column>,
}

/// Room for building tables, to be used again.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    scaled: Vec<f64>,
    low: Vec<u32>,
    high: Vec<u32>,
}

impl Alias {
    /// A table for `weights`: finite, not negative, not all zero.
    pub(super) fn new(weights: &[f64]) -> Self {
        let mut table = Self::default();
        table.fill(weights, &mut Scratch::default());
        table
    }

    /// Makes this the table for `weights` without allocating where it was as large before.
    pub(super) fn fill(&mut self, weights: &[f64], scratch: &mut Scratch) {
        let sum: f64 = weights.iter().sum();
        assert!(sum > 0.0 && sum.is_finite(), "weights of a distribution sum to {sum}");
        let Scratch { scaled, low, high } = scratch;
        #[expect(clippy::cast_precision_loss, reason = "a number of experts or lags")]
        let factor = weights.len() as f64 / sum;
        scaled.clear();
        scaled.extend(weights.iter().map(|weight| weight * factor));
        low.clear();
        high.clear();
        for (index, &share) in (0..).zip(scaled.iter()) {
            if share < 1.0 { low.push(index) } else { high.push(index) }
        }
        self.columns.clear();
        self.columns.extend((0..).take(weights.len()).map(|other| Column { own: u32::MAX, other }));
        while let (Some(&small), Some(&large)) = (low.last(), high.last()) {
            low.pop();
            let share = scaled[small as usize];
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 1")]
            let own = (share.max(0.0) * 4_294_967_296.0) as u32;
            self.columns[small as usize] = Column { own, other: large };
            scaled[large as usize] -= 1.0 - share;
            if scaled[large as usize] < 1.0 {
                high.pop();
                low.push(large);
            }
        }
    }

    /// The index that 64 random bits stand for.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "halves of the bits")]
    pub(super) fn draw(&self, bits: u64) -> usize {
        let place = ((bits >> 32) * self.columns.len() as u64) >> 32;
        let column = self.columns[place as usize];
        if (bits as u32) < column.own { place as usize } else { column.other as usize }
    }
}

#[cfg(test)]
mod tests {
    use moecast_profiles::seed::Seed;
    use proptest::prelude::*;
    use rand::Rng;

    use super::*;

    /// The probability of every index, exactly as the table has it.
    fn shares(table: &Alias) -> Vec<f64> {
        let count = table.columns.len();
        let mut shares = vec![0.0; count];
        for (index, column) in table.columns.iter().enumerate() {
            let own = f64::from(column.own) / 4_294_967_296.0;
            shares[index] += own / count as f64;
            shares[column.other as usize] += (1.0 - own) / count as f64;
        }
        shares
    }

    proptest! {
        #[test]
        fn a_table_holds_its_weights(weights in proptest::collection::vec(0.0_f64..10.0, 1..40)) {
            prop_assume!(weights.iter().sum::<f64>() > 1e-3);
            let sum: f64 = weights.iter().sum();
            for (share, weight) in shares(&Alias::new(&weights)).iter().zip(&weights) {
                prop_assert!((share - weight / sum).abs() < 1e-8, "{share} of {weight}");
            }
        }
    }

    #[test]
    fn draws_come_as_often_as_the_table_says() {
        let table = Alias::new(&[1.0, 0.0, 2.0, 5.0]);
        let mut bits = Seed(1).stream("alias");
        let mut seen = [0_u32; 4];
        for _ in 0..80_000 {
            seen[table.draw(bits.next_u64())] += 1;
        }
        assert_eq!(seen[1], 0);
        for (count, expected) in [(seen[0], 10_000), (seen[2], 20_000), (seen[3], 50_000)] {
            assert!(i64::from(count).abs_diff(expected) < 600, "{count} of {expected}");
        }
    }
}
