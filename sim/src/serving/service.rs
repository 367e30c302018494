//! What a service is made of: checked, so that its run cannot fail.

use std::sync::Arc;

use moecast_profiles::calibration::Factors;
use moecast_profiles::cost::Kernels;
use moecast_profiles::cost::exchange::ExchangeModel;
use moecast_profiles::engine::{Engine, Scheduler};
use moecast_profiles::hardware::Hardware;
use moecast_profiles::model::ModelShape;
use moecast_profiles::seed::Seed;
use moecast_profiles::units::{Bandwidth, Nanos};
use moecast_traces::RoutingTrace;
use moecast_traces::requests::{Load, PREFIX_BLOCK_TOKENS};
use serde::{Deserialize, Serialize};

use super::faults::Fault;
use super::layout::Layout;
use super::mean::{self, Mean, Population};
use super::memory::Memory;
use super::moe::ExpertMap;
use super::recorded::Library;
use super::router;
use crate::error::{Error, Result};
use crate::placement::Placement;

/// What a pool of replicas does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Prompts and answers.
    Both,
    /// Prompts, and the first token of each.
    Prefill,
    /// The rest of the answers.
    Decode,
}

/// What becomes of a request that must make room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preemption {
    /// Its cache is dropped and computed again.
    #[default]
    Recompute,
    /// Its cache waits in host memory.
    Swap,
}

/// Where the experts of tokens come from.
#[derive(Clone)]
pub enum RoutingSource {
    /// Every expert is as likely as the others: nothing is known.
    Even,
    /// Tokens choose like those of a recording, by the mean over drawn batches.
    Mean(Arc<RoutingTrace>),
    /// Every request borrows the routing of a recorded one, token by token.
    Recorded(Arc<RoutingTrace>),
}

/// Tokens that are drafted and checked (speculative decoding, multi-token prediction).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speculation {
    /// Drafted in every pass of a request; 0 is none.
    pub draft_tokens: u32,
    /// Chance that a drafted token is accepted, where the one before was; 0 to 1.
    pub acceptance: f64,
}

/// Limits that replace the engine's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Tokens of one pass of a data-parallel rank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_tokens_max: Option<u32>,
    /// Requests of a data-parallel rank at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequences_max: Option<u32>,
    /// Tokens of context of a data-parallel rank; else what fits beside the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_tokens: Option<u64>,
    /// Largest batch that runs as a captured graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph_batch_max: Option<u32>,
}

/// Replicas that are alike.
pub struct PoolSetting {
    /// What they do.
    pub role: Role,
    /// How many.
    pub replicas: u16,
    /// Parallelism of each.
    pub layout: Layout,
    /// The machine of one replica.
    pub hardware: Hardware,
    /// Kernel costs, built for the layout.
    pub kernels: Kernels,
    /// Exchanges of passes that read prompts and of those that only generate, where the layout
    /// has any.
    pub exchange: Option<[Arc<dyn ExchangeModel>; 2]>,
    /// Which slots hold which experts; in order where there is none.
    pub placement: Option<Placement>,
    /// Where the experts of tokens come from.
    pub routing: RoutingSource,
    /// Limits that replace the engine's.
    pub limits: Limits,
}

/// Everything a run may know.
pub struct Setting {
    /// Model.
    pub model: ModelShape,
    /// Engine, of one version.
    pub engine: Engine,
    /// Factors on kernels, and what no kernel accounts for.
    pub factors: Factors,
    /// One pool, or one of prompts and one of answers.
    pub pools: Vec<PoolSetting>,
    /// Router before every pool.
    pub router: &'static router::Entry,
    /// Requests.
    pub load: Load,
    /// Drafts.
    pub speculation: Speculation,
    /// What becomes of requests that must make room.
    pub preemption: Preemption,
    /// Whether prompts that share a prefix share its cache.
    pub prefix_cache: bool,
    /// Seed.
    pub seed: Seed,
}

/// A pool as the simulation uses it.
#[derive(Clone)]
pub(crate) struct Pool {
    pub(crate) role: Role,
    pub(crate) replicas: u16,
    pub(crate) layout: Layout,
    pub(crate) kernels: Kernels,
    pub(crate) map: Arc<ExpertMap>,
    pub(crate) routing: Routing,
    pub(crate) memory: Memory,
    pub(crate) limits: FullLimits,
    /// Between stages of a pipeline, and to the host.
    pub(crate) hop: Nanos,
    pub(crate) host_bandwidth: Bandwidth,
    pub(crate) network: (Nanos, Bandwidth),
    pub(crate) gpus_per_node: u16,
}

