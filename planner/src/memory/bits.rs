//! How many bits each expert is stored in: a registry of precision policies, one file and one line
//! each, and what they decide by: how much an expert matters ([`Importance`]) and what a width
//! costs ([`Errors`]).
//!
//! Every policy answers with the same cost, so that they can be compared: the sum over experts of
//! `share^alpha * weight^beta * error^alpha` at the width that each was given.

use moecast_profiles::registry::{UnknownName, find as find_entry};

use crate::error::{Error, Result};

mod budget;
mod edgemoe;
mod errors;
mod importance;
mod knapsack;
pub mod nested;
mod pmq;
#[cfg(test)]
mod tests;
mod uniform;

pub use errors::{ASSUMED_WIDTHS, Errors};
pub use importance::{Importance, importance};

/// Who solves an integer program that has more than one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Solver {
    /// Dynamic programming: exact, and fast at every size that models have.
    #[default]
    Dynamic,
    /// The integer program as published, by `good_lp`: the same answer, for small blocks only.
    Program,
}

/// What a policy is asked.
#[derive(Clone, Debug)]
pub struct Task<'a> {
    /// How much each expert matters, `[M][E]`.
    pub importance: &'a Importance,
    /// What each width costs, `[M][E][W]`.
    pub errors: &'a Errors,
    /// Mean bits of an expert's weight.
    pub budget: f64,
    /// Exponent of the activation share and of the error.
    pub alpha: f64,
    /// Exponent of the gate weight share.
    pub beta: f64,
    /// Who solves integer programs.
    pub solver: Solver,
}

impl<'a> Task<'a> {
    /// A task with PMQ's published exponents, alpha 1 and beta 1.5.
    #[must_use]
    pub fn new(importance: &'a Importance, errors: &'a Errors, budget: f64) -> Self {
        Self { importance, errors, budget, alpha: 1.0, beta: 1.5, solver: Solver::default() }
    }

    /// Checks shapes and figures.
    ///
    /// # Errors
    /// Names what does not fit together.
    pub fn check(&self) -> Result<()> {
        let refuse = |place: &str, found: String, expected: &str| {
            Err(Error::problem(format!("precision: {place}"), found, expected))
        };
        let (layers, experts) = self.importance.shape();
        if self.errors.shape() != (layers, experts) {
            let (their_layers, their_experts) = self.errors.shape();
            let found = format!("errors of {their_layers} layers of {their_experts} experts");
            let expected = format!("{layers} layers of {experts} experts, as in the trace");
            return refuse("errors", found, &expected);
        }
        if layers == 0 || experts == 0 {
            return refuse("trace", "no experts".to_owned(), "at least one");
        }
        if !self.budget.is_finite() || self.budget <= 0.0 || self.budget > 64.0 {
            return refuse("budget", self.budget.to_string(), "bits above 0, at most 64");
        }
        for (name, exponent) in [("alpha", self.alpha), ("beta", self.beta)] {
            if !(0.0..=8.0).contains(&exponent) {
                return refuse(name, exponent.to_string(), "an exponent of 0 to 8");
            }
        }
        Ok(())
    }

    /// Bits of `experts` experts together.
    fn total(&self, experts: usize) -> usize {
        #[expect(clippy::cast_precision_loss, reason = "experts are far below 2^53")]
        let bits = self.budget * experts as f64;
        // 2.6 bits of 5 experts are 13, whatever 2.6 is in binary.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the budget was checked: above 0, at most 64 bits an expert"
        )]
        let whole = (bits + 1e-9).floor() as usize;
        whole
    }

    /// `[W]` what expert `expert` of layer `layer` costs at each of `widths`.
    fn costs(&self, layer: usize, expert: usize, widths: &[usize]) -> Vec<f64> {
        let share = power(self.importance.share[layer][expert], self.alpha);
        let weight = power(self.importance.weight[layer][expert], self.beta);
        let errors = self.errors.of(layer, expert);
        widths.iter().map(|&width| share * weight * power(errors[width], self.alpha)).collect()
    }

    /// `[E][W]` the costs of all experts of `layer`.
    fn layer_costs(&self, layer: usize, widths: &[usize]) -> Vec<Vec<f64>> {
        let (_, experts) = self.importance.shape();
        (0..experts).map(|expert| self.costs(layer, expert, widths)).collect()
    }

    /// The answer whose widths are `bits`.
    fn answer(&self, bits: Vec<Vec<u8>>, bound: Option<f64>, how: String) -> Assigned {
        let mut cost = 0.0;
        for (layer, row) in bits.iter().enumerate() {
            for (expert, bits) in row.iter().enumerate() {
                let width = self.errors.widths().iter().position(|width| width == bits);
                let width = width.expect("policies choose among the widths of the errors");
                cost += self.costs(layer, expert, &[width])[0];
            }
        }
        Assigned { bits, cost, bound, how }
    }

    /// Where each of `wanted` stands in the widths of the errors.
    fn widths(&self, policy: &str, wanted: &[u8]) -> Result<Vec<usize>> {
        let known = self.errors.widths();
        let at = |width: &u8| {
            known.iter().position(|known| known == width).ok_or_else(|| {
                let found = format!("no error of {width} bits; there are {known:?}");
                Error::problem(format!("{policy}: errors"), found, format!("errors of {wanted:?}"))
            })
        };
        wanted.iter().map(at).collect()
    }
}

/// `base^exponent`; the exponents that are published are the same on every machine.
fn power(base: f64, exponent: f64) -> f64 {
    match exponent {
        0.0 => 1.0,
        1.0 => base,
        1.5 => base * base.sqrt(),
        2.0 => base * base,
        _ => base.powf(exponent),
    }
}

/// What a policy answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Assigned {
    /// `[M][E]` bits of every expert.
    pub bits: Vec<Vec<u8>>,
    /// What they cost; see the module.
    pub cost: f64,
    /// No widths within the policy's budget and rules cost less; `None` for heuristics.
    pub bound: Option<f64>,
    /// How they were found, in words.
    pub how: String,
}

impl Assigned {
    /// Mean bits of an expert.
    #[must_use]
    pub fn mean_bits(&self) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0_f64);
        for bits in self.bits.iter().flatten() {
            sum += f64::from(*bits);
            count += 1.0;
        }
        sum / count.max(1.0)
    }
}

/// A precision policy.
pub struct Entry {
    /// Name as typed after `--policy`.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Widths within the budget.
    ///
    /// # Errors
    /// When the budget is too small, or errors of a width that the policy needs are missing.
    pub assign: fn(&Task<'_>) -> Result<Assigned>,
}

moecast_profiles::named!(Entry);

/// Every precision policy, alphabetical.
pub const ALL: &[Entry] = &[budget::ENTRY, edgemoe::ENTRY, pmq::ENTRY, uniform::ENTRY];

/// Finds a precision policy by name.
///
/// # Errors
/// [`UnknownName`] lists the valid names.
pub fn find(name: &str) -> std::result::Result<&'static Entry, UnknownName> {
    find_entry("precision policy", ALL, name)
}

/// The refusal of a budget that is below what a policy's rules need.
fn too_little(policy: &str, found: usize, needed: usize, why: &str) -> Error {
    let expected = format!("at least {needed} bits: {why}");
    Error::problem(format!("{policy}: budget"), format!("{found} bits together"), expected)
}
