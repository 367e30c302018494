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

    /// Slots of each layer, `slots` in all, where a miss in a layer costs `seconds[layer]`.
    pub(super) fn divide(&self, slots: usize, seconds: &[f64]) -> Vec<u32> {
        let gains: Vec<Vec<f64>> = self
            .0
            .iter()
            .zip(seconds)
            .map(|(found, seconds)| found.iter().map(|&hits| hits as f64 * seconds).collect())
            .collect();
        let mut given = allocate(&gains, slots);
        // What saves nothing on this recording is dealt out evenly: another may need it.
        let mut left = slots.saturating_sub(given.iter().map(|&slots| slots as usize).sum());
        while left > 0 {
            let most = self.0.iter().map(|found| found.len() - 1);
            let room =
                given.iter_mut().zip(most).filter(|(slots, most)| (**slots as usize) < *most);
            let Some((slots, _)) = room.min_by_key(|(slots, _)| **slots) else { break };
            *slots += 1;
            left -= 1;
        }
        given
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
        assert_eq!(curves.divide(3, &[1.0, 1.0]), [1, 2]);
        // One slot more saves nothing, and is not thrown away.
        assert_eq!(curves.divide(4, &[1.0, 1.0]).iter().sum::<u32>(), 4);
        // No more than there are experts.
        assert_eq!(curves.divide(99, &[1.0, 1.0]), [3, 3]);
    }

    #[test]
    fn what_is_used_comes_first() {
        let mut stack = vec![0, 1, 2, 3];
        promote(&mut stack, &[2, 3]);
        assert_eq!(stack, [3, 2, 0, 1]);
    }
}
