//! Random tiny models and the machines that they run on.

use std::sync::{Arc, OnceLock};

use moecast_profiles::builtin;
use moecast_profiles::engine::{self, Engine};
use moecast_profiles::hardware::Device;
use moecast_profiles::ids::ExpertId;
use moecast_profiles::model::{Attention, DataType, ModelShape};
use moecast_profiles::units::{Bandwidth, Nanos};
use moecast_traces::{Header, Phase, RoutingTrace, TokenRow, TraceBuilder};

use super::dice::Dice;
use super::scenario::Features;
use crate::Placement;
use crate::serving::layout::Layout;

/// Any shipped engine, with blocks of any size.
pub(super) fn engine(dice: &mut Dice, on: &mut Features) -> Engine {
    static ENGINES: OnceLock<Vec<Engine>> = OnceLock::new();
    let all = ENGINES.get_or_init(|| {
        let read = |preset: &builtin::Preset| engine::find(preset.name);
        engine::ALL.iter().map(|preset| read(preset).expect("shipped")).collect()
    });
    let mut engine = all[dice.within(0..=all.len() as u32 - 1) as usize].clone();
    if dice.chance(0.5) {
        engine.kv_block_tokens.value = dice.among(&[1, 3, 16, 64, 512]);
    }
    if on.whole {
        engine.decode_factor.value = 1.0;
        engine.prefill_factor.value = 1.0;
    }
    on.note(match engine.scheduler.value {
        engine::Scheduler::MixedChunkedPrefill => "scheduler: mixed chunks",
        engine::Scheduler::PrefillFirst => "scheduler: prompts first",
        engine::Scheduler::InFlightBatching => "scheduler: in-flight batching",
        engine::Scheduler::Slots => "scheduler: slots",
    });
    engine
}

pub(super) fn model(dice: &mut Dice, on: &mut Features) -> ModelShape {
    let hidden_layers = dice.within(1..=4) as u16;
    let dense = on.on(dice, "dense layers") && hidden_layers > 1;
    let first = if dense { dice.within(1..=u32::from(hidden_layers) - 1) as u16 } else { 0 };
    let experts = dice.within(2..=12) as u16;
    let shared_inter = if on.on(dice, "shared experts") { 96 } else { 0 };
    ModelShape {
        name: "swarm".to_owned(),
        source: "drawn".to_owned(),
        hidden_layers,
        moe_layers: (first..hidden_layers).collect(),
        hidden: dice.among(&[64, 256]),
        experts,
        zero_experts: 0,
        top_k: dice.within(1..=u32::from(experts.min(4))) as u16,
        expert_inter: dice.among(&[32, 48, 128]),
        shared_inter,
        dense_inter: if dense { 128 } else { 0 },
        expert_groups: 1,
        attention: attention(dice, on, hidden_layers),
        vocab: 1000,
        expert_type: dice.among(&[DataType::Bf16, DataType::Fp8, DataType::Mxfp4]),
        dense_type: dice.among(&[DataType::Bf16, DataType::Fp8]),
    }
}

fn attention(dice: &mut Dice, on: &mut Features, layers: u16) -> Attention {
    let heads = 8;
    if on.on(dice, "latent attention") {
        return Attention::Mla {
            heads,
            q_lora_rank: dice.among(&[0, 32]),
            kv_lora_rank: 64,
            nope_head_dim: 16,
            rope_head_dim: 8,
            v_head_dim: 16,
        };
    }
    let window = on.on(dice, "windows").then(|| dice.among(&[16, 100, 1024]));
    let windowed_layers = match window {
        Some(_) => dice.within(1..=u32::from(layers)) as u16,
        None => 0,
    };
    Attention::Gqa {
        heads,
        kv_heads: dice.among(&[1, 2, 8]),
        head_dim: 16,
        window,
        windowed_layers,
    }
}

