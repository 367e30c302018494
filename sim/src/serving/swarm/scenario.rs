//! One random service: a seed switches features on or off and skews what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use moecast_profiles::calibration::Factors;
use moecast_profiles::cost::exchange::{self, ExchangeModel};
use moecast_profiles::cost::{self, CostModel, Kernels};
use moecast_profiles::engine::{Backend, Engine, Operation, Phase};
use moecast_profiles::hardware::Hardware;
use moecast_profiles::model::ModelShape;
use moecast_profiles::seed::Seed;
use moecast_profiles::units::{Bytes, Nanos};
use moecast_traces::requests::generators::{self, Lengths};
use moecast_traces::requests::{Arrival, Load, PREFIX_BLOCK_TOKENS, RequestTraceBuilder};
use moecast_traces::requests::{RequestHeader, RequestTrace};

use super::breaks;
use super::dice::Dice;
use super::machine;
use super::scaled::Slowed;
use crate::Placement;
use crate::serving::faults::FaultFile;
use crate::serving::layout::Layout;
use crate::serving::memory::Memory;
use crate::serving::router;
use crate::serving::service::{
    Limits, PoolSetting, Preemption, Role, RoutingSource, Service, Setting, Speculation,
};

/// Which features are on; how many at all is drawn first.
pub(super) struct Features {
    chance: f64,
    /// Without what is a mean over draws, so that times are whole numbers of nanoseconds.
    pub(super) whole: bool,
    pub(super) on: BTreeSet<&'static str>,
}

impl Features {
    /// Whether feature `name` is on.
    pub(super) fn on(&mut self, dice: &mut Dice, name: &'static str) -> bool {
        let on = dice.chance(self.chance);
        self.mark(on, name);
        on
    }

    pub(super) fn mark(&mut self, on: bool, name: &'static str) {
        if on {
            self.note(name);
        }
    }

    pub(super) fn note(&mut self, name: &'static str) {
        self.on.insert(name);
    }
}

/// What one client asks.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) stamp: u64,
    pub(super) input: u32,
    pub(super) output: u32,
    hashes: Vec<u64>,
}

pub(super) struct PoolPlan {
    pub(super) role: Role,
    pub(super) replicas: u16,
    pub(super) layout: Layout,
    pub(super) limits: Limits,
    placement: Option<Placement>,
}

/// Everything that is drawn.
pub(super) struct Scenario {
    pub(super) features: Features,
    pub(super) model: ModelShape,
    pub(super) engine: Engine,
    pub(super) pools: Vec<PoolPlan>,
    pub(super) asks: Vec<Ask>,
    /// Of a closed load.
    pub(super) clients: Option<u32>,
    staggered: bool,
    pub(super) speculation: Speculation,
    pub(super) preemption: Preemption,
    pub(super) prefix_cache: bool,
    pub(super) routing: RoutingSource,
    router: &'static router::Entry,
    cost: &'static cost::Entry,
    host_time: u64,
    pub(super) offset: u64,
    seed: u64,
    pub(super) faults: Vec<FaultFile>,
}

impl Scenario {
    pub(super) fn draw(seed: u64) -> Self {
        let dice = &mut Dice::new(seed);
        let (chance, whole) = (dice.among(&[0.1, 0.4, 0.8]), dice.chance(0.2));
        let mut features = Features { chance, whole, on: BTreeSet::new() };
        let on = &mut features;
        let (engine, model) = (machine::engine(dice, on), machine::model(dice, on));
        let speculation = speculation(dice, on);
        let closed = on.on(dice, "closed load");
        let prefixes = !closed && on.on(dice, "shared prefixes");
        let asks = asks(dice, on, prefixes);
        let clients = closed.then(|| dice.within(1..=asks.len().min(12) as u32));
        let staggered = closed && on.on(dice, "staggered clients");
        let swaps = on.on(dice, "swap");
        let mut scenario = Self {
            routing: routing(dice, on, &model),
            pools: Vec::new(),
            preemption: if swaps { Preemption::Swap } else { Preemption::Recompute },
            prefix_cache: prefixes || dice.chance(0.5),
            router: &router::ALL[dice.within(0..=router::ALL.len() as u32 - 1) as usize],
            cost: cost::find(dice.among(&["fixed", "roofline"])).expect("a cost model"),
            host_time: dice.among(&[0, 1_000, 300_000]),
            offset: if on.on(dice, "offset") { 20 * 1_024 } else { 0 },
            features,
            model,
            engine,
            asks,
            clients,
            staggered,
            speculation,
            seed,
            faults: Vec::new(),
        };
        scenario.draw_pools(dice);
        // Drawn last: all else is as it was without faults.
        if scenario.features.on(dice, "faults") {
            let pools = &scenario.pools;
            scenario.faults = (0..dice.within(1..=3)).map(|_| breaks::draw(dice, pools)).collect();
            // Chance alone hardly ever leaves every expert a slot elsewhere.
            let model = &scenario.model;
            for pool in scenario.pools.iter_mut().filter(|pool| pool.layout.data > 1) {
                pool.placement = Some(machine::everywhere(model, pool.layout.expert));
            }
        }
        scenario
    }

