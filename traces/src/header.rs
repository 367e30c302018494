//! What a trace is a recording of.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::trace::NO_EXPERT;

/// Version of the header that this build reads and writes.
pub const VERSION: u32 = 1;

/// A file that a trace was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputDigest {
    /// File name without its folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

/// What a trace is a recording of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Version of the format; [`VERSION`].
    pub version: u32,
    /// Name of the model, as the recorder gave it; empty when it gave none.
    pub model: String,
    /// Name of the importer or generator.
    pub source: String,
    /// Logical experts per MoE layer.
    pub experts: u16,
    /// Experts beside these that compute nothing, numbered behind them. Picks of them are rows with
    /// fewer experts: no column holds their ids.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub zero_experts: u16,
    /// Most experts that one token chose in one layer.
    pub top_k: u16,
    /// Absolute layer number of every MoE layer, ascending; a layer that chains its experts stands
    /// once for every routing.
    pub layers: Vec<u16>,
    /// Bytes of one expert of every MoE layer, where the recorder knew; else empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expert_bytes: Vec<u64>,
    /// True when a generator made it: shown wherever the trace is shown.
    pub synthetic: bool,
    /// What a reader should know: skipped records, assumptions, oddities.
    pub remarks: Vec<String>,
    /// The files it was made from.
    pub inputs: Vec<InputDigest>,
    /// Names of the request groups that the `domain` column points into.
    pub domains: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde wants")]
fn is_zero(count: &u16) -> bool {
    *count == 0
}

impl Header {
    /// A header without remarks, inputs and domains.
    #[must_use]
    pub fn new(source: &str, model: &str, experts: u16, top_k: u16, layers: Vec<u16>) -> Self {
        Self {
            version: VERSION,
            model: model.to_owned(),
            source: source.to_owned(),
            experts,
            zero_experts: 0,
            top_k,
            layers,
            expert_bytes: Vec::new(),
            synthetic: false,
            remarks: Vec::new(),
            inputs: Vec::new(),
            domains: Vec::new(),
        }
    }

    /// Number of MoE layers.
    #[must_use]
    pub fn moe_layers(&self) -> usize {
        self.layers.len()
    }

    /// Checks the shape. `path` is named in the error.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the key that is wrong.
    pub fn validate(&self, path: &str) -> Result<()> {
        let invalid = |key: &str, found: String, expected: &str| {
            Err(Error::invalid(path, format!("header key `{key}`"), found, expected))
        };
        if self.version != VERSION {
            return invalid(
                "version",
                self.version.to_string(),
                "1: this file was written by a newer moecast, or is damaged",
            );
        }
        if self.experts == 0 || self.experts == NO_EXPERT {
            return invalid("experts", self.experts.to_string(), "between 1 and 65534");
        }
        if NO_EXPERT - self.experts < self.zero_experts {
            return invalid(
                "zero_experts",
                self.zero_experts.to_string(),
                "fewer: ids are 16 bits",
            );
        }
        if self.top_k == 0 || self.top_k > self.experts {
            return invalid("top_k", self.top_k.to_string(), "between 1 and the experts");
        }
        if self.layers.is_empty() || !self.layers.is_sorted() {
            return invalid("layers", format!("{:?}", self.layers), "ascending layer numbers");
        }
        let sizes = self.expert_bytes.len();
        if sizes > 0 && sizes != self.layers.len() {
            let expected = "one size for each MoE layer, or none";
            return invalid("expert_bytes", format!("{sizes} sizes"), expected);
        }
        if self.expert_bytes.contains(&0) {
            return invalid("expert_bytes", "0".to_owned(), "sizes above 0");
        }
        Ok(())
    }
}
