//! MRS, minus recent score: every expert has a running mean of what the router gave it, to which
//! only the highest scores of a pass add, and the lowest mean leaves (Zhong et al., "HybriMoE:
//! hybrid CPU-GPU scheduling and cache management for efficient MoE inference", DAC 2025):
//! `S <- a * TopP(s) + (1 - a) * S` with a = 0.5 and the p = 2k highest scores.
//! Cost: the experts of a layer per event, the slots per eviction; 8 bytes an expert.
//! Departures: recordings hold the scores of the k experts that were chosen, not of all, so that
//! TopP has k scores where the paper has 2k. The scores of a batch are their mean over its tokens.

use super::residents::Residents;
use super::{Entry, Item, Keep, Moment, Policy, Routed, Sees};

pub(super) const ENTRY: Entry = Entry {
    name: "mrs",
    about: "HybriMoE: the lowest running mean of router scores leaves",
    sees: Sees::Past,
    build: |setting| {
        let items = setting.items();
        Box::new(Mrs {
            residents: Residents::new(items),
            scores: vec![0.0; items],
            experts: setting.experts,
            versions: setting.versions,
            highest: 2 * setting.top_k,
        })
    },
};

/// Weight of the newest score.
const NEWEST: f32 = 0.5;

struct Mrs {
    residents: Residents,
    scores: Vec<f32>,
    experts: usize,
    versions: usize,
    /// How many scores of a pass count.
    highest: usize,
}

impl Policy for Mrs {
    fn listens(&self) -> bool {
        true
    }

    fn routed(&mut self, said: &Routed<'_>) {
        let width = self.experts * self.versions;
        let layer = usize::from(said.layer) * width;
        let scores = &mut self.scores[layer..layer + width];
        scores.iter_mut().for_each(|score| *score *= 1.0 - NEWEST);
        let mut order: Vec<usize> = (0..said.experts.len()).collect();
        // Equals in order of first pick: the sort is stable.
        order.sort_by(|&a, &b| said.weights[b].total_cmp(&said.weights[a]));
        order.truncate(self.highest);
        for index in order {
            let first = usize::from(said.experts[index]) * self.versions;
            let score = NEWEST * said.weights[index] / said.tokens.max(1) as f32;
            scores[first..first + self.versions].iter_mut().for_each(|sum| *sum += score);
        }
    }

    fn hit(&mut self, _: Item, _: Moment) {}

    fn admit(&mut self, item: Item, _: Moment) {
        self.residents.add(item);
    }

    fn victim(&mut self, _: Item, keep: Keep<'_>, _: Moment) -> Option<Item> {
        self.residents.lowest(keep, |item| self.scores[item as usize])
    }

    fn evicted(&mut self, item: Item, _: Moment) {
        self.residents.remove(item);
    }
}
