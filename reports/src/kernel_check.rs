//! A profile held against measurements, as a picture: every kernel a row, every point a dot at
//! its relative error.

use moecast_profiles::profile::Checked;

use crate::Picture;
use crate::draw::{Label, Paint, Scene, Width};

/// Errors beyond this stand at the edge.
const EDGE: f64 = 0.5;
/// Dots of one row; more say nothing new.
const DOTS_MAX: usize = 400;
const ROW: f64 = 17.0;

/// Draws the errors of `kernels`; `title` and `provenance` stand above.
#[must_use]
pub fn kernel_check(kernels: &[Checked], title: &str, provenance: &str) -> Picture {
    Picture::new(
        scene(kernels).with_title(title, provenance),
        "kernel-check",
        "profile against measurements",
    )
}

fn scene(kernels: &[Checked]) -> Scene {
    let mut scene = Scene::new(Width::Wide);
    let rows: Vec<&Checked> = kernels.iter().filter(|kernel| kernel.errors.points > 0).collect();
    let name = |kernel: &Checked| format!("{} {}", kernel.family.name(), kernel.variant);
    let left = 330.0;
    let right = scene.width - 110.0;
    let x = |error: f64| left + (right - left) * (error.clamp(-EDGE, EDGE) + EDGE) / (2.0 * EDGE);
    let bottom = 24.0 + ROW * rows.len() as f64;
    for (error, text) in
        [(-0.5, "-50%"), (-0.25, "-25%"), (0.0, "0"), (0.25, "+25%"), (0.5, "+50%")]
    {
        let paint = if error == 0.0 { Paint::Soft } else { Paint::Grid };
        scene.line(vec![(x(error), 20.0), (x(error), bottom)], paint, 1.0);
        scene.text(Label::new(x(error), 10.0, text).middle().paint(Paint::Soft));
    }
    scene.text(Label::new(scene.width, 10.0, "median / p90").end().paint(Paint::Soft));
    for (index, kernel) in rows.into_iter().enumerate() {
        let y = 24.0 + ROW * (index as f64 + 0.5);
        scene.text(Label::new(0.0, y, name(kernel)).size(11.0).at_most(left - 14.0));
        let step = kernel.points.len().div_ceil(DOTS_MAX).max(1);
        for (dot, error) in kernel.points.iter().step_by(step).enumerate() {
            // Spread over the row, the same every time.
            let spread = f64::from((dot as u32).wrapping_mul(2_654_435_769) >> 16) / 65_536.0;
            let height = y + (spread - 0.5) * (ROW - 6.0);
            scene.dot(x(f64::from(*error)), height, 1.3, Paint::Recording);
        }
        let summary =
            format!("{:.1}% / {:.1}%", kernel.errors.median * 100.0, kernel.errors.p90 * 100.0);
        scene.text(Label::new(scene.width, y, summary).end().size(11.0));
    }
    scene.text(
        Label::new(f64::midpoint(left, right), bottom + 14.0, "profile over measured time, less 1")
            .middle()
            .paint(Paint::Soft)
            .size(11.5),
    );
    scene.height = bottom + 26.0;
    scene
}

#[cfg(test)]
mod tests {
    use super::*;
    use moecast_profiles::sample::Family;
    use moecast_profiles::table::ErrorSummary;

    fn kernel(points: Vec<f32>) -> Checked {
        let errors = points.iter().map(|error| f64::from(error.abs())).collect();
        Checked {
            family: Family::Gemm,
            variant: "cublas/bfloat16".to_owned(),
            errors: ErrorSummary::of(errors),
            points,
            sources: [0; 3],
            unanswered: 0,
            worst: Vec::new(),
        }
    }

    #[test]
    fn it_draws_nothing_one_point_and_many_wild_ones() {
        let wild = (0..5_000_u16).map(|point| f32::from(point) - 2_000.0).collect();
        for kernels in [vec![], vec![kernel(vec![0.1])], vec![kernel(wild), kernel(vec![])]] {
            let picture = kernel_check(&kernels, "title", "source");
            assert!(picture.svg().unwrap().contains("median / p90"));
            assert!(picture.png().unwrap().len() > 100);
        }
    }
}
