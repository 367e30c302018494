//! The kernels against sums that anybody can read, in f64.

use super::*;

/// silu(x gate) * (x up), times down, of weights as `value` reads them.
fn reference<W: Copy>(weights: &[W], value: fn(W) -> f64, scale: f64, job: &Job) -> Vec<f64> {
    let inputs = random_activations(job.rows * job.hidden);
    let (gate_up, down) = weights.split_at(2 * job.hidden * job.inter);
    let (gate, up) = gate_up.split_at(job.hidden * job.inter);
    let dot = |weights: &[W], inputs: &[f64]| -> f64 {
        let products = weights.iter().zip(inputs).map(|(weight, input)| value(*weight) * input);
        scale * products.sum::<f64>()
    };
    let mut out = Vec::new();
    for row in inputs.chunks(job.hidden) {
        let row: Vec<f64> = row.iter().map(|input| f64::from(*input)).collect();
        let gated: Vec<f64> = (0..job.inter)
            .map(|index| {
                let part = index * job.hidden..(index + 1) * job.hidden;
                let (gate, up) = (dot(&gate[part.clone()], &row), dot(&up[part], &row));
                gate / (1.0 + (-gate).exp()) * up
            })
            .collect();
        out.extend(down.chunks(job.inter).map(|weights| dot(weights, &gated)));
    }
    out
}

/// Largest error over the largest value.
fn error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    let pairs = found.iter().zip(expected);
    pairs.fold(0.0, |most: f64, (a, b)| most.max((f64::from(*a) - b).abs())) / largest
}

/// Every instruction set, odd shapes, and more threads than blocks.
fn jobs() -> Vec<Job> {
    let mut jobs = Vec::new();
    for instructions in Instructions::all() {
        for (threads, hidden, inter, rows) in
            [(1, 64, 48, 1), (2, 96, 33, 3), (3, 50, 20, 7), (1, 128, 64, 13), (5, 8, 6, 2)]
        {
            jobs.push(Job { threads, hidden, inter, rows, repeats: 2, instructions });
        }
    }
    jobs
}

fn check<W: Weight>(value: fn(W) -> f64, scale: Option<f32>, bound: f64) {
    for job in jobs() {
        let store: Vec<W> = random(job.weights());
        let inputs = random_activations(job.rows * job.hidden);
        let scales = scale.map(|scale| vec![scale; job.hidden.max(job.inter)]);
        let (times, found) = time_and_compute(&store, &inputs, scales.as_deref(), &job);
        assert_eq!(times.len(), 2);
        let expected = reference(&store, value, f64::from(scale.unwrap_or(1.0)), &job);
        let error = error(&found, &expected);
        assert!(error < bound, "{error} with {job:?}");
    }
}

#[test]
fn f32_experts_compute_what_the_formula_says() {
    check::<f32>(f64::from, None, 1e-4);
}

/// The stored weights are exact, the sums are of f32: the bound of f32 holds.
#[test]
fn bf16_experts_compute_what_the_formula_says() {
    check::<Bf16>(|weight| f64::from(f32::from_bits(u32::from(weight.0) << 16)), None, 1e-4);
}

#[test]
fn int8_experts_compute_what_the_formula_says() {
    check::<i8>(f64::from, Some(1.0 / 128.0), 1e-4);
}

/// Rounding f32 weights to bf16 changes each by at most 1/256, to int8 by at most 1/128.
#[test]
fn narrow_weights_are_near_the_wide_ones() {
    for bits in [0_u32, 0x1234_5678, 0xffff_ffff, 0x8000_0001] {
        let wide = f32::random(bits);
        assert!((0.5..1.0).contains(&wide.abs()));
        assert!((Bf16::random(bits).widen() - wide).abs() <= wide.abs() / 128.0);
    }
}

#[test]
fn what_does_not_fit_is_unsupported() {
    let facts = Facts { name: String::new(), cache_bytes: 1 << 20, memory_bytes: 1 << 16 };
    let job = jobs().remove(0);
    let answer = Store::default().time("f32", &job, &facts);
    assert!(matches!(answer, Err(TimingError::Unsupported(why)) if why.contains("memory")));
}
