use std::sync::Arc;

use moecast_profiles::model::{Attention, DataType, ModelShape};
use moecast_profiles::seed::Seed;
use moecast_profiles::units::{Bandwidth, Bytes, Flops, Nanos, SimTime};
use moecast_traces::{Header, Phase, RoutingTrace, TokenRow, TraceBuilder};
use proptest::prelude::*;

use super::*;
use crate::{cache, prefetch};

mod wishes;

/// A model of so many layers of so many experts, of which each token chooses `k`; sizes do not
/// matter, for times are given.
fn model(layers: u16, experts: u16, k: u16) -> ModelShape {
    ModelShape {
        name: "tiny".to_owned(),
        source: "by hand".to_owned(),
        hidden_layers: layers,
        moe_layers: (0..layers).collect(),
        hidden: 16,
        experts,
        zero_experts: 0,
        top_k: k,
        expert_inter: 16,
        shared_inter: 0,
        dense_inter: 0,
        expert_groups: 1,
        attention: Attention::Gqa {
            heads: 1,
            kv_heads: 1,
            head_dim: 16,
            window: None,
            windowed_layers: 0,
        },
        vocab: 16,
        expert_type: DataType::Bf16,
        dense_type: DataType::Bf16,
    }
}

/// One request that generates `tokens`, each with the experts of all layers, one after the other.
fn trace(model: &ModelShape, tokens: &[Vec<u16>]) -> Arc<RoutingTrace> {
    let header = Header::new("test", "tiny", model.experts, model.top_k, model.moe_layers.clone());
    let mut builder = TraceBuilder::new(header);
    for (step, experts) in (0..).zip(tokens) {
        let (request, position, phase) = (0, step, Phase::Decode);
        builder.push_token(TokenRow { request, position, step, phase, experts, weights: None });
    }
    Arc::new(builder.finish("test").unwrap())
}

/// Copies take 1 ns a byte, experts have 1000 bytes, a layer 100 ns, an expert 50 ns, 400 ns on
/// the processor, whose activations travel in 64 ns a token (32 bytes, there and back).
fn setup(model: &ModelShape, trace: &Arc<RoutingTrace>, slots: u64) -> Setup {
    let (layers, experts) = (model.moe_layers.len(), usize::from(model.experts));
    let given = Given { layer: Nanos(100), expert: Nanos(50), ..Given::default() };
    Setup {
        trace: Arc::clone(trace),
        model: model.clone(),
        shape: Shape {
            layers,
            experts,
            top_k: model.top_k.into(),
            versions: 1,
            nested: true,
            bytes: vec![1000; layers * experts],
            ranks: 1,
            per_layer: false,
        },
        machine: Machine {
            gpus: 1,
            split: Split::Tensor,
            tiers: vec![tier("host")],
            processor: Some(Processor {
                bandwidth: Bandwidth(2_500_000_000),
                flops: Flops(u64::MAX),
                launch: Nanos(0),
            }),
            beside_copies: Beside::Experts,
            swap: false,
            costs: Costs::default(),
        },
        cache: Cache {
            capacity: slots * 1000,
            sharing: Sharing::Global,
            version_shares: vec![1.0],
            policy: cache::find("lru").unwrap(),
            pinned: Vec::new(),
            start: Start::Empty,
            trained: vec![vec![0; experts]; layers],
            seed: Seed(0),
        },
        kernels: Arc::new(given),
        prefetcher: prefetch::find("none").unwrap(),
        prefetch: prefetch::Setting {
            layers,
            experts,
            top_k: model.top_k.into(),
            depth: 1,
            accuracy: None,
            seed: Seed(0),
            trained: Arc::default(),
        },
        target: target::find("gpu").unwrap(),
        rule: rule::find("exact").unwrap(),
        knobs: Vec::new(),
        load: Load {
            requests: 1,
            arrivals: Vec::new(),
            batch: 1,
            window: 1,
            batching: Batching::Fifo,
            chunk: 100,
            prompt_max: usize::MAX,
            answer_max: usize::MAX,
        },
        seed: Seed(0),
    }
}

