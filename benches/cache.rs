//! Look-ups a second by cache policy, single look-ups on one thread.
//!
//! Memory: a policy that does not see the future holds a few numbers for every expert and slot (its
//! file says how many bytes), Belady a bit a look-up; the trace is walked, never copied.
//!
//! Bar: LRU, Belady and S3-FIFO five times libCacheSim (`benches/peers/libcachesim_beside.py`).

use divan::Bencher;
use divan::counter::ItemsCount;
use moecast_profiles::seed::Seed;
use moecast_sim::cache::{ALL, find};
use moecast_sim::replay::{Capacity, Granularity, Partition, Replay};
use moecast_traces::synth::{Amount, generate, header, presets};
use moecast_traces::{RoutingTrace, TraceBuilder};

fn main() {
    divan::main();
}

const PRESET: &str = "olmoe-1b-7b";
const AMOUNT: Amount = Amount { requests: 16, tokens: 256, generated: 256, batch: 1 };

fn make() -> RoutingTrace {
    let (recipe, shape) = (presets::read(PRESET).unwrap().recipe, presets::shape(PRESET).unwrap());
    let mut builder = TraceBuilder::new(header(&shape, &recipe, Some(PRESET), Seed(0)));
    generate(&mut builder, &recipe, AMOUNT, Seed(0), &|_| {}).unwrap();
    builder.finish("synthetic").unwrap()
}

#[divan::bench(args = ALL.iter().map(|entry| entry.name), sample_count = 5)]
fn access(bencher: Bencher<'_, '_>, policy: &str) {
    let trace = make();
    let picks = trace.token_count() as usize * trace.header().moe_layers() * 8;
    let global = Partition::Global;
    let replay =
        Replay::new(&trace, &trace, Granularity::Access, global, Vec::new(), Seed(0)).unwrap();
    bencher
        .counter(ItemsCount::new(picks))
        .with_inputs(|| replay.job(find(policy).unwrap(), Capacity::Slots(256)).unwrap())
        .bench_values(|job| job.run().total.hits);
}
