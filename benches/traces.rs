//! Making and measuring traces, in (token, layer) pairs a second.
//!
//! Bars: 100 million pairs a minute generated (1.7 million a second) on two cores; statistics of
//! 1 million tokens x 32 layers x 2 of 8 in 10 s (3.4 million a second).

use divan::Bencher;
use divan::counter::ItemsCount;
use moecast_profiles::seed::Seed;
use moecast_traces::stats::stats;
use moecast_traces::synth::{Amount, generate, header, presets};
use moecast_traces::{RoutingTrace, TraceBuilder};

fn main() {
    divan::main();
}

const AMOUNT: Amount = Amount { requests: 64, tokens: 512, generated: 128, batch: 16 };

fn make(name: &str) -> RoutingTrace {
    let (recipe, shape) = (presets::read(name).unwrap().recipe, presets::shape(name).unwrap());
    let mut builder = TraceBuilder::new(header(&shape, &recipe, Some(name), Seed(0)));
    generate(&mut builder, &recipe, AMOUNT, Seed(0), &|_| {}).unwrap();
    builder.finish("synthetic").unwrap()
}

fn pairs(name: &str) -> ItemsCount {
    let layers = presets::shape(name).unwrap().layers.len();
    ItemsCount::new(AMOUNT.requests as usize * AMOUNT.tokens as usize * layers)
}

#[divan::bench(args = ["deepseek-v3", "mixtral-8x7b", "qwen3-30b-a3b"], sample_count = 5)]
fn synth(bencher: Bencher<'_, '_>, name: &str) {
    bencher.counter(pairs(name)).bench(|| make(name));
}

#[divan::bench(args = ["mixtral-8x7b"], sample_count = 5)]
fn statistics(bencher: Bencher<'_, '_>, name: &str) {
    let trace = make(name);
    bencher.counter(pairs(name)).bench(|| stats(&trace));
}
