//! Which loads an expert GEMM benchmark really ran: tables say how tokens were to be routed, not
//! how many rows each expert received.
//!
//! The public collector of AIConfigurator (Apache-2.0) draws expert loads from a bounded power
//! law, moves the most loaded rank to the front and times that rank; its seeds are not recorded,
//! so statistics are averaged over our own draws. Some engines then route the benchmark's logits
//! again, which changes the loads (`sample::routing`); knowing that is worth more than any
//! constant of the form. Our own benchmark's draw is known, and is not averaged.

use std::collections::BTreeMap;

use rand::RngExt;

use crate::measure::timed_rows;
use crate::sample::routing;
use crate::seed::Seed;

/// Draws that are averaged: the noise of a load's maximum is 4 to 11% per five draws.
const DRAWS: u32 = 8;
/// Groups of DeepSeek-V3's router, and how many of them a token keeps.
const GROUPS: usize = 8;
const GROUPS_KEPT: usize = 4;

/// What the form needs to know of the rows per expert of one rank.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Statistics {
    /// Experts with at least one row.
    pub(crate) active: f64,
    /// Rows of all experts.
    pub(crate) rows: f64,
    /// Rows with every expert's padded to a multiple of 16, 64 and 128.
    pub(crate) tiles_16: f64,
    pub(crate) tiles_64: f64,
    pub(crate) tiles_128: f64,
    /// Rows of the busiest expert.
    pub(crate) hottest: f64,
}

impl Statistics {
    /// The statistics of `rows` per expert.
    pub(crate) fn of(rows: &[u32]) -> Self {
        let (mut active, mut total, mut hottest) = (0_u32, 0_u64, 0_u32);
        let (mut tiles_16, mut tiles_64, mut tiles_128) = (0_u64, 0_u64, 0_u64);
        for &rows in rows {
            active += u32::from(rows > 0);
            total += u64::from(rows);
            hottest = hottest.max(rows);
            tiles_16 += u64::from(rows.div_ceil(16));
            tiles_64 += u64::from(rows.div_ceil(64));
            tiles_128 += u64::from(rows.div_ceil(128));
        }
        Self {
            active: f64::from(active),
            rows: total as f64,
            tiles_16: (tiles_16 * 16) as f64,
            tiles_64: (tiles_64 * 64) as f64,
            tiles_128: (tiles_128 * 128) as f64,
            hottest: f64::from(hottest),
        }
    }

    fn add(&mut self, other: Self, share: f64) {
        self.active += other.active * share;
        self.rows += other.rows * share;
        self.tiles_16 += other.tiles_16 * share;
        self.tiles_64 += other.tiles_64 * share;
        self.tiles_128 += other.tiles_128 * share;
        self.hottest += other.hottest * share;
    }
}

/// One benchmark setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Setting {
    tokens: u64,
    experts: u32,
    topk: u32,
    ep: u32,
    skew_percent: u64,
    routing: u32,
}

/// Statistics by setting: shapes that differ in widths alone share them.
#[derive(Default)]
pub(crate) struct Cache(BTreeMap<Setting, Statistics>);

impl Cache {
    /// Statistics of the timed rank of an expert GEMM sample.
    pub(crate) fn statistics(&mut self, shape: &[u32], at: &[u64]) -> Statistics {
        let &[_, _, topk, experts, _, ep, _, routing] = shape else {
            panic!("an expert shape has eight fields, not {}", shape.len());
        };
        let &[skew_percent, tokens] = at else {
            panic!("an expert sample has two coordinates, not {}", at.len());
        };
        let setting = Setting { tokens, experts, topk, ep, skew_percent, routing };
        *self.0.entry(setting).or_insert_with(|| statistics(setting))
    }
}

fn statistics(setting: Setting) -> Statistics {
    let known = setting.skew_percent == 0 || setting.routing == routing::MEASURE;
    let draws = if known { 1 } else { DRAWS };
    let mut mean = Statistics::default();
    for draw in 0..draws {
        mean.add(Statistics::of(&timed_rank(setting, draw)), 1.0 / f64::from(draws));
    }
    mean
}

