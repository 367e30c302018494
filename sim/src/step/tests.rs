//! One MoE layer on two GPUs with kernels of 10 us: every time can be solved by hand.

use moecast_profiles::cost::exchange;
use moecast_profiles::hardware::{Device, Hardware};
use moecast_profiles::model::{Attention, DataType, ModelShape};
use moecast_profiles::seed::Seed;
use moecast_profiles::units::{Bandwidth, Nanos};
use moecast_profiles::{builtin, cost, engine};
use moecast_traces::{Header, NO_EXPERT, Phase, RoutingTrace, TokenRow, TraceBuilder};
use proptest::prelude::*;

use crate::scenario::Setting;
use crate::{Placement, Run, Scenario, run};
use moecast_profiles::ids::ExpertId;

const KERNEL: u64 = 10_000;

fn model(dense_layers: u16) -> ModelShape {
    ModelShape {
        name: "tiny".to_owned(),
        source: "test".to_owned(),
        hidden_layers: 1 + dense_layers,
        moe_layers: vec![dense_layers],
        hidden: 1024,
        experts: 4,
        zero_experts: 0,
        top_k: 2,
        expert_inter: 64,
        shared_inter: 0,
        dense_inter: 256,
        expert_groups: 1,
        attention: Attention::Gqa {
            heads: 8,
            kv_heads: 2,
            head_dim: 128,
            window: None,
            windowed_layers: 0,
        },
        vocab: 1000,
        expert_type: DataType::Bf16,
        dense_type: DataType::Bf16,
    }
}

fn device() -> Device {
    let mut device = builtin::device("h200-sxm").unwrap();
    // 2048 bytes (one BF16 token of width 1024) take 2048 ns.
    device.domain_bandwidth.value = Bandwidth(1_000_000_000);
    device.domain_latency.value = Nanos(500);
    device
}

fn trace(layer: u16, rows: &[(u32, [u16; 2])]) -> RoutingTrace {
    let mut builder = TraceBuilder::new(Header::new("test", "tiny", 4, 2, vec![layer]));
    for (position, (step, experts)) in (0_u32..).zip(rows) {
        let (phase, step) = (Phase::Decode, *step);
        builder.push_token(TokenRow { request: 0, position, step, phase, experts, weights: None });
    }
    builder.finish("test").unwrap()
}

fn simulate(dense_layers: u16, trace: RoutingTrace, slots: &[u16], ranks: u16) -> Run {
    let layer = slots.iter().copied().map(ExpertId).collect();
    simulate_with(model(dense_layers), trace, vec![layer], ranks, "ports")
}

fn simulate_with(
    model: ModelShape,
    trace: RoutingTrace,
    slots: Vec<Vec<ExpertId>>,
    ranks: u16,
    exchange: &str,
) -> Run {
    let device = device();
    let fixed = cost::find("fixed").unwrap();
    let built = cost::Setting {
        model: &model,
        device: &device,
        tensor_ranks: 1,
        expert_tensor_ranks: 1,
        expert_ranks: ranks,
        exchange: None,
        profile: None,
    };
    let cost = cost::Kernels::new(fixed, &built).unwrap();
    let hardware = Hardware::new(device, 1, ranks).unwrap();
    let setting = exchange::Setting {
        hardware: &hardware,
        model: &model,
        dispatch_type: DataType::Bf16,
        combine_type: DataType::Bf16,
        profile: None,
    };
    let exchange = (exchange::find(exchange).unwrap().build)(&setting).unwrap();
    let setting = Setting {
        model,
        hardware,
        engine: engine::find("trtllm").unwrap(),
        cost,
        exchange: [exchange.clone(), exchange],
        context_assumed: 1,
        seed: Seed(0),
    };
    let placement = Placement::new(4, ranks, slots).unwrap();
    run(&Scenario::new(setting, trace, placement).unwrap(), &|_| {}).unwrap()
}

#[test]
fn one_token_to_its_own_rank_crosses_no_link() {
    // Step 0 begins on rank 0, which holds experts 0 and 1: attention + gate, experts, no link.
    let run = simulate(0, trace(0, &[(0, [0, 1])]), &[0, 1, 2, 3], 2);
    let parts = run.steps[0].parts;
    assert_eq!((parts.attention, parts.experts), (Nanos(2 * KERNEL), Nanos(KERNEL)));
    assert_eq!((parts.dispatch, parts.combine, parts.dense), (Nanos(0), Nanos(0), Nanos(0)));
    assert_eq!(run.steps[0].bytes, [2 * 2048, 0, 0]);
}

#[test]
fn a_token_to_the_other_rank_pays_latency_and_bytes_each_way() {
    // Experts 2 and 3 are on rank 1: one copy of 2048 bytes there and one result back.
    let run = simulate(0, trace(0, &[(0, [2, 3])]), &[0, 1, 2, 3], 2);
    let parts = run.steps[0].parts;
    assert_eq!((parts.dispatch, parts.combine), (Nanos(500 + 2048), Nanos(500 + 2048)));
    assert_eq!(run.steps[0].bytes, [0, 2 * 2048, 0]);
}

