//! One table of measurements: a fitted closed form, and what the measurements add to it.
//!
//! `time = form(work) x exp(residual)`. Residuals stand on a grid per shape and are interpolated
//! linearly in logarithmic coordinates; outside the grid they are held, so that the form carries
//! the growth. A shape without measurements takes the weighted median of the nearest shapes.

mod build;
mod fill;
mod judge;

pub(crate) use build::{build, key};
pub use judge::{ErrorSummary, Errors};

use crate::kernel::{Axis, Group, Kernel, Machine, kernel, loads};
use crate::sample::{Family, Sample};

/// One step of a stored residual: 0.4%, so that rounding costs at most 0.2%.
pub(crate) const QUANTUM: f64 = 0.004;
/// Nearest shapes that speak for a shape without measurements.
const NEIGHBOURS: usize = 3;

/// How an answer is known.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// This very point was measured.
    Measured,
    /// Between measured points.
    Interpolated,
    /// Outside the measured range, or a shape that nobody measured.
    Extrapolated,
    /// By a closed form with assumed constants.
    Assumed,
}

impl Source {
    /// The word for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Interpolated => "interpolated",
            Self::Extrapolated => "extrapolated",
            Self::Assumed => "assumed",
        }
    }
}

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Microseconds.
    pub time_us: f64,
    /// How it is known.
    pub source: Source,
    /// Expected relative error (median), as measured at import on points held out.
    pub error: f64,
}

/// Fits and residuals of the samples of one kernel implementation.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// What was timed.
    pub family: Family,
    /// Which implementation and data types.
    pub variant: String,
    /// Samples it was made from.
    pub samples: u64,
    /// Which of the family's closed forms fits best.
    pub(crate) form: usize,
    /// Its constants.
    pub(crate) parameters: Vec<f64>,
    /// Shapes with residuals, all fields each.
    pub(crate) shapes: Vec<Vec<u32>>,
    /// Whether the shape's measurements are out of line with its like (mistuned kernels): it
    /// keeps its own curve and speaks for no other shape.
    pub(crate) odd: Vec<bool>,
    /// Values of every axis, ascending.
    pub(crate) axes: Vec<Vec<u64>>,
    /// Residuals `[shapes x axes...]` in steps of [`QUANTUM`].
    pub(crate) residuals: Vec<i16>,
    /// Which residuals were measured; the others were filled in.
    pub(crate) measured: Vec<bool>,
    /// How far off it was on points that it did not see.
    pub errors: Errors,
    /// What is suspicious about it.
    pub flags: Vec<String>,
}

