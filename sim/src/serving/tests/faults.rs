//! Services of which something breaks. A pass takes 1,000 ns, 10 ns more for each prompt token and
//! 100 ns more for each generated one.

use moecast_profiles::ids::ExpertId;
use moecast_profiles::units::SimTime;

use super::*;
use crate::serving::faults::{Fate, FaultKind, Missing};

/// Rank 0 of the first replica is lost from `at` on.
fn lost(at: u64, until: Option<u64>) -> FaultFile {
    FaultFile {
        at: Nanos(at),
        until: until.map(Nanos),
        what: FaultKind::RankLost,
        pool: None,
        replica: 0,
        rank: Some(0),
        node: None,
        factor: None,
        requests: Fate::Retry,
    }
}

fn case(requests: &[(u64, u32, u32)], fault: FaultFile) -> Case {
    Case::new(Scheduler::MixedChunkedPrefill, requests).with(|case| case.faults = vec![fault])
}

#[test]
fn requests_of_a_lost_replica_begin_again_elsewhere() {
    // A is on the first replica and B on the second: prompts until 1,500, tokens until 2,600. At
    // 2,000 the first replica is lost with its second pass. At 2,600 the second one reads A's 50
    // tokens and the one that it had made, beside B's last token: 1,000 + 510 + 100, until 4,210,
    // and A's last token takes until 5,310.
    let case = case(&[(0, 50, 3), (0, 50, 3)], lost(2_000, None)).with(|case| case.replicas = 2);
    assert_eq!(case.times(), [(1_500, 5_310), (1_500, 4_210)]);
    let (facts, served) = case.run();
    assert_eq!((served.passes, served.retried, served.lost, served.lost_tokens), (5, 1, 0, 50));
    let retries: Vec<u32> = facts.requests.iter().map(|record| record.retries).collect();
    assert_eq!(retries, [1, 0]);
    let [fault] = &facts.faults[..] else { panic!("{:?}", facts.faults) };
    assert_eq!((fault.retried, fault.lost_tokens, fault.passes, fault.stops), (1, 50, 1, true));
}

#[test]
fn requests_can_be_lost_with_their_rank() {
    let fault = FaultFile { requests: Fate::Lost, ..lost(2_000, None) };
    let case = case(&[(0, 50, 3), (0, 50, 3)], fault).with(|case| case.replicas = 2);
    let (facts, served) = case.run();
    assert_eq!((served.completed, served.lost, served.retried), (1, 1, 0));
    assert_eq!((facts.requests[0].id, facts.requests[0].finished), (1, SimTime(3_700)));
}

#[test]
fn who_comes_while_nobody_serves_waits() {
    // A until 1,500. The only replica is gone from 10,000 to 20,000; B comes meanwhile.
    let requests = [(0, 50, 1), (12_000, 50, 1)];
    let back = case(&requests, lost(10_000, Some(20_000)));
    assert_eq!(back.times(), [(1_500, 1_500), (21_500, 21_500)]);
    // It never comes back: B is unserved, and the run ends.
    let gone = case(&requests, lost(10_000, None));
    let (facts, served) = gone.run();
    assert_eq!((served.completed, served.unserved, served.running), (1, 1, 1));
    assert_eq!((served.end, facts.faults[0].retried), (SimTime(12_000), 0));
}

#[test]
fn a_fault_after_the_last_request_is_none() {
    let requests = [(0, 50, 3), (100, 50, 1)];
    let without = Case::new(Scheduler::MixedChunkedPrefill, &requests).run();
    let with = case(&requests, lost(1_000_000, None)).run();
    assert_eq!(with.0, without.0);
    assert_eq!((with.1.end, with.1.passes), (without.1.end, without.1.passes));
}

/// Two data-parallel ranks, experts dealt to both.
const RANKS: Layout = Layout { tensor: 1, data: 2, expert: 2, expert_tensor: 1, pipeline: 1 };

