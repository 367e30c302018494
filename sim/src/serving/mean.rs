//! Expert layers by the mean: what a batch of so many tokens costs when each draws its experts
//! like the tokens of a recording, or evenly at random.
//!
//! Loads of a few drawn batches go through the cost model one by one and the times are averaged:
//! the busiest rank of a drawn batch is slower than a batch of mean loads. Times are kept for a
//! grid of token counts, each drawn once from a stream of its own, so that the order of questions
//! changes nothing. Cost per question: two look-ups.

use std::sync::{Arc, OnceLock};

use moecast_profiles::cost::CostModel;
use moecast_profiles::cost::exchange::{Copies, ExchangeModel, Way};
use moecast_profiles::hardware::Hardware;
use moecast_profiles::ids::{MoeLayer, Rank};
use moecast_profiles::seed::{Generator, Seed};
use moecast_traces::RoutingTrace;
use rand::RngExt;

use super::faults::SlowExchange;
use super::layout::Layout;
use super::moe::{ExpertMap, MoeTime};

/// Tokens of a drawn batch; larger ones are scaled from it.
const DRAWN_MAX: u32 = 4_096;
/// Batches drawn for one point of the grid, where batches are small and where they are large.
const DRAWS: [u32; 2] = [6, 2];
/// From here batches are large.
const LARGE: u32 = 512;
/// Points of the grid up to here are all token counts; above there are so many an octave.
const DENSE: u32 = 16;
const OCTAVE: u32 = 8;
const POINTS: usize = (DENSE + (32 - DENSE.ilog2()) * OCTAVE) as usize + 1;

/// Where drawn tokens get their experts from.
#[derive(Clone)]
pub(crate) enum Population {
    /// Every expert is as likely as the others.
    Even,
    /// Rows of a recording.
    Recorded(Arc<RoutingTrace>),
    /// Counts of a recording, summed up from the first expert on, `[M][E]`: correlation within a
    /// token was lost.
    Counted(Vec<Vec<u64>>),
}

impl Population {
    /// The tokens of `trace`, or its counts where it knows no tokens.
    pub(crate) fn of(trace: &Arc<RoutingTrace>) -> Self {
        if trace.tokens().is_some() {
            return Self::Recorded(Arc::clone(trace));
        }
        let layers = u16::try_from(trace.header().moe_layers()).expect("layer numbers are u16");
        let sums = (0..layers).map(|layer| {
            let mut sum = 0;
            // Every expert has a chance, or k different ones might never be found.
            let loads = trace.layer_loads(MoeLayer(layer));
            loads
                .iter()
                .map(|load| {
                    sum += load + 1;
                    sum
                })
                .collect()
        });
        Self::Counted(sums.collect())
    }
}

/// Times of expert layers over tokens of a batch.
#[derive(Clone)]
pub(crate) struct Mean {
    population: Population,
    map: ExpertMap,
    cost: Arc<dyn CostModel>,
    exchange: Option<[Arc<dyn ExchangeModel>; 2]>,
    layout: Layout,
    hardware: Hardware,
    seed: Seed,
    points: [Vec<OnceLock<MoeTime>>; 2],
}

/// What expert layers are drawn for.
pub(crate) struct Setting {
    pub(crate) population: Population,
    pub(crate) map: ExpertMap,
    pub(crate) cost: Arc<dyn CostModel>,
    /// For passes that read prompts, and for those that only generate.
    pub(crate) exchange: Option<[Arc<dyn ExchangeModel>; 2]>,
    pub(crate) layout: Layout,
    pub(crate) hardware: Hardware,
    pub(crate) seed: Seed,
}

impl Mean {
    pub(crate) fn new(setting: Setting) -> Self {
        let Setting { population, map, cost, exchange, layout, hardware, seed } = setting;
        let empty = || (0..POINTS).map(|_| OnceLock::new()).collect();
        let points = [empty(), empty()];
        Self { population, map, cost, exchange, layout, hardware, seed, points }
    }

    /// The same over other slots, by other kernels, with exchanges `links` times as long.
    pub(crate) fn over(&self, map: ExpertMap, cost: Arc<dyn CostModel>, links: f64) -> Self {
        let empty = || (0..POINTS).map(|_| OnceLock::new()).collect();
        let slow = |inner: &Arc<dyn ExchangeModel>| -> Arc<dyn ExchangeModel> {
            Arc::new(SlowExchange { inner: Arc::clone(inner), links })
        };
        let exchange = self.exchange.as_ref().map(|models| models.each_ref().map(slow));
        Self { map, cost, exchange, points: [empty(), empty()], ..self.clone() }
    }

    /// All expert layers of a pass of `tokens` tokens, of which the fullest data-parallel rank
    /// has `most`.
    pub(crate) fn time(&self, tokens: u32, most: u32, prefill: bool) -> MoeTime {
        if tokens == 0 {
            return MoeTime::default();
        }
        let (index, share) = place(tokens);
        let low = self.point(index, prefill);
        let mut time =
            if share > 0.0 { low.mixed(&self.point(index + 1, prefill), share) } else { low };
        // Ports carry what the fullest rank sends.
        let even = f64::from(tokens) / f64::from(self.layout.data);
        let crowding = (f64::from(most) / even).max(1.0);
        time.dispatch *= crowding;
        time.combine *= crowding;
        time
    }

