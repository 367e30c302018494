//! One MoE layer of four experts on two ranks, solved by hand, and what holds of every policy.

use std::sync::Arc;

use moecast_profiles::cost::exchange;
use moecast_profiles::cost::{AttentionBatch, CostModel, Kernels};
use moecast_profiles::hardware::Hardware;
use moecast_profiles::ids::ExpertId;
use moecast_profiles::model::{Attention, DataType, ModelShape};
use moecast_profiles::seed::Seed;
use moecast_profiles::units::{Bandwidth, Bytes};
use moecast_profiles::{builtin, engine};
use moecast_traces::{Header, Phase, RoutingTrace, TokenRow, TraceBuilder};
use proptest::prelude::*;

use super::*;
use crate::run;
use crate::scenario::Setting;

/// Weights of an expert: 3 x 64 x 32 of 2 bytes; 1 ns a byte and 500 ns a message.
const EXPERT: u64 = 12_288;
const TRANSFER: u64 = 500 + EXPERT;

/// A row of an expert takes 100 ns; all else is free.
struct Rows;

impl CostModel for Rows {
    fn experts(&self, _: u64, rows: &[u32]) -> Nanos {
        Nanos(rows.iter().map(|rows| u64::from(*rows) * 100).sum())
    }
    fn shared_experts(&self, _: u32) -> Nanos {
        Nanos(0)
    }
    fn dense_layer(&self, _: u32) -> Nanos {
        Nanos(0)
    }
    fn attention(&self, _: AttentionBatch) -> Nanos {
        Nanos(0)
    }
    fn gate(&self, _: u32) -> Nanos {
        Nanos(0)
    }
    fn head(&self, _: u32) -> Nanos {
        Nanos(0)
    }
    fn all_reduce(&self, _: u32) -> Nanos {
        Nanos(0)
    }
}

fn model() -> ModelShape {
    ModelShape {
        hidden_layers: 1,
        moe_layers: vec![0],
        hidden: 64,
        experts: 4,
        top_k: 1,
        expert_inter: 32,
        shared_inter: 0,
        dense_inter: 0,
        expert_groups: 1,
        attention: Attention::Gqa {
            heads: 1,
            kv_heads: 1,
            head_dim: 64,
            window: None,
            windowed_layers: 0,
        },
        expert_type: DataType::Bf16,
        dense_type: DataType::Bf16,
        name: "tiny".to_owned(),
        ..builtin::model("mixtral-8x7b").unwrap()
    }
}

fn trace(steps: &[Vec<u16>]) -> RoutingTrace {
    let mut builder = TraceBuilder::new(Header::new("test", "tiny", 4, 1, vec![0]));
    let mut position = 0;
    for (step, tokens) in (0_u32..).zip(steps) {
        for expert in tokens {
            let (phase, experts) = (Phase::Decode, std::slice::from_ref(expert));
            let row = TokenRow { request: 0, position, step, phase, experts, weights: None };
            builder.push_token(row);
            position += 1;
        }
    }
    builder.finish("test").unwrap()
}

fn placement(slots: &[u16]) -> Placement {
    Placement::new(4, 2, vec![slots.iter().copied().map(ExpertId).collect()]).unwrap()
}

fn scenario(steps: &[Vec<u16>], slots: &[u16]) -> Scenario {
    let mut device = builtin::device("h200-sxm").unwrap();
    device.domain_bandwidth.value = Bandwidth(1_000_000_000);
    device.domain_latency.value = Nanos(500);
    let (model, hardware) = (model(), Hardware::new(device, 1, 2).unwrap());
    let engine = engine::find("trtllm").unwrap();
    let ports = (exchange::find("ports").unwrap().build)(&exchange::Setting {
        hardware: &hardware,
        model: &model,
        dispatch_type: engine.dispatch_type.value,
        combine_type: engine.combine_type.value,
        profile: None,
    })
    .unwrap();
    let setting = Setting {
        model,
        hardware,
        engine,
        exchange: [Arc::clone(&ports), ports],
        cost: Kernels {
            name: "rows".to_owned(),
            about: String::new(),
            flags: Vec::new(),
            model: Arc::new(Rows),
        },
        context_assumed: 1,
        seed: Seed(0),
    };
    Scenario::new(setting, trace(steps), placement(slots)).unwrap()
}

/// Two experts of one rank have all the load.
fn skewed(steps: usize) -> Vec<Vec<u16>> {
    vec![vec![0, 0, 1, 1]; steps]
}

/// Experts 1 and 2 change places.
fn swap(_: &[Vec<f64>]) -> Result<Placement> {
    Ok(placement(&[0, 2, 1, 3]))
}

fn policy<'a>(how: How, algorithm: &'a Algorithm<'a>) -> Policy<'a> {
    Policy {
        window: 2,
        interval: 2,
        threshold: 1.0,
        how,
        algorithm,
        algorithm_time: Nanos(0),
        algorithm_beside: false,
    }
}

