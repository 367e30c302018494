//! Tiny services whose every pass is worked out in a comment. A pass takes 1,000 ns, 10 ns more
//! for each prompt token and 100 ns more for each generated one; a cache block holds 16 tokens.

use super::*;

/// A reads 50 tokens and makes 3; B reads 150 and makes 1; at most 100 tokens a pass.
#[test]
fn chunks_of_prompts_run_beside_answers() {
    let case = Case::new(Scheduler::MixedChunkedPrefill, &[(0, 50, 3), (0, 150, 1)]).budget(100);
    // 1. A's 50 and the first 50 of B: 1,000 + 1,000, until 2,000. A has its first token.
    // 2. One token of A, 99 of B: 1,000 + 100 + 990, until 4,090.
    // 3. One token of A, the last of B: 1,000 + 100 + 10, until 5,200. Both are done.
    assert_eq!(case.times(), [(2_000, 5_200), (5_200, 5_200)]);
    let (facts, served) = case.run();
    let tokens = facts.passes.iter().map(|pass| (pass.prefill_tokens, pass.decode_tokens));
    assert_eq!(tokens.collect::<Vec<_>>(), [(100, 0), (99, 1), (1, 1)]);
    assert_eq!((served.passes, served.lost_tokens), (3, 0));
    // A's tokens came after 2,090 and 1,110 ns.
    assert_eq!(facts.gaps, [(Nanos(2_090), 1), (Nanos(1_110), 1)]);
}

/// A reads 50 and makes 3; B, which comes while A is read, reads 50 and makes 1.
#[test]
fn prompts_that_go_first_make_answers_wait() {
    let requests = [(0, 50, 3), (100, 50, 1)];
    // 1. A's prompt until 1,500. 2. B's prompt, alone, until 3,000. 3. and 4. A's other tokens,
    // 1,100 each.
    let first = Case::new(Scheduler::PrefillFirst, &requests).budget(100);
    assert_eq!(first.times(), [(1_500, 5_200), (3_000, 3_000)]);
    // Mixed: 2. is B's prompt beside A's token, 1,600, until 3,100; 3. takes 1,100.
    let mixed = Case::new(Scheduler::MixedChunkedPrefill, &requests).budget(100);
    assert_eq!(mixed.times(), [(1_500, 4_200), (3_100, 3_100)]);
}

#[test]
fn whole_prompts_join_in_flight() {
    // A and B read 60 and make 2 and 1; 100 tokens a pass hold one prompt, and 40 that B's does
    // not fit into. 1. A's prompt until 1,600. 2. A's token and B's prompt: 1,700, until 3,300.
    let requests = [(0, 60, 2), (0, 60, 1)];
    let whole = Case::new(Scheduler::InFlightBatching, &requests).budget(100);
    assert_eq!(whole.times(), [(1_600, 3_300), (3_300, 3_300)]);
    // Chunks: 1. A's 60 and 40 of B, 2,000. 2. A's token and 20 of B: 1,300, until 3,300.
    let chunks = Case::new(Scheduler::MixedChunkedPrefill, &requests).budget(100);
    assert_eq!(chunks.times(), [(2_000, 3_300), (3_300, 3_300)]);
}

#[test]
fn in_flight_batching_waits_for_room_to_the_very_end() {
    // 8 blocks. A needs 62 tokens to its end, 4 blocks; B 65, 5 blocks: B waits for A's end.
    // A's prompt until 1,600 and its token until 2,700; B's prompt until 4,300 and its other 4
    // tokens, 1,100 each, until 8,700.
    let requests = [(0, 60, 2), (0, 60, 5)];
    let case = Case::new(Scheduler::InFlightBatching, &requests).cache(128);
    assert_eq!(case.times(), [(1_600, 2_700), (4_300, 8_700)]);
    // Nothing is promised to B under chunked prefill: 60 tokens are 4 blocks, and both begin.
    let case = Case::new(Scheduler::MixedChunkedPrefill, &requests).cache(128);
    assert_eq!(case.times()[1].0, 2_200);
}

/// A and B read 30 tokens each, in 4 blocks of 16; A makes 10 and B 5.
fn crowded(preemption: Preemption) -> Case {
    Case::new(Scheduler::MixedChunkedPrefill, &[(0, 30, 10), (0, 30, 5)])
        .cache(64)
        .with(|case| case.preemption = preemption)
}