#[test]
fn the_busiest_port_sets_the_time() {
    // Tokens 0 and 2 begin on rank 0, 1 and 3 on rank 1. All go to rank 1: two copies cross.
    let rows = [(0, [2, 3]), (0, [2, 3]), (0, [2, 3]), (0, [2, 3])];
    let run = simulate(0, trace(0, &rows), &[0, 1, 2, 3], 2);
    assert_eq!(run.steps[0].parts.dispatch, Nanos(500 + 2 * 2048));
}

#[test]
fn imbalance_is_the_busiest_rank_over_the_mean() {
    // Three pairs on rank 0, one on rank 1: max 3 over mean 2.
    let run = simulate(0, trace(0, &[(0, [0, 1]), (0, [0, 2])]), &[0, 1, 2, 3], 2);
    assert!((run.steps[0].imbalance - 1.5).abs() < 1e-12);
    assert!((run.summary().imbalance - 1.5).abs() < 1e-12);
    assert_eq!(run.totals.rank_load, [[3, 1]]);
}

#[test]
fn dense_layers_cost_attention_and_their_own_network() {
    let run = simulate(3, trace(3, &[(0, [0, 1])]), &[0, 1, 2, 3], 2);
    let parts = run.steps[0].parts;
    // Attention of four layers, the router of one, the networks of three.
    assert_eq!((parts.attention, parts.dense), (Nanos(5 * KERNEL), Nanos(3 * KERNEL)));
}

#[test]
fn a_layer_that_a_token_skipped_costs_no_experts() {
    let run = simulate(0, trace(0, &[(0, [NO_EXPERT, NO_EXPERT])]), &[0, 1, 2, 3], 2);
    assert_eq!(run.steps[0].parts.experts, Nanos(0));
    assert_eq!(run.summary().imbalance, 0.0);
}

#[test]
fn a_token_with_zero_experts_alone_costs_no_experts_and_no_exchange() {
    // Ids 4 and 5 compute nothing. The second token has one expert left, on its own rank 1.
    let mut header = Header::new("test", "tiny", 4, 2, vec![0]);
    header.zero_experts = 2;
    let mut builder = TraceBuilder::new(header);
    for (position, experts) in (0..).zip([[4, 5], [3, 4]]) {
        let (phase, experts) = (Phase::Decode, &experts[..]);
        let (request, step, weights) = (0, position, None);
        builder.push_token(TokenRow { request, position, step, phase, experts, weights });
    }
    let trace = builder.finish("test").unwrap();
    let remark = "3 of 4 picks were of the 2 experts that compute nothing";
    assert_eq!(trace.header().remarks, [remark]);
    let model = ModelShape { zero_experts: 2, ..model(0) };
    let run = simulate_with(model, trace, slots(1, &[0, 1, 2, 3]), 2, "nccl-all-to-all");
    let [none, one] = [0, 1].map(|step| (run.steps[step].parts, run.steps[step].bytes));
    assert_eq!((none.0.experts, none.0.dispatch, none.0.combine), Default::default());
    assert_eq!((none.0.attention, none.1), (Nanos(2 * KERNEL), [0; 3]));
    assert_eq!((one.0.experts, one.1), (Nanos(KERNEL), [2 * 2048, 0, 0]));
}

#[test]
fn a_chain_of_two_doubles_experts_but_not_attention() {
    let run = |numbers: Vec<u16>, experts: &[u16]| {
        let mut chained = model(0);
        let layers = numbers.len();
        chained.moe_layers.clone_from(&numbers);
        let mut builder = TraceBuilder::new(Header::new("test", "tiny", 4, 2, numbers));
        let phase = Phase::Decode;
        let (request, position, step, weights) = (0, 0, 0, None);
        builder.push_token(TokenRow { request, position, step, phase, experts, weights });
        let trace = builder.finish("test").unwrap();
        let run = simulate_with(chained, trace, slots(layers, &[0, 1, 2, 3]), 2, "ports");
        run.steps[0].parts
    };
    let (once, twice) = (run(vec![0], &[2, 3]), run(vec![0, 0], &[2, 3, 3, 2]));
    assert_eq!((twice.experts, twice.dispatch), (once.experts * 2, once.dispatch * 2));
    // Two routers, one attention.
    assert_eq!((once.attention, twice.attention), (Nanos(2 * KERNEL), Nanos(3 * KERNEL)));
    assert_eq!(twice.dense, Nanos(0));
}