/// Rows per expert of the rank that was timed.
fn timed_rank(setting: Setting, draw: u32) -> Vec<u32> {
    let Setting { tokens, experts, topk, ep, skew_percent, routing } = setting;
    if routing == routing::MEASURE {
        let rows = timed_rows(tokens, topk, experts, ep, skew_percent);
        return rows.into_iter().map(|rows| u32::try_from(rows).unwrap_or(u32::MAX)).collect();
    }
    let local = (experts / ep.max(1)).max(1) as usize;
    if skew_percent == 0 && routing == routing::EVEN {
        return even(setting)[..local].to_vec();
    }
    let rows = (skew_percent > 0).then(|| power_law(setting, draw));
    let picks = |rows: &Option<Vec<u32>>| match rows {
        Some(rows) => deal_picks(rows, tokens as usize, topk as usize),
        None => balanced(tokens, experts, topk),
    };
    match routing {
        routing::GROUPED if (experts as usize).is_multiple_of(GROUPS) => {
            let rows = regroup(&picks(&rows), experts as usize, topk as usize);
            rows[..local].to_vec()
        }
        routing::CLAMPED if ep > 1 => clamp(&picks(&rows), local, topk as usize),
        _ => {
            let rows = rows.unwrap_or_else(|| count(&balanced(tokens, experts, topk), experts));
            rows[..local].to_vec()
        }
    }
}

fn count(picks: &[u32], experts: u32) -> Vec<u32> {
    let mut rows = vec![0; experts as usize];
    for &expert in picks {
        rows[expert as usize] += 1;
    }
    rows
}

/// Tokens counted over all ranks, dealt evenly; a rest that is less than one each is dropped.
fn even(setting: Setting) -> Vec<u32> {
    let Setting { tokens, experts, topk, ep, .. } = setting;
    let picks = tokens * u64::from(topk);
    let each = u32::try_from(picks / u64::from(experts)).unwrap_or(u32::MAX);
    let mut rows = vec![each; experts as usize];
    if each == 0 {
        let first = (picks / u64::from(ep.max(1))).max(1) as usize;
        for row in rows.iter_mut().take(first) {
            *row = 1;
        }
    }
    rows
}

/// Picks `[tokens x topk]` that visit all experts evenly.
fn balanced(tokens: u64, experts: u32, topk: u32) -> Vec<u32> {
    let stride = u64::from(experts.div_ceil(topk.max(1)));
    let mut picks = Vec::with_capacity(tokens as usize * topk as usize);
    for token in 0..tokens {
        // Fewer tokens than the stride are spread over it.
        let offset = if tokens >= stride { token } else { token * stride / tokens };
        let pick = |slot| ((offset + u64::from(slot) * stride) % u64::from(experts)) as u32;
        picks.extend((0..topk).map(pick));
    }
    picks
}

/// Rows per expert drawn from a bounded power law, the most loaded rank first.
fn power_law(setting: Setting, draw: u32) -> Vec<u32> {
    let Setting { tokens, experts, topk, ep, skew_percent, .. } = setting;
    let label = format!("loads/{tokens}/{experts}/{topk}/{ep}/{skew_percent}/{draw}");
    let mut generator = Seed(0).stream(&label);
    let picks = tokens * u64::from(topk);
    let (low, high) =
        if picks > u64::from(experts) { (1.0, tokens as f64 * 0.8) } else { (0.01, 2.0) };
    let power = 1.0 - skew_percent as f64 / 100.0;
    let (from, to) = (f64::powf(low, power), f64::powf(high, power));
    let values: Vec<f64> = (0..experts)
        .map(|_| {
            let uniform: f64 = generator.random();
            if power == 0.0 {
                low * f64::powf(high / low, uniform)
            } else {
                (from + (to - from) * uniform).powf(1.0 / power)
            }
        })
        .collect();
    let scale = picks as f64 / values.iter().sum::<f64>();
    let mut rows: Vec<i64> =
        values.iter().map(|value| (value * scale).round_ties_even() as i64).collect();
    settle(&mut rows, tokens as i64, picks as i64, (experts / ep.max(1)).max(1) as usize);
    most_loaded_first(&mut rows, (experts / ep.max(1)).max(1) as usize);
    rows.into_iter().map(|rows| u32::try_from(rows).unwrap_or(0)).collect()
}

/// Limits every expert to `most` rows and makes the sum `picks`, what is over or missing dealt
/// to the ranks of `local` experts in equal shares, to their least (or most) loaded experts.
fn settle(rows: &mut [i64], most: i64, picks: i64, local: usize) {
    for row in rows.iter_mut() {
        *row = (*row).min(most);
    }
    for _ in 0..200 {
        let missing = picks - rows.iter().sum::<i64>();
        if missing == 0 {
            return;
        }
        let open = |rank: &&mut [i64]| {
            rank.iter().any(|row| if missing > 0 { *row < most } else { *row > 0 })
        };
        let mut ranks: Vec<&mut [i64]> = rows.chunks_mut(local).filter(open).collect();
        if ranks.is_empty() {
            return;
        }
        let count = ranks.len() as i64;
        let (share, rest) = (missing.abs() / count, missing.abs() % count);
        for (index, rank) in (0..).zip(ranks.iter_mut()) {
            let amount = share + i64::from(index < rest);
            if missing > 0 { fill(rank, amount, most) } else { shave(rank, amount) }
        }
    }
}