/// Limits with the engine's where none replaced them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FullLimits {
    pub(crate) step_tokens_max: u32,
    pub(crate) sequences_max: u32,
    pub(crate) kv_tokens: u64,
    pub(crate) graph_batch_max: u32,
}

impl FullLimits {
    /// With `limits` where they say anything.
    pub(super) fn replaced(self, limits: Limits) -> Result<Self> {
        let full = Self {
            step_tokens_max: limits.step_tokens_max.unwrap_or(self.step_tokens_max),
            sequences_max: limits.sequences_max.unwrap_or(self.sequences_max),
            kv_tokens: limits.kv_tokens.unwrap_or(self.kv_tokens),
            graph_batch_max: limits.graph_batch_max.unwrap_or(self.graph_batch_max),
        };
        for (name, value) in
            [("step_tokens_max", full.step_tokens_max), ("sequences_max", full.sequences_max)]
        {
            if value == 0 {
                return Err(Error::scenario(format!("limits.{name}"), "0", "at least 1"));
            }
        }
        Ok(full)
    }
}

/// Routing that was prepared once and serves every replica and every run.
#[derive(Clone)]
pub(crate) struct Routing {
    /// Batches by the mean: all that is known, or what [`Self::library`] does not tell.
    pub(crate) mean: Arc<Mean>,
    /// Recorded tokens that requests borrow.
    pub(crate) library: Option<Arc<Library>>,
}

/// A validated service under a load. Copies share what was prepared for its routing.
#[derive(Clone)]
pub struct Service {
    pub(crate) model: ModelShape,
    pub(crate) scheduler: Scheduler,
    pub(crate) block_tokens: u32,
    pub(crate) factors: Factors,
    pub(crate) pools: Vec<Pool>,
    pub(crate) router: &'static router::Entry,
    pub(crate) load: Load,
    pub(crate) speculation: Speculation,
    pub(crate) preemption: Preemption,
    pub(crate) prefix_cache: bool,
    pub(crate) seed: Seed,
    pub(crate) faults: Vec<Fault>,
}

impl Service {
    /// Checks that the parts belong together and that every request can be served.
    ///
    /// # Errors
    /// [`Error::Scenario`] names the part that does not fit.
    pub fn new(setting: Setting) -> Result<Self> {
        let Setting { model, engine, factors, pools, router, load, .. } = setting;
        check_roles(&pools)?;
        check_speculation(setting.speculation)?;
        let pools = pools
            .into_iter()
            .map(|pool| Pool::new(pool, &model, &engine, setting.seed))
            .collect::<Result<Vec<_>>>()?;
        check_requests(&pools, &load, engine.kv_block_tokens.value)?;
        Ok(Self {
            model,
            scheduler: engine.scheduler.value,
            block_tokens: engine.kv_block_tokens.value,
            factors,
            pools,
            router,
            load,
            speculation: setting.speculation,
            preemption: setting.preemption,
            prefix_cache: setting.prefix_cache
                && PREFIX_BLOCK_TOKENS.is_multiple_of(engine.kv_block_tokens.value),
            seed: setting.seed,
            faults: Vec::new(),
        })
    }

    /// GPUs of all replicas.
    #[must_use]
    pub fn gpus(&self) -> u32 {
        self.pools.iter().map(|pool| pool.layout.gpus() * u32::from(pool.replicas)).sum()
    }

    /// Replicas of all pools.
    #[must_use]
    pub fn replicas(&self) -> u16 {
        self.pools.iter().map(|pool| pool.replicas).sum()
    }

    /// Ranks of a stage of the largest replica.
    #[must_use]
    pub fn ranks_per_replica(&self) -> u16 {
        let most = self.pools.iter().map(|pool| pool.layout.ranks()).max().unwrap_or(0);
        u16::try_from(most).expect("layouts are checked")
    }

    /// Memory of a GPU of every pool.
    pub fn memory(&self) -> impl Iterator<Item = Memory> + '_ {
        self.pools.iter().map(|pool| pool.memory)
    }

    /// The factors that its passes are costed with.
    #[must_use]
    pub fn factors(&self) -> Factors {
        self.factors
    }

    /// Requests that the load holds.
    #[must_use]
    pub fn requests(&self) -> u64 {
        match &self.load {
            Load::Open(trace) => trace.count() as u64,
            Load::Closed(closed) => closed.requests().len() as u64,
        }
    }
}

