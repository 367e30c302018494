//! The routing of one request, token by token.
//!
//! A pick of a token in a layer either repeats the pick that the same place had some tokens ago
//! (`memory`, with a distance that fades as a power; one distance for all layers of a token, as
//! similar tokens are routed alike in all layers), or follows the pick of the layer before
//! (`affinity`), or is drawn by the request's own weights. A pick that the token already has is
//! drawn again. Cost: a few draws a pick, whatever the number of experts; a table of all experts
//! and layers once a request.

use moecast_profiles::seed::Generator;
use rand::Rng;

use super::Wanted;
use super::alias::{Alias, Scratch};
use super::expert_choice::choose;
use super::recipe::{Choice, Recipe};
use super::world::{World, field};
use crate::trace::NO_EXPERT;

/// How far back memory reaches, in tokens.
const MEMORY_TOKENS: u32 = 1024;
/// Draws before a pick takes the likeliest expert that is left.
const TRIES: usize = 64;

/// What a token's phase decides.
#[derive(Clone, Copy)]
struct Chances {
    /// Chances that a pick is repeated, and that a fresh one follows the layer before, in units of
    /// 2^-32.
    memory: u64,
    affinity: u64,
}

/// Makes requests, one after the other.
pub(super) struct Router<'a> {
    world: &'a World,
    recipe: &'a Recipe,
    top_k: usize,
    distance: &'a Alias,
    tables: Vec<Alias>,
    scratch: Scratch,
    weights: Vec<f64>,
}

/// The table of the distances that memory reaches back.
pub(super) fn distances(decay: f64) -> Alias {
    let weight = |distance: u32| libm::pow(f64::from(distance), -decay);
    Alias::new(&(1..=MEMORY_TOKENS).map(weight).collect::<Vec<f64>>())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share below 1")]
fn chance(share: f64) -> u64 {
    (share * 4_294_967_296.0) as u64
}

impl<'a> Router<'a> {
    pub(super) fn new(
        world: &'a World,
        recipe: &'a Recipe,
        top_k: u16,
        distance: &'a Alias,
    ) -> Self {
        Self {
            world,
            recipe,
            top_k: usize::from(top_k),
            distance,
            tables: vec![Alias::default(); world.layers],
            scratch: Scratch::default(),
            weights: Vec::new(),
        }
    }

    /// `[prompt + generated, M, k]` experts of `wanted`.
    pub(super) fn request(&mut self, wanted: Wanted, bits: &mut Generator) -> Vec<u16> {
        let Wanted { prompt, generated, domain, time } = wanted;
        self.prepare(domain, time, bits);
        let width = self.world.layers * self.top_k;
        let tokens = (prompt + generated) as usize;
        // Ranks first: places repeat and follow ranks. Ids replace them at the end.
        let mut picks = vec![0_u16; tokens * width];
        let affinity = chance(self.recipe.affinity);
        for token in 0..tokens {
            let is_prompt = token < prompt as usize;
            let memory = if is_prompt { self.recipe.memory } else { self.recipe.decode_memory };
            let (past, now) = picks.split_at_mut(token * width);
            let back = self.distance.draw(bits.next_u64()) + 1;
            let source = token.checked_sub(back).map(|row| &past[row * width..(row + 1) * width]);
            let memory = if source.is_some() { chance(memory) } else { 0 };
            self.token(
                source.unwrap_or(&[]),
                &mut now[..width],
                Chances { memory, affinity },
                bits,
            );
        }
        if self.recipe.choice == Choice::Expert {
            let middle = prompt as usize * width;
            let (prompt, generated) = picks.split_at_mut(middle);
            for group in [prompt, generated] {
                let experts = self.world.experts;
                choose(group, self.world.layers, self.top_k, experts, self.recipe.skipped);
            }
        }
        let by_token = self.recipe.choice == Choice::Token && self.recipe.skipped > 0.0;
        let skipped = chance(self.recipe.skipped);
        for row in picks.chunks_exact_mut(width) {
            for (place, pick) in row.iter_mut().enumerate() {
                if *pick == NO_EXPERT {
                    continue;
                }
                // Nothing is drawn without the knob: it shifts no other draw.
                if by_token && bits.next_u64() >> 32 < skipped {
                    *pick = NO_EXPERT;
                    continue;
                }
                let layer = place / self.top_k;
                *pick = self.world.id[layer * self.world.experts + usize::from(*pick)];
            }
        }
        picks
    }

    /// Draws what the request likes and makes a table per layer.
    fn prepare(&mut self, domain: u16, time: f64, bits: &mut Generator) {
        let World { experts, layers, .. } = *self.world;
        let recipe = self.recipe;
        self.weights = field(layers, experts, recipe.affinity, bits);
        self.weights.iter_mut().for_each(|value| *value *= recipe.request_skew);
        self.world.add_weights(domain, time, &mut self.weights);
        let rows = self.weights.chunks_exact_mut(experts);
        for (row, table) in rows.zip(&mut self.tables) {
            let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            row.iter_mut().for_each(|value| *value = libm::exp(*value - top));
            table.fill(row, &mut self.scratch);
        }
    }

    /// The weights of the experts of `layer` in this request, by rank.
    fn layer_weights(&self, layer: usize) -> &[f64] {
        &self.weights[layer * self.world.experts..][..self.world.experts]
    }

    fn token(&self, source: &[u16], row: &mut [u16], chances: Chances, bits: &mut Generator) {
        let k = self.top_k;
        for (layer, table) in self.tables.iter().enumerate() {
            let (before, rest) = row.split_at_mut(layer * k);
            let before = &before[before.len().saturating_sub(k)..];
            for place in 0..k {
                let dice = bits.next_u64();
                let (first, second) = (dice >> 32, dice & 0xffff_ffff);
                let offer = if first < chances.memory {
                    Some(source[layer * k + place])
                } else if layer > 0 && second < chances.affinity {
                    Some(before[place])
                } else {
                    None
                };
                let (chosen, free) = rest.split_at_mut(place);
                free[0] = match offer {
                    Some(rank) if !chosen.contains(&rank) => rank,
                    _ => fresh(table, chosen, self.layer_weights(layer), bits),
                };
            }
        }
    }
}

/// A pick by `table` that is none of `chosen`.
fn fresh(table: &Alias, chosen: &[u16], weights: &[f64], bits: &mut Generator) -> u16 {
    for _ in 0..TRIES {
        let rank = u16::try_from(table.draw(bits.next_u64())).expect("ranks are 16 bits");
        if !chosen.contains(&rank) {
            return rank;
        }
    }
    // The chosen ones take nearly all draws: of the others, the likeliest.
    let free = (0..).zip(weights).filter(|(rank, _)| !chosen.contains(rank));
    let likeliest = free.max_by(|(_, one), (_, other)| one.total_cmp(other));
    likeliest.expect("a token picks k <= E experts").0
}