fn tier(name: &str) -> Tier {
    Tier {
        name: name.to_owned(),
        capacity: None,
        bandwidth: Bandwidth(1_000_000_000),
        latency: Nanos(0),
        staging: None,
        queue: 1,
        policy: "lru".to_owned(),
    }
}

fn ends(run: &Run) -> Vec<u64> {
    run.passes.iter().map(|pass| pass.end.0).collect()
}

#[test]
fn a_miss_waits_for_its_copy_and_a_hit_for_nothing() {
    let model = model(1, 2, 1);
    let trace = trace(&model, &[vec![0], vec![0], vec![1], vec![0]]);
    let run = run(&setup(&model, &trace, 1)).unwrap();
    assert_eq!(ends(&run), [1150, 1300, 2450, 3600]);
    assert_eq!(run.link_bytes, 3000);
    assert_eq!(run.passes.iter().map(|pass| pass.hits).sum::<u64>(), 1);
}

#[test]
fn resident_experts_are_computed_while_others_are_copied() {
    let model = model(1, 4, 2);
    let trace = trace(&model, &[vec![0, 1], vec![0, 2]]);
    let mut setup = setup(&model, &trace, 2);
    let own = run(&setup).unwrap();
    // Both copies one after the other: 100 + 1000 + 1000 + 50; then 0 is there while 2 comes.
    assert_eq!(ends(&own), [2150, 3300]);
    assert_eq!(own.passes[1].stall, Nanos(950));
    setup.machine.costs = Costs {
        synchronisation: Nanos(10),
        lookup: Nanos(1),
        admission: Nanos(20),
        eviction: Nanos(5),
        pass: Nanos(7),
    };
    let run = run(&setup).unwrap();
    // 7 + 100 + 10 + 2 are spent before the first admission, whose copy starts 20 later; the
    // second copy follows it.
    assert_eq!(ends(&run)[0], 7 + 100 + 12 + 20 + 2000 + 50);
    assert_eq!(run.passes[1].handling, Nanos(10 + 2 + 20 + 5));
}

#[test]
fn kernels_may_need_all_experts_of_a_matrix_or_of_a_layer() {
    let model = model(1, 4, 2);
    let trace = trace(&model, &[vec![0, 1], vec![0, 2]]);
    let mut setup = setup(&model, &trace, 2);
    setup.machine.beside_copies = Beside::Nothing;
    assert_eq!(ends(&run(&setup).unwrap()), [2200, 2200 + 100 + 1000 + 100]);
    setup.machine.beside_copies = Beside::Matrices;
    // A third of 100 after the last of three rounds of copies.
    assert_eq!(ends(&run(&setup).unwrap())[0], 100 + 2000 + 34);
}

#[test]
fn the_processor_works_in_place_and_beside_the_gpu() {
    let model = model(1, 4, 2);
    let trace = trace(&model, &[vec![0, 1], vec![0, 2]]);
    let mut setup = setup(&model, &trace, 1);
    setup.target = target::find("cpu").unwrap();
    let own = run(&setup).unwrap();
    // Activations go in 32 ns, two experts take 800, results come in 64: nothing is copied.
    assert_eq!(ends(&own)[0], 100 + 32 + 800 + 32);
    assert_eq!((own.link_bytes, own.passes[0].on_processor), (0, 2));
    setup.cache.start = Start::Frequent;
    setup.cache.trained = vec![vec![5, 0, 0, 0]];
    let run = run(&setup).unwrap();
    assert_eq!(ends(&run)[0], 100 + 32 + 400 + 32);
    assert_eq!((run.passes[0].hits, run.passes[0].on_processor), (1, 1));
}

#[test]
fn what_is_in_storage_comes_by_two_ways() {
    let model = model(1, 2, 1);
    let trace = trace(&model, &[vec![0], vec![1], vec![0]]);
    let mut setup = setup(&model, &trace, 1);
    setup.machine.tiers.push(Tier { bandwidth: Bandwidth(500_000_000), ..tier("ssd") });
    setup.machine.tiers[0].capacity = Some(Bytes(1000));
    let run = run(&setup).unwrap();
    // Host memory holds expert 0 from the start. Expert 1: 2000 from storage, then 1000; and it
    // has driven out expert 0.
    assert_eq!(ends(&run), [1150, 1150 + 3150, 1150 + 2 * 3150]);
    assert_eq!(run.storage_bytes, 2000);
}