impl Pool {
    fn new(setting: PoolSetting, model: &ModelShape, engine: &Engine, seed: Seed) -> Result<Self> {
        let PoolSetting { layout, hardware, limits, .. } = setting;
        layout.check(model)?;
        if u32::from(hardware.ranks()) != layout.ranks() {
            let found = format!("{} GPUs a stage in {}", hardware.ranks(), hardware.spec());
            return Err(Error::scenario(
                "layout",
                found,
                format!("the {} of {layout}", layout.ranks()),
            ));
        }
        if setting.replicas == 0 {
            return Err(Error::scenario("replicas", "0", "at least 1"));
        }
        // Experts that are divided like attention see all tokens.
        let gathers = setting
            .exchange
            .as_ref()
            .map_or([true; 2], |[prefill, decode]| [decode.gathers(), prefill.gathers()]);
        let map = ExpertMap::new(model, &layout, setting.placement.as_ref(), gathers)?;
        let slots = u16::try_from(map.slots_per_rank()).unwrap_or(u16::MAX);
        let device = hardware.device();
        let memory = Memory::new(model, device, engine, &layout, slots)?;
        let map = Arc::new(map);
        let own = FullLimits {
            step_tokens_max: engine.step_tokens_max.value,
            sequences_max: engine.sequences_max.value,
            kv_tokens: memory.kv_tokens,
            graph_batch_max: engine.graph_batch_max.value,
        };
        let limits = own.replaced(limits)?;
        let (population, library) = match &setting.routing {
            RoutingSource::Even => (Population::Even, None),
            RoutingSource::Mean(trace) | RoutingSource::Recorded(trace) => {
                crate::scenario::check_trace(trace, model)?;
                // Counts know no tokens to follow: their mean is all there is.
                let tokens = matches!(setting.routing, RoutingSource::Recorded(_))
                    && trace.tokens().is_some();
                let library = tokens.then(|| Library::new(trace).map(Arc::new)).transpose()?;
                (Population::of(trace), library)
            }
        };
        let mean = Arc::new(Mean::new(mean::Setting {
            population,
            map: ExpertMap::clone(&map),
            cost: Arc::clone(&setting.kernels.model),
            exchange: setting.exchange,
            layout,
            hardware: hardware.clone(),
            seed,
        }));
        Ok(Self {
            role: setting.role,
            replicas: setting.replicas,
            layout,
            kernels: setting.kernels,
            map,
            routing: Routing { mean, library },
            memory,
            limits,
            hop: device.domain_latency.value,
            host_bandwidth: device.host_bandwidth.value,
            network: (device.network_latency.value, device.network_bandwidth.value),
            gpus_per_node: hardware.gpus_per_node(),
        })
    }
}

fn check_roles(pools: &[PoolSetting]) -> Result<()> {
    let roles: Vec<Role> = pools.iter().map(|pool| pool.role).collect();
    if matches!(roles[..], [Role::Both] | [Role::Prefill, Role::Decode]) {
        return Ok(());
    }
    let expected = "one pool for both, or one of prefill and then one of decode";
    Err(Error::scenario("pools", format!("{roles:?}"), expected))
}

fn check_speculation(speculation: Speculation) -> Result<()> {
    let Speculation { draft_tokens, acceptance } = speculation;
    if draft_tokens > 64 {
        let found = draft_tokens.to_string();
        return Err(Error::scenario("speculation.draft_tokens", found, "at most 64"));
    }
    if !(0.0..=1.0).contains(&acceptance) {
        let found = acceptance.to_string();
        return Err(Error::scenario("speculation.acceptance", found, "a chance from 0 to 1"));
    }
    Ok(())
}

/// Every request must fit into the cache of a rank by itself, or it would wait for ever.
pub(super) fn check_requests(pools: &[Pool], load: &Load, block_tokens: u32) -> Result<()> {
    let check = |number: usize, input: u32, output: u32| {
        for pool in pools {
            let extra = u64::from(pool.memory.kv_tokens_per_request);
            // The last block may be partly filled.
            let room = pool.limits.kv_tokens / u64::from(block_tokens) * u64::from(block_tokens);
            let needed = u64::from(input) + u64::from(output) + extra;
            if needed.next_multiple_of(u64::from(block_tokens)) > room {
                let found = format!("request {number}: {input} + {output} tokens");
                let expected = format!("at most {room} tokens: the cache of a data-parallel rank");
                return Err(Error::scenario("load", found, expected));
            }
        }
        Ok(())
    };
    match load {
        Load::Open(trace) => {
            let mut all = trace.iter().enumerate();
            all.try_for_each(|(number, one)| check(number, one.input_tokens, one.output_tokens))
        }
        Load::Closed(closed) => {
            let mut all = closed.requests().iter().enumerate();
            all.try_for_each(|(number, one)| check(number, one.input_tokens, one.output_tokens))
        }
    }
}