#[test]
fn preemption_by_recompute() {
    let case = crowded(Preemption::Recompute);
    // 1. Both prompts, 2 blocks each: 1,600. 2. and 3. a token of both, into the last places of
    // their blocks: 1,200 each, until 4,000. 4. A needs a third block and B, the younger, gives
    // way with 32 tokens and 3 made: A alone, 1,100, until 5,100. 5. to 10.: B's 33 tokens are 3
    // blocks and one is free, so A makes its last 6 alone: until 11,700. 11. B reads 33 tokens:
    // 1,330, until 13,030, and has its fourth token; 12. its fifth, until 14,130.
    let (facts, served) = case.run();
    assert_eq!(case.times(), [(1_600, 11_700), (1_600, 14_130)]);
    assert_eq!((served.passes, served.lost_tokens, served.found_tokens), (12, 32, 0));
    let preemptions: Vec<u32> = facts.requests.iter().map(|record| record.preemptions).collect();
    assert_eq!(preemptions, [0, 1]);
}

#[test]
fn preemption_by_swap() {
    let case = crowded(Preemption::Swap);
    // As above until 4,000. 4. B's 32 tokens go to the host beside A's pass: 1,100 + 320, until
    // 5,420. 5. to 10. A alone until 12,020. 11. B's tokens come back, and one is made: 1,420,
    // until 13,440. 12. its fifth, until 14,540.
    let (_, served) = case.run();
    assert_eq!(case.times(), [(1_600, 12_020), (1_600, 14_540)]);
    assert_eq!((served.passes, served.lost_tokens), (12, 0));
}

/// A cache that is copied costs its time in passes of prompts alone, too.
#[test]
fn swapping_is_not_free_where_prompts_go_first() {
    // 5 blocks, so that B is admitted: 2 for it, 2 for A and 1 for 0.7 of A's answer. 1. Both
    // prompts: 1,600. 2. and 3. as above, until 4,000. 4. A takes the last block and B goes to the
    // host: 1,420. A alone to its tenth token, until 12,020. B comes back, with no prompt to be
    // read: 1,420, and makes its fifth token.
    let case = crowded(Preemption::Swap).cache(80);
    let case = case.with(|case| case.scheduler = Scheduler::PrefillFirst);
    assert_eq!(case.times(), [(1_600, 12_020), (1_600, 14_540)]);
}

#[test]
fn a_prefix_that_is_known_is_not_read_again() {
    // Blocks of 512 tokens. A reads 600. B, later, finds 512 of its 600: it reads 88, 1,880. C's
    // prompt of 512 is all there, and its last token is read all the same: 1,010.
    let requests =
        [((0, 600, 1), &[7, 100][..]), ((100_000, 600, 1), &[7, 101]), ((200_000, 512, 1), &[7])];
    let mut case = Case::new(Scheduler::MixedChunkedPrefill, &[(0, 1, 1)]);
    case.load = Load::Open(trace(requests.into_iter()));
    assert_eq!(case.times(), [(7_000, 7_000), (101_880, 101_880), (201_010, 201_010)]);
    let (facts, _) = case.run();
    let cached: Vec<u32> = facts.requests.iter().map(|record| record.cached_tokens).collect();
    assert_eq!(cached, [0, 512, 511]);
}

/// Two data-parallel ranks, experts dealt to both.
const RANKS: Layout = Layout { tensor: 1, data: 2, expert: 2, expert_tensor: 1, pipeline: 1 };

#[test]
fn ranks_wait_for_each_other() {
    // A reads 100 on one rank, B 10 on the other: a pass takes as long as A's, 2,000. A token
    // on both takes 1,100, as long as on one.
    let case = Case::new(Scheduler::MixedChunkedPrefill, &[(0, 100, 2), (0, 10, 2)])
        .with(|case| case.layout = RANKS);
    assert_eq!(case.times(), [(2_000, 3_100), (2_000, 3_100)]);
}

