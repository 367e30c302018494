//! Which request a token belongs to. The recorder does not say; what it does say decides most
//! cases:
//!
//! A sequence that begins at position 0 is a new request. One that begins later continues the
//! request of that rank whose next position it is: a chunk of a prompt continues an unfinished
//! prompt, a decoded token any request. Where several fit, the order of the batch decides, which
//! the engine keeps, but only if as many tokens as requests are there; else each becomes a request
//! of its own. A request that a decode pass of its rank leaves out has ended.

use std::collections::BTreeMap;

/// Neighbouring tokens of one request in one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    /// Position of the first token, and number of tokens.
    pub(super) start: u32,
    pub(super) length: u32,
    pub(super) decode: bool,
}

/// A request that may go on.
#[derive(Clone, Copy)]
struct Active {
    request: u32,
    next: u32,
    /// Whether its last tokens were decoded.
    decode: bool,
}

/// The requests of all ranks.
#[derive(Default)]
pub(super) struct Requests {
    ranks: BTreeMap<u64, Vec<Active>>,
    count: u32,
    /// Sequences behind position 0 that continue nothing.
    pub(super) late: u64,
    /// Sequences that fit several requests.
    pub(super) split: u64,
}

impl Requests {
    /// The request of each of the `sequences` that `rank` computed in its next pass. `decode` says
    /// that the pass decoded only.
    pub(super) fn assign(&mut self, rank: u64, decode: bool, sequences: &[Sequence]) -> Vec<u32> {
        let before = self.ranks.remove(&rank).unwrap_or_default();
        // Per sequence the index in `before` that it continues; per index whether a sequence fits.
        let mut continued: Vec<Option<usize>> = vec![None; sequences.len()];
        let mut used = vec![false; before.len()];
        let mut groups: BTreeMap<(bool, u32), Vec<usize>> = BTreeMap::new();
        for (index, sequence) in sequences.iter().enumerate().filter(|(_, s)| s.start > 0) {
            groups.entry((sequence.decode, sequence.start)).or_default().push(index);
        }
        let mut nexts: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (index, active) in before.iter().enumerate() {
            nexts.entry(active.next).or_default().push(index);
        }
        for ((decode, start), group) in groups {
            let fitting: Vec<usize> = nexts
                .get(&start)
                .into_iter()
                .flatten()
                .copied()
                .filter(|&index| !used[index] && (decode || !before[index].decode))
                .collect();
            match fitting.len() {
                0 => self.late += group.len() as u64,
                count if count == group.len() => {
                    for (index, active) in group.into_iter().zip(&fitting) {
                        continued[index] = Some(*active);
                    }
                }
                _ => self.split += group.len() as u64,
            }
            for index in fitting {
                used[index] = true;
            }
        }
        let waits = |index: usize| !decode && !used[index];
        let mut after: Vec<Active> =
            (0..before.len()).filter(|&index| waits(index)).map(|index| before[index]).collect();
        let mut requests = Vec::with_capacity(sequences.len());
        for (sequence, continued) in sequences.iter().zip(continued) {
            let request = continued.map_or(self.count, |index| before[index].request);
            self.count += u32::from(continued.is_none());
            requests.push(request);
            let next = sequence.start.saturating_add(sequence.length);
            after.push(Active { request, next, decode: sequence.decode });
        }
        self.ranks.insert(rank, after);
        requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(start: u32, length: u32) -> Sequence {
        Sequence { start, length, decode: false }
    }

    fn decode(positions: &[u32]) -> Vec<Sequence> {
        positions.iter().map(|&start| Sequence { start, length: 1, decode: true }).collect()
    }

    #[test]
    fn positions_tell_requests_apart() {
        let mut requests = Requests::default();
        assert_eq!(requests.assign(0, false, &[prompt(0, 3), prompt(0, 5)]), [0, 1]);
        assert_eq!(requests.assign(1, false, &[prompt(0, 3)]), [2]);
        assert_eq!(requests.assign(0, true, &decode(&[3, 5])), [0, 1]);
        assert_eq!(requests.assign(1, true, &decode(&[3])), [2]);
        assert_eq!(requests.assign(0, false, &[prompt(0, 4)]), [3]);
        assert_eq!(requests.assign(0, true, &decode(&[4, 6, 4])), [0, 1, 3]);
        // Request 1 ended; 0 and 3 are at one position and keep their order.
        assert_eq!(requests.assign(0, true, &decode(&[5, 5])), [0, 3]);
        assert_eq!((requests.late, requests.split), (0, 0));
    }

    #[test]
    fn chunks_of_a_prompt_are_one_request() {
        let mut requests = Requests::default();
        assert_eq!(requests.assign(0, false, &[prompt(0, 4)]), [0]);
        // A mixed pass: the next chunk, and a decoded token of a request from before.
        let mixed = [prompt(4, 4), Sequence { start: 4, length: 1, decode: true }];
        assert_eq!(requests.assign(0, false, &mixed[..1]), [0]);
        assert_eq!(requests.assign(0, true, &decode(&[8])), [0]);
        // Behind a decoded token no prompt goes on: a cached prefix of a new request.
        assert_eq!(requests.assign(0, false, &[prompt(9, 2)]), [1]);
        assert_eq!((requests.late, requests.split), (1, 0));
        assert_eq!(requests.assign(1, false, &mixed), [2, 3]);
        assert_eq!(requests.late, 3);
    }

    /// Two requests at one position, of which one ends: nobody can say which.
    #[test]
    fn what_cannot_be_known_is_a_request_of_its_own() {
        let mut requests = Requests::default();
        assert_eq!(requests.assign(0, false, &[prompt(0, 3), prompt(0, 3)]), [0, 1]);
        assert_eq!(requests.assign(0, true, &decode(&[3])), [2]);
        assert_eq!((requests.late, requests.split), (0, 1));
        assert_eq!(requests.assign(0, true, &decode(&[4])), [2]);
        // Left out of one decode pass: it has ended.
        assert_eq!(requests.assign(0, true, &decode(&[])), [0_u32; 0]);
        assert_eq!(requests.assign(0, true, &decode(&[5])), [3]);
        assert_eq!((requests.late, requests.split), (1, 1));
    }
}
