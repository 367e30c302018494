//! Services that are solved by hand, and those that queueing theory solves.

mod by_hand;
mod faults;
mod machines;
mod queues;

use std::collections::BTreeMap;
use std::sync::Arc;

use moecast_profiles::builtin;
use moecast_profiles::calibration::Factors;
use moecast_profiles::cost::exchange::{ExchangeModel, Rule, Traffic, Way};
use moecast_profiles::cost::{AttentionBatch, CostModel, Kernels, Known};
use moecast_profiles::engine::{self, Engine, Scheduler};
use moecast_profiles::hardware::{Device, Hardware};
use moecast_profiles::model::{Attention, DataType, ModelShape};
use moecast_profiles::seed::Seed;
use moecast_profiles::units::{Bandwidth, Nanos};
use moecast_traces::requests::{Arrival, Load, RequestHeader, RequestTrace, RequestTraceBuilder};

use super::faults::FaultFile;
use super::layout::Layout;
use super::record::RequestRecord;
use super::router;
use super::service::{
    Limits, PoolSetting, Preemption, Role, RoutingSource, Service, Setting, Speculation,
};
use super::simulate::{Served, run};
use super::swarm::facts::Facts;
use crate::placement::Placement;

/// One layer of attention takes a time a pass, a prompt token and a generated one; all else is
/// free.
#[derive(Clone, Copy)]
struct Clock {
    pass: u64,
    prompt: u64,
    answer: u64,
}

/// 1,000 ns a pass, 10 ns a prompt token, 100 ns a generated one.
const CLOCK: Clock = Clock { pass: 1_000, prompt: 10, answer: 100 };

