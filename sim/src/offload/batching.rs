//! Which of the requests under way generate their next token together.

use serde::{Deserialize, Serialize};

/// How a batch is chosen where more requests are under way than fit into one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Batching {
    /// Whoever has waited longest.
    #[default]
    Fifo,
    /// Whoever has waited longest, and those whose next experts add fewest to its own (Read-ME,
    /// arXiv 2410.19123: its router runs ahead of the model).
    ExpertAware,
    /// All are divided into batches of tokens with like experts, which follow each other
    /// (`ExpertFlow`, arXiv 2410.17954).
    Regroup,
}

/// Sets of experts, `[candidate]` a bit an expert and layer.
pub(super) type Masks = [Vec<u64>];

/// Candidates (by index) of the next batch of at most `size`, those that have waited longest first
/// among equals. `masks` are the experts of each candidate's next token, in order of waiting.
pub(super) fn alike(masks: &Masks, size: usize) -> Vec<usize> {
    let mut chosen = vec![0];
    let mut union = masks[0].clone();
    let mut left: Vec<usize> = (1..masks.len()).collect();
    while chosen.len() < size && !left.is_empty() {
        let added = |&index: &usize| -> u32 {
            let pairs = masks[index].iter().zip(&union);
            pairs.map(|(mask, union)| (mask & !union).count_ones()).sum()
        };
        let place = (0..left.len()).min_by_key(|&place| (added(&left[place]), place));
        let index = left.remove(place.expect("somebody is left"));
        for (union, mask) in union.iter_mut().zip(&masks[index]) {
            *union |= mask;
        }
        chosen.push(index);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The oldest asks for experts 0 and 1; of the others only the third adds one alone.
    #[test]
    fn those_with_like_experts_go_together() {
        let masks = [vec![0b0011], vec![0b1100], vec![0b0110], vec![0b0011]];
        assert_eq!(alike(&masks, 2), [0, 3]);
        assert_eq!(alike(&masks, 3), [0, 3, 2]);
        assert_eq!(alike(&masks, 9), [0, 3, 2, 1]);
    }
}