#[test]
fn ranks_go_on_where_others_hold_their_experts() {
    // A reads 100 on rank 0, B 10 on rank 1: 2,000. At 2,500 rank 0 is lost with the pass of both;
    // rank 1 reads 101 tokens of A beside B's token: 2,110, until 4,610.
    let requests = [(0, 100, 2), (0, 10, 2)];
    let all = [0, 1, 2, 3, 0, 1, 2, 3].map(ExpertId).to_vec();
    let placement = Placement::new(4, 2, vec![all]).unwrap();
    let case = case(&requests, lost(2_500, None)).with(|case| {
        case.layout = RANKS;
        case.placement = Some(placement);
    });
    assert_eq!(case.times(), [(2_000, 4_610), (2_000, 4_610)]);
    let (facts, _) = case.run();
    assert!(!facts.faults[0].stops && facts.faults[0].missing.is_empty());
    assert_eq!(facts.passes[1].busy[0], Nanos(0));
}

#[test]
fn experts_without_a_slot_are_named() {
    let case = case(&[(0, 100, 2), (0, 10, 2)], lost(2_500, None)).with(|case| case.layout = RANKS);
    let (facts, served) = case.run();
    assert_eq!((served.completed, served.unserved, served.retried), (0, 2, 2));
    let missing = Missing { layer: 0, count: 2, first: vec![0, 1] };
    assert_eq!((facts.faults[0].stops, &facts.faults[0].missing[..]), (true, &[missing][..]));
}

#[test]
fn a_slow_rank_makes_passes_long() {
    // The prompt until 1,500. From 1,000 on all takes twice as long: a token until 3,700. From
    // 3,000 on it does not: the last token until 4,800.
    let slow =
        FaultFile { what: FaultKind::RankSlowed, factor: Some(2.0), ..lost(1_000, Some(3_000)) };
    assert_eq!(case(&[(0, 50, 3)], slow).times(), [(1_500, 4_800)]);
}

#[test]
fn slow_links_make_hand_overs_long() {
    // The prompt until 1,500; its cache on the way for 500 + 50 x 100 ns, three times as long; a
    // token: 1,100.
    let slow =
        FaultFile { what: FaultKind::LinkDegraded, rank: None, factor: Some(3.0), ..lost(0, None) };
    let case = case(&[(0, 50, 2)], slow).with(|case| case.apart = true);
    assert_eq!(case.times(), [(1_500, 1_500 + 3 * 5_500 + 1_100)]);
}

#[test]
fn faults_that_cannot_be_are_refused() {
    let service = Case::new(Scheduler::MixedChunkedPrefill, &[(0, 50, 2)]).service();
    let refused = |fault: FaultFile, expected: &str| {
        let error = service.clone().with_faults(&[fault]).err().expect(expected).to_string();
        assert_eq!(error, format!("scenario: faults[0].{expected}"));
    };
    let good = lost(10, None);
    let wrong = FaultFile { rank: Some(7), ..good.clone() };
    refused(wrong, "rank: 7; expected one of 1 for rank-lost, from 0");
    let wrong = FaultFile { rank: None, ..good.clone() };
    refused(wrong, "rank: none; expected one of 1 for rank-lost, from 0");
    let wrong = FaultFile { node: Some(0), ..good.clone() };
    refused(wrong, "node: a value; expected none for rank-lost");
    let wrong = FaultFile { replica: 1, ..good.clone() };
    refused(wrong, "replica: 1; expected below the 1 replicas of the pool");
    let wrong = FaultFile { until: Some(Nanos(10)), ..good.clone() };
    refused(wrong, "until: 10 ns; expected later than 10 ns");
    let wrong = FaultFile { pool: Some(Role::Decode), ..good.clone() };
    refused(wrong, "pool: Some(Decode); expected a pool of the service: [Both]");
    let wrong = FaultFile { what: FaultKind::RankSlowed, factor: Some(0.5), ..good };
    refused(wrong, "factor: 0.5; expected 1 to 10000 times as long for rank-slowed");
}
