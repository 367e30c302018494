//! What replays must do, on recordings that can be solved by hand and on synthetic ones.

use moecast_traces::synth::{self, Amount, presets};
use moecast_traces::{Header, Phase, TokenRow, TraceBuilder};
use proptest::prelude::*;

use super::*;
use crate::cache::find;

/// One token a step; `[layers, k]` experts of each.
fn decoded(layers: u16, experts: u16, top_k: u16, tokens: &[Vec<u16>]) -> RoutingTrace {
    batched(layers, experts, top_k, 1, tokens)
}

/// So many tokens a step, of which the first is of a prompt.
fn batched(layers: u16, experts: u16, top_k: u16, batch: u32, rows: &[Vec<u16>]) -> RoutingTrace {
    let header = Header::new("test", "tiny", experts, top_k, (0..layers).collect());
    let mut builder = TraceBuilder::new(header);
    for (row, experts) in (0_u32..).zip(rows) {
        builder.push_token(TokenRow {
            request: row % batch,
            position: row / batch,
            step: row / batch,
            phase: if batch > 1 && row % batch == 0 { Phase::Prefill } else { Phase::Decode },
            experts,
            weights: None,
        });
    }
    builder.finish("test").unwrap()
}

fn outcome(
    trace: &RoutingTrace,
    policy: &str,
    slots: u64,
    granularity: Granularity,
    partition: Partition,
) -> Outcome {
    let bytes = vec![10; trace.header().moe_layers()];
    let replay = Replay::new(trace, trace, granularity, partition, bytes, Seed(0)).unwrap();
    replay.job(find(policy).unwrap(), Capacity::Slots(slots)).unwrap().run()
}

#[test]
fn what_a_step_asks_for_is_looked_up_once() {
    // Two tokens a step: {0,1} {0,2}, then {0,1} {3,0}. Four slots hold everything.
    let trace = batched(1, 4, 2, 2, &[vec![0, 1], vec![0, 2], vec![0, 1], vec![3, 0]]);
    let found = outcome(&trace, "lru", 4, Granularity::Layer, Partition::Global);
    assert_eq!(found.total, Tally { look_ups: 6, hits: 2 });
    // Expert 0 belongs to the prompt's token, which picked it first.
    assert_eq!(found.prefill, Tally { look_ups: 4, hits: 2 });
    assert_eq!(found.decode, Tally { look_ups: 2, hits: 0 });
    assert_eq!(found.bytes_moved, Some(40));
    assert_eq!(found.over_time.len(), 2);
    let single = outcome(&trace, "lru", 4, Granularity::Access, Partition::Global);
    assert_eq!(single.total, Tally { look_ups: 8, hits: 4 });
    let tokens = outcome(&trace, "lru", 4, Granularity::Token, Partition::Global);
    assert_eq!(tokens.total, single.total);
}

/// A global LRU smaller than the experts of one token in all layers always evicts what comes next.
#[test]
fn below_one_tokens_cycle_lru_never_hits() {
    // Twelve layers of two picks; every token picks the same.
    let row: Vec<u16> = (0..24).map(|place| place % 2 + place / 2 % 3).collect();
    let trace = decoded(12, 8, 2, &vec![row; 40]);
    for slots in [8, 12, 22] {
        let rate = |policy| {
            let found = outcome(&trace, policy, slots, Granularity::Layer, Partition::Global);
            found.total.hit_rate().unwrap()
        };
        assert_eq!(rate("lru"), 0.0, "{slots} slots");
        assert!(rate("belady") > 0.18, "{slots} slots: {}", rate("belady"));
    }
    let whole = outcome(&trace, "lru", 24, Granularity::Layer, Partition::Global);
    assert_eq!(whole.total.misses(), 24);
}

