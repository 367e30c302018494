//! One forward pass of full batches on all ranks, layer by layer, with every token's experts.
//!
//! Tokens are drawn from a recording (or evenly), sent through the placement, and become the work
//! of every rank and the bytes of every link (`work`); [`crate::lanes`] runs it, with or without
//! overlap, in closed form or as events. What a service does between passes, and requests that
//! come and go, are [`crate::serving`]'s.

pub mod estimate;
mod prompts;
pub mod scope;
#[cfg(test)]
mod tests;
mod work;

use std::sync::Arc;

use moecast_profiles::calibration::Factors;
use moecast_profiles::cost::Kernels;
use moecast_profiles::cost::exchange::ExchangeModel;
use moecast_profiles::hardware::Hardware;
use moecast_profiles::model::ModelShape;
use moecast_profiles::seed::Seed;
use moecast_profiles::units::Nanos;

use self::scope::{Collective, Parts, Scope};
use crate::error::{Error, Result};
use crate::lanes::compose::{self, FeedForward, Overlap};
use crate::lanes::events::{self, Events};
use crate::lanes::{Kind, Program, Transfer};
use crate::placement::Placement;
use crate::serving::Layout;
use crate::serving::mean::Population;
use crate::serving::moe::ExpertMap;
use crate::serving::service::RoutingSource;
pub use crate::serving::steady::Repeated;

/// How a pass is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Closed form: every operation takes as long as on its slowest rank.
    #[default]
    Step,
    /// Every operation of every rank and every transfer is an event.
    Event,
}

impl Mode {
    /// Both, by name.
    pub const NAMED: [(&'static str, Self); 2] = [("step", Self::Step), ("event", Self::Event)];

    /// The name as typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Event => "event",
        }
    }
}

/// Everything that a pass may know.
pub struct Setting {
    /// Model.
    pub model: ModelShape,
    /// The machine of one stage.
    pub hardware: Hardware,
    /// Parallelism, without a pipeline.
    pub layout: Layout,
    /// Kernel costs, built for the layout.
    pub kernels: Kernels,
    /// What carries tokens to their experts, where the layout exchanges any.
    pub exchange: Option<Arc<dyn ExchangeModel>>,
    /// Which slots hold which experts; in order where there is none.
    pub placement: Option<Placement>,
    /// Where the experts of tokens come from.
    pub routing: RoutingSource,
    /// Factors on kernels, and the host's time.
    pub factors: Factors,
    /// What every data-parallel rank works on.
    pub batch: Repeated,
    /// What may run beside what.
    pub overlap: Overlap,
    /// What of the pass is run, and what beside it.
    pub scope: Scope,
    /// What gathers weights and sums gradients, where the scope has any.
    pub collective: Option<Arc<dyn ExchangeModel>>,
    /// Seed of the draws.
    pub seed: Seed,
}

/// A pass that can be drawn and run again and again.
pub struct Forward {
    model: ModelShape,
    hardware: Hardware,
    layout: Layout,
    kernels: Kernels,
    exchange: Option<Arc<dyn ExchangeModel>>,
    map: ExpertMap,
    population: Population,
    /// Recorded requests, for prompts to borrow.
    requests: Option<prompts::Requests>,
    factors: Factors,
    batch: Repeated,
    overlap: Overlap,
    scope: Scope,
    collective: Option<Collective>,
    seed: Seed,
}

/// What one pass took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Passed {
    /// From its start to the next one's, the host's time included.
    pub time: Nanos,
    /// Nanoseconds that operations of every kind take alone, one after the other.
    pub alone: [f64; Kind::ALL.len()],
    /// Rows of the busiest expert-parallel rank over the mean, mean over layers.
    pub imbalance: f64,
    /// Every operation of every rank, where the pass was run as events.
    pub events: Option<Events>,
}

impl Forward {
    /// Checks that the parts belong together.
    ///
    /// # Errors
    /// [`Error::Scenario`] names the part that does not fit.
    pub fn new(setting: Setting) -> Result<Self> {
        let Setting { model, hardware, layout, overlap, batch, exchange, .. } = setting;
        layout.check(&model)?;
        overlap.check()?;
        setting.scope.check()?;
        if layout.pipeline > 1 {
            let found = format!("pipeline = {}", layout.pipeline);
            return Err(Error::scenario("layout", found, "1: a pass of one stage"));
        }
        check_batch(&batch, &overlap)?;
        if u32::from(hardware.ranks()) != layout.ranks() {
            let found = format!("{} GPUs in {}", hardware.ranks(), hardware.spec());
            let expected = format!("the {} of {layout}", layout.ranks());
            return Err(Error::scenario("layout", found, expected));
        }
        if layout.exchanges() != exchange.is_some() {
            let expected = "one where attention has replicas, none elsewhere";
            return Err(Error::scenario("exchange", format!("{layout}"), expected));
        }
        let gathers = exchange.as_ref().is_none_or(|model| model.gathers());
        let map = ExpertMap::new(&model, &layout, setting.placement.as_ref(), [gathers; 2])?;
        let population = match &setting.routing {
            RoutingSource::Even => Population::Even,
            RoutingSource::Mean(trace) | RoutingSource::Recorded(trace) => {
                crate::scenario::check_trace(trace, &model)?;
                Population::of(trace)
            }
        };
        let requests = match &population {
            Population::Recorded(trace) if batch.prompts > 0 => prompts::Requests::of(trace),
            _ => None,
        };
        let Setting { kernels, factors, seed, scope, collective, .. } = setting;
        let collective = collective
            .filter(|_| scope.gathers())
            .map(|gather| Collective::new(gather, &model, &hardware));
        if scope.gathers() && collective.is_none() {
            let expected = "what gathers weights and sums gradients";
            return Err(Error::scenario("collective", "none", expected));
        }
        Ok(Self {
            model,
            hardware,
            layout,
            kernels,
            exchange,
            map,
            population,
            requests,
            factors,
            batch,
            overlap,
            scope,
            collective,
            seed,
        })
    }