#[test]
fn a_rank_that_reads_a_prompt_makes_the_others_wait() {
    // 1. A's prompt, on the first rank: 1,100. 2. B's prompt, on the second: 1,100, until 2,200,
    // while the first is idle. 3. and 4. A's tokens until 4,400.
    let requests = [(0, 10, 3), (100, 10, 1)];
    let case = Case::new(Scheduler::PrefillFirst, &requests).with(|case| case.layout = RANKS);
    assert_eq!(case.times(), [(1_100, 4_400), (2_200, 2_200)]);
}

#[test]
fn two_stages_work_on_two_passes() {
    // A stage is one of two layers. A's prompt: 1,100 in the first, 50 to the second, 1,100
    // there: 2,250. Its token as long again: 4,500. B comes at 100 and enters the first stage when
    // A's prompt has left it, at 1,150; it leaves for the second at 2,300 and is there until 3,400.
    // Meanwhile A's token waits for nobody but B in the first stage, from 2,300 on: 3,450 at the
    // second stage, 4,550 at its end.
    let case = Case::new(Scheduler::MixedChunkedPrefill, &[(0, 10, 2), (100, 10, 1)])
        .with(|case| case.layout.pipeline = 2);
    assert_eq!(case.times(), [(2_250, 4_550), (3_400, 3_400)]);
    let alone = Case::new(Scheduler::MixedChunkedPrefill, &[(0, 10, 2)])
        .with(|case| case.layout.pipeline = 2);
    assert_eq!(alone.times(), [(2_250, 4_500)]);
}

#[test]
fn a_prompt_is_handed_over_with_its_cache() {
    // The prompt, 1,100, makes the first token. 10 tokens of 1,000 bytes at 10 GB/s are 1,000 ns,
    // and the network's latency 500: the other pool begins at 2,600 and makes two tokens of
    // 1,100 each. The second prompt is read beside that: from 1,100 to 2,200, and leaves at 3,700,
    // when A's first pass there ends; both are in the next one: 1,200.
    let case = Case::new(Scheduler::MixedChunkedPrefill, &[(0, 10, 3), (100, 10, 2)])
        .with(|case| case.apart = true);
    assert_eq!(case.times(), [(1_100, 4_900), (2_200, 4_900)]);
    let (facts, _) = case.run();
    assert!(facts.requests.iter().all(|record| record.replica == 1));
    let one = Case::new(Scheduler::PrefillFirst, &[(0, 10, 3)]).with(|case| case.apart = true);
    assert_eq!(one.times(), [(1_100, 4_800)]);
}

/// Three drafts of a request whose prompt of 10 takes 1,100 and makes the first of 9 tokens. A
/// draft goes through the one layer for one token: 1,100, so three take 3,300.
fn drafted(acceptance: f64) -> Case {
    Case::new(Scheduler::MixedChunkedPrefill, &[(0, 10, 9)])
        .with(|case| case.speculation = Speculation { draft_tokens: 3, acceptance })
}

#[test]
fn drafts_that_are_all_accepted() {
    // A pass checks 4 tokens and makes as many: 1,400 + 3,300 = 4,700. Two make the other 8.
    let case = drafted(1.0);
    assert_eq!(case.times(), [(1_100, 10_500)]);
    // Of four that come together three come at once.
    let (facts, _) = case.run();
    assert_eq!(facts.gaps, [(Nanos(4_700), 1), (Nanos(0), 3)].repeat(2));
}

#[test]
fn drafts_that_are_all_refused() {
    // Eight passes make a token each. With 8, 7, 6, 5 and 4 left they check 4 tokens, 4,700 each;
    // no more are checked than are asked for: 4,600, 4,500 and 4,400 for 3, 2 and 1 left.
    let case = drafted(0.0);
    assert_eq!(case.times(), [(1_100, 1_100 + 5 * 4_700 + 4_600 + 4_500 + 4_400)]);
    assert_eq!(case.run().1.passes, 9);
}

#[test]
fn a_budget_smaller_than_the_drafts_checks_fewer() {
    // Two tokens a pass: 5 passes for the prompt, 1,020 each, then 4 passes of 1,200 + 3,300 make
    // two tokens each.
    let case = drafted(1.0).budget(2);
    assert_eq!(case.times(), [(5_100, 5_100 + 4 * 4_500)]);
}
