//! Over how many GPUs one replica of a model is divided, and in which ways.

use moecast_profiles::model::ModelShape;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The parallelism of one replica. Attention is divided over `tensor` ranks and copied `data`
/// times; the same ranks hold the experts, `expert` groups of `expert_tensor` ranks each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Ranks that attention, dense layers, shared experts and head are divided over.
    pub tensor: u16,
    /// Replicas of attention, each with requests of its own.
    pub data: u16,
    /// Ranks that experts are dealt to.
    pub expert: u16,
    /// Ranks that the width of every expert is divided over.
    pub expert_tensor: u16,
    /// Stages that layers are divided over.
    pub pipeline: u16,
}

impl Layout {
    /// Everything on one GPU.
    pub const ONE: Self = Self { tensor: 1, data: 1, expert: 1, expert_tensor: 1, pipeline: 1 };

    /// Ranks of one stage.
    #[must_use]
    pub fn ranks(&self) -> u32 {
        u32::from(self.tensor) * u32::from(self.data)
    }

    /// GPUs of the replica.
    #[must_use]
    pub fn gpus(&self) -> u32 {
        self.ranks() * u32::from(self.pipeline)
    }

    /// Whether tokens travel to their experts: attention has replicas, so ranks hold different
    /// tokens.
    #[must_use]
    pub fn exchanges(&self) -> bool {
        self.data > 1
    }

    /// Checks the layout by itself and against `model`.
    ///
    /// # Errors
    /// [`Error::Scenario`] names the figure that does not fit.
    pub fn check(&self, model: &ModelShape) -> Result<()> {
        let refuse =
            |found: String, expected: String| Err(Error::scenario("layout", found, expected));
        let all = [
            ("tensor", self.tensor),
            ("data", self.data),
            ("expert", self.expert),
            ("expert_tensor", self.expert_tensor),
            ("pipeline", self.pipeline),
        ];
        if let Some((name, _)) = all.iter().find(|(_, ranks)| *ranks == 0) {
            return refuse(format!("{name} = 0"), "at least 1".to_owned());
        }
        if u16::try_from(self.gpus()).is_err() {
            return refuse(format!("{} GPUs", self.gpus()), "at most 65535".to_owned());
        }
        let experts = u32::from(self.expert) * u32::from(self.expert_tensor);
        if experts != self.ranks() {
            let Self { tensor, data, expert, expert_tensor, .. } = self;
            return refuse(
                format!("expert x expert_tensor = {expert} x {expert_tensor}"),
                format!("tensor x data = {tensor} x {data}: the same GPUs hold both"),
            );
        }
        check_chains(model)?;
        if self.expert > model.experts {
            let expected = format!("at most the {} experts of {}", model.experts, model.name);
            return refuse(format!("expert = {}", self.expert), expected);
        }
        if u32::from(self.expert_tensor) > model.expert_inter {
            let expected = format!("at most the width of an expert, {}", model.expert_inter);
            return refuse(format!("expert_tensor = {}", self.expert_tensor), expected);
        }
        if self.pipeline > model.hidden_layers {
            let expected = format!("at most the {} layers", model.hidden_layers);
            return refuse(format!("pipeline = {}", self.pipeline), expected);
        }
        model.sharded(self.tensor).map(drop).map_err(|_| {
            let found = format!("tensor = {}", self.tensor);
            Error::scenario("layout", found, format!("a divisor of the heads of {}", model.name))
        })
    }
}

/// Passes count a layer's attention once for every routing.
fn check_chains(model: &ModelShape) -> Result<()> {
    if usize::from(model.distinct_moe_layers()) == model.moe_layers.len() {
        return Ok(());
    }
    let found = format!("{} with layers that chain their experts", model.name);
    let expected = "each layer once: services do not chain them, `simulate` does";
    Err(Error::scenario("model", found, expected))
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tensor, data, expert, expert_tensor, pipeline } = self;
        write!(f, "TP{tensor} DP{data} EP{expert}")?;
        if *expert_tensor > 1 {
            write!(f, " x TP{expert_tensor}")?;
        }
        if *pipeline > 1 {
            write!(f, " PP{pipeline}")?;
        }
        Ok(())
    }
}