    fn draw_pools(&mut self, dice: &mut Dice) {
        let apart = self.features.on(dice, "disaggregation");
        let roles = if apart { &[Role::Prefill, Role::Decode][..] } else { &[Role::Both][..] };
        for role in roles {
            let on = &mut self.features;
            let layout = machine::layout(dice, on, &self.model);
            let placed = on.on(dice, "placement with replicas");
            let placement = placed.then(|| machine::placement(dice, &self.model, layout.expert));
            let replicas = if on.on(dice, "replicas") { dice.within(2..=3) as u16 } else { 1 };
            let limits = self.limits(dice, &layout);
            self.pools.push(PoolPlan { role: *role, replicas, layout, limits, placement });
        }
    }

    /// Limits that are tight, or the engine's.
    fn limits(&mut self, dice: &mut Dice, layout: &Layout) -> Limits {
        let on = &mut self.features;
        let device = machine::device(1);
        let memory = Memory::new(&self.model, &device, &self.engine, layout, 1);
        let memory = memory.expect("tiny models fit");
        let drafts = self.speculation.draft_tokens;
        let longest = self.asks.iter().map(|ask| ask.input + ask.output).max().unwrap_or(1);
        let block = self.engine.kv_block_tokens.value;
        let least = (longest + drafts + memory.kv_tokens_per_request).next_multiple_of(block);
        let kv_tokens = on.on(dice, "tight cache").then(|| {
            let more = dice.skewed(2 * least);
            u64::from(least + if dice.chance(0.5) { 0 } else { more })
        });
        // Long prompts a token at a time only take long.
        let tokens_min = if longest > 1_000 { 64 } else { 1 + drafts };
        let step_tokens_max = on.on(dice, "small passes").then(|| tokens_min.max(dice.skewed(600)));
        let sequences_max = on.on(dice, "few sequences").then(|| dice.within(1..=4));
        let graph_batch_max = on.on(dice, "no graphs").then_some(0);
        Limits { step_tokens_max, sequences_max, kv_tokens, graph_batch_max }
    }

    /// The service on a machine that is `times` as slow; requests come `times` as slowly.
    pub(super) fn service(&self, times: u64) -> Result<Service, String> {
        let pools = self.pools.iter().map(|pool| self.pool(pool, times));
        let factors = Factors {
            decode_factor: self.engine.decode_factor.value,
            prefill_factor: self.engine.prefill_factor.value,
            host_time: Nanos(self.host_time * times),
            ttft_offset: Nanos(self.offset * times),
        };
        let setting = Setting {
            model: self.model.clone(),
            engine: self.engine.clone(),
            factors,
            pools: pools.collect::<Result<_, _>>()?,
            router: self.router,
            load: self.load(times)?,
            speculation: self.speculation,
            preemption: self.preemption,
            prefix_cache: self.prefix_cache,
            seed: Seed(self.seed),
        };
        let service = Service::new(setting).and_then(|whole| whole.with_faults(&self.faults));
        service.map_err(|error| error.to_string())
    }

    /// Whether factors leave whole nanoseconds whole.
    pub(super) fn whole_factors(&self) -> bool {
        let factors = [&self.engine.decode_factor, &self.engine.prefill_factor];
        factors.iter().all(|factor| factor.value == 1.0)
    }

    fn pool(&self, plan: &PoolPlan, times: u64) -> Result<PoolSetting, String> {
        let layout = plan.layout;
        let ranks = u16::try_from(layout.ranks()).expect("few ranks");
        let phases = [Phase::Prefill, Phase::Decode];
        let reaches = phases.iter().all(|phase| self.backend(*phase) != Backend::OneSidedNvlink);
        let nodes = if reaches && ranks.is_multiple_of(2) { 1 + (self.seed % 2) as u16 } else { 1 };
        let hardware = Hardware::new(machine::device(times), nodes, ranks / nodes)
            .map_err(|error| error.to_string())?;
        let setting = cost::Setting {
            model: &self.model,
            device: &machine::device(1),
            tensor_ranks: layout.tensor,
            expert_tensor_ranks: layout.expert_tensor,
            expert_ranks: layout.expert,
            exchange: None,
            profile: None,
        };
        let mut kernels = Kernels::new(self.cost, &setting).map_err(|error| error.to_string())?;
        let inner: Arc<dyn CostModel> = kernels.model;
        kernels.model = Arc::new(Slowed { inner, times });
        let exchange = match layout.exchanges() {
            true => Some([
                self.exchange(&hardware, Phase::Prefill, times)?,
                self.exchange(&hardware, Phase::Decode, times)?,
            ]),
            false => None,
        };
        Ok(PoolSetting {
            role: plan.role,
            replicas: plan.replicas,
            layout,
            hardware,
            kernels,
            exchange,
            placement: plan.placement.clone(),
            routing: self.routing.clone(),
            limits: plan.limits,
        })
    }

