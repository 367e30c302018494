//! Which slot holds which expert.

use moecast_profiles::ids::{ExpertId, MoeLayer, Rank, Slot};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Slot to expert, per MoE layer.
///
/// Laws, checked when built: every expert is present in every layer; every layer has the same
/// number of slots; slots divide by ranks. Slot `s` lives on rank `s / (slots / ranks)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Placement {
    experts: u16,
    ranks: u16,
    slots: u16,
    layers: Vec<Vec<ExpertId>>,
}

/// A placement as read from a file: not checked yet.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacementFile {
    /// Logical experts per layer.
    pub experts: u16,
    /// Ranks.
    pub ranks: u16,
    /// Physical slots per layer.
    pub slots: u16,
    /// `[M][P]` logical expert of every slot.
    pub layers: Vec<Vec<ExpertId>>,
}

impl TryFrom<PlacementFile> for Placement {
    type Error = Error;

    fn try_from(file: PlacementFile) -> Result<Self> {
        let placement = Self::new(file.experts, file.ranks, file.layers)?;
        if placement.slots != file.slots {
            let found = format!("{} slots in layer 0", placement.slots);
            return Err(Error::placement("key `slots`", found, file.slots.to_string()));
        }
        Ok(placement)
    }
}

impl Placement {
    /// Checks that all occurrences of one layer hold the same experts in the same slots: they are
    /// the same weights. `numbers` are the absolute numbers of the layers, ascending.
    ///
    /// # Errors
    /// [`Error::Placement`] names the first layer whose occurrences differ.
    pub fn check_chains(&self, numbers: &[u16]) -> Result<()> {
        let pairs = numbers.windows(2).zip(self.layers.windows(2)).enumerate();
        for (ordinal, (numbers, slots)) in pairs {
            if numbers[0] == numbers[1] && slots[0] != slots[1] {
                let place = format!("MoE layers {ordinal} and {}", ordinal + 1);
                let found = "different slots".to_owned();
                let expected = format!("the same: both are layer {}, chained", numbers[0]);
                return Err(Error::placement(place, found, expected));
            }
        }
        Ok(())
    }

    /// The same with the slots of a chained layer's first occurrence in all of its occurrences.
    #[must_use]
    pub fn chained(mut self, numbers: &[u16]) -> Self {
        for (later, pair) in (1..).zip(numbers.windows(2)) {
            if pair[0] == pair[1] && later < self.layers.len() {
                self.layers[later] = self.layers[later - 1].clone();
            }
        }
        self
    }

    /// Checks `layers[layer][slot] = expert`.
    ///
    /// # Errors
    /// [`Error::Placement`] names the layer and the law that it breaks.
    pub fn new(experts: u16, ranks: u16, layers: Vec<Vec<ExpertId>>) -> Result<Self> {
        let slots = layers.first().map_or(0, Vec::len);
        let slots = u16::try_from(slots)
            .map_err(|_| Error::placement("layer 0", format!("{slots} slots"), "at most 65535"))?;
        check_divisible(slots, ranks)?;
        if experts == 0 || experts > slots {
            let found = format!("{experts} experts in {slots} slots");
            return Err(Error::placement("key `experts`", found, "a slot for every expert"));
        }
        let mut present = vec![false; usize::from(experts)];
        for (ordinal, layer) in layers.iter().enumerate() {
            let place = || format!("MoE layer {ordinal}");
            if layer.len() != usize::from(slots) {
                let found = format!("{} slots", layer.len());
                return Err(Error::placement(place(), found, format!("{slots}, as in layer 0")));
            }
            present.fill(false);
            for (slot, expert) in layer.iter().enumerate() {
                let Some(seen) = present.get_mut(expert.index()) else {
                    let place = format!("{}, slot {slot}", place());
                    let expected = format!("an id below {experts}");
                    return Err(Error::placement(place, format!("expert {expert}"), expected));
                };
                *seen = true;
            }
            if let Some(missing) = present.iter().position(|seen| !seen) {
                let found = format!("no slot with expert {missing}");
                return Err(Error::placement(place(), found, "every expert in every layer"));
            }
        }
        Ok(Self { experts, ranks, slots, layers })
    }

    /// Logical experts per layer.
    #[must_use]
    pub fn experts(&self) -> u16 {
        self.experts
    }

