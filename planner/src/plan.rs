//! A plan: a placement, what it is predicted to do, and where it comes from. `plan.json`.

use std::collections::BTreeMap;

use moecast_sim::Placement;
use moecast_sim::placement::PlacementFile;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Version of `plan.json` that this build reads and writes.
pub const VERSION: u32 = 1;

/// A figure on the part of the recording that was planned on and on the part that was not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    /// On the requests or steps that the planner saw; no evidence.
    pub train: f64,
    /// On those that it did not see; absent when everything was planned on.
    pub heldout: Option<f64>,
}

/// What was predicted, by name of the placement ("linear", "eplb", "plan").
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predicted {
    /// Max over mean rank load, mean over layers and steps.
    pub imbalance: BTreeMap<String, Judged>,
    /// Lower bound of `imbalance` over all placements with as many slots.
    pub imbalance_bound: Option<Judged>,
    /// Mean time of one forward pass, microseconds; empty without a model and a cluster.
    pub step_time_us: BTreeMap<String, Judged>,
}

/// Where a plan comes from: with the same inputs, `moecast plan` makes the same plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Version of moecast.
    pub tool: String,
    /// Placement algorithm.
    pub algorithm: String,
    /// Seed.
    pub seed: u64,
    /// SHA-256 of the trace or load file planned on, hexadecimal.
    pub trace_sha256: String,
    /// True when that trace was generated, not recorded.
    pub synthetic: bool,
    /// Share of the recording that was kept from the planner.
    pub heldout: f64,
    /// Cluster as typed; empty when none was named.
    pub cluster: String,
    /// Engine whose replica rule the predictions use; empty when none was named.
    pub engine: String,
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// [`VERSION`].
    pub version: u32,
    /// Name of the model; empty when the loads named none.
    pub model: String,
    /// Absolute layer number of every MoE layer, ascending.
    pub layers: Vec<u16>,
    /// All transformer layers of the model; `None` when no model was named.
    pub hidden_layers: Option<u16>,
    /// Nodes that the ranks are on.
    pub nodes: u16,
    /// The placement.
    pub placement: Placement,
    /// What it is predicted to do.
    pub predicted: Predicted,
    /// Where it comes from.
    pub provenance: Provenance,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    version: u32,
    model: String,
    layers: Vec<u16>,
    hidden_layers: Option<u16>,
    nodes: u16,
    placement: PlacementFile,
    predicted: Predicted,
    provenance: Provenance,
}

impl Plan {
    /// Reads `plan.json`. `path` is named in errors.
    ///
    /// # Errors
    /// When the text is no plan, of another version, or its placement breaks a law.
    pub fn read(text: &[u8], path: &str) -> Result<Self> {
        let file: PlanFile = serde_json::from_slice(text).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            Error::invalid(path, place, error.to_string(), "a plan written by `moecast plan`")
        })?;
        if file.version != VERSION {
            let found = file.version.to_string();
            return Err(Error::invalid(path, "key `version`", found, VERSION.to_string()));
        }
        let placement = Placement::try_from(file.placement).map_err(|error| {
            Error::invalid(path, "key `placement`", error.to_string(), "a placement that holds")
        })?;
        if file.layers.len() != placement.layers().len() {
            let found = format!("{} layers", file.layers.len());
            let expected = format!("{}, as in the placement", placement.layers().len());
            return Err(Error::invalid(path, "key `layers`", found, expected));
        }
        Ok(Self {
            version: file.version,
            model: file.model,
            layers: file.layers,
            hidden_layers: file.hidden_layers,
            nodes: file.nodes,
            placement,
            predicted: file.predicted,
            provenance: file.provenance,
        })
    }
}