/// Adds `amount` rows, each to the then least loaded expert, none above `most`.
fn fill(rows: &mut [i64], amount: i64, most: i64) {
    let mut sorted = rows.to_vec();
    sorted.sort_unstable();
    let mut level = most;
    let mut sum = 0;
    for (count, row) in (1..).zip(&sorted) {
        sum += row;
        let reached = (amount + sum).div_euclid(count);
        if sorted.get(count as usize).is_none_or(|next| reached < *next) {
            level = reached.min(most);
            break;
        }
    }
    let mut left = amount;
    for row in rows.iter_mut() {
        let add = (level - *row).max(0);
        (*row, left) = (*row + add, left - add);
    }
    for row in rows.iter_mut().filter(|row| **row == level && **row < most) {
        if left <= 0 {
            break;
        }
        (*row, left) = (*row + 1, left - 1);
    }
}

/// Takes `amount` rows, each from the then most loaded expert.
fn shave(rows: &mut [i64], amount: i64) {
    for _ in 0..amount {
        let Some(most) = rows.iter_mut().max_by_key(|row| **row).filter(|row| **row > 0) else {
            return;
        };
        *most -= 1;
    }
}

fn most_loaded_first(rows: &mut [i64], local: usize) {
    let mut busiest = (0, i64::MIN);
    for (rank, rows) in rows.chunks(local).enumerate() {
        let sum = rows.iter().sum();
        if sum > busiest.1 {
            busiest = (rank, sum);
        }
    }
    for expert in 0..local.min(rows.len()) {
        let other = busiest.0 * local + expert;
        if other < rows.len() {
            rows.swap(expert, other);
        }
    }
}

/// Picks `[tokens x topk]` that realise `rows`: experts from the most loaded down, token by
/// token and then slot by slot.
fn deal_picks(rows: &[u32], tokens: usize, topk: usize) -> Vec<u32> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&expert| std::cmp::Reverse(rows[expert]));
    let mut picks = vec![0; tokens * topk];
    let mut position = 0;
    for expert in order {
        for _ in 0..rows[expert] {
            if position < picks.len() {
                let (slot, token) = (position / tokens, position % tokens);
                picks[token * topk + slot] = expert as u32;
            }
            position += 1;
        }
    }
    picks
}

/// Rows per expert after a group-limited router saw the picks as equal logits.
fn regroup(picks: &[u32], experts: usize, topk: usize) -> Vec<u32> {
    let size = experts / GROUPS;
    let mut rows = vec![0_u32; experts];
    for token in picks.chunks(topk) {
        let mut hits = [0_u32; GROUPS];
        for &expert in token {
            let group = &mut hits[expert as usize / size];
            // A group's score is the sum of its two best.
            *group = (*group + 1).min(2);
        }
        let mut order: [usize; GROUPS] = std::array::from_fn(|group| group);
        order.sort_by_key(|&group| (std::cmp::Reverse(hits[group]), group));
        let mut kept = [false; GROUPS];
        for group in &order[..GROUPS_KEPT] {
            kept[*group] = true;
        }
        let mut chosen: Vec<u32> =
            token.iter().copied().filter(|expert| kept[*expert as usize / size]).collect();
        // The rest of the top k are the lowest experts of the kept groups.
        let cold = (0..experts as u32).filter(|expert| kept[*expert as usize / size]);
        let cold: Vec<u32> =
            cold.filter(|expert| !token.contains(expert)).take(topk - chosen.len()).collect();
        chosen.extend(cold);
        for expert in chosen {
            rows[expert as usize] += 1;
        }
    }
    rows
}

/// Rows of the first rank where picks of other ranks' experts all became its expert 0.
fn clamp(picks: &[u32], local: usize, topk: usize) -> Vec<u32> {
    let mut rows = vec![0; local];
    for token in picks.chunks(topk) {
        if token.iter().any(|expert| (*expert as usize) < local) {
            for &expert in token {
                let expert = expert as usize;
                rows[if expert < local { expert } else { 0 }] += 1;
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests;
