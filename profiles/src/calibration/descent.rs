//! Few factors from few and costly predictions: penalised robust least squares.
//!
//! Levenberg-Marquardt where [`crate::fit`] has it too, with two differences. A prediction may be
//! a serving simulation, so derivatives are taken once and then mended by each step's own outcome
//! (Broyden), and evaluations are counted. And a penalty holds every factor near its default.
//! Factors are in units of their defaults: times are nearly linear in them, and far from the
//! solution a step in their logarithm would overshoot by orders of magnitude.

use crate::fit::solve;

/// Residuals (of the logarithm) of the time between tokens and of the time to the first token
/// beyond these count about linearly. Repeated hardware runs spread by 0.2 to 1% and 2 to 11%, and
/// the model errs by 3% and 10% at best.
const SCALES: [f64; 2] = [0.02, 0.05];

/// Where enough points agree better than that, their own spread takes its place, down to these:
/// runs that a model explains exactly are to be explained exactly, whatever the defaults say.
const SCALES_MIN: [f64; 2] = [0.002, 0.005];

/// Prior widths of the logarithms of decode factor, prefill factor, host time and offset.
///
/// Decode factors of measured deployments lie between 0.8 and 1.06: a spread of 0.15. Prefill
/// factors lie between 1.0 and 1.8, because another kernel may run: 0.4. Host times of one engine
/// differ sixfold between versions and offsets fourfold between deployments: 0.7 each, so that a
/// factor of two is one width.
const WIDTHS: [f64; 4] = [0.15, 0.4, 0.7, 0.7];

/// Points from which the data count in full, and their spread is known.
const POINTS_FULL: f64 = 5.0;

/// Evaluations of all points at most; after the first so many the spread is looked at.
const EVALUATIONS_MAX: u32 = 24;
const EVALUATIONS_FIRST: u32 = 15;

/// Step of the numerical derivative, as a share of the factor: large, because what a simulation
/// answers is not smooth.
const STEP: f64 = 0.03;

/// The factors stay between these, in units of their defaults.
const BOUNDS: [(f64, f64); 4] = [(0.1, 10.0), (0.1, 10.0), (0.02, 50.0), (0.02, 50.0)];

/// A step changes no factor by more than this, up or down.
const STRIDE: f64 = 4.0;

/// Four factors in units of their defaults.
pub(super) type Scaled = [f64; 4];

/// Two residuals a point (token, first token); NaN where the point could not be predicted.
pub(super) type Residuals = Vec<[f64; 2]>;

/// What a descent found.
pub(super) struct Descent {
    pub(super) at: Scaled,
    pub(super) residuals: Residuals,
    /// Penalised loss there.
    pub(super) loss: f64,
    /// Penalised loss of the defaults.
    pub(super) loss_before: f64,
    /// Evaluations of all points, the first included.
    pub(super) evaluations: u32,
}

/// How much each of `points` counts: one run may be an outlier, and four factors cannot be told
/// apart by two figures, so the first points move little and the fifth decides.
fn trust(points: usize) -> f64 {
    (points as f64 / POINTS_FULL).min(1.0).powi(2)
}

/// The penalised loss of `residuals` at `at`.
fn loss(at: &Scaled, residuals: &Residuals, scales: &[f64; 2]) -> f64 {
    let pair = |pair: &[f64; 2]| robust(pair[0], scales[0]) + robust(pair[1], scales[1]);
    let data: f64 = residuals.iter().map(pair).sum();
    let prior: f64 = at.iter().zip(WIDTHS).map(|(value, width)| (value.ln() / width).powi(2)).sum();
    data * trust(residuals.len()) + prior
}

/// Soft-L1 loss of a residual; what cannot be predicted is 20 times off.
fn robust(residual: f64, scale: f64) -> f64 {
    let residual = if residual.is_nan() { 3.0 } else { residual };
    2.0 * ((1.0 + (residual / scale).powi(2)).sqrt() - 1.0)
}

/// The spread of `residuals` of each figure, by the median, within bounds.
fn spread(residuals: &Residuals) -> [f64; 2] {
    std::array::from_fn(|figure| {
        let mut sizes: Vec<f64> = residuals.iter().map(|pair| pair[figure].abs()).collect();
        sizes.sort_by(f64::total_cmp);
        let middle = sizes.get(sizes.len() / 2).copied().unwrap_or(f64::NAN);
        // Where most cannot be predicted, their spread is not known.
        let middle = if middle.is_nan() { SCALES[figure] } else { middle };
        (1.4826 * middle).clamp(SCALES_MIN[figure], SCALES[figure])
    })
}

/// Slopes of each residual by each factor.
type Slopes = Vec<[Scaled; 2]>;

