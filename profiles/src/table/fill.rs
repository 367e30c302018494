//! Residuals that nobody measured, from those around them.
//!
//! Every axis gives an estimate (linear between the nearest known cells, or the nearest one at an
//! edge), and so do the nearest shapes. Each kind of estimate is weighted by how well it
//! reproduces cells that are known; the weighted median decides, so that a wild neighbour does
//! not.

use crate::kernel::{Axis, Kernel};
use crate::table::nearest;

/// Kinds of estimates: two per axis (between, at an edge), and the nearest shapes.
const KINDS: usize = 2 * AXES + 3;
/// Most axes that a table has.
const AXES: usize = 3;
/// Known cells that weights are learnt from.
const LESSONS: usize = 6_000;

/// A grid of residuals per shape; cells without one are not a number.
pub(super) struct Grid {
    /// Coordinates of every axis, ascending.
    pub(super) coordinates: Vec<Vec<f64>>,
    /// Cells from one value of an axis to the next.
    strides: Vec<usize>,
    /// Cells of one shape.
    pub(super) cells: usize,
    /// For every shape the nearest others.
    neighbours: Vec<Vec<(usize, f64)>>,
    /// Shapes out of line with their like.
    odd: Vec<bool>,
    /// Residuals `[shapes x axes...]`.
    pub(super) values: Vec<f64>,
}

impl Grid {
    pub(super) fn new(
        kernel: &Kernel,
        shapes: &[Vec<u32>],
        axes: &[Vec<u64>],
        odd: &[bool],
    ) -> Self {
        let coordinate = |(axis, values): (&Axis, &Vec<u64>)| {
            values.iter().map(|value| axis.coordinate(*value)).collect()
        };
        let coordinates: Vec<Vec<f64>> = kernel.axes.iter().zip(axes).map(coordinate).collect();
        let mut strides = vec![1; axes.len()];
        for axis in (1..axes.len()).rev() {
            strides[axis - 1] = strides[axis] * axes[axis].len();
        }
        let cells = axes.iter().map(Vec::len).product();
        let places: Vec<_> = shapes.iter().map(|shape| (kernel.place)(shape)).collect();
        let neighbours = (0..shapes.len())
            .map(|own| match odd[own] {
                false => nearest(places[own], &places, &|other| other != own && !odd[other]),
                true => Vec::new(),
            })
            .collect();
        let values = vec![f64::NAN; shapes.len() * cells];
        Self { coordinates, strides, cells, neighbours, odd: odd.to_vec(), values }
    }

    /// Estimates of the cell from everything but itself; not a number where there is none.
    fn estimates(&self, cell: usize) -> [f64; KINDS] {
        let mut found = [f64::NAN; KINDS];
        let (shape, inner) = (cell / self.cells, cell % self.cells);
        // An odd shape is like no other, and one class of its loads may be odd alone: only its
        // own curve speaks.
        let alone = self.odd[shape];
        let first = if alone { self.coordinates.len() - 1 } else { 0 };
        for (axis, coordinates) in self.coordinates.iter().enumerate().skip(first) {
            let stride = self.strides[axis];
            let index = inner / stride % coordinates.len();
            let known = |step: usize| Some(self.values[step]).filter(|value| value.is_finite());
            let before = (1..=index).find_map(|back| {
                known(cell - back * stride).map(|value| (coordinates[index - back], value))
            });
            let after = (1..coordinates.len() - index).find_map(|on| {
                known(cell + on * stride).map(|value| (coordinates[index + on], value))
            });
            match (before, after) {
                (Some((from, low)), Some((to, high))) => {
                    let share = (coordinates[index] - from) / (to - from);
                    found[2 * axis] = low + share * (high - low);
                }
                (Some((_, value)), None) | (None, Some((_, value))) => {
                    found[2 * axis + 1] = value;
                }
                (None, None) => {}
            }
        }
        for (kind, &(other, _)) in (2 * AXES..KINDS).zip(&self.neighbours[shape]) {
            found[kind] = self.values[other * self.cells + inner];
        }
        found
    }

    /// How much each kind of estimate is worth here.
    pub(super) fn weights(&self) -> [f64; KINDS] {
        let known: Vec<usize> =
            (0..self.values.len()).filter(|cell| self.values[*cell].is_finite()).collect();
        let step = known.len().div_ceil(LESSONS).max(1);
        let mut misses: [Vec<f64>; KINDS] = std::array::from_fn(|_| Vec::new());
        for &cell in known.iter().step_by(step) {
            for (misses, estimate) in misses.iter_mut().zip(self.estimates(cell)) {
                if estimate.is_finite() {
                    misses.push((estimate - self.values[cell]).abs());
                }
            }
        }
        misses.map(|mut misses| {
            misses.sort_by(f64::total_cmp);
            // Kinds that were never seen to work count as 30% off.
            let miss = misses.get(misses.len() / 2).copied().unwrap_or(0.3);
            1.0 / (miss * miss + 1e-5)
        })
    }

    /// The estimate of one cell from everything but itself.
    pub(super) fn estimate(&self, cell: usize, weights: &[f64; KINDS]) -> Option<f64> {
        let estimates = self.estimates(cell).into_iter().zip(*weights);
        weighted_median(estimates.filter(|(value, _)| value.is_finite()).collect())
    }

    /// The estimate of a cell whose whole shape is unknown: by the nearest shapes alone.
    pub(super) fn by_neighbours(&self, inner: usize, neighbours: &[(usize, f64)]) -> Option<f64> {
        let value =
            |&(shape, weight): &(usize, f64)| (self.values[shape * self.cells + inner], weight);
        let found = neighbours.iter().map(value).filter(|(value, _)| value.is_finite());
        weighted_median(found.collect())
    }

    /// Fills every cell: first from known cells, then from filled ones, then with nothing.
    pub(super) fn fill(&mut self) {
        let weights = self.weights();
        for _ in 0..2 {
            let found: Vec<(usize, f64)> = (0..self.values.len())
                .filter(|cell| !self.values[*cell].is_finite())
                .filter_map(|cell| Some((cell, self.estimate(cell, &weights)?)))
                .collect();
            for (cell, value) in found {
                self.values[cell] = value;
            }
        }
        for value in self.values.iter_mut().filter(|value| !value.is_finite()) {
            *value = 0.0;
        }
    }
}

/// The median of values with weights, interpolated between the two around the middle.
pub(super) fn weighted_median(mut found: Vec<(f64, f64)>) -> Option<f64> {
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = found.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut sum = 0.0;
    let mut before: Option<(f64, f64)> = None;
    for &(value, weight) in &found {
        let centre = sum + weight / 2.0;
        if centre >= half {
            let Some((low, at)) = before.filter(|_| centre > half) else { return Some(value) };
            return Some(low + (value - low) * (half - at) / (centre - at));
        }
        (before, sum) = (Some((value, centre)), sum + weight);
    }
    before.map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weighted_median_is_solved_by_hand() {
        assert_eq!(weighted_median(vec![]), None);
        assert_eq!(weighted_median(vec![(5.0, 2.0)]), Some(5.0));
        assert_eq!(weighted_median(vec![(3.0, 1.0), (1.0, 1.0), (2.0, 1.0)]), Some(2.0));
        // Centres 0.5 and 1.5 around the half of 1: the middle between both values.
        assert_eq!(weighted_median(vec![(1.0, 1.0), (2.0, 1.0)]), Some(1.5));
        assert_eq!(weighted_median(vec![(1.0, 1.0), (9.0, 0.0)]), Some(1.0));
    }
}
