//! Four ranks on two nodes of two; every expectation can be solved by hand.

use proptest::prelude::*;

use super::*;

/// Every rule, so that a law can be held against all of them.
const RULES: [ReplicaRule; 5] = [
    ReplicaRule::Static,
    ReplicaRule::Dynamic,
    ReplicaRule::TokenHash,
    ReplicaRule::RoundRobin,
    ReplicaRule::RankModulo,
];

fn hardware() -> Hardware {
    Hardware::from_spec("h200-sxm:2x2").unwrap()
}

/// What the ranks send each other.
fn copies() -> Copies {
    Copies::new(4, 2)
}

/// Slots of ranks 0 to 3: (0, 1), (2, 3), (0, 2), (0, 1).
fn placement() -> Placement {
    let slots = [0, 1, 2, 3, 0, 2, 0, 1].map(ExpertId).to_vec();
    Placement::new(4, 4, vec![slots]).unwrap()
}

/// Sends `tokens` tokens of `source`, each to `expert` alone, and says which slots served them.
fn slots_of(rule: ReplicaRule, source: u16, expert: u16, tokens: u32) -> Vec<(u16, u32)> {
    let (placement, hardware) = (placement(), hardware());
    let dispatcher = Dispatcher::new(&placement, &hardware, rule, MoeLayer(0), Seed(1));
    let experts = [ExpertId(expert)];
    let arrivals = (0..tokens).map(|index| (Arrival { source: Rank(source), index }, &experts[..]));
    let dispatched = dispatcher.dispatch(arrivals, &mut copies(), &mut Seed(1).stream("test"));
    (0..).zip(dispatched.tokens_per_slot).filter(|(_, tokens)| *tokens > 0).collect()
}

#[test]
fn static_prefers_the_same_gpu() {
    // Rank 2 holds expert 0 in slot 4 itself.
    assert_eq!(slots_of(ReplicaRule::Static, 2, 0, 5), [(4, 5)]);
}

#[test]
fn static_prefers_the_same_node_to_the_network() {
    // Expert 0 has copies on ranks 0, 2 and 3; rank 1 shares its node with rank 0 alone.
    assert_eq!(slots_of(ReplicaRule::Static, 1, 0, 5), [(0, 5)]);
}

#[test]
fn static_sticks_to_one_replica_where_several_are_as_near() {
    // Expert 0 on three ranks of one node; from the fourth each is equally near.
    let slots = [0, 1, 0, 2, 0, 3, 1, 2].map(ExpertId).to_vec();
    let placement = Placement::new(4, 4, vec![slots]).unwrap();
    let hardware = Hardware::from_spec("h200-sxm:1x4").unwrap();
    let dispatcher =
        Dispatcher::new(&placement, &hardware, ReplicaRule::Static, MoeLayer(0), Seed(3));
    let experts = [ExpertId(0)];
    let arrivals = (0..9).map(|index| (Arrival { source: Rank(3), index }, &experts[..]));
    let dispatched = dispatcher.dispatch(arrivals, &mut copies(), &mut Seed(3).stream("test"));
    assert_eq!(dispatched.tokens_per_slot.iter().filter(|&&tokens| tokens == 9).count(), 1);
}

#[test]
fn dynamic_spreads_over_the_nearest_only() {
    // Expert 2 is on rank 1 (slot 2) and rank 2 (slot 5); rank 0's node has slot 2.
    assert_eq!(slots_of(ReplicaRule::Dynamic, 0, 2, 50), [(2, 50)]);
}

#[test]
fn token_hash_ignores_distance() {
    // 2654435769 is odd: with two copies, odd tokens go to the second. Expert 1: slots 1 and 7.
    assert_eq!(slots_of(ReplicaRule::TokenHash, 0, 1, 4), [(1, 2), (7, 2)]);
}