/// Descends from the defaults, where the residuals are `start`, to the least penalised loss.
pub(super) fn descend(start: &Residuals, evaluate: &dyn Fn(&Scaled) -> Residuals) -> Descent {
    let defaults = [1.0; 4];
    let (mut at, mut residuals) = (defaults, start.clone());
    let mut scales = SCALES;
    let mut best = loss(&at, &residuals, &scales);
    let mut slopes = derivatives(&at, &residuals, evaluate);
    let mut evaluations = 5;
    let (mut fresh, mut settled) = (true, (start.len() as f64) < POINTS_FULL);
    let mut damping = 1e-3;
    while evaluations < EVALUATIONS_MAX {
        let next = proposal(&at, &residuals, &slopes, damping, &scales);
        let still = next.iter().zip(&at).all(|(next, at)| (next / at - 1.0).abs() < 1e-4);
        let mut gains = false;
        if !still {
            let found = evaluate(&next);
            evaluations += 1;
            mend(&mut slopes, &at, &next, &residuals, &found);
            let value = loss(&next, &found, &scales);
            gains = best - value > 1e-3 * best;
            if value < best {
                (at, residuals, best) = (next, found, value);
                damping = (damping * 0.3_f64).max(1e-6);
            } else {
                damping *= 10.0;
            }
        }
        if !settled && (!gains || evaluations >= EVALUATIONS_FIRST) {
            settled = true;
            scales = spread(&residuals);
            if loss(&defaults, start, &scales) < loss(&at, &residuals, &scales) {
                (at, residuals) = (defaults, start.clone());
            }
            best = loss(&at, &residuals, &scales);
        } else if gains {
            fresh = false;
        } else {
            // Mended slopes go stale; a step that gains nothing is the sign of it.
            if still && fresh || evaluations + 5 > EVALUATIONS_MAX {
                break;
            }
            slopes = derivatives(&at, &residuals, evaluate);
            evaluations += 4;
            fresh = true;
        }
    }
    let loss_before = loss(&defaults, start, &scales);
    Descent { at, residuals, loss: best, loss_before, evaluations }
}

/// Numerical slopes at `at`: four evaluations.
fn derivatives(
    at: &Scaled,
    residuals: &Residuals,
    evaluate: &dyn Fn(&Scaled) -> Residuals,
) -> Slopes {
    let mut slopes = vec![[[0.0; 4]; 2]; residuals.len()];
    for which in 0..4 {
        let mut shifted = *at;
        let up = at[which] * (1.0 + STEP) <= BOUNDS[which].1;
        shifted[which] *= if up { 1.0 + STEP } else { 1.0 - STEP };
        let step = shifted[which] - at[which];
        for ((slopes, before), after) in slopes.iter_mut().zip(residuals).zip(evaluate(&shifted)) {
            for figure in 0..2 {
                let slope = (after[figure] - before[figure]) / step;
                slopes[figure][which] = if slope.is_nan() { 0.0 } else { slope };
            }
        }
    }
    slopes
}

/// Changes `slopes` as little as possible so that they explain the step from `at` to `next`.
fn mend(slopes: &mut Slopes, at: &Scaled, next: &Scaled, before: &Residuals, after: &Residuals) {
    let step: Scaled = std::array::from_fn(|which| next[which] - at[which]);
    let length: f64 = step.iter().map(|part| part * part).sum();
    for ((slopes, before), after) in slopes.iter_mut().zip(before).zip(after) {
        for figure in 0..2 {
            let foreseen: f64 = slopes[figure].iter().zip(step).map(|(a, b)| a * b).sum();
            let missed = after[figure] - before[figure] - foreseen;
            if missed.is_nan() {
                continue;
            }
            for (slope, part) in slopes[figure].iter_mut().zip(step) {
                *slope += missed * part / length;
            }
        }
    }
}

/// Where the damped normal equations lead from `at`, within bounds and stride.
fn proposal(
    at: &Scaled,
    residuals: &Residuals,
    slopes: &Slopes,
    damping: f64,
    scales: &[f64; 2],
) -> Scaled {
    let mut matrix = vec![vec![0.0; 4]; 4];
    let mut gradient = vec![0.0; 4];
    let trust = trust(residuals.len());
    for (pair, slopes) in residuals.iter().zip(slopes) {
        for figure in (0..2).filter(|figure| !pair[*figure].is_nan()) {
            let (residual, scale) = (pair[figure], scales[figure]);
            let bent = (1.0 + (residual / scale).powi(2)).sqrt();
            let weight = trust / (scale * scale * bent);
            for (first, slope) in slopes[figure].iter().enumerate() {
                gradient[first] += weight * slope * residual;
                for (second, other) in slopes[figure].iter().enumerate().take(first + 1) {
                    matrix[first][second] += weight * slope * other;
                }
            }
        }
    }
    for (which, (value, width)) in at.iter().zip(WIDTHS).enumerate() {
        let slope = 1.0 / (value * width);
        gradient[which] += slope * value.ln() / width;
        matrix[which][which] += slope * slope;
    }
    let Some(step) = solve(&matrix, &gradient, damping) else { return *at };
    std::array::from_fn(|which| {
        let (low, high) = BOUNDS[which];
        let within = (at[which] / STRIDE).max(low)..=(at[which] * STRIDE).min(high);
        (at[which] - step[which]).clamp(*within.start(), *within.end())
    })
}