fn serve(scenario: &Scenario, policy: &Policy) -> Rebalanced {
    rebalance(scenario, policy, &|_| {}).unwrap()
}

fn stalls(of: &Rebalanced) -> Vec<u64> {
    of.stalls.iter().map(|stall| stall.0).collect()
}

fn experts(of: &Rebalanced) -> Vec<u64> {
    of.run.steps.iter().map(|step| step.parts.experts.0).collect()
}

const LAYERS: How = How::LayerByLayer { layers_per_step: 1 };

#[test]
fn blocking_waits_for_algorithm_and_weights() {
    let scenario = scenario(&skewed(6), &[0, 1, 2, 3]);
    let policy = Policy { algorithm_time: Nanos(70), ..policy(How::Blocking, &swap) };
    // After steps 0 and 1 the load is all on rank 0: twice the mean. An expert goes each way. After
    // two more steps both ranks have half: nothing to do.
    let found = serve(&scenario, &policy);
    assert_eq!(experts(&found), [400, 400, 200, 200, 200, 200]);
    assert_eq!(stalls(&found), [0, 0, 70 + TRANSFER, 0, 0, 0]);
    assert_eq!((found.considered, found.calls), (2, 1));
    let moved = Moved { slots: 2, bytes: [0, 2 * EXPERT, 0].map(Bytes), time: Nanos(TRANSFER) };
    let stall = Nanos(70 + TRANSFER);
    assert_eq!(
        found.rebalancings,
        [Rebalancing { step: 2, before: 2.0, proposed: 1.0, moved, stall }]
    );
    assert_eq!(found.moved, moved);
}

#[test]
fn layers_move_beside_traffic() {
    // Step 2 is served as before while weights travel; what tokens leave of the links is the 400
    // ns of the experts. Step 3 is the first that is even.
    let found = serve(&scenario(&skewed(6), &[0, 1, 2, 3]), &policy(LAYERS, &swap));
    assert_eq!(experts(&found), [400, 400, 400, 200, 200, 200]);
    assert_eq!(stalls(&found), [0, 0, TRANSFER - 400, 0, 0, 0]);
}

#[test]
fn an_algorithm_beside_serving_delays_its_answer() {
    let scenario = scenario(&skewed(6), &[0, 1, 2, 3]);
    let beside = |nanos: u64, how: How| Policy {
        algorithm_time: Nanos(nanos),
        algorithm_beside: true,
        ..policy(how, &swap)
    };
    // It ends within step 2; weights are waited for before step 3, or move beside it.
    let found = serve(&scenario, &beside(300, How::Blocking));
    assert_eq!(experts(&found), [400, 400, 400, 200, 200, 200]);
    assert_eq!(stalls(&found), [0, 0, 0, TRANSFER, 0, 0]);
    let found = serve(&scenario, &beside(300, LAYERS));
    assert_eq!(experts(&found), [400, 400, 400, 400, 200, 200]);
    assert_eq!(stalls(&found), [0, 0, 0, TRANSFER - 400, 0, 0]);
    // It never ends: nothing moves, and nobody asks again.
    let found = serve(&scenario, &beside(u64::MAX / 4, How::Blocking));
    assert_eq!((found.calls, found.stall(), found.moved), (1, Nanos(0), Moved::default()));
}

#[test]
fn copies_for_one_step_are_paid_in_every_step() {
    // A free slot on each rank. From step 1 on experts 0 and 1 are equally hot: a copy of 0 goes
    // to rank 1, which then has no room for one of 1; of the others rank 0 gets the first, expert
    // 2. One weight each way, in every step, less the time of the experts.
    let slots = [0, 1, 0, 2, 3, 1];
    let found = serve(&scenario(&skewed(3), &slots), &policy(How::EveryStep, &swap));
    assert_eq!((found.calls, found.moved.slots), (2, 4));
    assert_eq!(found.moved.bytes_all(), Bytes(4 * EXPERT));
    let free = |step: usize| experts(&found)[step];
    assert_eq!(stalls(&found), [0, TRANSFER - free(1), TRANSFER - free(2)]);
}

#[test]
fn foresight_costs_nothing() {
    let found = clairvoyant(&scenario(&skewed(5), &[0, 1, 2, 3]), 2, &swap, &|_| {}).unwrap();
    assert_eq!(experts(&found), [200; 5]);
    assert_eq!((found.stall(), found.calls), (Nanos(0), 3));
}