#[test]
fn occurrences_of_a_chained_layer_hold_the_same_slots() {
    let layers = [[0, 1, 2, 3], [1, 0, 2, 3]].map(|slots| slots.map(ExpertId).to_vec());
    let placement = Placement::new(4, 2, layers.to_vec()).unwrap();
    let answer = placement.check_chains(&[7, 7]).unwrap_err().to_string();
    assert!(answer.contains("MoE layers 0 and 1: different slots; expected"), "{answer}");
    placement.check_chains(&[7, 8]).unwrap();
    placement.chained(&[7, 7]).check_chains(&[7, 7]).unwrap();
}

fn slots(layers: usize, slots: &[u16]) -> Vec<Vec<ExpertId>> {
    vec![slots.iter().copied().map(ExpertId).collect(); layers]
}

#[test]
fn the_exchange_model_counts_bytes_by_its_own_rule() {
    // Two picks of one token on rank 1: two copies where picks travel, one where tokens do, and
    // every token to every rank where they are gathered.
    let bytes = |exchange| {
        let trace = trace(0, &[(0, [2, 3])]);
        simulate_with(model(0), trace, slots(1, &[0, 1, 2, 3]), 2, exchange).steps[0].bytes
    };
    assert_eq!(bytes("ports"), [0, 2 * 2048, 0]);
    assert_eq!(bytes("nccl-all-to-all"), [0, 2 * 2 * 2048, 0]);
    // One rank has the token, the other pads: two tokens, each of which crosses once a way.
    assert_eq!(bytes("all-gather-reduce-scatter"), [2 * 2 * 2048, 2 * 2 * 2048, 0]);
}

#[test]
fn tokens_that_stay_cross_only_where_their_next_expert_is_elsewhere() {
    // Two layers, one token, top-1 in both: experts 2 and then 3, both on rank 1. It moves once,
    // and never back; a port exchange moves it there and back in both.
    let mut two = model(0);
    (two.hidden_layers, two.moe_layers, two.top_k) = (2, vec![0, 1], 1);
    let mut builder = TraceBuilder::new(Header::new("test", "tiny", 4, 1, vec![0, 1]));
    let (phase, experts) = (Phase::Decode, &[2, 3][..]);
    builder.push_token(TokenRow {
        request: 0,
        position: 0,
        step: 0,
        phase,
        experts,
        weights: None,
    });
    let trace = builder.finish("test").unwrap();
    let run = |exchange| {
        let slots = slots(2, &[0, 1, 2, 3]);
        simulate_with(two.clone(), trace.clone(), slots, 2, exchange).steps[0].clone()
    };
    let (stays, returns) = (run("context-coherent"), run("ports"));
    assert_eq!(returns.bytes, [0, 4 * 2048, 0]);
    assert_eq!(stays.bytes, [2048, 2048, 0]);
    assert_eq!(stays.parts.combine, Nanos(0));
}

fn rows() -> impl Strategy<Value = Vec<(u32, [u16; 2])>> {
    let token = (0_u16..4, 1_u16..4).prop_map(|(first, gap)| [first, (first + gap) % 4]);
    let steps = prop::collection::vec(prop::collection::vec(token, 1..12), 1..40);
    steps.prop_map(|steps| {
        let numbered = (0_u32..).zip(steps);
        numbered.flat_map(|(step, tokens)| tokens.into_iter().map(move |t| (step, t))).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Renaming experts, in the recording and in the placement alike, changes no time. The slots
    /// stay where they are, so the rule meets the same choices.
    #[test]
    fn relabelling_experts_changes_nothing(rows in rows(), shift in 1_u16..4) {
        let renamed: Vec<_> = rows
            .iter()
            .map(|&(step, experts)| (step, experts.map(|id| (id + shift) % 4)))
            .collect();
        let slots = [0, 1, 2, 3, 0, 2];
        let moved = slots.map(|id| (id + shift) % 4);
        let before = simulate(0, trace(0, &rows), &slots, 2);
        let after = simulate(0, trace(0, &renamed), &moved, 2);
        prop_assert_eq!(before, after);
    }

    /// Parts add up, time only grows, and no rank is busier than the whole run.
    #[test]
    fn facts_agree_with_each_other(rows in rows()) {
        let run = simulate(1, trace(1, &rows), &[0, 1, 2, 3], 2);
        let total: Nanos = run.steps.iter().map(|step| step.parts.total()).sum();
        prop_assert!(run.totals.rank_busy.iter().all(|&busy| busy <= total));
        let pairs: u64 = run.totals.rank_load.iter().flatten().sum();
        prop_assert_eq!(pairs, 2 * rows.len() as u64);
        let summary = run.summary();
        prop_assert!(summary.imbalance >= 1.0 && summary.imbalance <= 2.0);
        prop_assert!(summary.rank_utilisation.iter().all(|&share| share <= 1.0));
    }

    /// One thread and two give the same facts.
    #[test]
    fn threads_change_nothing(rows in rows()) {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| simulate(0, trace(0, &rows), &[0, 1, 2, 3, 0, 1], 2))
        };
        prop_assert_eq!(on(1), on(2));
    }
}
