//! Placement algorithms: one file each, one line in [`ALL`].

mod eplb;
mod eplb_global;
mod exact;
mod linear;
mod moecast;
mod round_robin;
mod trtllm;

#[cfg(test)]
mod conformance;

use moecast_profiles::ids::ExpertId;
use moecast_profiles::registry::{UnknownName, find as find_entry};
use moecast_profiles::seed::Seed;
use moecast_sim::Placement;

use crate::error::Result;
use crate::problem::Problem;

/// A placement algorithm that users pick by name.
pub struct Entry {
    /// Name as typed.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Proposes a placement. The same problem and seed give the same placement on any number of
    /// threads.
    pub propose: fn(&Problem, Seed) -> Result<Placement>,
}

moecast_profiles::named!(Entry);

/// Every placement algorithm, alphabetical.
pub const ALL: &[Entry] = &[
    eplb::ENTRY,
    eplb_global::ENTRY,
    exact::ENTRY,
    linear::ENTRY,
    moecast::ENTRY,
    round_robin::ENTRY,
    trtllm::ENTRY,
];

/// Finds an algorithm by name.
///
/// # Errors
/// [`UnknownName`] lists the valid names.
pub fn find(name: &str) -> std::result::Result<&'static Entry, UnknownName> {
    find_entry("algorithm", ALL, name)
}

/// The placement whose layers `place` makes, one after the other.
fn per_layer(
    problem: &Problem,
    place: impl Fn(usize) -> Result<Vec<ExpertId>>,
) -> Result<Placement> {
    let layers = (0..problem.layers.len()).map(place).collect::<Result<Vec<_>>>()?;
    Ok(Placement::new(problem.experts, problem.ranks, layers)?)
}

/// The number of an expert as an id.
fn expert_id(expert: usize) -> ExpertId {
    ExpertId(u16::try_from(expert).expect("expert numbers are u16"))
}