    /// Ranks.
    #[must_use]
    pub fn ranks(&self) -> u16 {
        self.ranks
    }

    /// Physical slots per layer.
    #[must_use]
    pub fn slots(&self) -> u16 {
        self.slots
    }

    /// Slots of one rank.
    #[must_use]
    pub fn slots_per_rank(&self) -> u16 {
        self.slots / self.ranks
    }

    /// `[M][P]` logical expert of every slot.
    #[must_use]
    pub fn layers(&self) -> &[Vec<ExpertId>] {
        &self.layers
    }

    /// `[P]` logical expert of every slot of `layer`.
    #[must_use]
    pub fn layer(&self, layer: MoeLayer) -> &[ExpertId] {
        &self.layers[layer.index()]
    }

    /// The rank where `slot` lives.
    #[must_use]
    pub fn rank_of(&self, slot: Slot) -> Rank {
        Rank(slot.0 / self.slots_per_rank())
    }

    /// Slots of every expert of `layer`, ascending.
    #[must_use]
    pub fn replicas(&self, layer: MoeLayer) -> Vec<Vec<Slot>> {
        let mut replicas = vec![Vec::new(); usize::from(self.experts)];
        for (slot, expert) in (0..).zip(self.layer(layer)) {
            replicas[expert.index()].push(Slot(slot));
        }
        replicas
    }

    /// Slots that hold a second copy of an expert that its rank already has: a waste of memory.
    #[must_use]
    pub fn wasted_slots(&self) -> usize {
        let per_rank = usize::from(self.slots_per_rank());
        let waste_of = |slots: &[ExpertId]| {
            (1..slots.len()).filter(|&index| slots[..index].contains(&slots[index])).count()
        };
        self.layers.iter().flat_map(|layer| layer.chunks(per_rank)).map(waste_of).sum()
    }
}

/// Checks that `slots` can be dealt evenly to `ranks`.
///
/// # Errors
/// [`Error::Placement`] names both numbers and the nearest numbers of slots that would do.
pub fn check_divisible(slots: u16, ranks: u16) -> Result<()> {
    if ranks == 0 || slots == 0 {
        let found = format!("{slots} slots on {ranks} ranks");
        return Err(Error::placement("shape", found, "at least one of each"));
    }
    if !slots.is_multiple_of(ranks) {
        let below = slots / ranks * ranks;
        let above = below.saturating_add(ranks);
        let expected = format!("slots that divide by ranks, such as {below} or {above}");
        return Err(Error::placement("shape", format!("{slots} slots on {ranks} ranks"), expected));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(ids: &[u16]) -> Vec<ExpertId> {
        ids.iter().copied().map(ExpertId).collect()
    }

    fn check_err(experts: u16, ranks: u16, layers: Vec<Vec<ExpertId>>, expected: &str) {
        assert_eq!(Placement::new(experts, ranks, layers).unwrap_err().to_string(), expected);
    }

    #[test]
    fn slots_live_on_ranks_in_blocks() {
        // Six slots on three ranks: two each, so slot 3 is the second slot of rank 1.
        let placement = Placement::new(4, 3, vec![layer(&[0, 1, 2, 3, 0, 0])]).unwrap();
        assert_eq!(placement.rank_of(Slot(3)), Rank(1));
        assert_eq!(placement.replicas(MoeLayer(0))[0], [Slot(0), Slot(4), Slot(5)]);
        // Rank 2 holds expert 0 twice.
        assert_eq!(placement.wasted_slots(), 1);
    }

    #[test]
    fn each_broken_law_is_named() {
        check_err(
            16,
            3,
            vec![layer(&(0..16).collect::<Vec<_>>())],
            "placement: shape: 16 slots on 3 ranks; expected slots that divide by ranks, such as \
             15 or 18",
        );
        check_err(
            3,
            2,
            vec![layer(&[0, 1, 1, 0])],
            "placement: MoE layer 0: no slot with expert 2; expected every expert in every layer",
        );
        check_err(
            2,
            2,
            vec![layer(&[0, 9])],
            "placement: MoE layer 0, slot 1: expert 9; expected an id below 2",
        );
        check_err(
            2,
            2,
            vec![layer(&[0, 1]), layer(&[0, 1, 1, 1])],
            "placement: MoE layer 1: 4 slots; expected 2, as in layer 0",
        );
    }
}
