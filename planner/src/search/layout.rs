//! The placement of one layer while it is searched.

use moecast_profiles::ids::ExpertId;

/// Which expert every slot of one layer holds; no rank holds an expert twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    experts: usize,
    per_rank: usize,
    slots: Vec<usize>,
    copies: Vec<u32>,
    /// `[R x E]` does the rank hold the expert?
    holds: Vec<bool>,
}

impl Layout {
    /// The layout that holds expert `slots[s]` in slot `s`; `slots` are dealt to ranks in blocks.
    ///
    /// # Panics
    /// When a rank holds an expert twice, or slots do not divide by ranks.
    #[must_use]
    pub fn new(experts: usize, ranks: usize, slots: Vec<usize>) -> Self {
        assert_eq!(slots.len() % ranks, 0, "{} slots on {ranks} ranks", slots.len());
        let per_rank = slots.len() / ranks;
        let mut copies = vec![0; experts];
        let mut holds = vec![false; ranks * experts];
        for (slot, &expert) in slots.iter().enumerate() {
            copies[expert] += 1;
            let held = &mut holds[slot / per_rank * experts + expert];
            assert!(!*held, "rank {} holds expert {expert} twice", slot / per_rank);
            *held = true;
        }
        Self { experts, per_rank, slots, copies, holds }
    }

    /// Logical experts.
    #[must_use]
    pub fn experts(&self) -> usize {
        self.experts
    }

    /// Ranks.
    #[must_use]
    pub fn ranks(&self) -> usize {
        self.slots.len() / self.per_rank
    }

    /// `[P]` the expert of every slot.
    #[must_use]
    pub fn slots(&self) -> &[usize] {
        &self.slots
    }

    /// Slots of one rank.
    #[must_use]
    pub fn per_rank(&self) -> usize {
        self.per_rank
    }

    /// The rank where `slot` lives.
    #[must_use]
    pub fn rank_of(&self, slot: usize) -> usize {
        slot / self.per_rank
    }

    /// Copies of `expert`.
    #[must_use]
    pub fn copies(&self, expert: usize) -> u32 {
        self.copies[expert]
    }

    /// The share of an expert's load that each of its copies has.
    #[must_use]
    pub fn share(&self, expert: usize) -> f64 {
        1.0 / f64::from(self.copies[expert])
    }

    /// Does `rank` hold `expert`?
    #[must_use]
    pub fn holds(&self, rank: usize, expert: usize) -> bool {
        self.holds[rank * self.experts + expert]
    }

    /// May the experts of these slots change places? Not on one rank, not where it says nothing
    /// new, and never so that a rank would hold an expert twice.
    #[must_use]
    pub fn may_swap(&self, left: usize, right: usize) -> bool {
        let (left_rank, right_rank) = (self.rank_of(left), self.rank_of(right));
        left_rank != right_rank
            && !self.holds(right_rank, self.slots[left])
            && !self.holds(left_rank, self.slots[right])
    }

    /// Lets the experts of two slots change places.
    ///
    /// # Panics
    /// When [`Self::may_swap`] forbids it.
    pub fn swap(&mut self, left: usize, right: usize) {
        assert!(self.may_swap(left, right), "slots {left} and {right} must not change places");
        self.hold(left, false);
        self.hold(right, false);
        self.slots.swap(left, right);
        self.hold(left, true);
        self.hold(right, true);
    }

    /// Puts `expert` into `slot`, whose own expert has other copies.
    ///
    /// # Panics
    /// When the slot holds the last copy of its expert, or its rank holds `expert` already.
    pub fn replace(&mut self, slot: usize, expert: usize) {
        let old = self.slots[slot];
        assert!(self.copies[old] > 1, "slot {slot} holds the last copy of expert {old}");
        assert!(!self.holds(self.rank_of(slot), expert), "slot {slot}: expert {expert} twice");
        self.hold(slot, false);
        self.copies[old] -= 1;
        self.copies[expert] += 1;
        self.slots[slot] = expert;
        self.hold(slot, true);
    }

    fn hold(&mut self, slot: usize, holds: bool) {
        let index = self.rank_of(slot) * self.experts + self.slots[slot];
        self.holds[index] = holds;
    }

    /// The layout as a placement stores it.
    #[must_use]
    pub fn into_ids(self) -> Vec<ExpertId> {
        let id = |expert| ExpertId(u16::try_from(expert).expect("expert numbers are u16"));
        self.slots.into_iter().map(id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swaps_never_put_an_expert_twice_on_a_rank() {
        // Rank 0 holds 0 and 1, rank 1 holds 2 and 0.
        let mut layout = Layout::new(3, 2, vec![0, 1, 2, 0]);
        assert!(!layout.may_swap(0, 1), "one rank");
        assert!(!layout.may_swap(1, 3), "rank 0 would hold 0 twice");
        assert!(!layout.may_swap(0, 3), "0 for 0");
        assert!(layout.may_swap(1, 2));
        layout.swap(1, 2);
        assert_eq!(layout.slots(), [0, 2, 1, 0]);
        assert!(layout.holds(0, 2) && !layout.holds(0, 1));
    }

    #[test]
    fn a_spare_copy_gives_way() {
        let mut layout = Layout::new(3, 2, vec![0, 1, 2, 0]);
        layout.replace(3, 1);
        assert_eq!(layout.slots(), [0, 1, 2, 1]);
        assert_eq!((layout.copies(0), layout.copies(1)), (1, 2));
        assert!((layout.share(1) - 0.5).abs() < 1e-12);
    }

    #[test]
    #[should_panic(expected = "rank 1 holds expert 2 twice")]
    fn a_wasted_slot_is_refused() {
        let _ = Layout::new(3, 2, vec![0, 1, 2, 2]);
    }
}
