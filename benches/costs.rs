//! What one kernel time costs to look up, on the shipped profile of H200 under SGLang.
//!
//! Bars: the experts of a rank with 9 slots under 100 ns, and no allocation anywhere (divan
//! prints an `alloc` line below a bench that does). Times are of [`BATCH`] look-ups with
//! different inputs; the `item/s` column counts look-ups, of which 10 million are 100 ns each.

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use moecast_profiles::builtin;
use moecast_profiles::cost::exchange::{self, Copies, Way};
use moecast_profiles::hardware::Hardware;
use moecast_profiles::ids::Rank;
use moecast_profiles::profile::{ExpertTimer, Profile};
use moecast_profiles::sample::Family;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Look-ups per timing, each with an input of its own.
const BATCH: usize = 1024;
/// Slots of a rank: DeepSeek-V3 with 288 slots on 32 ranks.
const SLOTS: usize = 9;

fn profile() -> Profile {
    builtin::profile("h200-sxm-sglang").unwrap()
}

/// Numbers below `bound` that repeat late: a multiplicative generator, the same in every run.
fn numbers(count: usize, bound: u64) -> Vec<u64> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % bound
    };
    (0..count).map(|_| next()).collect()
}

/// Sums the times of `look_up(index)` over a batch.
fn batch(bencher: Bencher<'_, '_>, look_up: impl Fn(usize) -> u64 + Sync) {
    bencher
        .counter(ItemsCount::new(BATCH))
        .bench(|| (0..BATCH).map(|index| look_up(black_box(index))).fold(0, u64::wrapping_add));
}

/// A rank's experts under `variant`, and loads for them: rows of [`BATCH`] ranks, and tokens of
/// as many batches.
fn experts_and_loads(variant: &str) -> (ExpertTimer, Vec<u32>, Vec<u64>) {
    let timer = profile().experts(variant, &[7168, 2048, 8, 256, 1, 32, 3, 0]).unwrap();
    let rows = numbers(BATCH * SLOTS, 640)
        .into_iter()
        .map(|rows| u32::try_from(rows.saturating_sub(64)).unwrap())
        .collect();
    (timer, rows, numbers(BATCH, 16_384))
}

/// Expert GEMMs: decode of some 8 to 512 tokens a rank, some experts idle.
#[divan::bench(args = ["sglang_fused_moe_triton/fp8_block", "deepepmoe-decode/fp8_block"])]
fn experts_of_9_slots(bencher: Bencher<'_, '_>, variant: &str) {
    let (timer, rows, tokens) = experts_and_loads(variant);
    batch(bencher, |index| timer.time(tokens[index] + 1, &rows[index * SLOTS..][..SLOTS]).0);
}

/// The same without the residuals of the table.
#[divan::bench(args = ["sglang_fused_moe_triton/fp8_block", "deepepmoe-decode/fp8_block"])]
fn experts_of_9_slots_by_the_form_alone(bencher: Bencher<'_, '_>, variant: &str) {
    let (timer, rows, tokens) = experts_and_loads(variant);
    batch(bencher, |index| {
        timer.form_us(tokens[index] + 1, &rows[index * SLOTS..][..SLOTS]).to_bits()
    });
}

/// A dense product over its rows.
#[divan::bench]
fn curve(bencher: Bencher<'_, '_>) {
    let profile = profile();
    let shapes = [[24_576, 1536], [4096, 4096], [7168, 2048]];
    let variants = profile.variants(Family::Gemm);
    let curve = shapes
        .iter()
        .flat_map(|shape| variants.iter().map(move |variant| (variant, shape)))
        .find_map(|(variant, shape)| profile.curve(Family::Gemm, variant, shape))
        .unwrap();
    let rows = numbers(BATCH, 16_384);
    batch(bencher, |index| curve.time(rows[index]).0);
}

/// Decode attention over requests and context.
#[divan::bench]
fn surface(bencher: Bencher<'_, '_>) {
    let profile = profile();
    let variant = profile.variants(Family::DecodeAttention)[0].to_owned();
    let surface = profile.surface(Family::DecodeAttention, &variant, &[32, 8, 128, 0]).unwrap();
    let (requests, contexts) = (numbers(BATCH, 256), numbers(2 * BATCH, 32_768));
    batch(bencher, |index| surface.time(requests[index] + 1, contexts[index + BATCH]).0);
}

/// Exchanges that reach beyond one NVLink domain.
fn between_nodes() -> impl Iterator<Item = &'static str> {
    exchange::ALL.iter().map(|entry| entry.name).filter(|name| *name != "one-sided-nvlink")
}

/// Dispatch over 32 ranks, from the busiest ports.
#[divan::bench(args = between_nodes())]
fn exchange_of_32_ranks(bencher: Bencher<'_, '_>, name: &str) {
    let (profile, hardware) = (profile(), Hardware::from_spec("h200-sxm:4x8").unwrap());
    let model = &builtin::model("deepseek-v3").unwrap();
    let setting = exchange::Setting {
        hardware: &hardware,
        model,
        dispatch_type: moecast_profiles::model::DataType::Fp8,
        combine_type: moecast_profiles::model::DataType::Bf16,
        profile: Some(&profile),
    };
    let model = (exchange::find(name).unwrap().build)(&setting).unwrap();
    let picks = numbers(BATCH * 8, 32);
    let traffic: Vec<_> = picks
        .chunks_exact(8)
        .map(|picks| {
            let mut copies = Copies::new(32, 8);
            for token in 0..64_u16 {
                let target = |pick: &u64| Rank((u16::try_from(*pick).unwrap() + token) % 32);
                copies.add(Rank(token % 32), picks.iter().map(target));
            }
            copies.traffic()
        })
        .collect();
    batch(bencher, |index| model.time(Way::Dispatch, &traffic[index]).0);
}

/// Counting the copies of 32 ranks with 64 tokens each, per token.
#[divan::bench]
fn count_copies(bencher: Bencher<'_, '_>) {
    let picks = numbers(2048 * 8, 32);
    let mut copies = Copies::new(32, 8);
    bencher.counter(ItemsCount::new(2048_usize)).bench_local(|| {
        copies.clear();
        for (token, picks) in (0_u16..).zip(picks.chunks_exact(8)) {
            let target = |pick: &u64| Rank(u16::try_from(*pick).unwrap());
            copies.add(Rank(token % 32), picks.iter().map(target));
        }
        copies.traffic()
    });
}