    /// Tokens that a pass moves on: of prompts, and one of every request, of all ranks.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        let Repeated { requests, prompts, prompt_tokens, .. } = self.batch;
        let of_rank = u64::from(requests) + u64::from(prompts) * u64::from(prompt_tokens);
        of_rank * u64::from(self.layout.data)
    }

    /// What overlaps.
    #[must_use]
    pub fn overlap(&self) -> &Overlap {
        &self.overlap
    }

    /// What kernels take longer because transfers beside them hold multiprocessors.
    fn crowded(&self) -> f64 {
        let Overlap { micro_batches, chunks, .. } = self.overlap;
        let taken = match &self.exchange {
            Some(model) if micro_batches > 1 || chunks > 1 => model.multiprocessors(),
            _ => 0,
        };
        let all = f64::from(self.hardware.device().multiprocessors.value);
        all / (all - f64::from(taken)).max(1.0)
    }

    /// The operations of pass number `number`, and its imbalance: its tokens are drawn anew.
    #[must_use]
    pub fn program(&self, number: u32) -> (Program, f64) {
        let batches = usize::from(self.overlap.micro_batches);
        let drawn: Vec<work::Drawn> =
            (0..batches).map(|batch| work::draw(self, number, batch)).collect();
        let imbalance = drawn.iter().map(|drawn| drawn.imbalance).sum::<f64>() / batches as f64;
        let drawn: Vec<_> = drawn.into_iter().map(|drawn| (drawn.layers, drawn.head)).collect();
        let ranks = self.layout.ranks() as usize;
        let forward = compose::program(ranks, &drawn, &self.overlap);
        if !self.scope.backward {
            return (forward, imbalance);
        }
        let layers = drawn.first().map_or(&[][..], |(layers, _)| layers);
        let sums = self.gradients(layers);
        (compose::backward(&forward, &sums, self.scope.gradients), imbalance)
    }

    /// Sums of the gradients of what all ranks hold alike, of every layer that is run; of what
    /// tensor parallelism divides, the rings of all parts share the network cards.
    fn gradients(&self, layers: &[compose::Layer]) -> Vec<Arc<Transfer>> {
        let Some(collective) = &self.collective else { return Vec::new() };
        if self.scope.gradients == compose::Gradients::None {
            return Vec::new();
        }
        let model = &self.model;
        let hidden = u64::from(model.hidden);
        let of = |layer: &compose::Layer| {
            let attention = layer.attention.as_ref().map_or(0, |_| model.attention_params());
            let width = match layer.feed_forward {
                FeedForward::Dense(_) => 3 * model.dense_inter,
                FeedForward::Experts(_) if self.scope.parts == Parts::Moe => 0,
                FeedForward::Experts(_) => 3 * model.shared_inter + u32::from(model.experts),
            };
            let values = attention + hidden * u64::from(width);
            collective.sum(model.dense_type.bytes_of(values).0 as f64)
        };
        layers.iter().map(of).collect()
    }

    /// Draws and runs pass number `number`.
    #[must_use]
    pub fn run(&self, number: u32, mode: Mode) -> Passed {
        let (program, imbalance) = self.program(number);
        Passed { imbalance, ..self.run_program(&program, mode) }
    }

    /// Runs a pass that [`Self::program`] drew; its imbalance is not known here.
    #[must_use]
    pub fn run_program(&self, program: &Program, mode: Mode) -> Passed {
        let (total, events) = match mode {
            Mode::Step => (program.steps().total, None),
            Mode::Event => {
                let events = events::run(program, self.hardware.fabric().links().len());
                (events.schedule.total, Some(events))
            }
        };
        // What an engine does between its passes is no part of training, nor of single layers.
        let served = self.scope.parts == Parts::All && !self.scope.backward;
        let host_time = if served { self.factors.host_time } else { Nanos(0) };
        let time = Nanos::ceil_from(total) + host_time;
        Passed { time, alone: program.alone(), imbalance: 0.0, events }
    }

    /// Ranks of the pass.
    #[must_use]
    pub fn ranks(&self) -> u16 {
        self.hardware.ranks()
    }
}

/// Every micro-batch must have something to do.
fn check_batch(batch: &Repeated, overlap: &Overlap) -> Result<()> {
    for (key, count, length) in [
        ("requests", batch.requests, batch.context),
        ("prompts", batch.prompts, batch.prompt_tokens),
    ] {
        let cut = u32::from(overlap.micro_batches);
        if count > 0 && (length == 0 || count < cut) {
            let found = format!("{count} {key} of {length} tokens");
            let expected = format!("at least {cut} (one a micro-batch), of at least 1 token");
            return Err(Error::scenario("batch", found, expected));
        }
    }
    if batch.requests == 0 && batch.prompts == 0 {
        return Err(Error::scenario("batch", "nothing", "requests, or prompts"));
    }
    Ok(())
}
