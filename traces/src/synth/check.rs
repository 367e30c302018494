//! Whether a trace has the statistics that were published of the model it stands for.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{SOURCE, presets};
use crate::stats::CACHE_PAIRS_MAX;
use crate::stats::cache::{Policy, hits};
use crate::stats::replay::Replay;
use crate::stats::srp::Windows;
use crate::stats::transition::{self, TransitionStats};
use crate::stats::{TraceStats, drift, load};
use crate::trace::{Phase, RoutingTrace};

/// A statistic that is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Statistic {
    /// Segment routing best performance of the model, at so many tokens.
    Srp(u32),
    /// Hit rate of Belady's cache of the model, at so many times top-k slots a layer.
    Belady(u32),
    /// Hit rate of LRU, likewise.
    Lru(u32),
    /// Load of the busiest of so many ranks over the mean, less 1: experts placed in order, mean
    /// over layers and over stretches of so many tokens a rank.
    RankImbalance {
        /// Ranks.
        ranks: u16,
        /// Tokens a rank.
        tokens: u32,
    },
    /// Coefficient of variation of the loads of experts, mean over layers.
    LoadCv,
    /// Share of the picks of prompt tokens that the token before picked too.
    PromptRepeat,
    /// The same of generated tokens.
    DecodeRepeat,
    /// Mutual information in bits of a pick and a pick of the next layer, less that of shuffled
    /// tokens; mean over layers that follow each other in the model.
    LayerBits,
    /// Jensen-Shannon divergence in bits of the loads of two domains, mean over pairs.
    DomainDivergence,
}

