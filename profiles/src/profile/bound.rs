//! Answers for hot paths: tables bound to one model's shapes, evaluated without allocation.
//!
//! A [`Curve`] holds times over one coordinate (a matrix product over rows, a collective over
//! bytes), a [`Surface`] over two (attention over batch and length), an [`ExpertTimer`] evaluates
//! the closed form of expert GEMMs on the real vector of rows.
//!
//! A forward pass runs as a captured graph: where a table was measured without one, binding
//! leaves its launches out ([`Table::captured_start`]); [`Profile::ask`] keeps them.

use std::borrow::Cow;
use std::f64::consts::{LN_2, LOG2_E};

use super::Profile;
use crate::kernel::expert_gemm::Bound;
use crate::kernel::{Group, Machine, fast, loads};
use crate::sample::{Family, Sample};
use crate::table::{Answer, Source, Table};
use crate::units::Nanos;

/// Points of a curve up to here are stored one by one.
const DENSE: u64 = 1024;
/// Above, there are this many points an octave.
const OCTAVE: u64 = 16;
/// The largest coordinate of a curve; beyond it the last slope continues.
const CURVE_BITS: u32 = 40;

/// Times over one coordinate.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Microseconds: `[0, DENSE]`, then [`OCTAVE`] points an octave.
    times: Vec<f32>,
    /// Expected relative error where the coordinate was measured or lies between.
    pub error: f64,
    /// How the shape is known.
    pub source: Source,
}

/// Index of the stored point at or below `at`, and the share of the next one.
fn curve_place(at: u64) -> (usize, f32) {
    if at < DENSE {
        return (at as usize, 0.0);
    }
    let at = at.min((1 << CURVE_BITS) - 1);
    let octave = at.ilog2();
    let step = 1_u64 << (octave - OCTAVE.ilog2());
    let within = at - (1 << octave);
    let index = DENSE + u64::from(octave - DENSE.ilog2()) * OCTAVE + within / step;
    (index as usize, (within % step) as f32 / step as f32)
}

impl Curve {
    /// Tabulates `time` (microseconds).
    fn tabulate(time: &mut dyn FnMut(u64) -> f64, error: f64, source: Source) -> Self {
        let octaves = DENSE.ilog2()..CURVE_BITS;
        let above = octaves.flat_map(|octave| {
            (0..OCTAVE).map(move |point| (1 << octave) + (point << (octave - OCTAVE.ilog2())))
        });
        let points = (0..DENSE).chain(above).chain([1 << CURVE_BITS]);
        let times = points.map(|at| if at == 0 { 0.0 } else { time(at) as f32 }).collect();
        Self { times, error, source }
    }

    /// Time at `at`; nothing takes no time. About 5 ns.
    #[must_use]
    pub fn time(&self, at: u64) -> Nanos {
        let (index, share) = curve_place(at);
        let low = self.times[index];
        let high = if share > 0.0 { self.times[index + 1] } else { low };
        nanos(f64::from(low + share * (high - low)))
    }

    /// Time at a coordinate between whole ones, which is linear there; `at` is at least 0.
    #[must_use]
    pub fn time_between(&self, at: f64) -> Nanos {
        let whole = at as u64;
        let (low, share) = (self.time(whole), at - whole as f64);
        if share == 0.0 {
            return low;
        }
        let high = self.time(whole + 1);
        Nanos::ceil_from(low.0 as f64 * (1.0 - share) + high.0 as f64 * share)
    }
}

/// Times over two coordinates.
#[derive(Clone, Debug)]
pub struct Surface {
    /// Logarithms of microseconds, two points an octave each way.
    logs: Vec<f32>,
    columns: usize,
    /// Expected relative error inside the measured range.
    pub error: f64,
    /// How the shape is known.
    pub source: Source,
}

/// Octaves of a surface, each way.
const SURFACE_BITS: u32 = 22;
const SURFACE_POINTS: usize = 2 * SURFACE_BITS as usize + 1;

/// Place of `at` among points at whole and half octaves.
fn surface_place(at: u64) -> (usize, f32) {
    let at = at.clamp(1, 1 << SURFACE_BITS);
    let place = (at as f32).log2() * 2.0;
    let index = (place as usize).min(SURFACE_POINTS - 2);
    (index, place - index as f32)
}

