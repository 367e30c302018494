//! How often each layer finds its experts with each number of slots, from one pass over a
//! recording: the depth of an expert in the layer's LRU stack is the number of slots it needs.

use moecast_planner::memory::slots::allocate;
use moecast_profiles::ids::MoeLayer;
use moecast_sim::offload::recorded;
use moecast_traces::RoutingTrace;

/// `[M][E + 1]` look-ups of generated tokens that so many slots would have answered.
pub(super) struct Curves(Vec<Vec<u64>>);

impl Curves {
    /// Stacks start in the order of `loads`, as caches do.
    pub(super) fn new(trace: &RoutingTrace, loads: &[Vec<u64>]) -> Self {
        let requests = recorded(trace, usize::MAX, usize::MAX);
        let curve = |(layer, loads): (u16, &Vec<u64>)| {
            let layer = MoeLayer(layer);
            let mut stack: Vec<usize> = (0..loads.len()).collect();
            stack.sort_by_key(|&expert| std::cmp::Reverse(loads[expert]));
            let mut found = vec![0_u64; loads.len() + 1];
            for request in &requests {
                for &row in &request.prompt {
                    let chosen = trace.chosen(row, layer).map(|expert| expert.index());
                    promote(&mut stack, &chosen.collect::<Vec<_>>());
                }
                for &row in &request.answer {
                    let chosen: Vec<usize> =
                        trace.chosen(row, layer).map(|expert| expert.index()).collect();
                    // A whole layer is looked up before any of it moves.
                    for expert in &chosen {
                        if let Some(depth) = stack.iter().position(|other| other == expert) {
                            found[depth + 1] += 1;
                        }
                    }
                    promote(&mut stack, &chosen);
                }
            }
            for slots in 1..found.len() {
                found[slots] += found[slots - 1];
            }
            found
        };
        Self((0_u16..).zip(loads).map(curve).collect())
    }

    /// Bytes of each layer, `capacity` in all, where a miss in a layer costs `seconds[layer]` and
    /// all its experts take `totals[layer]` bytes.
    pub(super) fn divide(&self, capacity: u64, totals: &[u64], seconds: &[f64]) -> Vec<u64> {
        let experts: u64 = self.0.iter().map(|found| found.len() as u64 - 1).sum();
        // What is dealt: the bytes of a mean expert of all layers.
        let unit = (totals.iter().sum::<u64>() / experts.max(1)).max(1);
        let gains: Vec<Vec<f64>> = self
            .0
            .iter()
            .zip(totals)
            .zip(seconds)
            .map(|((found, &total), seconds)| {
                let most = found.len() - 1;
                let held = |units: u64| {
                    let bytes = u128::from(units * unit) * most as u128;
                    usize::try_from(bytes / u128::from(total.max(1))).unwrap_or(most).min(most)
                };
                let units = 0..=total.div_ceil(unit);
                units.map(|units| found[held(units)] as f64 * seconds).collect()
            })
            .collect();
        let budget = usize::try_from(capacity / unit).unwrap_or(usize::MAX);
        let mut given = allocate(&gains, budget);
        // What saves nothing on this recording is dealt out evenly: another may need it.
        let mut left = budget.saturating_sub(given.iter().map(|&units| units as usize).sum());
        while left > 0 {
            let most = gains.iter().map(|row| row.len() - 1);
            let room =
                given.iter_mut().zip(most).filter(|(units, most)| (**units as usize) < *most);
            let Some((units, _)) = room.min_by_key(|(units, _)| **units) else { break };
            *units += 1;
            left -= 1;
        }
        let bytes = |(units, total): (u32, &u64)| (u64::from(units) * unit).min(*total);
        given.into_iter().zip(totals).map(bytes).collect()
    }
}

fn promote(stack: &mut [usize], chosen: &[usize]) {
    for expert in chosen {
        if let Some(depth) = stack.iter().position(|other| other == expert) {
            stack[..=depth].rotate_right(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Layer 0 repeats one expert, layer 1 needs two: three slots go one and two.
    #[test]
    fn slots_go_where_they_are_asked_for() {
        let curves = Curves(vec![vec![0, 10, 10, 10], vec![0, 0, 8, 8]]);
        let divide = |capacity| curves.divide(capacity, &[30, 30], &[1.0, 1.0]);
        assert_eq!(divide(30), [10, 20]);
        assert_eq!(divide(39), [10, 20]);
        // One slot more saves nothing, and is not thrown away.
        assert_eq!(divide(40).iter().sum::<u64>(), 40);
        // No more than there are experts.
        assert_eq!(divide(990), [30, 30]);
    }

    /// A layer of experts half as large needs half the bytes for as many hits.
    #[test]
    fn narrow_experts_take_less() {
        let curves = Curves(vec![vec![0, 0, 8, 8, 8], vec![0, 0, 8, 8, 8]]);
        // Units of 15: layer 0 keeps two of its experts in two, layer 1 in two (of 20 each: three).
        assert_eq!(curves.divide(75, &[40, 80], &[1.0, 1.0]), [30, 45]);
    }

    #[test]
    fn what_is_used_comes_first() {
        let mut stack = vec![0, 1, 2, 3];
        promote(&mut stack, &[2, 3]);
        assert_eq!(stack, [3, 2, 0, 1]);
    }
}
