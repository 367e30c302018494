//! Tokens for a recording that only counted.

use moecast_profiles::ids::ExpertId;
use moecast_profiles::seed::Generator;
use rand::seq::SliceRandom;

/// Deals `loads` `[E]` to `tokens` tokens so that every token gets distinct experts, in a random
/// order of experts: which experts went together was not recorded. Returns the experts of all
/// tokens and where each token's end.
pub(crate) fn deal(
    loads: &[u32],
    tokens: u32,
    generator: &mut Generator,
) -> (Vec<ExpertId>, Vec<usize>) {
    let mut order: Vec<u16> = (0..u16::try_from(loads.len()).expect("experts are u16")).collect();
    order.shuffle(generator);
    let tokens = tokens as usize;
    let mut rows: Vec<Vec<ExpertId>> = vec![Vec::new(); tokens];
    let mut next = 0;
    for expert in order {
        for _ in 0..loads[usize::from(expert)] {
            rows[next].push(ExpertId(expert));
            next = (next + 1) % tokens;
        }
    }
    let mut chosen = Vec::new();
    let mut ends = Vec::with_capacity(tokens);
    for row in rows {
        chosen.extend(row);
        ends.push(chosen.len());
    }
    (chosen, ends)
}

#[cfg(test)]
mod tests {
    use moecast_profiles::seed::Seed;

    use super::*;

    #[test]
    fn tokens_get_distinct_experts_and_nothing_is_lost() {
        let loads = [4, 3, 1, 0, 4];
        let (chosen, ends) = deal(&loads, 4, &mut Seed(5).stream("test"));
        let mut start = 0;
        for &end in &ends {
            let mut experts = chosen[start..end].to_vec();
            experts.sort_unstable();
            experts.dedup();
            assert_eq!(experts.len(), end - start, "a token chose an expert twice");
            assert_eq!(end - start, 3);
            start = end;
        }
        for (expert, &load) in (0..).zip(&loads) {
            let dealt = chosen.iter().filter(|&&id| id == ExpertId(expert)).count();
            assert_eq!(dealt, load as usize);
        }
    }
}
