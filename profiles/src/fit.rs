//! Bounded robust least squares on the logarithm of times: how closed forms get their constants.
//!
//! Levenberg-Marquardt over the logarithms of the parameters, steps clipped to the bounds, with
//! the soft-L1 loss (residuals beyond [`SCALE`] count about linearly). Forms have at most some
//! fifteen parameters, so the normal equations are solved directly. Deterministic.

/// Residuals (of the logarithm) beyond this count about linearly. A relative error of 6%.
const SCALE: f64 = 0.06;
/// Relative step of the numerical derivative.
const STEP: f64 = 1e-5;

/// One parameter of a closed form: its name, bounds and start. All are positive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) low: f64,
    pub(crate) start: f64,
    pub(crate) high: f64,
}

/// What a fit found.
#[derive(Clone, Debug)]
pub(crate) struct Fit {
    /// Parameters within their bounds.
    pub(crate) values: Vec<f64>,
    /// Mean loss per row; smaller is better.
    pub(crate) loss: f64,
}

/// Fits `predict(parameters, row)` to `measured[row]` (both positive) in at most `iterations`
/// steps, from `from` where given.
pub(crate) fn fit(
    parameters: &[Parameter],
    from: Option<&[f64]>,
    measured: &[f64],
    iterations: u32,
    predict: &dyn Fn(&[f64], usize) -> f64,
) -> Fit {
    let bounds: Vec<(f64, f64)> =
        parameters.iter().map(|parameter| (parameter.low.ln(), parameter.high.ln())).collect();
    let starts: Vec<f64> = parameters.iter().map(|parameter| parameter.start).collect();
    let mut point: Vec<f64> = from.unwrap_or(&starts).iter().map(|value| value.ln()).collect();
    clip(&mut point, &bounds);
    let targets: Vec<f64> = measured.iter().map(|time| time.ln()).collect();
    let mut problem = Problem { predict, targets: &targets, residuals: vec![0.0; targets.len()] };
    let mut loss = problem.loss(&point);
    let mut damping = 1e-3;
    for _ in 0..iterations {
        let (matrix, gradient) = problem.normal_equations(&point);
        let mut improved = false;
        for _ in 0..8 {
            let Some(step) = solve(&matrix, &gradient, damping) else {
                damping *= 10.0;
                continue;
            };
            let mut next: Vec<f64> = point.iter().zip(&step).map(|(at, by)| at - by).collect();
            clip(&mut next, &bounds);
            let found = problem.loss(&next);
            if found < loss {
                improved = loss - found > 1e-6 * loss;
                (point, loss) = (next, found);
                damping = (damping * 0.3).max(1e-9);
                break;
            }
            damping *= 5.0;
        }
        if !improved {
            break;
        }
    }
    Fit {
        values: point.iter().map(|value| value.exp()).collect(),
        loss: loss / targets.len().max(1) as f64,
    }
}

fn clip(point: &mut [f64], bounds: &[(f64, f64)]) {
    for (value, (low, high)) in point.iter_mut().zip(bounds) {
        *value = value.clamp(*low, *high);
    }
}

struct Problem<'a> {
    predict: &'a dyn Fn(&[f64], usize) -> f64,
    targets: &'a [f64],
    residuals: Vec<f64>,
}