#[test]
fn a_low_version_is_a_part_of_a_high_one_where_they_are_nested() {
    let model = model(1, 2, 1);
    let trace = trace(&model, &[vec![0]]);
    let mut setup = setup(&model, &trace, 2);
    setup.shape.versions = 2;
    setup.shape.bytes = vec![600, 400, 600, 400];
    let nested = run(&setup).unwrap();
    assert_eq!((nested.link_bytes, ends(&nested)[0]), (1000, 1150));
    setup.shape.nested = false;
    setup.shape.bytes = vec![1000, 400, 1000, 400];
    setup.cache.version_shares = vec![0.5, 0.5];
    let separate = run(&setup).unwrap();
    assert_eq!(separate.link_bytes, 1000);
}

#[test]
fn ranks_copy_side_by_side() {
    let model = model(1, 4, 2);
    let trace = trace(&model, &[vec![0, 1]]);
    let mut setup = setup(&model, &trace, 2);
    setup.machine.gpus = 2;
    setup.machine.split = Split::Expert;
    setup.shape.ranks = 2;
    assert_eq!(ends(&run(&setup).unwrap()), [1150]);
    setup.machine.split = Split::Tensor;
    setup.shape.ranks = 1;
    // Each of two links copies a half of both.
    assert_eq!(ends(&run(&setup).unwrap()), [100 + 500 + 500 + 50]);
}

/// Expert 1 drives out expert 0, which goes back before 1 is used; the first copy finds room.
#[test]
fn a_swap_copies_twice() {
    let model = model(1, 2, 1);
    let trace = trace(&model, &[vec![0], vec![1], vec![1]]);
    let mut setup = setup(&model, &trace, 1);
    setup.machine.swap = true;
    let run = run(&setup).unwrap();
    assert_eq!(ends(&run), [1150, 1150 + 2150, 1150 + 2150 + 150]);
    assert_eq!(run.link_bytes, 3000);
}

#[test]
fn requests_that_come_later_wait_for_nobody_who_is_not_there() {
    let model = model(1, 2, 1);
    let trace = trace(&model, &[vec![0], vec![0]]);
    let mut setup = setup(&model, &trace, 2);
    setup.load.requests = 2;
    setup.load.arrivals = vec![SimTime(0), SimTime(1_000_000)];
    let run = run(&setup).unwrap();
    assert_eq!(run.requests.len(), 2);
    assert_eq!(run.requests[1].first, SimTime(1_000_150));
    assert_eq!(run.requests[1].generated, 1);
}

#[test]
fn what_does_not_fit_together_is_said() {
    let model = model(1, 2, 1);
    let trace = trace(&model, &[vec![0]]);
    let right = setup(&model, &trace, 1);
    let said = |change: &dyn Fn(&mut Setup)| {
        let mut setup = right.clone();
        change(&mut setup);
        run(&setup).unwrap_err().to_string()
    };
    let error = said(&|setup| {
        setup.machine.processor = None;
        setup.target = target::find("cpu").unwrap();
    });
    assert!(error.contains("without a processor"), "{error}");
    let error = said(&|setup| {
        setup.cache.policy = cache::find("belady").unwrap();
        setup.load.arrivals = vec![SimTime(0)];
    });
    assert!(error.contains("sees the future"), "{error}");
    let error = said(&|setup| setup.machine.tiers[0].bandwidth = Bandwidth(0));
    assert!(error.contains("machine.tiers[0].bandwidth: 0"), "{error}");
    let error = said(&|setup| setup.load.window = 0);
    assert!(error.starts_with("scenario: load"), "{error}");
}

