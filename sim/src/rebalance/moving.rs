//! Weights on their way: from the nearest rank that holds an expert to the rank that needs it.

use moecast_profiles::hardware::{Hardware, LinkClass};
use moecast_profiles::ids::{ExpertId, Rank};
use moecast_profiles::units::{Bytes, Nanos};

/// Weights that were moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Slots whose expert changed.
    pub slots: u64,
    /// Bytes by class of link; a rank that held the expert in another slot copies it for itself.
    pub bytes: [Bytes; LinkClass::ALL.len()],
    /// Time on the links.
    pub time: Nanos,
}

impl Moved {
    /// With `more` after it.
    pub fn add(&mut self, more: &Self) {
        self.slots += more.slots;
        self.time += more.time;
        for (sum, bytes) in self.bytes.iter_mut().zip(more.bytes) {
            *sum += bytes;
        }
    }

    /// Bytes over all classes.
    #[must_use]
    pub fn bytes_all(&self) -> Bytes {
        self.bytes.iter().copied().sum()
    }
}

/// Moves the experts of one layer from slots `old` `[P]` to slots `new` `[P]`, of `expert` bytes
/// each. Of several ranks that are equally near the one that has least to send does.
pub(super) fn move_layer(
    hardware: &Hardware,
    old: &[ExpertId],
    new: &[ExpertId],
    expert: Bytes,
) -> Moved {
    let ranks = usize::from(hardware.ranks());
    let per_rank = old.len() / ranks;
    let mut ports = Ports::new(ranks);
    let mut moved = Moved::default();
    for (slot, (was, is)) in old.iter().zip(new).enumerate() {
        if was == is {
            continue;
        }
        moved.slots += 1;
        let rank = slot / per_rank;
        let here = rank * per_rank..slot;
        // What this rank fetched a slot ago it need not fetch again.
        let fetched = here.into_iter().any(|other| new[other] == *is);
        let held = |rank: usize| old[rank * per_rank..(rank + 1) * per_rank].contains(is);
        let class = if fetched || held(rank) {
            LinkClass::Local
        } else {
            let sources = (0..ranks).filter(|source| held(*source));
            let source = sources.min_by_key(|&source| {
                let class = hardware.route(number(source), number(rank));
                (class, ports.sent[class as usize * ranks + source], source)
            });
            let source = source.expect("every expert has a slot");
            let class = hardware.route(number(source), number(rank));
            ports.sent[class as usize * ranks + source] += 1;
            ports.received[class as usize * ranks + rank] += 1;
            class
        };
        moved.bytes[class as usize] += expert;
    }
    moved.time = ports.time(hardware, expert);
    moved
}

fn number(rank: usize) -> Rank {
    Rank(u16::try_from(rank).expect("ranks are u16"))
}

/// `[class][rank]` experts through every port, one direction after the other.
struct Ports {
    sent: Vec<u64>,
    received: Vec<u64>,
}

impl Ports {
    fn new(ranks: usize) -> Self {
        let ports = LinkClass::ALL.len() * ranks;
        Self { sent: vec![0; ports], received: vec![0; ports] }
    }

    fn time(&self, hardware: &Hardware, expert: Bytes) -> Nanos {
        let ranks = usize::from(hardware.ranks());
        let of_class = |class: LinkClass| {
            let ports = class as usize * ranks..(class as usize + 1) * ranks;
            let both = self.sent[ports.clone()].iter().chain(&self.received[ports]);
            let busiest = both.copied().max().unwrap_or(0);
            let bandwidth = hardware.bandwidth(class).filter(|_| busiest > 0);
            bandwidth.map_or(Nanos(0), |bandwidth| {
                hardware.latency(class) + bandwidth.time_for(expert * busiest)
            })
        };
        LinkClass::ALL.into_iter().map(of_class).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use moecast_profiles::builtin;
    use moecast_profiles::units::Bandwidth;

    use super::*;

    /// 1 ns a byte and 5 ns inside a node, 10 ns a byte and 100 ns between nodes.
    fn machine(nodes: u16, gpus: u16) -> Hardware {
        let mut device = builtin::device("h200-sxm").unwrap();
        device.domain_bandwidth.value = Bandwidth(1_000_000_000);
        device.domain_latency.value = Nanos(5);
        device.network_bandwidth.value = Bandwidth(100_000_000);
        device.network_latency.value = Nanos(100);
        Hardware::new(device, nodes, gpus).unwrap()
    }

    fn moved(machine: &Hardware, old: &[u16], new: &[u16]) -> (u64, [u64; 3], u64) {
        let ids = |slots: &[u16]| slots.iter().copied().map(ExpertId).collect::<Vec<_>>();
        let moved = move_layer(machine, &ids(old), &ids(new), Bytes(20));
        (moved.slots, moved.bytes.map(|bytes| bytes.0), moved.time.0)
    }

    #[test]
    fn solved_by_hand() {
        // Two ranks change an expert each: one goes each way, 5 + 20 ns.
        assert_eq!(moved(&machine(1, 2), &[0, 1, 2, 3], &[0, 2, 1, 3]), (2, [0, 40, 0], 25));
        // Nothing moves, or only inside a rank.
        assert_eq!(moved(&machine(1, 2), &[0, 1, 2, 3], &[0, 1, 2, 3]), (0, [0; 3], 0));
        assert_eq!(moved(&machine(1, 2), &[0, 1, 2, 3], &[1, 0, 2, 3]), (2, [40, 0, 0], 0));
        // Both slots of rank 1 become expert 0: one copy crosses, the other is made there.
        let (old, new) = ([0, 1, 0, 1, 2, 3], [0, 1, 2, 3, 0, 0]);
        assert_eq!(moved(&machine(1, 3), &old, &new), (4, [20, 60, 0], 45));
        // Nodes of two: rank 3 takes expert 0 from its neighbour, rank 2, not from afar; rank 0
        // takes expert 3 over the network: 100 + 200 ns, the other transfer beside it.
        let (old, new) = ([0, 1, 0, 3], [3, 1, 0, 0]);
        assert_eq!(moved(&machine(2, 2), &old, &new), (2, [0, 20, 20], 300));
        // Expert 0 is on ranks 0 and 1 and goes to ranks 2 and 3: each sends one.
        assert_eq!(moved(&machine(1, 4), &[0, 0, 1, 2], &[1, 2, 0, 0]).2, 25);
    }
}
