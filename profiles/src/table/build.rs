//! From samples to a table: fit the form, judge it on held-out points, store the residuals.

use std::collections::{BTreeMap, BTreeSet};

use super::fill::Grid;
use super::{ErrorSummary, Errors, QUANTUM, Table, nearest};
use crate::fit::{Fit, fit};
use crate::kernel::{Axis, Features, Group, Kernel, Machine, kernel, loads};
use crate::sample::{Family, Sample};

/// Rows that forms are chosen on, refined on, and refitted on without a model.
const ROWS: [usize; 3] = [1_500, 3_000, 900];
/// A residual beyond this (of the logarithm) is left out when a fit is refined.
const OUTLIER: f64 = 0.5;
/// A shape whose median residual is this far above the table's is odd.
const ODD: f64 = 0.35;
/// Fewer samples than this say nothing about points held out.
const JUDGED_MIN: usize = 12;
/// Models that are left out one by one; more are taken in as many folds.
const FOLDS_MAX: usize = 40;

/// Samples of one table with everything precomputed.
struct Rows<'a> {
    kernel: &'static Kernel,
    features: Vec<Features>,
    times: Vec<f64>,
    /// Cell of the grid `[shapes x axes...]`.
    cells: Vec<usize>,
    /// Model (see [`Kernel::model`]).
    models: Vec<usize>,
    shapes: Vec<Vec<u32>>,
    axes: Vec<Vec<u64>>,
    group: Group<'a>,
}

/// A form with its constants.
#[derive(Clone)]
struct Fitted {
    form: usize,
    values: Vec<f64>,
}

/// Builds the table of `samples`, all of one family, variant and split.
pub(crate) fn build(samples: &[&Sample], machine: Machine, cache: &mut loads::Cache) -> Table {
    let first = samples.first().expect("a table has samples");
    let rows = Rows::new(samples, machine, cache);
    let held: Vec<bool> = rows.cells.iter().map(|&cell| is_held_out(cell)).collect();
    let kept: Vec<usize> = (0..held.len()).filter(|row| !held[*row]).collect();
    let all: Vec<usize> = (0..held.len()).collect();
    let judged = samples.len() >= JUDGED_MIN;
    let mut errors = Errors::default();
    let fitted = rows.choose(if judged { &kept } else { &all });
    if judged {
        let odd = rows.odd(&fitted, &kept);
        let grid = rows.grid(&fitted, &kept, &odd);
        (errors.grid, errors.form) = rows.judge_points(&fitted, &grid, &held);
        errors.shape = rows.judge_shapes(&fitted, &odd);
    }
    let fitted = rows.refine(&fitted, &all, ROWS[1], 20);
    let odd = rows.odd(&fitted, &all);
    let mut grid = rows.grid(&fitted, &all, &odd);
    let measured: Vec<bool> = grid.values.iter().map(|value| value.is_finite()).collect();
    grid.fill();
    let residuals: Vec<i16> = grid
        .values
        .iter()
        .map(|value| (value / QUANTUM).round().clamp(-32_000.0, 32_000.0) as i16)
        .collect();
    errors.stored = rows.judge_stored(&fitted, &residuals);
    let flags = flags(&rows, &odd, &measured);
    Table {
        family: first.family,
        variant: first.variant.clone(),
        samples: samples.len() as u64,
        form: fitted.form,
        parameters: fitted.values,
        shapes: rows.shapes,
        odd,
        axes: rows.axes,
        residuals,
        measured,
        errors,
        flags,
    }
}

fn flags(rows: &Rows, odd: &[bool], measured: &[bool]) -> Vec<String> {
    let mut flags = Vec::new();
    let odd = odd.iter().filter(|odd| **odd).count();
    if odd > 0 {
        flags.push(format!(
            "{odd} of {} shapes are much slower than their like: mistuned kernels?",
            rows.shapes.len()
        ));
    }
    let holes = measured.iter().filter(|measured| !**measured).count();
    if holes * 2 > measured.len() {
        flags.push(format!("{holes} of {} cells were filled in", measured.len()));
    }
    flags
}

