//! Recipes that ship with moecast, each with the statistics that it was fitted to.
//!
//! What is published does not determine every knob; each file says what was assumed beside it.

use moecast_profiles::builtin;
use moecast_profiles::registry::find;
use serde::Deserialize;

use super::check::Statistic;
use super::recipe::Recipe;
use super::{Amount, Shape};
use crate::error::{Error, Result};

/// A shipped recipe.
pub struct Entry {
    /// Name as typed after `--like`: that of the model.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    text: &'static str,
}

moecast_profiles::named!(Entry);

macro_rules! preset {
    ($name:literal, $about:literal) => {
        Entry {
            name: $name,
            about: $about,
            text: include_str!(concat!("../../presets/", $name, ".toml")),
        }
    };
}

/// Every preset, alphabetical.
pub const ALL: &[Entry] = &[
    preset!("deepseek-r1", "fitted to its imbalance at EP32; locality as DeepSeek-V2-Lite"),
    preset!("deepseek-v2-lite", "fitted to published SRP and hit rates"),
    preset!("deepseek-v3", "as DeepSeek-R1"),
    preset!("gpt-oss-120b", "assumed: as Qwen3-30B-A3B"),
    preset!("kimi-k2", "assumed: as DeepSeek-R1"),
    preset!("mixtral-8x7b", "fitted to published SRP and hit rates"),
    preset!("olmoe-1b-7b", "fitted to published SRP and hit rates"),
    preset!("openmoe-8b", "fitted to published SRP and hit rates"),
    preset!("phi-3.5-moe", "fitted to published SRP and hit rates"),
    preset!("qwen1.5-moe-a2.7b", "fitted to published SRP and hit rates"),
    preset!("qwen3-235b-a22b", "assumed: as Qwen3-30B-A3B"),
    preset!("qwen3-30b-a3b", "fitted to published SRP and hit rates"),
];

/// A published value.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// What it is a value of.
    pub of: Statistic,
    /// The value.
    pub value: f64,
    /// How far a trace may be from it.
    pub tolerance: f64,
}

/// A preset as its file holds it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Where the published values are from.
    pub source: String,
    /// What was assumed because nothing is published.
    pub assumed: String,
    /// The knobs.
    pub recipe: Recipe,
    /// What was published.
    #[serde(default)]
    pub published: Vec<Published>,
}

/// The preset called `name`.
///
/// # Errors
/// When no preset has that name.
pub fn read(name: &str) -> Result<Preset> {
    let entry = find("preset", ALL, name)?;
    let preset: Preset = toml::from_str(entry.text).map_err(|error| {
        Error::invalid(format!("preset {name}"), "file", error.message(), "a valid preset")
    })?;
    preset.recipe.check(name)?;
    Ok(preset)
}

/// The shape of the model that a preset is of.
///
/// # Errors
/// When no model has that name.
pub fn shape(name: &str) -> Result<Shape> {
    let model = builtin::model(name).map_err(|error| {
        Error::invalid("model", name, error.to_string(), "a model of `moecast list models`")
    })?;
    Ok(Shape::from(&model))
}

/// As much as the published statistics were measured on, about: texts of 512 tokens.
pub const AMOUNT: Amount = Amount { requests: 64, tokens: 512, generated: 128, batch: 16 };
