//! A plan: a placement, what it is predicted to do, and where it comes from. `plan.json`.

use std::collections::BTreeMap;

use moecast_sim::Placement;
use serde::{Deserialize, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::export::node::one_line;
use crate::export::shape::list;

mod read;
#[cfg(test)]
mod tests;

/// Version of `plan.json` that this build reads and writes.
pub const VERSION: u32 = 1;

/// A figure on the part of the recording that was planned on and on the part that was not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    /// On the requests or steps that the planner saw; no evidence.
    #[serde(serialize_with = "finite")]
    pub train: f64,
    /// On those that it did not see; absent when everything was planned on.
    #[serde(serialize_with = "finite_or_none")]
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
    #[serde(serialize_with = "finite")]
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

impl Plan {
    /// Reads `plan.json`. `path` is named in errors.
    ///
    /// The version is looked at before anything else, so that a file of a later version is
    /// answered with its version and not with the first key that is new.
    ///
    /// # Errors
    /// When the text is no plan, of another version, or breaks a law of [`Plan::check`].
    pub fn read(text: &[u8], path: &str) -> Result<Self> {
        read::plan(text, path)
    }

    /// Checks what the types leave open: layers that ascend and lie within the model, as many as
    /// the placement has; nodes that have ranks; figures that are numbers.
    ///
    /// # Errors
    /// Names the key, what it holds and what would hold.
    pub fn check(&self) -> Result<()> {
        let refuse = |key: &str, found: String, expected: String| {
            Err(Error::problem(format!("key `{key}`"), found, expected))
        };
        let placed = self.placement.layers().len();
        if self.version != VERSION {
            return refuse("version", self.version.to_string(), VERSION.to_string());
        }
        if self.layers.len() != placed {
            let found = format!("{} layers", self.layers.len());
            return refuse("layers", found, format!("{placed}, as in the placement"));
        }
        if let Some(pair) = self.layers.windows(2).find(|pair| pair[0] > pair[1]) {
            let found = format!("{} before {}", pair[0], pair[1]);
            return refuse("layers", found, "absolute layer numbers that ascend".to_owned());
        }
        if let (Some(last), Some(hidden)) = (self.layers.last(), self.hidden_layers)
            && *last >= hidden
        {
            let expected = format!("layer numbers below {hidden}, as `hidden_layers` says");
            return refuse("layers", last.to_string(), expected);
        }
        let ranks = self.placement.ranks();
        if self.nodes == 0 || self.nodes > ranks {
            let expected = format!("1 to {ranks} nodes for {ranks} ranks");
            return refuse("nodes", self.nodes.to_string(), expected);
        }
        match self.figures().find(|(_, figure)| !figure.is_finite()) {
            None => Ok(()),
            Some((key, figure)) => refuse(&key, figure.to_string(), "a finite number".to_owned()),
        }
    }

    /// Every number that is a float, with its key.
    fn figures(&self) -> impl Iterator<Item = (String, f64)> {
        let Predicted { imbalance, imbalance_bound, step_time_us } = &self.predicted;
        let maps = [("imbalance", imbalance), ("step_time_us", step_time_us)];
        let named = maps.into_iter().flat_map(|(key, map)| {
            map.iter()
                .map(move |(name, judged)| (format!("predicted.{key}.{}", one_line(name)), *judged))
        });
        let bound = imbalance_bound.map(|judged| ("predicted.imbalance_bound".to_owned(), judged));
        let share = ("provenance.heldout".to_owned(), self.provenance.heldout);
        named
            .chain(bound)
            .flat_map(|(key, judged)| {
                let heldout = judged.heldout.map(|figure| (format!("{key}.heldout"), figure));
                std::iter::once((format!("{key}.train"), judged.train)).chain(heldout)
            })
            .chain(std::iter::once(share))
    }

    /// `plan.json`: keys in the order of the fields, one line per layer of the placement, so that
    /// two plans can be compared line by line. [`Plan::read`] makes the same plan of it.
    ///
    /// # Panics
    /// When a figure is not finite, which [`Plan::check`] refuses: JSON has no such number.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Every field by name: a new one cannot be forgotten here.
        let Self {
            version,
            model,
            layers,
            hidden_layers,
            nodes,
            placement,
            predicted,
            provenance: origin,
        } = self;
        let rows: Vec<String> =
            placement.layers().iter().map(|row| format!("      {}", list(row))).collect();
        let text = |value: Result<String>| value.expect("Plan::check refuses what JSON lacks");
        format!(
            "{{\n  \"version\": {version},\n  \"model\": {model},\n  \"layers\": {layers},\n  \
             \"hidden_layers\": {hidden},\n  \"nodes\": {nodes},\n  \"placement\": {{\n    \
             \"experts\": {experts},\n    \"ranks\": {ranks},\n    \"slots\": {slots},\n    \
             \"layers\": [\n{rows}\n    ]\n  }},\n  \"predicted\": {predicted},\n  \
             \"provenance\": {provenance}\n}}\n",
            model = text(nested(model, "  ")),
            layers = list(layers),
            hidden = hidden_layers.map_or_else(|| "null".to_owned(), |count| count.to_string()),
            experts = placement.experts(),
            ranks = placement.ranks(),
            slots = placement.slots(),
            rows = rows.join(",\n"),
            predicted = text(nested(predicted, "  ")),
            provenance = text(nested(origin, "  ")),
        )
    }

    /// Checks that this plan is for a model with `experts` experts in the MoE layers `layers`
    /// (absolute numbers). `path`, where the plan comes from, is named in the error.
    ///
    /// # Errors
    /// Names both shapes when the plan is for another model.
    pub fn check_matches(&self, experts: u16, layers: &[u16], path: &str) -> Result<()> {
        if self.placement.experts() == experts && self.layers == layers {
            return Ok(());
        }
        let model = match &*self.model {
            "" => String::new(),
            model => format!(" of {}", one_line(model)),
        };
        let found =
            format!("a plan for {}{model}", shape_text(self.placement.experts(), &self.layers));
        let expected = format!("a plan for {}", shape_text(experts, layers));
        Err(Error::invalid(path, "the plan", found, expected))
    }
}

/// "256 experts in 58 MoE layers 3 to 60".
pub(crate) fn shape_text(experts: u16, layers: &[u16]) -> String {
    let numbers = match layers {
        [first, .., last] if usize::from(last.saturating_sub(*first)) + 1 == layers.len() => {
            format!("{first} to {last}")
        }
        [first, second, .., last] if layers.len() > 8 => format!("{first}, {second}, ... {last}"),
        _ => list(layers),
    };
    format!("{experts} experts in {} MoE layers {numbers}", layers.len())
}

/// `value` as JSON inside a document, every line but the first after `indent`.
///
/// # Errors
/// When a figure in it is not finite.
pub(crate) fn nested<T: Serialize>(value: &T, indent: &str) -> Result<String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| {
        Error::problem("the plan", one_line(&error.to_string()), "what JSON can hold")
    })?;
    // Text in JSON holds no raw line ends, so these are all ends of its own lines.
    Ok(text.replace('\n', &format!("\n{indent}")))
}

/// Refuses what serde_json would silently write as null.
pub(crate) fn finite<S: Serializer>(
    figure: &f64,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    if figure.is_finite() {
        return serializer.serialize_f64(*figure);
    }
    Err(serde::ser::Error::custom(format!("{figure} is no finite number")))
}

pub(crate) fn finite_or_none<S: Serializer>(
    figure: &Option<f64>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    match figure {
        Some(figure) => finite(figure, serializer),
        None => serializer.serialize_none(),
    }
}
