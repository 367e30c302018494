//! The stored request whose activation matrix is most like this one's (MoE-Infinity, arXiv
//! 2401.14361): what it used in the layers to come is what will be used. Cost: one sparse product a
//! stored request and layer, M * E numbers a stored request.
//!
//! As coded: rows are shared out to sum to one, likeness is the mean over layers of the cosines of
//! rows, and an expert's priority is (row + 1e-8) * (1 - (x - l) / (L + 1)) for layer x seen from
//! layer l. Departures: the code compares the layers to come alone (what earlier tokens did there),
//! the paper those that are past; here every row that is known counts. Experts that the stored
//! request never used are not wished for; the code queues them last. Requests that end are not
//! added to the store. Several requests in a pass share one running matrix, as their router outputs
//! come together; when some leave, it keeps the share of those that stay.

use std::sync::Arc;

use super::{Accuracy, Entry, Prefetcher, Setting, Trained, View, Wish, reach};
use crate::cache::Routed;

/// Stored requests that are compared, evenly spaced where there are more: the published capacity
/// is of that order.
const STORED_MAX: usize = 1000;

pub(super) const ENTRY: Entry = Entry {
    name: "activation-matrix",
    about: "the nearest stored request's experts, by cosine of activation matrices (MoE-Infinity)",
    looks_ahead: false,
    accuracy: Accuracy::Measured,
    build: |setting| Box::new(ActivationMatrix::new(setting)),
};

struct ActivationMatrix {
    trained: Arc<Trained>,
    layers: usize,
    experts: usize,
    depth: usize,
    /// Indices of the requests that are compared.
    stored: Vec<usize>,
    /// `[M][E]` tokens of this pass's requests so far.
    running: Vec<Vec<f32>>,
    /// `[stored][M]` cosines of rows.
    cosines: Vec<Vec<f32>>,
    /// Requests of the last pass, ascending.
    requests: Vec<u32>,
}

impl ActivationMatrix {
    fn new(setting: &Setting) -> Self {
        let size = setting.layers * setting.experts;
        let whole = |&index: &usize| setting.trained.requests[index].len() == size;
        let usable: Vec<usize> = (0..setting.trained.requests.len()).filter(whole).collect();
        let every = usable.len().div_ceil(STORED_MAX).max(1);
        let stored: Vec<usize> = usable.into_iter().step_by(every).collect();
        Self {
            trained: Arc::clone(&setting.trained),
            layers: setting.layers,
            experts: setting.experts,
            depth: setting.depth,
            cosines: vec![vec![0.0; setting.layers]; stored.len()],
            stored,
            running: vec![vec![0.0; setting.experts]; setting.layers],
            requests: Vec::new(),
        }
    }

    fn row(&self, stored: usize, layer: usize) -> &[u32] {
        let start = layer * self.experts;
        &self.trained.requests[self.stored[stored]][start..start + self.experts]
    }

    /// A pass begins: requests that are gone take their share of the matrix with them.
    fn begin(&mut self, requests: &[u32]) {
        let mut now = requests.to_vec();
        now.sort_unstable();
        now.dedup();
        if now == self.requests {
            return;
        }
        let stays = |request: &&u32| now.binary_search(request).is_ok();
        let kept = self.requests.iter().filter(stays).count();
        let share = kept as f32 / self.requests.len().max(1) as f32;
        for running in self.running.iter_mut().flatten() {
            *running *= share;
        }
        if kept == 0 {
            self.cosines.iter_mut().for_each(|row| row.fill(0.0));
        }
        self.requests = now;
    }

    /// The stored request that is most like this one; of equals the first.
    fn nearest(&self) -> Option<usize> {
        let likeness = |index: usize| self.cosines[index].iter().sum::<f32>();
        let better =
            |best: (usize, f32), next: (usize, f32)| if next.1 > best.1 { next } else { best };
        (0..self.stored.len())
            .map(|index| (index, likeness(index)))
            .reduce(better)
            .map(|(index, _)| index)
    }
}

/// Cosine of two rows; 0 where one is empty.
fn cosine(running: &[f32], stored: &[u32]) -> f32 {
    let (mut product, mut squares) = (0.0, [0.0; 2]);
    for (&a, &b) in running.iter().zip(stored) {
        let b = b as f32;
        product += a * b;
        squares[0] += a * a;
        squares[1] += b * b;
    }
    let norms = (squares[0] * squares[1]).sqrt();
    if norms > 0.0 { product / norms } else { 0.0 }
}

impl Prefetcher for ActivationMatrix {
    fn listens(&self) -> bool {
        true
    }

    fn routed(&mut self, routed: &Routed<'_>) {
        let layer = usize::from(routed.layer);
        let Some(running) = self.running.get_mut(layer) else { return };
        for (&expert, &tokens) in routed.experts.iter().zip(routed.counts) {
            running[usize::from(expert)] += tokens as f32;
        }
        for stored in 0..self.stored.len() {
            self.cosines[stored][layer] = cosine(&self.running[layer], self.row(stored, layer));
        }
    }

    fn wish(&mut self, view: &View<'_>, into: &mut Vec<Wish>) {
        let Some(spoken) = view.layer else {
            self.begin(view.requests);
            return;
        };
        let Some(nearest) = self.nearest() else { return };
        for layer in reach::layers(view, self.depth, self.layers) {
            let row = self.row(nearest, layer);
            let total: u64 = row.iter().map(|&tokens| u64::from(tokens)).sum();
            let nearness = 1.0 - (layer - spoken) as f32 / (self.layers + 1) as f32;
            let layer = u16::try_from(layer).expect("layers are u16");
            for (expert, &tokens) in (0..).zip(row).filter(|&(_, &tokens)| tokens > 0) {
                let share = tokens as f32 / total as f32;
                let priority = (share + 1e-8) * nearness;
                into.push(Wish { layer, expert, priority, before: 0.0 });
            }
        }
    }
}
