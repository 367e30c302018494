//! FineMoE: an expert's eviction priority is 1 / (p x freq), p the probability that stored expert
//! maps give it and freq its uses; the highest priority, so the lowest product, leaves (Yu et al.,
//! "Taming latency-memory trade-off in MoE-based LLM serving via fine-grained expert offloading",
//! EuroSys 2026).
//! Cost: the experts of a layer per event, the slots per eviction; 16 bytes an expert.
//! Departure: FineMoE finds the stored map that is nearest to the request by embeddings that no
//! recording has; here p is the running mean of the layer's own gate weights, a tenth of it new
//! with every event.

use super::residents::Residents;
use super::{Entry, Item, Keep, Moment, Policy, Routed, Sees};

pub(super) const ENTRY: Entry = Entry {
    name: "finemoe",
    about: "the lowest probability times frequency leaves",
    sees: Sees::Past,
    build: |setting| {
        let items = setting.items();
        Box::new(FineMoe {
            residents: Residents::new(items),
            probability: vec![0.0; items],
            uses: vec![0; items],
            experts: setting.experts,
            versions: setting.versions,
        })
    },
};

/// Weight of the newest map.
const NEWEST: f32 = 0.1;

struct FineMoe {
    residents: Residents,
    probability: Vec<f32>,
    uses: Vec<u32>,
    experts: usize,
    versions: usize,
}

impl Policy for FineMoe {
    fn listens(&self) -> bool {
        true
    }

    fn routed(&mut self, said: &Routed<'_>) {
        let width = self.experts * self.versions;
        let layer = usize::from(said.layer) * width;
        let means = &mut self.probability[layer..layer + width];
        means.iter_mut().for_each(|mean| *mean *= 1.0 - NEWEST);
        for (&expert, &weight) in said.experts.iter().zip(said.weights) {
            let first = usize::from(expert) * self.versions;
            let share = NEWEST * weight / said.tokens.max(1) as f32;
            means[first..first + self.versions].iter_mut().for_each(|mean| *mean += share);
        }
    }

    fn hit(&mut self, item: Item, _: Moment) {
        self.uses[item as usize] += 1;
    }

    fn miss(&mut self, item: Item, _: Moment) {
        self.uses[item as usize] += 1;
    }

    fn admit(&mut self, item: Item, _: Moment) {
        self.residents.add(item);
    }

    fn victim(&mut self, _: Item, keep: Keep<'_>, _: Moment) -> Option<Item> {
        let product = |item: Item| {
            f64::from(self.probability[item as usize]) * f64::from(self.uses[item as usize])
        };
        self.residents.lowest(keep, product)
    }

    fn evicted(&mut self, item: Item, _: Moment) {
        self.residents.remove(item);
    }
}