impl Statistic {
    /// The name that tables show.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Srp(tokens) => format!("SRP {tokens}"),
            Self::Belady(ratio) => format!("Belady rho={ratio}"),
            Self::Lru(ratio) => format!("LRU rho={ratio}"),
            Self::RankImbalance { ranks, tokens } => {
                format!("imbalance EP{ranks}, {tokens} tokens a rank")
            }
            Self::LoadCv => "load CV".to_owned(),
            Self::PromptRepeat => "repeat rate, prompt".to_owned(),
            Self::DecodeRepeat => "repeat rate, decode".to_owned(),
            Self::LayerBits => "layer to layer, bits".to_owned(),
            Self::DomainDivergence => "domain divergence, bits".to_owned(),
        }
    }

    /// Its value on `trace`; `None` where the trace is too short for it, or only counted.
    #[must_use]
    pub fn measure(self, trace: &RoutingTrace) -> Option<f64> {
        let all = Replay::new(trace)?;
        let replay = all.sample(CACHE_PAIRS_MAX);
        match self {
            Self::Srp(tokens) => {
                let replay = &all;
                let windows = Windows::of(&replay.model(), replay.requests(), tokens);
                Some(windows.best()?.srp)
            }
            Self::Belady(ratio) => hit_rate(&replay, Policy::Belady, ratio),
            Self::Lru(ratio) => hit_rate(&replay, Policy::Lru, ratio),
            Self::RankImbalance { ranks, tokens } => rank_imbalance(trace, ranks, tokens),
            Self::LoadCv => mean(load::per_layer(trace).iter().map(|load| load.cv)),
            Self::PromptRepeat => repeat_rate(trace, &replay, Phase::Prefill),
            Self::DecodeRepeat => repeat_rate(trace, &replay, Phase::Decode),
            Self::LayerBits => layer_bits(&replay),
            Self::DomainDivergence => domain_divergence(trace),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of layers or parts")]
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[expect(clippy::cast_precision_loss, reason = "pick counts stay far below 2^53")]
fn repeat_rate(trace: &RoutingTrace, replay: &Replay<'_>, phase: Phase) -> Option<f64> {
    let code = phase.code();
    let columns = trace.tokens()?;
    let stream = replay.model();
    let (mut picks, mut repeated) = (0_u64, 0_u64);
    let mut before = HashSet::new();
    for request in replay.requests() {
        for token in request.clone() {
            let now: HashSet<usize> = stream.picks(token).collect();
            if token > request.start && columns.phase[replay.row(token)] == code {
                picks += now.len() as u64;
                repeated += now.intersection(&before).count() as u64;
            }
            before = now;
        }
    }
    (picks > 0).then(|| repeated as f64 / picks as f64)
}

fn layer_bits(replay: &Replay<'_>) -> Option<f64> {
    let all = transition::all(replay);
    let follow = |pair: &&TransitionStats| pair.layer + 1 == pair.next_layer;
    let near: Vec<&TransitionStats> = all.iter().filter(follow).collect();
    let excess = |pair: &TransitionStats| pair.bits - pair.null_bits;
    if near.is_empty() {
        return mean(all.iter().map(excess));
    }
    mean(near.into_iter().map(excess))
}

fn domain_divergence(trace: &RoutingTrace) -> Option<f64> {
    let drift = drift::between_domains(trace)?;
    let matrix = &drift.jensen_shannon;
    let above = |row: usize| matrix[row][row + 1..].iter().filter_map(|value| *value);
    mean((0..matrix.len()).flat_map(above))
}

#[expect(clippy::cast_precision_loss, reason = "pick counts stay far below 2^53")]
fn hit_rate(replay: &Replay<'_>, policy: Policy, ratio: u32) -> Option<f64> {
    let stream = replay.model();
    let picks = stream.pairs();
    let [hits] = hits(&stream, policy, [ratio as usize * stream.width()]);
    (picks > 0).then(|| hits as f64 / picks as f64)
}

/// See [`Statistic::RankImbalance`]; `None` where the trace is no whole stretch.
#[expect(clippy::cast_precision_loss, reason = "loads of a stretch")]
fn rank_imbalance(trace: &RoutingTrace, ranks: u16, tokens: u32) -> Option<f64> {
    let columns = trace.tokens()?;
    let header = trace.header();
    let (experts, k) = (usize::from(header.experts), usize::from(header.top_k));
    let ranks = usize::from(ranks);
    let width = header.moe_layers() * k;
    let stretch = tokens as usize * ranks * width;
    if ranks == 0 || !experts.is_multiple_of(ranks) || columns.experts.is_empty() {
        return None;
    }
    let (mut sum, mut count) = (0.0, 0_u32);
    let whole = columns.experts.len() / stretch * stretch;
    for rows in columns.experts[..whole].chunks(stretch) {
        for layer in 0..header.moe_layers() {
            let mut loads = vec![0_u64; ranks];
            for row in rows.chunks_exact(width) {
                let chosen = row[layer * k..(layer + 1) * k].iter().map(|&id| usize::from(id));
                chosen.filter(|&id| id < experts).for_each(|id| loads[id * ranks / experts] += 1);
            }
            let mean = loads.iter().sum::<u64>() as f64 / ranks as f64;
            let busiest = loads.iter().copied().max().unwrap_or(0) as f64;
            if mean > 0.0 {
                sum += busiest / mean - 1.0;
                count += 1;
            }
        }
    }
    (count > 0).then(|| sum / f64::from(count))
}

/// A published value and ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What is compared.
    pub name: String,
    /// The published value.
    pub published: f64,
    /// Ours; `None` where the trace is too short for it.
    pub found: Option<f64>,
    /// How far they may be apart.
    pub tolerance: f64,
    /// Where it is published.
    pub source: String,
}

impl Check {
    /// Whether ours is within the tolerance; `None` where there is none.
    #[must_use]
    pub fn holds(&self) -> Option<bool> {
        self.found.map(|found| (found - self.published).abs() <= self.tolerance)
    }
}

/// What the preset that made `trace` promises, beside what the trace has; empty for recordings and
/// for traces of changed presets.
#[must_use]
pub fn checks(trace: &RoutingTrace) -> Vec<Check> {
    compare(trace, &|statistic| statistic.measure(trace))
}

/// As [`checks`], where `stats` are those of `trace`: what was measured is not measured again.
#[must_use]
pub fn checks_of(trace: &RoutingTrace, stats: &TraceStats) -> Vec<Check> {
    let locality = &stats.locality;
    compare(trace, &|statistic| match statistic {
        Statistic::Srp(tokens) => locality.srp.get(&tokens).copied().flatten(),
        Statistic::Lru(ratio) => locality.chr.lru.get(&ratio).copied().flatten(),
        Statistic::Belady(ratio) => locality.chr.belady.get(&ratio).copied().flatten(),
        other => other.measure(trace),
    })
}

fn compare(trace: &RoutingTrace, measure: &dyn Fn(Statistic) -> Option<f64>) -> Vec<Check> {
    let source = trace.header().source.strip_prefix(SOURCE).and_then(|rest| rest.strip_prefix('/'));
    let Some(preset) = source.and_then(|name| presets::read(name).ok()) else {
        return Vec::new();
    };
    let check = |published: &presets::Published| Check {
        name: published.of.name(),
        published: published.value,
        found: measure(published.of),
        tolerance: published.tolerance,
        source: preset.source.clone(),
    };
    preset.published.iter().map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_be_as_far_away_as_its_tolerance() {
        let check = |found| {
            let (name, source) = (String::new(), String::new());
            Check { name, published: 0.5, found, tolerance: 0.25, source }.holds()
        };
        assert_eq!(check(Some(0.25)), Some(true));
        assert_eq!(check(Some(0.8)), Some(false));
        assert_eq!(check(None), None);
    }
}
