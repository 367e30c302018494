//! The smallest of many numbers that change: a tournament over their places.

/// No time at all: later than every other.
pub(super) const NEVER: u64 = u64::MAX;

/// A time per place, and which is the soonest; equals by place.
#[derive(Clone, Debug, Default)]
pub(super) struct Soonest {
    /// Node `i` repeats the smaller of `2 i` and `2 i + 1`; the leaves are the upper half.
    tree: Vec<u64>,
}

impl Soonest {
    fn leaves(&self) -> usize {
        self.tree.len() / 2
    }

    /// The time of `place`.
    pub(super) fn get(&self, place: usize) -> u64 {
        self.tree[self.leaves() + place]
    }

    /// Sets the time of `place`.
    pub(super) fn set(&mut self, place: usize, time: u64) {
        while place >= self.leaves() {
            self.grow();
        }
        let mut node = self.leaves() + place;
        self.tree[node] = time;
        while node > 1 {
            node /= 2;
            let smaller = self.tree[2 * node].min(self.tree[2 * node + 1]);
            if self.tree[node] == smaller {
                break;
            }
            self.tree[node] = smaller;
        }
    }

    /// The soonest time and the first place that has it; `None` if all are [`NEVER`].
    pub(super) fn first(&self) -> Option<(u64, usize)> {
        let time = *self.tree.get(1)?;
        if time == NEVER {
            return None;
        }
        let mut node = 1;
        while node < self.leaves() {
            node = 2 * node + usize::from(self.tree[2 * node] != time);
        }
        Some((time, node - self.leaves()))
    }

    #[cold]
    fn grow(&mut self) {
        let old = self.leaves();
        let leaves = (2 * old).max(1);
        let mut tree = vec![NEVER; 2 * leaves];
        tree[leaves..leaves + old].copy_from_slice(&self.tree[old..]);
        for node in (1..leaves).rev() {
            tree[node] = tree[2 * node].min(tree[2 * node + 1]);
        }
        self.tree = tree;
    }
}
