//! A machine that is twice as fast.

use moecast_profiles::cost;
use moecast_profiles::units::Flops;
use moecast_traces::requests::generators::{self, Length, Lengths};

use super::*;

/// A kernel without its launch, which no bandwidth changes.
struct Launched {
    kernels: Arc<dyn CostModel>,
    /// The same on a machine on which work takes no time.
    launches: Arc<dyn CostModel>,
}

impl Launched {
    fn work(&self, time: impl Fn(&dyn CostModel) -> Nanos) -> Nanos {
        time(self.kernels.as_ref()) - time(self.launches.as_ref())
    }
}

impl CostModel for Launched {
    fn experts(&self, tokens: u64, rows_per_slot: &[u32]) -> Nanos {
        self.work(|cost| cost.experts(tokens, rows_per_slot))
    }
    fn shared_experts(&self, tokens: u32) -> Nanos {
        self.work(|cost| cost.shared_experts(tokens))
    }
    fn dense_layer(&self, tokens: u32) -> Nanos {
        self.work(|cost| cost.dense_layer(tokens))
    }
    fn attention(&self, batch: AttentionBatch) -> Nanos {
        self.work(|cost| cost.attention(batch))
    }
    fn gate(&self, tokens: u32) -> Nanos {
        self.work(|cost| cost.gate(tokens))
    }
    fn head(&self, tokens: u32) -> Nanos {
        self.work(|cost| cost.head(tokens))
    }
    fn all_reduce(&self, tokens: u32) -> Nanos {
        self.work(|cost| cost.all_reduce(tokens))
    }
}

/// All bandwidths and rates times `times`, up to what 64 bits hold.
fn faster(times: u64) -> Device {
    let mut device = builtin::device("h100-sxm").unwrap();
    for bandwidth in [
        &mut device.memory_bandwidth,
        &mut device.domain_bandwidth,
        &mut device.network_bandwidth,
        &mut device.host_bandwidth,
    ] {
        bandwidth.value = Bandwidth(bandwidth.value.0.saturating_mul(times));
    }
    for rate in [&mut device.flops_bf16, &mut device.flops_fp8] {
        rate.value = Flops(rate.value.0.saturating_mul(times));
    }
    for latency in [&mut device.domain_latency, &mut device.network_latency] {
        latency.value = Nanos(0);
    }
    device
}

/// Time of a service of OLMoE on two GPUs, and its passes.
fn duration(times: u64) -> (f64, u64) {
    let model = builtin::model("olmoe-1b-7b").unwrap();
    let layout = Layout { tensor: 2, data: 1, expert: 2, expert_tensor: 1, pipeline: 1 };
    let kernels = |times: u64| {
        let setting = cost::Setting {
            model: &model,
            device: &faster(times),
            tensor_ranks: 2,
            expert_tensor_ranks: 1,
            expert_ranks: 2,
            exchange: None,
            profile: None,
        };
        Kernels::new(cost::find("roofline").unwrap(), &setting).unwrap()
    };
    let mut own = kernels(times);
    let launches = kernels(1 << 30).model;
    own.model = Arc::new(Launched { kernels: Arc::clone(&own.model), launches });
    let settings = settings(&[("clients", 8.0), ("requests-per-client", 3.0)]);
    let lengths = Lengths::Drawn {
        input: Length::Uniform { nominal: 1_000, low: 0.8, high: 1.0 },
        output: Length::Uniform { nominal: 100, low: 0.8, high: 1.0 },
    };
    let service = Service::new(Setting {
        engine: engine(Scheduler::MixedChunkedPrefill),
        factors: Factors {
            decode_factor: 1.0,
            prefill_factor: 1.0,
            host_time: Nanos(0),
            ttft_offset: Nanos(0),
        },
        pools: vec![PoolSetting {
            role: Role::Both,
            replicas: 1,
            layout,
            hardware: Hardware::new(faster(times), 1, 2).unwrap(),
            kernels: own,
            exchange: None,
            placement: None,
            routing: RoutingSource::Even,
            limits: Limits::default(),
        }],
        router: router::find("round-robin").unwrap(),
        load: generators::generate("closed-loop", &settings, lengths, Seed(1)).unwrap(),
        speculation: Speculation::default(),
        preemption: Preemption::Recompute,
        prefix_cache: false,
        seed: Seed(1),
        model,
    });
    let served = run(&service.unwrap(), &mut Facts::default(), &mut |_| ());
    (served.end.0 as f64, served.passes)
}

/// Clients that wait for their answers see the same passes, each in half the time; a nanosecond
/// of rounding a kernel is allowed for.
#[test]
fn twice_the_bandwidths_and_rates_halve_the_time() {
    let (slow, fast) = (duration(1), duration(2));
    assert_eq!(slow.1, fast.1);
    let ratio = slow.0 / fast.0;
    assert!((ratio - 2.0).abs() < 1e-3, "{slow:?} ns and {fast:?} ns: {ratio} times as fast");
}
