use std::sync::Arc;

use moecast_profiles::builtin;
use moecast_profiles::calibration::Factors;
use moecast_profiles::cost::exchange::{self, Setting as ExchangeSetting};
use moecast_profiles::cost::{self, Kernels};
use moecast_profiles::model::DataType;

use super::*;
use crate::forward::estimate::Precision;

const RANKS: u16 = 16;

fn setting(overlap: Overlap, batch: Repeated) -> Setting {
    let mut model = builtin::model("deepseek-v3").unwrap();
    // Few layers: the laws do not depend on their number.
    model.hidden_layers = 6;
    model.moe_layers = (2..6).collect();
    let hardware = Hardware::from_spec(&format!("h100-sxm:2x{}", RANKS / 2)).unwrap();
    let device = hardware.device();
    let kernels = Kernels::new(
        cost::find("roofline").unwrap(),
        &cost::Setting {
            model: &model,
            device,
            tensor_ranks: 1,
            expert_tensor_ranks: 1,
            expert_ranks: RANKS,
            exchange: None,
            profile: None,
        },
    )
    .unwrap();
    let exchange = (exchange::find("deepep-low-latency").unwrap().build)(&ExchangeSetting {
        hardware: &hardware,
        model: &model,
        dispatch_type: DataType::Fp8,
        combine_type: DataType::Bf16,
        profile: None,
    })
    .unwrap();
    Setting {
        kernels,
        exchange: Some(exchange),
        layout: Layout { tensor: 1, data: RANKS, expert: RANKS, expert_tensor: 1, pipeline: 1 },
        model,
        hardware,
        placement: None,
        routing: RoutingSource::Even,
        factors: Factors::of(moecast_profiles::engine::find("sglang").unwrap().at("")),
        batch,
        overlap,
        scope: scope::Scope::default(),
        collective: None,
        seed: Seed(0),
    }
}

fn decode(requests: u32, overlap: Overlap) -> Forward {
    let batch = Repeated { requests, context: 2_048, ..Repeated::default() };
    Forward::new(setting(overlap, batch)).unwrap()
}

#[test]
fn without_overlap_a_pass_is_the_sum_of_its_parts_in_either_mode() {
    let forward = decode(128, Overlap::NONE);
    let step = forward.run(0, Mode::Step);
    let event = forward.run(0, Mode::Event);
    let sum: f64 = step.alone.iter().sum();
    let host = forward.factors.host_time.0 as f64;
    assert!((step.time.0 as f64 - sum - host).abs() < 10.0, "{step:?}");
    // Ranks that are early wait: nothing contends, so nothing else differs.
    assert!((event.time.0 as f64 / step.time.0 as f64 - 1.0).abs() < 0.01);
    assert!(event.imbalance >= 1.0);
}

/// The bar for two micro-batches: the modes within 10%. Large batches gain by them and small ones
/// lose, for weights are read twice.
#[test]
fn two_batches_pay_where_there_is_enough_to_hide() {
    let time = |requests, overlap, mode| decode(requests, overlap).run(0, mode).time.0 as f64;
    let step = time(256, Overlap::TWO_BATCH, Mode::Step);
    let event = time(256, Overlap::TWO_BATCH, Mode::Event);
    assert!((event / step - 1.0).abs() < 0.1, "{step} and {event}");
    let large = time(1_024, Overlap::TWO_BATCH, Mode::Step);
    assert!(large < 0.97 * time(1_024, Overlap::NONE, Mode::Step));
    assert!(time(4, Overlap::TWO_BATCH, Mode::Step) > time(4, Overlap::NONE, Mode::Step));
}

/// Every routed pair is computed once: the copies that arrive at ranks are the picks of all tokens.
#[test]
fn passes_of_one_number_are_equal_and_of_others_are_not() {
    let forward = decode(64, Overlap::TWO_BATCH);
    assert_eq!(forward.run(3, Mode::Event), forward.run(3, Mode::Event));
    assert_ne!(forward.run(3, Mode::Step).alone, forward.run(4, Mode::Step).alone);
    assert_eq!(forward.tokens(), 64 * u64::from(RANKS));
}

#[test]
fn an_estimate_is_as_precise_as_asked() {
    let forward = decode(16, Overlap::NONE);
    let estimate = forward.estimate(Mode::Step, Precision { relative: 0.02, passes_max: 100 });
    assert!(estimate.half_width <= 0.02 * estimate.time, "{estimate:?}");
    let fewer = forward.estimate(Mode::Step, Precision { relative: 0.5, passes_max: 100 });
    assert!(fewer.passes <= estimate.passes);
}

/// The closed form of a service's full batch and this one are two ways to the same pass.
#[test]
fn a_pass_is_that_of_a_service_whose_batch_repeats() {
    use crate::serving::service::{Limits, PoolSetting, Preemption, Role, Service, Speculation};
    use moecast_traces::requests::generators::{self, Length, Lengths};
    let batch = Repeated { requests: 64, context: 2_048, ..Repeated::default() };
    let Setting { model, hardware, layout, kernels, exchange, factors, seed, .. } =
        setting(Overlap::NONE, batch);
    let exchange = exchange.map(|model| [Arc::clone(&model), model]);
    let one = Length::Fixed { tokens: 1 };
    let values = std::collections::BTreeMap::from([("clients".to_owned(), 1.0)]);
    let lengths = Lengths::Drawn { input: one, output: one };
    let service = Service::new(crate::serving::Setting {
        engine: moecast_profiles::engine::find("sglang").unwrap().at("").clone(),
        model,
        factors,
        pools: vec![PoolSetting {
            role: Role::Both,
            replicas: 1,
            layout,
            hardware,
            kernels,
            exchange,
            placement: None,
            routing: RoutingSource::Even,
            limits: Limits::default(),
        }],
        router: crate::serving::router::find("round-robin").unwrap(),
        load: generators::generate("closed-loop", &values, lengths, seed).unwrap(),
        speculation: Speculation::default(),
        preemption: Preemption::Recompute,
        prefix_cache: false,
        seed,
    })
    .unwrap();
    let repeated = service.repeat(0, &batch).time.0 as f64;
    let estimate = decode(64, Overlap::NONE).estimate(Mode::Step, Precision::default());
    assert!((estimate.time / repeated - 1.0).abs() < 0.03, "{} and {repeated}", estimate.time);
}
