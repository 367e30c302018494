//! Rules that change which experts a token gets, or in which precision, for the sake of what is
//! resident: a registry. All but `exact` change the model's output; the engine counts the tokens
//! that they change, and reports say so.

mod buddy;
mod cache_aware;
mod exact;
mod hobbit;
mod skip;
#[cfg(test)]
mod tests;
mod tokens;
mod top;

use moecast_profiles::registry::{UnknownName, find as find_entry};
use moecast_profiles::seed::Seed;

/// One expert that one token chose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pick {
    /// Index of the token in the pass.
    pub token: u32,
    /// Logical expert.
    pub expert: u16,
    /// Place among the token's choices by gate weight, from 0.
    pub rank: u16,
    /// Gate weight; 1 / k where none was recorded.
    pub weight: f32,
    /// Version of the weights to be used: 0 is the highest precision.
    pub version: u8,
}

/// What a rule may look at.
pub struct View<'a> {
    /// MoE layer.
    pub layer: usize,
    /// Whether a version of an expert is in GPU memory.
    pub cached: &'a dyn Fn(u16, u8) -> bool,
    /// Experts of this layer, most used before first.
    pub popular: &'a [u16],
    /// Versions that there are.
    pub versions: u8,
}

/// Changes picks.
pub trait Rule: Send {
    /// Removes picks or replaces their experts or versions. Picks come token by token, by rank. A
    /// token keeps at least one pick, and no expert twice.
    fn apply(&mut self, view: &View<'_>, picks: &mut Vec<Pick>);

    /// In which version an expert would be used that a token is predicted to choose, after experts
    /// of the share `before` of its gate weight; `None` where it would be left out. Wishes are for
    /// that version. Asked only where there are several.
    fn forecast(&self, _: &View<'_>, _expert: u16, _before: f64) -> Option<u8> {
        Some(0)
    }
}

/// Of each pick of one token, by rank: the share of the gate weight that goes to picks before it.
/// Weights that say nothing count alike.
pub(super) fn before(token: &[Pick]) -> impl Iterator<Item = f64> + '_ {
    let total: f64 = token.iter().map(|pick| f64::from(pick.weight)).sum();
    let count = token.len() as f64;
    let mut sum = 0.0;
    token.iter().enumerate().map(move |(place, pick)| {
        let share = if total > 0.0 { sum / total } else { place as f64 / count };
        sum += f64::from(pick.weight);
        share
    })
}

/// A rule that users pick by name.
pub struct Entry {
    /// Name as typed.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Versions that it needs; 1 where it knows no precision.
    pub versions: u8,
    /// Builds it with its knobs (see `about`), empty for defaults, and the run's seed; a rule that
    /// draws names its stream.
    pub build: fn(&[f64], Seed) -> Box<dyn Rule>,
}

moecast_profiles::named!(Entry);

/// Every rule, alphabetical.
pub const ALL: &[Entry] =
    &[buddy::ENTRY, cache_aware::ENTRY, exact::ENTRY, hobbit::ENTRY, skip::ENTRY, top::ENTRY];

/// Finds a rule by name.
///
/// # Errors
/// [`UnknownName`] lists the valid names.
pub fn find(name: &str) -> Result<&'static Entry, UnknownName> {
    find_entry("routing rule", ALL, name)
}