impl Table {
    pub(crate) fn kernel(&self) -> &'static Kernel {
        kernel(self.family)
    }

    /// Name of the closed form.
    #[must_use]
    pub fn form_name(&self) -> &'static str {
        self.kernel().forms[self.form]
    }

    /// Names and values of the closed form's constants.
    #[must_use]
    pub fn constants(&self) -> Vec<(&'static str, f64)> {
        let machine = Machine::unknown();
        let group = Group { variant: &self.variant, machine };
        let parameters = (self.kernel().parameters)(&group);
        parameters.iter().map(|known| known.name).zip(self.parameters.iter().copied()).collect()
    }

    /// The fields that split tables, as they are here: ` head_dim 128, window 0`; empty where
    /// nothing splits the family.
    #[must_use]
    pub fn split(&self) -> String {
        let fields = self.family.fields().shape;
        let first = &self.shapes[0];
        let all: Vec<String> = self
            .kernel()
            .split
            .iter()
            .map(|&field| format!("{} {}", fields[field], first[field]))
            .collect();
        if all.is_empty() { String::new() } else { format!(" {}", all.join(", ")) }
    }

    /// The start inside a captured graph, microseconds, where another one was measured.
    ///
    /// Some tables were measured without a graph, so that one call takes as long as its launches:
    /// vLLM's block-scaled products take 56 to 350 us however small they are, its latent attention
    /// with projections 75 to 100 us. Inside a graph those starts are gone.
    pub(crate) fn captured_start(&self) -> Option<f64> {
        // The most that is believed, and what stands for the rest: as other engines' tables of
        // the same kernels say.
        let (most, instead) = match self.family {
            Family::Gemm => (15.0, 5.0),
            Family::DecodeMlaModule => (45.0, 35.0),
            _ => return None,
        };
        self.parameters.first().filter(|start| **start > most).map(|_| instead)
    }

    /// Cells of the grid of one shape.
    pub(crate) fn cells(&self) -> usize {
        self.axes.iter().map(Vec::len).product()
    }

    /// Whether `shape` belongs to this table: all fields that split tables agree.
    pub(crate) fn holds(&self, shape: &[u32]) -> bool {
        let first = self.shapes.first();
        first.is_some_and(|own| self.kernel().split.iter().all(|&field| own[field] == shape[field]))
    }

    /// Index of `shape` among the shapes of this table.
    pub(crate) fn position(&self, shape: &[u32]) -> Option<usize> {
        let fields = self.kernel().shape;
        self.shapes.iter().position(|own| fields.iter().all(|&field| own[field] == shape[field]))
    }

    /// Shapes that speak for `shape`, with weights: itself, or the nearest.
    pub(crate) fn speakers(&self, shape: &[u32]) -> Vec<(usize, f64)> {
        if let Some(position) = self.position(shape) {
            return vec![(position, 1.0)];
        }
        let places: Vec<_> = self.shapes.iter().map(|own| (self.kernel().place)(own)).collect();
        nearest((self.kernel().place)(shape), &places, &|index| !self.odd[index])
    }

    /// Time of `sample`'s work on `machine`.
    pub(crate) fn answer(
        &self,
        sample: &Sample,
        machine: Machine,
        cache: &mut loads::Cache,
    ) -> Answer {
        let speakers = self.speakers(&sample.shape);
        let (time_us, within) = self.time(sample, machine, &self.parameters, &speakers, cache);
        let source = self.source(sample, &speakers, within);
        Answer { time_us, source, error: self.errors.expected(source) }
    }

    /// The form with `parameters`, times the residual that `speakers` agree on: microseconds, and
    /// whether that is inside the grid.
    pub(crate) fn time(
        &self,
        sample: &Sample,
        machine: Machine,
        parameters: &[f64],
        speakers: &[(usize, f64)],
        cache: &mut loads::Cache,
    ) -> (f64, bool) {
        let kernel = self.kernel();
        let group = Group { variant: &self.variant, machine };
        let features = (kernel.features)(sample, &group, cache);
        let form = (kernel.time)(self.form, parameters, &features);
        let coordinate = |axis: &Axis| axis.coordinate(axis.value(&sample.shape, &sample.at));
        let place: Vec<f64> = kernel.axes.iter().map(coordinate).collect();
        let (residual, within) = self.residual(speakers, &place);
        (form * residual.exp(), within)
    }

    fn source(&self, sample: &Sample, speakers: &[(usize, f64)], within: bool) -> Source {
        let known = self.position(&sample.shape);
        let (Some(shape), true) = (known.filter(|_| speakers.len() == 1), within) else {
            return Source::Extrapolated;
        };
        let mut cell = shape;
        for (axis, values) in self.axes.iter().enumerate() {
            let value = self.kernel().axes[axis].value(&sample.shape, &sample.at);
            let Ok(index) = values.binary_search(&value) else { return Source::Interpolated };
            cell = cell * values.len() + index;
        }
        if self.measured[cell] { Source::Measured } else { Source::Interpolated }
    }

    /// The residual at `place` (a coordinate per axis) and whether that is inside the grid.
    pub(crate) fn residual(&self, speakers: &[(usize, f64)], place: &[f64]) -> (f64, bool) {
        let mut corners = vec![(0_usize, 1.0)];
        let mut within = true;
        for ((axis, values), &at) in self.kernel().axes.iter().zip(&self.axes).zip(place) {
            let (low, high, share, inside) =
                bracket(values.len(), at, &|index| axis.coordinate(values[index]));
            within &= inside;
            let mut next = Vec::with_capacity(corners.len() * 2);
            for (cell, weight) in corners {
                next.push((cell * values.len() + low, weight * (1.0 - share)));
                if share > 0.0 {
                    next.push((cell * values.len() + high, weight * share));
                }
            }
            corners = next;
        }
        let cells = self.cells();
        let found: Vec<(f64, f64)> = speakers
            .iter()
            .map(|&(shape, weight)| {
                let value = |&(cell, share): &(usize, f64)| {
                    f64::from(self.residuals[shape * cells + cell]) * QUANTUM * share
                };
                (corners.iter().map(value).sum(), weight)
            })
            .collect();
        (fill::weighted_median(found).unwrap_or(0.0), within)
    }
}

/// The nearest of `places` that `may` speak, with weights that fall with distance.
pub(crate) fn nearest(
    from: [f64; 6],
    places: &[[f64; 6]],
    may: &dyn Fn(usize) -> bool,
) -> Vec<(usize, f64)> {
    let distance =
        |to: &[f64; 6]| from.iter().zip(to).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    let mut found: Vec<(usize, f64)> = places
        .iter()
        .enumerate()
        .filter(|(index, _)| may(*index))
        .map(|(index, place)| (index, distance(place)))
        .collect();
    found.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    found.truncate(NEIGHBOURS);
    found.iter().map(|&(index, distance)| (index, 1.0 / (distance + 0.1))).collect()
}

/// The two of `count` ascending coordinates around `at`, the share of the upper one, and whether
/// `at` lies between the first and the last.
fn bracket(count: usize, at: f64, coordinate: &dyn Fn(usize) -> f64) -> (usize, usize, f64, bool) {
    let (mut low, mut high) = (0, count - 1);
    let inside = at >= coordinate(low) - 1e-9 && at <= coordinate(high) + 1e-9;
    if at <= coordinate(low) {
        return (low, low, 0.0, inside);
    }
    if at >= coordinate(high) {
        return (high, high, 0.0, inside);
    }
    while high - low > 1 {
        let middle = usize::midpoint(low, high);
        if coordinate(middle) <= at { low = middle } else { high = middle }
    }
    let (from, to) = (coordinate(low), coordinate(high));
    (low, high, (at - from) / (to - from), inside)
}
