//! Exporters of memory plans: one file per engine, one line in [`ALL`].
//!
//! Engines differ in what they can be told: single experts, whole layers, a share of memory. What
//! a plan wants beyond that is rounded, never above its budget, and every rounding is a remark.
//! Each exporter has a reader that checks its files by the engine's own rules and answers with the
//! residency that the engine would make of them; writing and reading answer the same.

use moecast_profiles::ids::ExpertId;
use moecast_profiles::registry::{UnknownName, find as find_entry};

use super::MemoryPlan;
use crate::error::{Error, Result};
pub use crate::export::File;

mod arguments;
mod csv;
mod ktransformers;
pub mod llama_cpp;
mod moe_infinity;
mod rounding;
pub mod tensors;
#[cfg(test)]
mod tests;
mod vllm;

/// What is known beside the plan; everything that is absent costs precision, and a remark.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setting<'a> {
    /// `[M][E]` tokens per expert: what decides which layers are rounded up.
    pub loads: Option<&'a [Vec<u64>]>,
    /// Tensor names of the model in llama.cpp.
    pub architecture: Option<&'static tensors::Architecture>,
    /// Memory of the GPU, bytes.
    pub gpu_bytes: Option<u64>,
    /// Bytes in it that are no experts: other weights, keys and values, work space.
    pub other_bytes: u64,
}

/// The shape of the model that files are for: what the engines' formats leave out.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// Folder or name, named in errors.
    pub path: String,
    /// `[M]` absolute layer number of every MoE layer, ascending.
    pub layers: Vec<u16>,
    /// All transformer layers, where known.
    pub hidden_layers: Option<u16>,
    /// Experts per layer.
    pub experts: u16,
    /// `[M]` bytes of all experts of a layer.
    pub layer_bytes: Vec<u64>,
    /// What else is known.
    pub setting: Setting<'a>,
}

impl<'a> Context<'a> {
    /// The context of files that were written for the model of `plan`.
    #[must_use]
    pub fn of(plan: &MemoryPlan, setting: Setting<'a>, path: &str) -> Self {
        Self {
            path: path.to_owned(),
            layers: plan.layers.clone(),
            hidden_layers: plan.hidden_layers,
            experts: plan.experts,
            layer_bytes: rounding::layer_bytes(plan),
            setting,
        }
    }

    /// The bytes of the file called `name`.
    fn file<'f>(&self, files: &'f [File], name: &str) -> Result<&'f [u8]> {
        let found = files.iter().find(|file| file.name == name);
        found.map(|file| &*file.bytes).ok_or_else(|| {
            Error::invalid(&self.path, "the export", format!("no file {name}"), "all its files")
        })
    }

    /// All experts of the layers that `is_whole`, none of the others.
    fn whole(&self, is_whole: &[bool]) -> Vec<Vec<ExpertId>> {
        rounding::rows(is_whole, self.experts)
    }
}

/// What an engine keeps in GPU memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Residency {
    /// `[M][..]` experts that never leave, ascending.
    pub pinned: Vec<Vec<ExpertId>>,
    /// Bytes that the engine manages itself, as a cache.
    pub cache_bytes: u64,
}

/// An export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The files; the first one is what the engine loads or is started with.
    pub files: Vec<File>,
    /// What the engine makes of them.
    pub residency: Residency,
    /// Where that is not what the plan says.
    pub remarks: Vec<String>,
}

/// An engine's format.
pub struct Entry {
    /// Name as typed after `--engine`.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// The files that carry the plan.
    pub write: fn(&MemoryPlan, &Setting<'_>) -> Result<Written>,
    /// Checks the files by the engine's rules; what it would keep in GPU memory.
    pub read: fn(&[File], &Context<'_>) -> Result<Residency>,
    /// How the engine is told to use the files: text for `README.txt`.
    pub launch: fn(&MemoryPlan, &Written) -> String,
}

moecast_profiles::named!(Entry);

/// Every exporter, alphabetical.
pub const ALL: &[Entry] =
    &[csv::ENTRY, ktransformers::ENTRY, llama_cpp::ENTRY, moe_infinity::ENTRY, vllm::ENTRY];

/// Finds an exporter by name.
///
/// # Errors
/// [`UnknownName`] lists the valid names.
pub fn find(name: &str) -> std::result::Result<&'static Entry, UnknownName> {
    find_entry("memory exporter", ALL, name)
}

/// The refusal of a plan that lacks what a format needs.
fn lacks(key: &str, expected: &str) -> Error {
    Error::problem(format!("key `{key}`"), "null", expected)
}