/// Expert 0 is there; of 200 tokens that choose 0 and one other, the other gives way by chance.
#[test]
fn runs_of_a_rule_that_draws_differ_by_seed() {
    let model = model(1, 8, 2);
    let tokens: Vec<Vec<u16>> = (0..200).map(|token| vec![0, 1 + token % 7]).collect();
    let trace = trace(&model, &tokens);
    let under = |seed| {
        let mut setup = setup(&model, &trace, 4);
        setup.rule = rule::find("cache-aware").unwrap();
        setup.seed = Seed(seed);
        run(&setup).unwrap()
    };
    assert_eq!(under(1), under(1));
    assert_ne!(under(1), under(2));
}

fn arbitrary_tokens() -> impl Strategy<Value = Vec<Vec<u16>>> {
    let layer = proptest::sample::subsequence(vec![0_u16, 1, 2, 3, 4, 5], 2);
    let token = proptest::collection::vec(layer, 3).prop_map(|layers| layers.concat());
    proptest::collection::vec(token, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every asked-for expert is a hit or a miss, bytes are those of misses, a pass takes at least
    /// its kernels, nothing is copied where everything is there, and a faster link, a larger LRU
    /// cache (of one size of item) or an oracle never has more misses or takes longer.
    #[test]
    fn laws(tokens in arbitrary_tokens(), slots in 6_u64..18) {
        let model = model(3, 6, 2);
        let trace = trace(&model, &tokens);
        let base = setup(&model, &trace, slots);
        let own = run(&base).unwrap();
        let asked = tokens.len() as u64 * 6;
        let sum = |run: &Run, pick: fn(&Pass) -> u64| run.passes.iter().map(pick).sum::<u64>();
        prop_assert_eq!(sum(&own, |pass| pass.hits + pass.misses), asked);
        prop_assert_eq!(own.link_bytes, sum(&own, |pass| pass.misses) * 1000);
        prop_assert_eq!(&own, &run(&base).unwrap());
        for pass in &own.passes {
            prop_assert!(pass.end.0 - pass.start.0 >= 3 * (100 + 2 * 50));
        }
        let end = |run: &Run| run.passes.last().unwrap().end;
        let mut fast = base.clone();
        fast.machine.tiers[0].bandwidth = Bandwidth(3_000_000_000);
        let fast = run(&fast).unwrap();
        prop_assert!(end(&fast) <= end(&own));
        prop_assert_eq!(sum(&fast, |pass| pass.misses), sum(&own, |pass| pass.misses));
        let larger = run(&setup(&model, &trace, slots + 3)).unwrap();
        prop_assert!(sum(&larger, |pass| pass.misses) <= sum(&own, |pass| pass.misses));
        let mut oracle = base.clone();
        oracle.cache.policy = cache::find("belady").unwrap();
        let oracle = run(&oracle).unwrap();
        prop_assert!(sum(&oracle, |pass| pass.misses) <= sum(&own, |pass| pass.misses));
        let mut full = setup(&model, &trace, 18);
        full.cache.start = Start::Frequent;
        prop_assert_eq!(run(&full).unwrap().link_bytes, 0);
    }

    /// No target computes an expert twice or not at all, whatever is resident; and the processor
    /// beside the GPU is never slower than the slower of both alone.
    #[test]
    fn targets_compute_everything(tokens in arbitrary_tokens(), slots in 6_u64..18) {
        let model = model(3, 6, 2);
        let trace = trace(&model, &tokens);
        let mut ends = Vec::new();
        for entry in target::ALL {
            let mut setup = setup(&model, &trace, slots);
            setup.target = entry;
            let run = run(&setup).unwrap();
            let asked: u64 = run.passes.iter().map(|pass| pass.hits + pass.misses).sum();
            prop_assert_eq!(asked, tokens.len() as u64 * 6, "{}", entry.name);
            let copied = run.link_bytes / 1000;
            let missed: u64 = run.passes.iter().map(|pass| pass.misses).sum();
            let hosted: u64 = run.passes.iter().map(|pass| pass.on_processor).sum();
            prop_assert!(copied + hosted >= missed, "{}", entry.name);
            ends.push((entry.name, run.passes.last().unwrap().end));
        }
        let of = |name: &str| ends.iter().find(|(own, _)| *own == name).unwrap().1;
        prop_assert!(of("hybrid") <= of("gpu").max(of("cpu")));
    }
}