    fn exchange(
        &self,
        hardware: &Hardware,
        phase: Phase,
        times: u64,
    ) -> Result<Arc<dyn ExchangeModel>, String> {
        let (nodes, gpus) = (hardware.nodes(), hardware.gpus_per_node());
        let same = Hardware::new(machine::device(1), nodes, gpus);
        let setting = exchange::Setting {
            hardware: &same.map_err(|error| error.to_string())?,
            model: &self.model,
            dispatch_type: self.engine.dispatch_type.value,
            combine_type: self.engine.combine_type.value,
            profile: None,
        };
        let inner = (exchange::of_backend(self.backend(phase)).build)(&setting);
        Ok(Arc::new(Slowed { inner: inner.map_err(|error| error.to_string())?, times }))
    }

    fn backend(&self, phase: Phase) -> Backend {
        self.engine.backend(Operation::ExpertExchange, phase, Bytes(u64::MAX))
    }

    fn load(&self, times: u64) -> Result<Load, String> {
        let trace = self.trace(times)?;
        let Some(clients) = self.clients else { return Ok(Load::Open(trace)) };
        let turns = (self.asks.len() as u32).div_ceil(clients);
        let settings = BTreeMap::from([
            ("clients".to_owned(), f64::from(clients)),
            ("requests-per-client".to_owned(), f64::from(turns)),
        ]);
        let lengths = Lengths::Recorded(&trace);
        let load = generators::generate("closed-loop", &settings, lengths, Seed(self.seed));
        match load.map_err(|error| error.to_string())? {
            Load::Closed(closed) if self.staggered => Ok(Load::Closed(closed.staggered())),
            load => Ok(load),
        }
    }

    fn trace(&self, times: u64) -> Result<RequestTrace, String> {
        let mut builder = RequestTraceBuilder::new(RequestHeader::new("swarm", true));
        for ask in &self.asks {
            let arrival = Arrival {
                stamp: i128::from(ask.stamp * times),
                input_tokens: ask.input,
                output_tokens: ask.output,
                prefix_hashes: &ask.hashes,
            };
            builder.push(arrival).map_err(|refusal| format!("{refusal:?}"))?;
        }
        builder.finish().map_err(|refusal| format!("{refusal:?}"))
    }
}

fn speculation(dice: &mut Dice, on: &mut Features) -> Speculation {
    if on.whole || !on.on(dice, "drafts") {
        return Speculation::default();
    }
    let acceptance = dice.among(&[0.0, 0.3, 0.7, 1.0]);
    Speculation { draft_tokens: dice.within(1..=4), acceptance }
}

fn routing(dice: &mut Dice, on: &mut Features, model: &ModelShape) -> RoutingSource {
    if on.on(dice, "recorded routing") || on.whole {
        on.note("recorded routing");
        return RoutingSource::Recorded(machine::recording(dice, model, false));
    }
    if on.on(dice, "mean routing") {
        return RoutingSource::Mean(machine::recording(dice, model, false));
    }
    if on.on(dice, "counted routing") {
        return RoutingSource::Recorded(machine::recording(dice, model, true));
    }
    on.note("even routing");
    RoutingSource::Even
}

fn asks(dice: &mut Dice, on: &mut Features, prefixes: bool) -> Vec<Ask> {
    let count = dice.within(1..=24);
    let burst = on.on(dice, "burst");
    let gap = dice.among(&[1_000, 100_000, 5_000_000]);
    let (input_most, output_most) =
        (if prefixes { 2_500 } else { dice.among(&[1, 40, 900]) }, dice.among(&[1, 6, 30, 120]));
    let mut stamp = 0;
    (0..u64::from(count))
        .map(|number| {
            let known = prefixes && dice.chance(0.8);
            let input = if known { dice.within(1..=5) * PREFIX_BLOCK_TOKENS } else { 0 };
            let rest = if known && dice.chance(0.3) { 0 } else { dice.skewed(input_most) };
            let input = (input + rest).max(1);
            let output = dice.skewed(output_most);
            let hashes = if known { chain(dice, number, input) } else { Vec::new() };
            let ask = Ask { stamp, input, output, hashes };
            if !burst {
                stamp += u64::from(dice.skewed(gap));
            }
            ask
        })
        .collect()
}

/// Blocks that begin as those of others: a hash names everything up to the end of its block.
fn chain(dice: &mut Dice, number: u64, input: u32) -> Vec<u64> {
    let blocks = u64::from(input.div_ceil(PREFIX_BLOCK_TOKENS));
    let family = u64::from(dice.within(0..=2));
    let shared = u64::from(dice.within(0..=6));
    let hash = |place: u64| match place < shared {
        true => family * 100 + place,
        false => 1_000 * (number + 1) + place,
    };
    (0..blocks).map(hash).collect()
}