#[test]
fn round_robin_takes_replicas_in_turn() {
    // Three copies of expert 0, six tokens: two each.
    assert_eq!(slots_of(ReplicaRule::RoundRobin, 0, 0, 6), [(0, 2), (4, 2), (6, 2)]);
}

#[test]
fn rank_modulo_is_fixed_per_rank() {
    assert_eq!(slots_of(ReplicaRule::RankModulo, 2, 0, 3), [(6, 3)]);
    assert_eq!(slots_of(ReplicaRule::RankModulo, 3, 0, 3), [(0, 3)]);
}

#[test]
fn one_copy_travels_per_token_and_destination() {
    // Experts 2 and 3 both live on rank 1: one copy of the token goes there, two pairs compute.
    let (placement, hardware) = (placement(), hardware());
    let dispatcher =
        Dispatcher::new(&placement, &hardware, ReplicaRule::Static, MoeLayer(0), Seed(1));
    let experts = [ExpertId(2), ExpertId(3)];
    let arrival = Arrival { source: Rank(0), index: 0 };
    let mut copies = copies();
    let tokens = [(arrival, &experts[..])].into_iter();
    let dispatched = dispatcher.dispatch(tokens, &mut copies, &mut Seed(1).stream("test"));
    assert_eq!(copies.per_rank().iter().sum::<u32>(), 1);
    assert_eq!(copies.per_rank()[1], 1);
    assert_eq!(copies.traffic().per_pick.domain.total, 2);
    assert_eq!(dispatched.tokens_per_slot.iter().sum::<u32>(), 2);
    assert_eq!(dispatched.firsts, [Rank(1)]);
}

#[test]
fn a_token_that_chose_no_expert_stays_where_it_is() {
    let (placement, hardware) = (placement(), hardware());
    let dispatcher =
        Dispatcher::new(&placement, &hardware, ReplicaRule::Static, MoeLayer(0), Seed(1));
    let mut copies = copies();
    let tokens = [(Arrival { source: Rank(2), index: 0 }, &[][..])].into_iter();
    let dispatched = dispatcher.dispatch(tokens, &mut copies, &mut Seed(1).stream("test"));
    assert_eq!(dispatched.firsts, [Rank(2)]);
    assert!(copies.traffic().per_pick.is_empty());
    assert_eq!(dispatched.tokens_per_slot, [0; 8]);
}

proptest! {
    /// Every routed (token, expert) is computed exactly once, by a slot that holds the expert.
    #[test]
    fn pairs_are_conserved(
        tokens in prop::collection::vec((0_u16..4, 0_u16..4, 0_u16..4), 1..40),
        seed: u64,
    ) {
        let (placement, hardware) = (placement(), hardware());
        let mut expected = vec![0_u32; 4];
        let mut routed = Vec::new();
        for (index, &(source, first, second)) in (0_u32..).zip(&tokens) {
            let mut experts = vec![ExpertId(first)];
            if second != first {
                experts.push(ExpertId(second));
            }
            for expert in &experts {
                expected[expert.index()] += 1;
            }
            routed.push((Arrival { source: Rank(source), index }, experts));
        }
        for rule in RULES {
            let dispatcher =
                Dispatcher::new(&placement, &hardware, rule, MoeLayer(0), Seed(seed));
            let tokens = routed.iter().map(|(arrival, experts)| (*arrival, &experts[..]));
            let mut copies = copies();
            let dispatched =
                dispatcher.dispatch(tokens, &mut copies, &mut Seed(seed).stream("test"));
            let mut found = vec![0_u32; 4];
            let slots = placement.layer(MoeLayer(0)).iter();
            for (expert, tokens) in slots.zip(&dispatched.tokens_per_slot) {
                found[expert.index()] += tokens;
            }
            prop_assert_eq!(&found, &expected, "{:?}", rule);
            let copies: u32 = copies.per_rank().iter().sum();
            prop_assert!(copies <= expected.iter().sum() && copies as usize >= routed.len());
        }
    }
}
