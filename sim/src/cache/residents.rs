//! Residents in a plain vector, for policies that compare all of them when somebody must leave.

use super::{Item, Keep};

/// Items that are resident, in no order that means anything.
#[derive(Clone, Debug)]
pub(super) struct Residents {
    items: Vec<Item>,
    /// `[items]` place of each resident in `items`.
    place: Vec<u32>,
}

impl Residents {
    /// Nobody, of `items` numbers.
    pub(super) fn new(items: usize) -> Self {
        Self { items: Vec::new(), place: vec![u32::MAX; items] }
    }

    /// Adds `item`, which is not there.
    pub(super) fn add(&mut self, item: Item) {
        self.place[item as usize] = self.items.len() as u32;
        self.items.push(item);
    }

    /// Takes `item` out, which is there.
    pub(super) fn remove(&mut self, item: Item) {
        let place = self.place[item as usize] as usize;
        self.items.swap_remove(place);
        if let Some(&moved) = self.items.get(place) {
            self.place[moved as usize] = place as u32;
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Item] {
        &self.items
    }

    /// Of those that `keep` allows, the one with the lowest key; of equals, the lowest number, so
    /// that the order of the vector never matters. Keys must not be NaN.
    pub(super) fn lowest<K: PartialOrd>(
        &self,
        keep: Keep<'_>,
        key: impl Fn(Item) -> K,
    ) -> Option<Item> {
        let mut best: Option<(K, Item)> = None;
        for &item in &self.items {
            if !keep.allows(item) {
                continue;
            }
            let own = (key(item), item);
            if best.as_ref().is_none_or(|best| own < *best) {
                best = Some(own);
            }
        }
        best.map(|(_, item)| item)
    }
}
