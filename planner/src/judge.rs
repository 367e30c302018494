//! What a placement scores on a recording, where no machine is named.

use moecast_profiles::ids::MoeLayer;
use moecast_sim::Placement;
use moecast_traces::RoutingTrace;
use rayon::prelude::*;

use crate::bounds::{step_bound, step_bound_fractional};

/// Max over mean rank load, mean over the layers and steps that have load; the load of an expert
/// is split evenly over its replicas.
///
/// # Panics
/// When the placement is for other experts or layers than the recording.
#[must_use]
pub fn imbalance(placement: &Placement, trace: &RoutingTrace) -> f64 {
    let per_rank = usize::from(placement.slots_per_rank());
    let ranks = usize::from(placement.ranks());
    mean_over_events(trace, |layer, loads| {
        let copies = placement.replicas(layer);
        let share = |expert: usize| f64::from(loads[expert]) / copies[expert].len() as f64;
        let slots = placement.layer(layer).chunks_exact(per_rank);
        let rank_load = slots.map(|slots| slots.iter().map(|e| share(e.index())).sum::<f64>());
        let total: f64 = loads.iter().map(|&load| f64::from(load)).sum();
        rank_load.fold(0.0, f64::max) * ranks as f64 / total
    })
}

/// Lower bound of a simulated imbalance, where every token goes whole to one replica: no placement
/// of as many slots does better.
#[must_use]
pub fn bound(trace: &RoutingTrace, slots: u16, ranks: u16) -> f64 {
    mean_over_events(trace, |_, loads| step_bound(loads, slots, ranks))
}

/// Lower bound of [`imbalance`] as it is computed here, with loads split evenly over replicas.
#[must_use]
pub fn bound_even(trace: &RoutingTrace, slots: u16, ranks: u16) -> f64 {
    mean_over_events(trace, |_, loads| step_bound_fractional(loads, slots, ranks))
}

/// Mean of `score` over the (layer, step) pairs that have load, summed in index order.
fn mean_over_events(trace: &RoutingTrace, score: impl Fn(MoeLayer, &[u32]) -> f64 + Sync) -> f64 {
    let layers = u16::try_from(trace.header().moe_layers()).expect("layer numbers are u16");
    let per_layer: Vec<(f64, u64)> = (0..layers)
        .into_par_iter()
        .map(|layer| {
            let mut loads = vec![0_u32; usize::from(trace.header().experts)];
            let (mut sum, mut events) = (0.0, 0);
            for step in 0..trace.steps().len() {
                loads.fill(0);
                trace.add_step_loads(step, MoeLayer(layer), &mut loads);
                if loads.iter().any(|&load| load > 0) {
                    sum += score(MoeLayer(layer), &loads);
                    events += 1;
                }
            }
            (sum, events)
        })
        .collect();
    let (sum, events) =
        per_layer.iter().fold((0.0, 0), |(sum, events), layer| (sum + layer.0, events + layer.1));
    if events == 0 { 0.0 } else { sum / events as f64 }
}

#[cfg(test)]
mod tests {
    use moecast_profiles::ids::ExpertId;
    use moecast_traces::{Header, TraceBuilder};

    use super::*;

    #[test]
    fn solvable_by_hand() {
        let mut builder = TraceBuilder::new(Header::new("test", "tiny", 3, 1, vec![0]));
        builder.push_counts(&[4, 2, 0]);
        builder.push_counts(&[0, 0, 0]);
        builder.push_counts(&[0, 0, 6]);
        let trace = builder.finish("test").unwrap();
        // Expert 0 has two copies: ranks get 2 + 2 and 2 + 0 of 6, then 0 and 6 of 6. The empty
        // step does not count. Means are 3: (4/3 + 2) / 2.
        let layer = [0, 1, 0, 2].map(ExpertId).to_vec();
        let placement = Placement::new(3, 2, vec![layer]).unwrap();
        assert!((imbalance(&placement, &trace) - (4.0 / 3.0 + 2.0) / 2.0).abs() < 1e-12);
        assert!(bound_even(&trace, 4, 2) <= imbalance(&placement, &trace));
    }
}