    fn point(&self, index: usize, prefill: bool) -> MoeTime {
        let slot = &self.points[usize::from(prefill)][index];
        *slot.get_or_init(|| self.draw(tokens_at(index), prefill))
    }

    fn draw(&self, tokens: u32, prefill: bool) -> MoeTime {
        let mut generator = self.seed.stream(&format!("serving/mean/{tokens}"));
        let draws = DRAWS[usize::from(tokens >= LARGE)];
        let mut sum = MoeTime::default();
        for _ in 0..draws {
            sum.add(&self.batch(tokens, prefill, &mut generator));
        }
        sum.scaled(self.map.layers() as f64 / f64::from(draws))
    }

    /// One layer of one drawn batch.
    fn batch(&self, tokens: u32, prefill: bool, generator: &mut Generator) -> MoeTime {
        let drawn = tokens.min(DRAWN_MAX);
        let layer = generator.random_range(0..self.map.layers() as u64) as u16;
        let layer = MoeLayer(layer);
        let mut rows = vec![0_u32; self.map.slots()];
        let ranks = u16::try_from(self.layout.ranks()).expect("layouts are checked");
        let mut copies = self.exchange.as_ref().map(|_| Copies::on(&self.hardware));
        let mut chooser = Chooser::new(&self.population, self.map.experts());
        let mut picks: Vec<u16> = Vec::new();
        for number in 0..drawn {
            chooser.pick(self.map.top_k(), layer, generator, &mut picks);
            let targets = picks.iter().map(|expert| {
                let slot = self.map.slot(layer, *expert, number);
                rows[slot] += 1;
                self.map.rank_of(slot, self.layout.expert_tensor)
            });
            match &mut copies {
                Some(copies) => copies.add(Rank((number % u32::from(ranks)) as u16), targets),
                None => targets.for_each(drop),
            }
        }
        let scale = f64::from(tokens) / f64::from(drawn);
        if scale > 1.0 {
            for row in &mut rows {
                *row = (f64::from(*row) * scale).round() as u32;
            }
        }
        let mut time =
            self.map.layer_time(self.cost.as_ref(), (u64::from(tokens), prefill), &rows, None);
        if let (Some(models), Some(copies)) = (&self.exchange, &mut copies) {
            let model = &models[usize::from(!prefill)];
            let traffic = copies.traffic().scaled(scale);
            time.dispatch = model.time(Way::Dispatch, &traffic).0 as f64;
            time.combine = model.time(Way::Combine, &traffic).0 as f64;
        }
        time
    }
}

/// Index of the point at or below `tokens`, and the share of the next one.
fn place(tokens: u32) -> (usize, f64) {
    if tokens <= DENSE {
        return (tokens as usize, 0.0);
    }
    let octave = tokens.ilog2();
    let within = u64::from(tokens - (1 << octave)) * u64::from(OCTAVE);
    let index = DENSE + (octave - DENSE.ilog2()) * OCTAVE + (within >> octave) as u32;
    let rest = within & ((1 << octave) - 1);
    (index as usize, rest as f64 / f64::from(octave).exp2())
}

/// Tokens of point `index`.
fn tokens_at(index: usize) -> u32 {
    let index = u32::try_from(index).expect("a small grid");
    if index <= DENSE {
        return index;
    }
    let (octave, eighth) = ((index - DENSE) / OCTAVE, (index - DENSE) % OCTAVE);
    let base = u64::from(DENSE) << octave;
    u32::try_from(base + base * u64::from(eighth) / u64::from(OCTAVE)).unwrap_or(u32::MAX)
}

/// Draws the experts of one token after the other.
pub(crate) struct Chooser<'a> {
    population: &'a Population,
    /// For even draws: the experts in some order.
    order: Vec<u16>,
}

impl<'a> Chooser<'a> {
    pub(crate) fn new(population: &'a Population, experts: u16) -> Self {
        Self { population, order: (0..experts).collect() }
    }

    pub(crate) fn pick(
        &mut self,
        top_k: u16,
        layer: MoeLayer,
        bits: &mut Generator,
        into: &mut Vec<u16>,
    ) {
        into.clear();
        match self.population {
            Population::Even => {
                // The first k of a shuffle: k different experts.
                let experts = self.order.len() as u64;
                for place in 0..usize::from(top_k).min(self.order.len()) {
                    let other = bits.random_range(place as u64..experts) as usize;
                    self.order.swap(place, other);
                    into.push(self.order[place]);
                }
            }
            Population::Recorded(trace) => {
                let rows = trace.token_count();
                let row = bits.random_range(0..rows) as usize;
                into.extend(trace.chosen(row, layer).map(|expert| expert.0));
            }
            Population::Counted(sums) => {
                let sums = &sums[layer.index()];
                let all = *sums.last().expect("models have experts");
                while into.len() < usize::from(top_k).min(sums.len()) {
                    let at = bits.random_range(0..all);
                    let expert = sums.partition_point(|sum| *sum <= at) as u16;
                    if !into.contains(&expert) {
                        into.push(expert);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_the_grid_are_where_they_are_looked_for() {
        for index in 0..POINTS - OCTAVE as usize {
            assert_eq!(place(tokens_at(index)), (index, 0.0), "{index}");
        }
        assert_eq!(place(17), (16, 0.5));
        assert_eq!(place(1_000).0, place(960).0);
        assert!(place(u32::MAX).0 + 1 < POINTS);
    }
}