#[test]
fn what_cannot_be_is_refused() {
    let scenario = scenario(&skewed(3), &[0, 1, 2, 3]);
    let refused = |policy: Policy, expected: &str| {
        let error = rebalance(&scenario, &policy, &|_| {}).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    let good = policy(How::Blocking, &swap);
    refused(Policy { window: 0, ..good }, "scenario: window: 0; expected at least 1 step");
    refused(Policy { interval: 0, ..good }, "scenario: interval: 0; expected at least 1 step");
    refused(
        Policy { threshold: 0.5, ..good },
        "scenario: threshold: 0.5; expected an imbalance, 1 or more",
    );
    let wider = |_: &[Vec<f64>]| Ok(placement(&[0, 1, 2, 3, 0, 1]));
    refused(
        Policy { algorithm: &wider, ..good },
        "scenario: proposed placement: 4 experts in 6 slots on 2 ranks in 1 layers; expected 4 \
         experts in 4 slots on 2 ranks in 1 layers",
    );
}

/// Sorts experts by load and deals them to slots: some placement that follows the loads.
fn sorted(loads: &[Vec<f64>]) -> Result<Placement> {
    let mut order: Vec<u16> = (0..4).collect();
    order.sort_by(|&a, &b| loads[0][usize::from(b)].total_cmp(&loads[0][usize::from(a)]));
    Ok(placement(&[order[0], order[3], order[0], order[1], order[2], order[1]]))
}

fn steps() -> impl Strategy<Value = Vec<Vec<u16>>> {
    prop::collection::vec(prop::collection::vec(0_u16..4, 1..8), 1..50)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// An interval that the recording does not reach, and a threshold that no load passes, are a
    /// plain run.
    #[test]
    fn never_is_a_plain_run(steps in steps(), far in 0_usize..3) {
        let scenario = scenario(&steps, &[0, 1, 2, 3, 0, 1]);
        let plain = run(&scenario, &|_| {}).unwrap();
        let unasked = |_: &[Vec<f64>]| -> Result<Placement> { panic!("nobody asks") };
        let never = Policy { interval: steps.len() + far, ..policy(How::Blocking, &unasked) };
        let patient = Policy { threshold: 2.0, ..policy(How::Blocking, &unasked) };
        for policy in [never, patient] {
            let found = serve(&scenario, &policy);
            prop_assert_eq!(&found.run, &plain);
            prop_assert_eq!((found.stall(), found.moved), (Nanos(0), Moved::default()));
            prop_assert_eq!(found.time(), plain.steps.iter().map(|step| step.parts.total()).sum());
        }
    }

    /// A load that is even and stays so is left alone.
    #[test]
    fn an_even_load_is_left_alone(count in 1_usize..40, window in 1_usize..9) {
        let unasked = |_: &[Vec<f64>]| -> Result<Placement> { panic!("nobody asks") };
        let even = vec![vec![0, 1, 2, 3]; count];
        let scenario = scenario(&even, &[0, 1, 2, 3]);
        let found = serve(&scenario, &Policy { window, ..policy(LAYERS, &unasked) });
        prop_assert_eq!(found.considered as usize, (count - 1) / 2);
    }

    /// Moving nothing costs the algorithm alone.
    #[test]
    fn the_same_placement_again_costs_the_algorithm(steps in steps()) {
        let slots = [0, 1, 2, 3, 0, 1];
        let same = |_: &[Vec<f64>]| Ok(placement(&slots));
        let scenario = scenario(&steps, &slots);
        let policy = Policy { algorithm_time: Nanos(9), ..policy(How::Blocking, &same) };
        let found = serve(&scenario, &policy);
        prop_assert_eq!(found.stall(), Nanos(9 * found.calls));
        prop_assert_eq!(found.moved, Moved::default());
        prop_assert_eq!(found.run, run(&scenario, &|_| {}).unwrap());
    }

    /// Whatever moves is counted once, every step is served once, and threads change nothing.
    #[test]
    fn facts_agree_with_each_other(steps in steps(), how in 0_usize..4, beside: bool) {
        let scenario = scenario(&steps, &[0, 1, 2, 3, 0, 1]);
        let how = [How::Blocking, LAYERS, How::EveryStep, LAYERS][how];
        let policy = Policy {
            algorithm_time: Nanos(900),
            algorithm_beside: beside,
            ..policy(how, &sorted)
        };
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| serve(&scenario, &policy))
        };
        let found = on(1);
        prop_assert_eq!(&found, &on(2));
        prop_assert_eq!(found.run.steps.len(), steps.len());
        prop_assert_eq!(found.stalls.len(), steps.len());
        prop_assert_eq!(found.moved.bytes_all(), Bytes(found.moved.slots * EXPERT));
        let mut sum = Moved::default();
        found.rebalancings.iter().for_each(|one| sum.add(&one.moved));
        prop_assert!(how == How::EveryStep || sum == found.moved);
        let charged: Nanos = found.rebalancings.iter().map(|one| one.stall).sum();
        prop_assert!(how == How::EveryStep || charged >= found.stall());
        prop_assert!(how == How::EveryStep || found.calls as usize == found.rebalancings.len());
    }
}
