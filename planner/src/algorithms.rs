//! Placement algorithms: one file each, one line in [`ALL`].

use moecast_profiles::registry::{Named, UnknownName, find as find_entry};
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

impl Named for Entry {
    fn name(&self) -> &'static str {
        self.name
    }
    fn about(&self) -> &'static str {
        self.about
    }
}

/// Every placement algorithm, alphabetical.
pub const ALL: &[Entry] = &[];

/// Finds an algorithm by name.
///
/// # Errors
/// [`UnknownName`] lists the valid names.
pub fn find(name: &str) -> std::result::Result<&'static Entry, UnknownName> {
    find_entry("algorithm", ALL, name)
}