/// What an event is decides which policy is better: with room for 40% of the experts of every layer
/// LFU is ahead of LRU event by event, and behind it pick by pick, which inflates the misses of LRU
/// by about as much as has been published (27%). Of LFU's 3% that cannot be said: here newcomers,
/// used once, go as soon as the next one comes, and no event protects them.
#[test]
fn single_look_ups_invert_the_ranking_of_lru_and_lfu() {
    let name = "qwen3-30b-a3b";
    let recipe = presets::read(name).unwrap().recipe;
    let header = synth::header(&presets::shape(name).unwrap(), &recipe, Some(name), Seed(3));
    let mut builder = TraceBuilder::new(header);
    let amount = Amount { requests: 8, tokens: 96, generated: 96, batch: 8 };
    synth::generate(&mut builder, &recipe, amount, Seed(3), &|_| ()).unwrap();
    let trace = builder.finish(name).unwrap();
    let slots = trace.header().moe_layers() as u64 * 51;
    let misses = |policy, granularity| {
        let found = outcome(&trace, policy, slots, granularity, Partition::PerLayer);
        found.total.misses() as f64
    };
    let of = |policy| [Granularity::Layer, Granularity::Access].map(|it| misses(policy, it));
    let ([lru, lru_single], [lfu, lfu_single]) = (of("lru"), of("lfu"));
    assert!(lfu < lru && lfu_single > lru_single, "{lru} {lru_single} {lfu} {lfu_single}");
    assert!((1.17..1.37).contains(&(lru_single / lru)), "{lru} {lru_single}");
}

fn rows() -> impl Strategy<Value = Vec<Vec<u16>>> {
    let cell = prop::sample::subsequence((0_u16..7).collect::<Vec<_>>(), 2).prop_shuffle();
    let row = prop::collection::vec(cell, 3).prop_map(|cells| cells.concat());
    prop::collection::vec(row, 1..60)
}

proptest! {
    /// The curve of one pass is what pools of every size find.
    #[test]
    fn the_curve_is_that_of_pools(rows in rows(), batch in 1_u32..4) {
        let trace = batched(3, 7, 2, batch, &rows);
        for granularity in [Granularity::Access, Granularity::Layer, Granularity::Token] {
            for partition in [Partition::Global, Partition::PerLayer] {
                let replay = Replay::new(
                    &trace, &trace, granularity, partition.clone(), vec![], Seed(0),
                ).unwrap();
                let curve = curve::lru(&replay);
                for size in curve.from..curve.hits.len() {
                    let slots = (size * curve.pools) as u64;
                    let found = outcome(&trace, "lru", slots, granularity, partition.clone());
                    prop_assert_eq!(found.total.hits, curve.hits[size], "{} slots", slots);
                    prop_assert_eq!(found.total.look_ups, curve.look_ups);
                }
            }
        }
    }

    /// Parts of an outcome sum to the whole, and Belady is a bound in every cut.
    #[test]
    fn parts_sum_and_the_bound_holds(rows in rows(), batch in 1_u32..4, slots in 18_u64..22) {
        let trace = batched(3, 7, 2, batch, &rows);
        for granularity in [Granularity::Access, Granularity::Layer, Granularity::Token] {
            let bound = outcome(&trace, "belady", slots, granularity, Partition::Global);
            for entry in crate::cache::ALL {
                let found = outcome(&trace, entry.name, slots, granularity, Partition::Global);
                let sum = |tallies: Vec<Tally>| {
                    tallies.iter().fold((0, 0), |sum, it| (sum.0 + it.look_ups, sum.1 + it.hits))
                };
                let total = (found.total.look_ups, found.total.hits);
                prop_assert_eq!(sum(found.per_layer.clone()), total);
                prop_assert_eq!(sum(vec![found.prefill, found.decode]), total);
                prop_assert_eq!(sum(found.over_time.iter().map(|it| it.tally).collect()), total);
                prop_assert_eq!(found.bytes_moved, Some(10 * found.total.misses()));
                prop_assert!(found.total.hits <= bound.total.hits, "{}", entry.name);
            }
        }
    }
}

#[test]
fn what_cannot_be_replayed_is_refused() {
    let trace = decoded(2, 4, 1, &[vec![0, 1]]);
    let make = |partition, bytes| {
        Replay::new(&trace, &trace, Granularity::Layer, partition, bytes, Seed(0))
    };
    let lru = find("lru").unwrap();
    let text = |result: Result<Job<'_, '_>>| result.err().unwrap().to_string();
    let none = make(Partition::Global, vec![]).unwrap();
    assert!(text(none.job(lru, Capacity::Bytes(100))).contains("bytes of an expert"));
    assert!(text(none.job(lru, Capacity::Slots(0))).contains("room for one expert"));
    let planned = make(Partition::Planned(vec![2, 0]), vec![]).unwrap();
    assert!(text(planned.job(lru, Capacity::Slots(2))).contains("0 slots in a pool"));
    assert!(make(Partition::Planned(vec![1]), vec![]).is_err());
    assert!(make(Partition::Global, vec![1, 2, 3]).is_err());
}