impl Surface {
    fn tabulate(time: &mut dyn FnMut(f64, f64) -> f64, error: f64, source: Source) -> Self {
        let at = |point: usize| f64::exp2(point as f64 / 2.0);
        let mut logs = Vec::with_capacity(SURFACE_POINTS * SURFACE_POINTS);
        for row in 0..SURFACE_POINTS {
            for column in 0..SURFACE_POINTS {
                logs.push(time(at(row), at(column)).ln() as f32);
            }
        }
        Self { logs, columns: SURFACE_POINTS, error, source }
    }

    /// Time at `(first, second)`, each at least 1; zero where either is zero. About 35 ns.
    #[must_use]
    pub fn time(&self, first: u64, second: u64) -> Nanos {
        if first == 0 || second == 0 {
            return Nanos(0);
        }
        let ((row, down), (column, across)) = (surface_place(first), surface_place(second));
        let line = |row: usize| {
            let at = row * self.columns + column;
            self.logs[at] + across * (self.logs[at + 1] - self.logs[at])
        };
        let (low, high) = (line(row), line(row + 1));
        nanos(f64::from(low + down * (high - low)).exp())
    }
}

fn nanos(microseconds: f64) -> Nanos {
    // Rounds up; `ceil` is a call into the library where the processor has no such instruction.
    let whole = (microseconds * 1e3) as u64;
    Nanos(whole + u64::from((whole as i64 as f64) < microseconds * 1e3))
}

/// Times of the routed experts of one rank, from the rows that each expert receives.
#[derive(Clone, Debug)]
pub struct ExpertTimer {
    form: Bound,
    /// Residuals over the tokens of the batch, for balanced and for skewed loads.
    residuals: [Vec<f32>; 2],
    /// Expected relative error.
    pub error: f64,
    /// How the shape is known.
    pub source: Source,
}

/// Points an octave of an expert timer's residuals, and its octaves.
const TOKEN_OCTAVE: u64 = 4;
const TOKEN_BITS: u32 = 22;

fn token_place(tokens: u64) -> (usize, f32) {
    let tokens = tokens.clamp(1, (1 << TOKEN_BITS) - 1) * TOKEN_OCTAVE;
    let octave = tokens.ilog2() - TOKEN_OCTAVE.ilog2();
    let within = tokens - (TOKEN_OCTAVE << octave);
    let index = u64::from(octave) * TOKEN_OCTAVE + (within >> octave);
    let inverse = f32::from_bits((127 - octave) << 23);
    (index as usize, (within & ((1 << octave) - 1)) as i64 as f32 * inverse)
}

/// Hottest expert over the mean (as a logarithm) from which a load counts as skewed.
const SKEWED: f64 = 1.0;

impl ExpertTimer {
    /// Time of `rows_per_expert` on this rank, in a batch of `tokens` tokens of which each has
    /// its top-k picks somewhere in the expert-parallel group. Under 100 ns for 9 experts.
    #[must_use]
    pub fn time(&self, tokens: u64, rows_per_expert: &[u32]) -> Nanos {
        let (form, load) = self.form.time(tokens, rows_per_expert);
        if load.active == 0 {
            return Nanos(0);
        }
        let ratio =
            f64::from(load.hottest) * rows_per_expert.len() as i64 as f64 / load.rows as i64 as f64;
        let skew = (fast::log2(ratio) * (LN_2 / SKEWED)).clamp(0.0, 1.0);
        let (index, share) = token_place(tokens);
        let residual = |class: usize| {
            let curve = &self.residuals[class];
            f64::from(curve[index] + share * (curve[index + 1] - curve[index]))
        };
        let (balanced, skewed) = (residual(0), residual(1));
        nanos(form * fast::exp2((balanced + skew * (skewed - balanced)) * LOG2_E))
    }

    /// The closed form alone, microseconds; what measurements add to it is left out.
    #[must_use]
    pub fn form_us(&self, tokens: u64, rows_per_expert: &[u32]) -> f64 {
        self.form.time(tokens, rows_per_expert).0
    }
}

