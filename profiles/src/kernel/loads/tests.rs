use super::*;
use crate::measure::{Kind, busiest_rank, plan_for, skewed_picks};
use crate::sample::Family;

fn setting(tokens: u64, ep: u32, skew_percent: u64, routing: u32) -> Setting {
    Setting { tokens, experts: 256, topk: 8, ep, skew_percent, routing }
}

#[test]
fn a_power_law_deals_every_pick_and_the_first_rank_is_the_busiest() {
    for tokens in [1, 7, 64, 1000, 4096] {
        for skew in [60, 100, 101, 120] {
            for ep in [1, 8, 32, 256] {
                let rows = power_law(setting(tokens, ep, skew, routing::PLAIN), 0);
                let local = 256 / ep as usize;
                assert_eq!(rows.iter().map(|row| u64::from(*row)).sum::<u64>(), tokens * 8);
                assert!(rows.iter().all(|row| u64::from(*row) <= tokens));
                let sums: Vec<u32> = rows.chunks(local).map(|rank| rank.iter().sum()).collect();
                assert_eq!(sums.iter().max(), sums.first());
            }
        }
    }
}

/// A fit must assume the loads that were timed, not some other draw of about the same skew.
#[test]
fn statistics_of_our_own_benchmark_are_those_of_the_picks_it_makes() {
    let mut cache = Cache::default();
    let mut skewed = 0;
    for point in plan_for(&Kind::Cuda).points {
        if point.family == Family::ExpertGemm {
            let (shape, at) = (&point.shape, &point.at);
            assert_eq!(shape[7], routing::MEASURE, "{point}");
            let picks = skewed_picks(at[1], shape[2], shape[3], at[0]);
            let rows: Vec<u32> = busiest_rank(&picks, shape[5])
                .iter()
                .map(|rows| u32::try_from(*rows).unwrap())
                .collect();
            assert_eq!(cache.statistics(shape, at), Statistics::of(&rows), "{point}");
            skewed += u32::from(at[0] > 0);
        }
    }
    assert!(skewed > 100);
}

#[test]
fn balanced_picks_visit_experts_evenly() {
    let rows = timed_rank(setting(4096, 1, 0, routing::PLAIN), 0);
    assert!(rows.iter().all(|row| *row == 128), "{rows:?}");
    let few = timed_rank(setting(1, 1, 0, routing::PLAIN), 0);
    assert_eq!(few.iter().sum::<u32>(), 8);
    assert_eq!(few.iter().max(), Some(&1));
}

#[test]
fn group_limited_routing_of_balanced_logits_leaves_half_the_experts_idle() {
    // Each token's 8 picks lie in 8 groups; ties keep groups 0 to 3, 128 experts.
    let rows = timed_rank(setting(4096, 1, 0, routing::GROUPED), 0);
    assert_eq!(rows.iter().sum::<u32>(), 4096 * 8);
    assert_eq!(rows.iter().filter(|row| **row > 0).count(), 128);
    assert!(rows[128..].iter().all(|row| *row == 0));
}

#[test]
fn clamped_picks_all_run_on_expert_0() {
    let rows = timed_rank(setting(4096, 8, 0, routing::CLAMPED), 0);
    assert_eq!(rows.len(), 32);
    // Every token has one pick on each of 8 ranks: 7 of 8 picks fall to expert 0.
    assert_eq!(rows.iter().sum::<u32>(), 4096 * 8);
    assert_eq!(rows[0], 4096 * 7 + 128);
}

#[test]
fn statistics_pad_each_expert() {
    let found = Statistics::of(&[0, 1, 16, 17, 130]);
    assert_eq!((found.active, found.rows, found.hottest), (4.0, 164.0, 130.0));
    assert_eq!(found.tiles_16, f64::from(16 + 16 + 32 + 144));
    assert_eq!(found.tiles_64, f64::from(64 * 3 + 192));
    assert_eq!(found.tiles_128, f64::from(128 * 3 + 256));
}

#[test]
fn the_smallest_experts_are_filled_first() {
    let mut rows = [5, 0, 2];
    fill(&mut rows, 4, 10);
    assert_eq!(rows, [5, 3, 3]);
    fill(&mut rows, 3, 4);
    assert_eq!(rows.iter().filter(|row| **row >= 4).count(), 3);
    let mut rows = [5, 0, 2];
    shave(&mut rows, 4);
    assert_eq!(rows.iter().sum::<i64>(), 3);
}
