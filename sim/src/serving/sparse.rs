//! Expert layers of small passes: work by pick, not by slot.
//!
//! A pass over a few tokens touches few slots, and while no slot has more rows than the smallest
//! tile of a kernel, the time of a rank depends on three numbers: slots with rows, their rows, and
//! the most of one slot. Times are kept by these and looked up.

use moecast_profiles::cost::CostModel;

use super::moe::{ExpertMap, MoeTime, Ranks};

/// Rows of the smallest tile: up to here all tiles of a slot are one.
const TILE: u32 = 16;
/// Times that are kept; a power of two.
const KEPT: usize = 1 << 12;

/// Loads of the ranks of one layer, and times that were asked for before.
pub(crate) struct Sparse {
    ranks: Vec<Load>,
    /// Experts with rows, in the order of their first pick.
    pub(crate) touched: Vec<u16>,
    /// Key and time; each key has one place.
    kept: Vec<(u64, f64)>,
    rows: Vec<u32>,
}

#[derive(Clone, Copy, Default)]
struct Load {
    active: u32,
    rows: u32,
    hottest: u32,
}

impl Sparse {
    pub(crate) fn new() -> Self {
        Self { ranks: Vec::new(), touched: Vec::new(), kept: Vec::new(), rows: Vec::new() }
    }

    /// One layer in which the touched experts have the loads in `counts`; these become 0 again.
    /// What [`ExpertMap::layer_time`] answers for the same loads.
    pub(crate) fn layer_time(
        &mut self,
        map: &ExpertMap,
        cost: &dyn CostModel,
        tokens: u64,
        (layer, counts): (usize, &mut [u32]),
        busy: &mut [f64],
    ) -> MoeTime {
        self.kept.resize(KEPT, (0, 0.0));
        self.ranks.clear();
        self.ranks.resize(map.ranks(), Load::default());
        for expert in &self.touched {
            map.deal_one(layer, *expert, counts[usize::from(*expert)], |slot, rows| {
                let load = &mut self.ranks[map.rank_index(slot)];
                load.active += 1;
                load.rows += rows;
                load.hottest = load.hottest.max(rows);
            });
        }
        let mut ranks = Ranks::default();
        for (rank, busy) in (0..self.ranks.len()).zip(busy) {
            let load = self.ranks[rank];
            if load.active == 0 {
                continue;
            }
            let seen = map.seen(tokens, u64::from(load.rows), false);
            let time = self.time(map, cost, seen, (rank, load), (layer, counts));
            ranks.add(time, u64::from(load.rows));
            *busy += time;
        }
        for expert in self.touched.drain(..) {
            counts[usize::from(expert)] = 0;
        }
        ranks.time(map.ranks_alive())
    }

    /// The time of one rank: kept, or asked for.
    fn time(
        &mut self,
        map: &ExpertMap,
        cost: &dyn CostModel,
        seen: u64,
        (rank, load): (usize, Load),
        (layer, counts): (usize, &[u32]),
    ) -> f64 {
        let Load { active, rows, hottest } = load;
        let keeps = hottest <= TILE && seen < 1 << 24 && active < 1 << 14 && rows < 1 << 18;
        // At least one slot is active: no key is 0.
        let key = seen << 37 | u64::from(active) << 23 | u64::from(rows) << 5 | u64::from(hottest);
        let place = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 51) as usize % KEPT;
        if keeps && self.kept[place].0 == key {
            return self.kept[place].1;
        }
        self.rows.clear();
        self.rows.resize(map.slots(), 0);
        for expert in &self.touched {
            let put = |slot: usize, rows| self.rows[slot] = rows;
            map.deal_one(layer, *expert, counts[usize::from(*expert)], put);
        }
        let time = cost.experts(seen, map.slots_of(rank, &self.rows)).0 as f64;
        if keeps {
            self.kept[place] = (key, time);
        }
        time
    }
}

#[cfg(test)]
mod tests {
    use moecast_profiles::builtin;
    use moecast_profiles::cost::{self, Kernels};
    use moecast_profiles::ids::ExpertId;
    use moecast_profiles::model::ModelShape;
    use moecast_profiles::profile::Profile;
    use proptest::prelude::*;

    use super::*;
    use crate::Placement;
    use crate::serving::Layout;

    const EXPERTS: u16 = 64;

    fn kernels(name: &str, model: &ModelShape, profile: &Profile) -> Kernels {
        let setting = cost::Setting {
            model,
            device: &builtin::device("h200-sxm").unwrap(),
            tensor_ranks: 1,
            expert_tensor_ranks: 1,
            expert_ranks: 4,
            exchange: None,
            profile: Some(profile),
        };
        Kernels::new(cost::find(name).unwrap(), &setting).unwrap()
    }

    /// On 4 ranks: experts in order, or 8 of them twice.
    fn map(model: &ModelShape, twice: bool, gathers: bool) -> ExpertMap {
        let layout = Layout { tensor: 1, data: 4, expert: 4, expert_tensor: 1, pipeline: 1 };
        let slots = (0..EXPERTS + 8).map(|slot| ExpertId(slot % EXPERTS)).collect::<Vec<_>>();
        let layers = vec![slots; model.moe_layers.len()];
        let placement = twice.then(|| Placement::new(EXPERTS, 4, layers).unwrap());
        ExpertMap::new(model, &layout, placement.as_ref(), [gathers; 2]).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn pick_by_pick_is_slot_by_slot(
            loads in prop::collection::vec((0..EXPERTS, 1_u32..40), 1..20),
            [twice, gathers, calibrated] in any::<[bool; 3]>(),
            tokens in 1_u64..100,
        ) {
            let model = builtin::model("olmoe-1b-7b").unwrap();
            let profile = builtin::profile("h200-sxm-sglang").unwrap();
            let name = if calibrated { "calibrated" } else { "roofline" };
            let cost = kernels(name, &model, &profile).model;
            let map = map(&model, twice, gathers);
            let mut sparse = Sparse::new();
            // Single rows, so that kept times of other loads are met; then loads above a tile.
            for most in [1, 2, 3, 40] {
                let mut counts = vec![0; usize::from(EXPERTS)];
                for (expert, load) in &loads {
                    let count = &mut counts[usize::from(*expert)];
                    if *count == 0 {
                        sparse.touched.push(*expert);
                    }
                    *count += load.min(&most);
                }
                let mut rows = vec![0; map.slots()];
                map.deal(3, &counts, &mut rows);
                let mut all = [vec![0.0; 4], vec![0.0; 4]];
                let asked = Some(&mut all[0][..]);
                let dense = map.layer_time(cost.as_ref(), (tokens, false), &rows, asked);
                let at = (3, &mut counts[..]);
                let found = sparse.layer_time(&map, cost.as_ref(), tokens, at, &mut all[1]);
                prop_assert_eq!(found, dense);
                prop_assert_eq!(&all[0], &all[1]);
                prop_assert!(counts.iter().all(|count| *count == 0));
            }
        }
    }
}