pub(super) fn layout(dice: &mut Dice, on: &mut Features, model: &ModelShape) -> Layout {
    let tensor = if on.on(dice, "tensor parallelism") { dice.among(&[2, 4]) } else { 1 };
    let data =
        if !on.whole && on.on(dice, "data parallelism") { dice.within(2..=3) as u16 } else { 1 };
    let ranks = tensor * data;
    let fits = |expert: &u16| ranks.is_multiple_of(*expert) && *expert <= model.experts;
    let all: Vec<u16> = (1..=ranks).filter(fits).collect();
    let expert = dice.among(&all);
    let pipeline = if on.on(dice, "pipelines") && model.hidden_layers > 1 {
        dice.within(2..=u32::from(model.hidden_layers)) as u16
    } else {
        1
    };
    on.mark(expert > 1, "expert parallelism");
    Layout { tensor, data, expert, expert_tensor: ranks / expert, pipeline }
}

/// A machine whose copies take whole nanoseconds, `times` as slow.
pub(super) fn device(times: u64) -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    let read = || builtin::device("h100-sxm").expect("shipped");
    let mut device = DEVICE.get_or_init(read).clone();
    device.domain_size.value = 64;
    for bandwidth in [&mut device.host_bandwidth, &mut device.network_bandwidth] {
        bandwidth.value = Bandwidth(12_000_000_000 / times);
    }
    for latency in [&mut device.domain_latency, &mut device.network_latency] {
        latency.value = Nanos(1_500 * times);
    }
    device
}

/// Experts in any order, some of them several times.
pub(super) fn placement(dice: &mut Dice, model: &ModelShape, ranks: u16) -> Placement {
    let slots = (model.experts + dice.within(0..=6) as u16).next_multiple_of(ranks);
    let layer = |dice: &mut Dice| {
        let mut layer: Vec<ExpertId> = (0..model.experts).map(ExpertId).collect();
        while layer.len() < usize::from(slots) {
            layer.push(ExpertId(dice.within(0..=u32::from(model.experts) - 1) as u16));
        }
        for place in 0..layer.len() {
            layer.swap(place, dice.within(0..=slots as u32 - 1) as usize);
        }
        layer
    };
    let layers = model.moe_layers.iter().map(|_| layer(dice)).collect();
    Placement::new(model.experts, ranks, layers).expect("every expert has a slot")
}

/// Every expert on every rank.
pub(super) fn everywhere(model: &ModelShape, ranks: u16) -> Placement {
    let layer = (0..ranks).flat_map(|_| (0..model.experts).map(ExpertId)).collect::<Vec<_>>();
    let layers = model.moe_layers.iter().map(|_| layer.clone()).collect();
    Placement::new(model.experts, ranks, layers).expect("every expert has a slot")
}

/// A short recording: of tokens, or of counts only.
pub(super) fn recording(dice: &mut Dice, model: &ModelShape, counted: bool) -> Arc<RoutingTrace> {
    let (experts, top_k) = (model.experts, model.top_k);
    let layers = model.moe_layers.clone();
    let count = layers.len();
    let mut builder = TraceBuilder::new(Header::new("swarm", "swarm", experts, top_k, layers));
    if counted {
        for _ in 0..3 {
            let counts: Vec<u32> =
                (0..count * usize::from(experts)).map(|_| dice.within(0..=9)).collect();
            builder.push_counts(&counts);
        }
        return Arc::new(builder.finish("swarm").expect("counts of a model"));
    }
    let prompts = dice.among(&[0, 1, 20]);
    let generated = if prompts == 0 { 3 } else { dice.among(&[0, 1, 5]) };
    for request in 0..3 {
        for position in 0..prompts + generated {
            let mut chosen = Vec::new();
            for _ in 0..count {
                let first = dice.within(0..=u32::from(experts) - 1) as u16;
                chosen.extend((0..top_k).map(|pick| (first + pick) % experts));
            }
            let phase = if position < prompts { Phase::Prefill } else { Phase::Decode };
            let step = request * 100 + position;
            let experts = &chosen;
            builder.push_token(TokenRow { request, position, step, phase, experts, weights: None });
        }
    }
    Arc::new(builder.finish("swarm").expect("tokens of a model"))
}