impl Problem<'_> {
    fn residual(&self, values: &[f64], row: usize) -> f64 {
        let found = (self.predict)(values, row);
        // A form that leaves the positive numbers is as wrong as a form can be.
        if found > 0.0 && found.is_finite() { found.ln() - self.targets[row] } else { 10.0 }
    }

    fn loss(&mut self, point: &[f64]) -> f64 {
        let values: Vec<f64> = point.iter().map(|value| value.exp()).collect();
        let mut loss = 0.0;
        for row in 0..self.targets.len() {
            self.residuals[row] = self.residual(&values, row);
            let scaled = self.residuals[row] / SCALE;
            loss += 2.0 * ((1.0 + scaled * scaled).sqrt() - 1.0);
        }
        loss
    }

    /// The weighted normal matrix and gradient at `point`.
    fn normal_equations(&mut self, point: &[f64]) -> (Vec<Vec<f64>>, Vec<f64>) {
        let count = point.len();
        // A rejected step left its residuals behind.
        self.loss(point);
        let shifted: Vec<Vec<f64>> = (0..count)
            .map(|which| {
                let shift = |(index, value): (usize, &f64)| {
                    (value + if index == which { STEP } else { 0.0 }).exp()
                };
                point.iter().enumerate().map(shift).collect()
            })
            .collect();
        let mut matrix = vec![vec![0.0; count]; count];
        let mut gradient = vec![0.0; count];
        let mut slopes = vec![0.0; count];
        for row in 0..self.targets.len() {
            let residual = self.residuals[row];
            let weight = 1.0 / (1.0 + (residual / SCALE).powi(2)).sqrt();
            for (slope, values) in slopes.iter_mut().zip(&shifted) {
                *slope = (self.residual(values, row) - residual) / STEP;
            }
            for (first, &slope) in slopes.iter().enumerate() {
                gradient[first] += weight * slope * residual;
                for (second, &other) in slopes.iter().enumerate().take(first + 1) {
                    matrix[first][second] += weight * slope * other;
                }
            }
        }
        (matrix, gradient)
    }
}

/// Solves `(matrix + damping * diagonal) x = gradient` by Cholesky; the lower half is given.
pub(crate) fn solve(matrix: &[Vec<f64>], gradient: &[f64], damping: f64) -> Option<Vec<f64>> {
    let count = gradient.len();
    let mut lower = vec![vec![0.0; count]; count];
    for row in 0..count {
        for column in 0..=row {
            let mut sum = matrix[row][column];
            if row == column {
                sum += damping * matrix[row][row] + 1e-12;
            }
            let (own, other) = (&lower[row][..column], &lower[column][..column]);
            sum -= own.iter().zip(other).map(|(a, b)| a * b).sum::<f64>();
            if row == column {
                if sum <= 0.0 {
                    return None;
                }
                lower[row][row] = sum.sqrt();
            } else {
                lower[row][column] = sum / lower[column][column];
            }
        }
    }
    let mut solution = gradient.to_vec();
    for row in 0..count {
        for inner in 0..row {
            solution[row] -= lower[row][inner] * solution[inner];
        }
        solution[row] /= lower[row][row];
    }
    for row in (0..count).rev() {
        for inner in row + 1..count {
            solution[row] -= lower[inner][row] * solution[inner];
        }
        solution[row] /= lower[row][row];
    }
    Some(solution)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMETERS: [Parameter; 3] = [
        Parameter { name: "start", low: 0.1, start: 1.0, high: 100.0 },
        Parameter { name: "slope", low: 1e-3, start: 1.0, high: 100.0 },
        Parameter { name: "power", low: 0.5, start: 1.0, high: 4.0 },
    ];

    fn line(values: &[f64], row: usize) -> f64 {
        values[0] + values[1] * (row as f64).powf(values[2])
    }

    #[test]
    fn constants_of_a_known_form_are_found_again() {
        let measured: Vec<f64> = (0..50).map(|row| line(&[7.0, 0.3, 1.5], row)).collect();
        let found = fit(&PARAMETERS, None, &measured, 100, &line);
        for (value, expected) in found.values.iter().zip([7.0, 0.3, 1.5]) {
            assert!((value / expected - 1.0).abs() < 1e-3, "{:?}", found.values);
        }
    }

    #[test]
    fn a_few_wild_points_do_not_bend_the_fit() {
        let mut measured: Vec<f64> = (0..50).map(|row| line(&[7.0, 0.3, 1.5], row)).collect();
        for row in [5, 25, 45] {
            measured[row] *= 20.0;
        }
        let found = fit(&PARAMETERS, None, &measured, 200, &line);
        for (value, expected) in found.values.iter().zip([7.0, 0.3, 1.5]) {
            assert!((value / expected - 1.0).abs() < 0.05, "{:?}", found.values);
        }
    }

    #[test]
    fn parameters_stay_within_their_bounds() {
        let measured: Vec<f64> = (0..50).map(|row| line(&[500.0, 0.3, 1.5], row)).collect();
        let found = fit(&PARAMETERS, None, &measured, 100, &line);
        for (value, parameter) in found.values.iter().zip(&PARAMETERS) {
            assert!(*value >= parameter.low * 0.999 && *value <= parameter.high * 1.001);
        }
    }
}