impl Profile {
    /// Times over the one coordinate of `family` at `shape`, inside a captured graph; `None`
    /// without such a table.
    #[must_use]
    pub fn curve(&self, family: Family, variant: &str, shape: &[u32]) -> Option<Curve> {
        let table = self.table(family, variant, shape)?;
        let mut asked = Asked::new(self, table, shape);
        let known = asked.answer(&[1 << 6]);
        let mut time = |at: u64| asked.answer(&[at]).time_us;
        Some(Curve::tabulate(&mut time, known.error, known.source.max(Source::Interpolated)))
    }

    /// Times over the two coordinates of `family` at `shape`, inside a captured graph; `None`
    /// without such a table.
    #[must_use]
    pub fn surface(&self, family: Family, variant: &str, shape: &[u32]) -> Option<Surface> {
        let table = self.table(family, variant, shape)?;
        let mut asked = Asked::new(self, table, shape);
        let known = asked.answer(&[8, 1 << 10]);
        let mut time = |first: f64, second: f64| {
            asked.answer(&[first.round() as u64, second.round() as u64]).time_us
        };
        let source = known.source.max(Source::Interpolated);
        Some(Surface::tabulate(&mut time, known.error, source))
    }

    /// Times of routed experts: `shape` is [`crate::sample::Fields::shape`] of expert GEMMs (its
    /// routing does not matter); `None` without a table of that variant.
    #[must_use]
    pub fn experts(&self, variant: &str, shape: &[u32]) -> Option<ExpertTimer> {
        let table = self.table(Family::ExpertGemm, variant, shape)?;
        let group = Group { variant, machine: self.machine };
        let speakers = table.speakers(shape);
        let sample = Sample::question(Family::ExpertGemm, variant, shape, &[0, 1]);
        let mut cache = loads::Cache::default();
        let features = (table.kernel().features)(&sample, &group, &mut cache);
        let points = u64::from(TOKEN_BITS) * TOKEN_OCTAVE + 1;
        let curve = |class: f64| -> Vec<f32> {
            let residual = |point: u64| {
                let (octave, within) = (point / TOKEN_OCTAVE, point % TOKEN_OCTAVE);
                let tokens = (1_u64 << octave) as f64 * (1.0 + within as f64 / TOKEN_OCTAVE as f64);
                table.residual(&speakers, &[class, tokens.ln()]).0 as f32
            };
            (0..=points).map(residual).collect()
        };
        let answer = table.answer(&sample, self.machine, &mut cache);
        let source = answer.source.max(Source::Interpolated);
        let (topk, local) = (f64::from(shape[2]), f64::from(shape[3]) / f64::from(shape[5]));
        let form = Bound::new(table.form, &table.parameters, &features, topk, local);
        Some(ExpertTimer {
            form,
            residuals: [curve(0.0), curve(1.0)],
            error: table.errors.expected(source),
            source,
        })
    }
}

/// Asks one table about one shape many times.
struct Asked<'a> {
    table: &'a Table,
    machine: Machine,
    /// The table's, as they are inside a captured graph.
    parameters: Cow<'a, [f64]>,
    sample: Sample,
    speakers: Vec<(usize, f64)>,
    cache: loads::Cache,
}

impl<'a> Asked<'a> {
    fn new(profile: &Profile, table: &'a Table, shape: &[u32]) -> Self {
        let sample = Sample::question(table.family, &table.variant, shape, &[]);
        let mut parameters = Cow::Borrowed(&table.parameters[..]);
        if let Some(start) = table.captured_start() {
            parameters.to_mut()[0] = start;
        }
        let speakers = table.speakers(shape);
        let (machine, cache) = (profile.machine, loads::Cache::default());
        Self { table, machine, parameters, sample, speakers, cache }
    }

    fn answer(&mut self, at: &[u64]) -> Answer {
        self.sample.at = at.iter().map(|at| (*at).max(1)).collect();
        let Self { table, machine, parameters, sample, speakers, cache } = self;
        let (time_us, _) = table.time(sample, *machine, parameters, speakers, cache);
        let source = match table.position(&sample.shape) {
            Some(_) => Source::Interpolated,
            None => Source::Extrapolated,
        };
        Answer { time_us, source, error: table.errors.expected(source) }
    }
}