/// A fixed 30% of all cells, spread like chance.
fn is_held_out(cell: usize) -> bool {
    // The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
    let mut mixed = (cell as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % 10 < 3
}

impl<'a> Rows<'a> {
    fn new(samples: &[&'a Sample], machine: Machine, cache: &mut loads::Cache) -> Self {
        let first = samples[0];
        let kernel = kernel(first.family);
        let group = Group { variant: &first.variant, machine };
        let axes: Vec<Vec<u64>> = (0..kernel.axes.len())
            .map(|axis| {
                let value = |sample: &&Sample| kernel.axes[axis].value(&sample.shape, &sample.at);
                samples.iter().map(value).collect::<BTreeSet<u64>>().into_iter().collect()
            })
            .collect();
        let project = |fields: &[usize], sample: &Sample| -> Vec<u32> {
            fields.iter().map(|&field| sample.shape[field]).collect()
        };
        let mut shapes: BTreeMap<Vec<u32>, Vec<u32>> = BTreeMap::new();
        let mut models: BTreeMap<Vec<u32>, usize> = BTreeMap::new();
        for sample in samples {
            shapes.entry(project(kernel.shape, sample)).or_insert_with(|| sample.shape.clone());
            models.entry(project(kernel.model, sample)).or_insert(0);
        }
        for (index, model) in models.values_mut().enumerate() {
            *model = index;
        }
        let numbers: BTreeMap<&Vec<u32>, usize> =
            shapes.keys().enumerate().map(|(index, key)| (key, index)).collect();
        let cell = |sample: &&Sample| {
            let mut cell = numbers[&project(kernel.shape, sample)];
            for (axis, values) in kernel.axes.iter().zip(&axes) {
                let value = axis.value(&sample.shape, &sample.at);
                cell = cell * values.len() + values.binary_search(&value).expect("listed above");
            }
            cell
        };
        let cells = samples.iter().map(cell).collect();
        let model = |sample: &&Sample| models[&project(kernel.model, sample)];
        Self {
            kernel,
            features: samples
                .iter()
                .map(|sample| (kernel.features)(sample, &group, cache))
                .collect(),
            times: samples.iter().map(|sample| sample.time_us).collect(),
            cells,
            models: samples.iter().map(model).collect(),
            shapes: shapes.into_values().collect(),
            axes,
            group,
        }
    }

    fn time(&self, fitted: &Fitted, row: usize) -> f64 {
        (self.kernel.time)(fitted.form, &fitted.values, &self.features[row])
    }

    fn residual(&self, fitted: &Fitted, row: usize) -> f64 {
        let residual = (self.times[row] / self.time(fitted, row)).ln();
        if residual.is_finite() { residual } else { 0.0 }
    }

    fn fit(&self, form: usize, rows: &[usize], from: Option<&[f64]>, steps: u32) -> Fit {
        let parameters = (self.kernel.parameters)(&self.group);
        let times: Vec<f64> = rows.iter().map(|&row| self.times[row]).collect();
        fit(&parameters, from, &times, steps, &|values, index| {
            (self.kernel.time)(form, values, &self.features[rows[index]])
        })
    }

    /// The best form on `rows`.
    fn choose(&self, rows: &[usize]) -> Fitted {
        let some = thin(rows, ROWS[0]);
        let mut best: Option<(f64, Fitted)> = None;
        for form in 0..self.kernel.forms.len() {
            let found = self.fit(form, &some, None, 40);
            if best.as_ref().is_none_or(|(loss, _)| found.loss < *loss) {
                best = Some((found.loss, Fitted { form, values: found.values }));
            }
        }
        let (_, fitted) = best.expect("every kernel has a form");
        self.refine(&fitted, rows, ROWS[1], 40)
    }

    /// The same form fitted again without outliers, from where it stands.
    fn refine(&self, fitted: &Fitted, rows: &[usize], most: usize, steps: u32) -> Fitted {
        let near = |row: &usize| self.residual(fitted, *row).abs() < OUTLIER;
        let good: Vec<usize> = rows.iter().copied().filter(near).collect();
        let some = thin(if good.len() * 2 > rows.len() { &good } else { rows }, most);
        let found = self.fit(fitted.form, &some, Some(&fitted.values), steps);
        Fitted { form: fitted.form, values: found.values }
    }

    fn cells_per_shape(&self) -> usize {
        self.axes.iter().map(Vec::len).product()
    }

    /// Shapes of which some class of loads is far slower than the table as a whole.
    fn odd(&self, fitted: &Fitted, rows: &[usize]) -> Vec<bool> {
        let classes = match self.kernel.axes {
            [Axis::Class(_), ..] => self.axes[0].len(),
            _ => 1,
        };
        let series_cells = self.cells_per_shape() / classes;
        let mut by_series: Vec<Vec<f64>> = vec![Vec::new(); self.shapes.len() * classes];
        let mut all = Vec::with_capacity(rows.len());
        for &row in rows {
            let residual = self.residual(fitted, row);
            by_series[self.cells[row] / series_cells].push(residual);
            all.push(residual);
        }
        let middle = median(&mut all).unwrap_or(0.0);
        by_series
            .chunks_mut(classes)
            .map(|series| {
                series.iter_mut().filter_map(|own| median(own)).any(|own| own > middle + ODD)
            })
            .collect()
    }

    /// Residuals of `rows` on the grid, those of one cell averaged.
    fn grid(&self, fitted: &Fitted, rows: &[usize], odd: &[bool]) -> Grid {
        let mut grid = Grid::new(self.kernel, &self.shapes, &self.axes, odd);
        let mut sums = vec![(0.0, 0_u32); grid.values.len()];
        for &row in rows {
            let (sum, count) = &mut sums[self.cells[row]];
            *sum += self.residual(fitted, row);
            *count += 1;
        }
        for (value, (sum, count)) in grid.values.iter_mut().zip(sums) {
            if count > 0 {
                *value = sum / f64::from(count);
            }
        }
        grid
    }

    fn miss(&self, fitted: &Fitted, row: usize, residual: f64) -> f64 {
        (self.time(fitted, row) * residual.exp() / self.times[row] - 1.0).abs()
    }

    /// Errors of held-out points with residuals, and by the form alone.
    fn judge_points(
        &self,
        fitted: &Fitted,
        grid: &Grid,
        held: &[bool],
    ) -> (ErrorSummary, ErrorSummary) {
        let weights = grid.weights();
        let (mut with, mut alone) = (Vec::new(), Vec::new());
        for row in (0..held.len()).filter(|row| held[*row]) {
            let estimate = grid.estimate(self.cells[row], &weights).unwrap_or(0.0);
            with.push(self.miss(fitted, row, estimate));
            alone.push(self.miss(fitted, row, 0.0));
        }
        (ErrorSummary::of(with), ErrorSummary::of(alone))
    }

    /// Errors of whole models that neither the form nor the residuals saw.
    fn judge_shapes(&self, fitted: &Fitted, odd: &[bool]) -> ErrorSummary {
        let models = self.models.iter().max().map_or(0, |last| last + 1);
        if models < 3 {
            return ErrorSummary::default();
        }
        let folds = models.min(FOLDS_MAX);
        let mut errors = Vec::new();
        for fold in 0..folds {
            let out = |row: &usize| self.models[*row] % folds == fold;
            let (unseen, seen): (Vec<usize>, Vec<usize>) =
                (0..self.times.len()).partition(|row| out(row));
            let usable: Vec<usize> = seen
                .iter()
                .copied()
                .filter(|&row| !odd[self.cells[row] / self.cells_per_shape()])
                .collect();
            let refitted = self.refine(fitted, &usable, ROWS[2], 6);
            let grid = self.grid(&refitted, &seen, odd);
            errors.extend(self.judge_unseen(&refitted, &grid, &unseen, odd));
        }
        ErrorSummary::of(errors)
    }

    /// Errors of `unseen` rows on a grid that holds none of their shapes.
    fn judge_unseen(
        &self,
        fitted: &Fitted,
        grid: &Grid,
        unseen: &[usize],
        odd: &[bool],
    ) -> Vec<f64> {
        let weights = grid.weights();
        if self.kernel.shape.is_empty() {
            let estimate = |cell| grid.estimate(cell, &weights).unwrap_or(0.0);
            return unseen
                .iter()
                .map(|&row| self.miss(fitted, row, estimate(self.cells[row])))
                .collect();
        }
        let absent: BTreeSet<usize> =
            unseen.iter().map(|&row| self.cells[row] / self.cells_per_shape()).collect();
        let places: Vec<_> = self.shapes.iter().map(|shape| (self.kernel.place)(shape)).collect();
        let may = |shape: usize| !odd[shape] && !absent.contains(&shape);
        let neighbours: BTreeMap<usize, Vec<(usize, f64)>> =
            absent.iter().map(|&shape| (shape, nearest(places[shape], &places, &may))).collect();
        let miss = |&row: &usize| {
            let (shape, inner) = (self.cells[row] / grid.cells, self.cells[row] % grid.cells);
            let estimate = grid.by_neighbours(inner, &neighbours[&shape]);
            self.miss(fitted, row, estimate.unwrap_or(0.0))
        };
        unseen.iter().map(miss).collect()
    }

    /// Errors of the stored residuals on the samples they were made from.
    fn judge_stored(&self, fitted: &Fitted, residuals: &[i16]) -> ErrorSummary {
        let stored = |row: usize| f64::from(residuals[self.cells[row]]) * QUANTUM;
        let errors = (0..self.times.len()).map(|row| self.miss(fitted, row, stored(row)));
        ErrorSummary::of(errors.collect())
    }
}

/// At most about `most` of `rows`, spread like chance but always the same.
fn thin(rows: &[usize], most: usize) -> Vec<usize> {
    if rows.len() <= most {
        return rows.to_vec();
    }
    // A step that shares no factor with the length visits rows without a pattern of the axes.
    let step = rows.len() as f64 / most as f64;
    (0..most)
        .map(|index| {
            let jitter = f64::from((index as u32).wrapping_mul(2_654_435_769) >> 16) / 65_536.0;
            rows[((index as f64 + jitter) * step) as usize % rows.len()]
        })
        .collect()
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The family of a table's samples must be one; used where samples come from strangers.
pub(crate) fn key(sample: &Sample) -> (Family, &str, Vec<u32>) {
    let split = kernel(sample.family).split.iter().map(|&field| sample.shape[field]).collect();
    (sample.family, &sample.variant, split)
}