impl CostModel for Clock {
    fn experts(&self, _: u64, _: &[u32]) -> Nanos {
        Nanos(0)
    }
    fn shared_experts(&self, _: u32) -> Nanos {
        Nanos(0)
    }
    fn dense_layer(&self, _: u32) -> Nanos {
        Nanos(0)
    }
    fn attention(&self, batch: AttentionBatch) -> Nanos {
        let tokens = |tokens: u32, each: u64| u64::from(tokens) * each;
        if batch.tokens() == 0 {
            return Nanos(0);
        }
        let prompts = tokens(batch.prefill.tokens, self.prompt);
        Nanos(self.pass + prompts + tokens(batch.decode.tokens, self.answer))
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

/// An exchange that takes no time.
struct Free;

impl ExchangeModel for Free {
    fn time(&self, _: Way, _: &Traffic) -> Nanos {
        Nanos(0)
    }
    fn rule(&self) -> Rule {
        Rule::PerPick
    }
    fn known(&self) -> Vec<Known> {
        Vec::new()
    }
}

/// What a case is made of; prompts and answers of `(arrival ns, input, output)`.
struct Case {
    clock: Clock,
    scheduler: Scheduler,
    layout: Layout,
    limits: Limits,
    load: Load,
    speculation: Speculation,
    preemption: Preemption,
    /// Whether answers have a pool of their own.
    apart: bool,
    /// Replicas of every pool.
    replicas: u16,
    placement: Option<Placement>,
    faults: Vec<FaultFile>,
}

impl Case {
    fn new(scheduler: Scheduler, requests: &[(u64, u32, u32)]) -> Self {
        let requests = requests.iter().map(|one| (*one, &[][..]));
        Self {
            clock: CLOCK,
            scheduler,
            layout: Layout::ONE,
            limits: Limits { graph_batch_max: Some(0), ..Limits::default() },
            load: Load::Open(trace(requests)),
            speculation: Speculation::default(),
            preemption: Preemption::Recompute,
            apart: false,
            replicas: 1,
            placement: None,
            faults: Vec::new(),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// At most so many tokens a pass.
    fn budget(self, tokens: u32) -> Self {
        self.with(|case| case.limits.step_tokens_max = Some(tokens))
    }

    /// So many tokens of context, in blocks of 16.
    fn cache(self, tokens: u64) -> Self {
        self.with(|case| case.limits.kv_tokens = Some(tokens))
    }

    fn service(&self) -> Service {
        let roles = if self.apart { &[Role::Prefill, Role::Decode][..] } else { &[Role::Both] };
        Service::new(Setting {
            model: model(self.layout.pipeline),
            engine: engine(self.scheduler),
            factors: Factors {
                decode_factor: 1.0,
                prefill_factor: 1.0,
                host_time: Nanos(0),
                ttft_offset: Nanos(0),
            },
            pools: roles.iter().map(|role| self.pool(*role)).collect(),
            router: router::find("round-robin").unwrap(),
            load: self.load.clone(),
            speculation: self.speculation,
            preemption: self.preemption,
            prefix_cache: true,
            seed: Seed(0),
        })
        .and_then(|service| service.with_faults(&self.faults))
        .unwrap()
    }

    fn pool(&self, role: Role) -> PoolSetting {
        let (layout, model) = (self.layout, Arc::new(self.clock));
        let free = || -> Arc<dyn ExchangeModel> { Arc::new(Free) };
        PoolSetting {
            role,
            replicas: self.replicas,
            layout,
            hardware: Hardware::new(device(), 1, layout.data).unwrap(),
            kernels: Kernels {
                name: "clock".to_owned(),
                about: String::new(),
                flags: Vec::new(),
                model,
            },
            exchange: layout.exchanges().then(|| [free(), free()]),
            placement: self.placement.clone(),
            routing: RoutingSource::Even,
            limits: self.limits,
        }
    }

    fn run(&self) -> (Facts, Served) {
        let mut facts = Facts::default();
        let served = run(&self.service(), &mut facts, &mut |_| ());
        facts.requests.sort_by_key(|record| record.id);
        (facts, served)
    }

    /// `(first token, last token)` of every request, ns.
    fn times(&self) -> Vec<(u64, u64)> {
        let (facts, _) = self.run();
        let times = |record: &RequestRecord| (record.first_token.0, record.finished.0);
        facts.requests.iter().map(times).collect()
    }
}

fn trace<'a>(requests: impl Iterator<Item = ((u64, u32, u32), &'a [u64])>) -> RequestTrace {
    let mut builder = RequestTraceBuilder::new(RequestHeader::new("by hand", true));
    for ((stamp, input_tokens, output_tokens), prefix_hashes) in requests {
        let stamp = i128::from(stamp);
        let arrival = Arrival { stamp, input_tokens, output_tokens, prefix_hashes };
        builder.push(arrival).unwrap();
    }
    builder.finish().unwrap()
}

/// A layer a stage; 1,000 bytes of cache a token and layer.
fn model(layers: u16) -> ModelShape {
    ModelShape {
        name: "by-hand".to_owned(),
        source: "by hand".to_owned(),
        hidden_layers: layers,
        moe_layers: (0..layers).collect(),
        hidden: 64,
        experts: 4,
        zero_experts: 0,
        top_k: 1,
        expert_inter: 64,
        shared_inter: 0,
        dense_inter: 0,
        expert_groups: 1,
        attention: Attention::Gqa {
            heads: 1,
            kv_heads: 1,
            head_dim: 250,
            window: None,
            windowed_layers: 0,
        },
        vocab: 100,
        expert_type: DataType::Bf16,
        dense_type: DataType::Bf16,
    }
}

fn engine(scheduler: Scheduler) -> Engine {
    let mut engine = engine::find("vllm").unwrap();
    engine.scheduler.value = scheduler;
    engine.kv_block_tokens.value = 16;
    engine
}

/// A token of cache takes 10 ns to the host, and 100 ns and 500 ns more over the network; a
/// message to the next stage takes 50 ns.
fn device() -> Device {
    let mut device = builtin::device("h100-sxm").unwrap();
    device.host_bandwidth.value = Bandwidth(100_000_000_000);
    device.network_bandwidth.value = Bandwidth(10_000_000_000);
    device.network_latency.value = Nanos(500);
    device.domain_latency.value = Nanos(50);
    device
}

/// Settings of a generator.
fn settings(of: &[(&str, f64)]) -> BTreeMap<String, f64> {
    of.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}
