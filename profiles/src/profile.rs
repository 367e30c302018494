//! A profile: everything measured about one kind of GPU under one engine, fitted and compact.
//!
//! [`Profile::from_samples`] makes one, whoever measured the samples; [`Profile::read`] and
//! [`Profile::write`] keep it in a file of under a megabyte that says its version.

mod bound;
mod check;
mod file;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use rayon::prelude::*;

pub use bound::{Curve, ExpertTimer, Surface};
pub use check::{Checked, Worst};
pub use file::VERSION;

use crate::kernel::{Machine, loads};
use crate::sample::{Family, Fields, Provenance, Sample, Samples};
use crate::table::{Answer, Errors, Table, build, key};
use crate::{Error, Result, builtin};

/// Samples beyond this much work are refused: loads are drawn token by token.
const AT_MAX: u64 = 1 << 40;
/// The same for tokens of an expert GEMM.
const TOKENS_MAX: u64 = 1 << 22;
/// Largest field of a shape.
const FIELD_MAX: u32 = 1 << 22;

/// Fitted tables of one GPU under one engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// What was measured, with what, and who says so.
    pub provenance: Provenance,
    /// What is suspicious about it, one line each.
    pub flags: Vec<String>,
    /// The machine that its forms are bounded by.
    pub(crate) machine: Machine,
    /// Tables, by family and variant.
    pub(crate) tables: Vec<Table>,
}

impl Profile {
    /// Fits `samples`; reports how many of how many tables are done.
    ///
    /// # Errors
    /// [`Error::Invalid`] where a sample is out of any range.
    pub fn from_samples(samples: &Samples, done: &(dyn Fn(usize, usize) + Sync)) -> Result<Self> {
        samples.samples.iter().try_for_each(check_sample)?;
        let mut flags = samples.flags.clone();
        let system = &samples.provenance.system;
        let machine = if let Ok(device) = builtin::device(system) {
            Machine::of(&device)
        } else {
            flags.push(format!("no hardware preset `{system}`: forms are bounded like an H200's"));
            Machine::unknown()
        };
        let mut groups: BTreeMap<_, Vec<&Sample>> = BTreeMap::new();
        for sample in &samples.samples {
            groups.entry(key(sample)).or_default().push(sample);
        }
        let groups: Vec<Vec<&Sample>> = groups.into_values().collect();
        let count = std::sync::atomic::AtomicUsize::new(0);
        let tables = groups
            .par_iter()
            .with_max_len(1)
            .map_init(loads::Cache::default, |cache, group| {
                let table = build(group, machine, cache);
                let finished = 1 + count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                done(finished, groups.len());
                table
            })
            .collect();
        Ok(Self { provenance: samples.provenance.clone(), flags, machine, tables })
    }

    /// All tables, by family and variant.
    #[must_use]
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Variants of `family`, most samples first.
    #[must_use]
    pub fn variants(&self, family: Family) -> Vec<&str> {
        let mut found: BTreeMap<&str, u64> = BTreeMap::new();
        for table in self.tables.iter().filter(|table| table.family == family) {
            *found.entry(&table.variant).or_default() += table.samples;
        }
        let mut found: Vec<(&str, u64)> = found.into_iter().collect();
        found.sort_by_key(|(_, samples)| std::cmp::Reverse(*samples));
        found.into_iter().map(|(variant, _)| variant).collect()
    }

    /// The table that holds `shape` under `variant`.
    pub(crate) fn table(&self, family: Family, variant: &str, shape: &[u32]) -> Option<&Table> {
        self.tables
            .iter()
            .find(|table| table.family == family && table.variant == variant && table.holds(shape))
    }

    /// The time of one call, `None` where no table of that variant has such a shape.
    ///
    /// `shape` and `at` are in the order of [`crate::sample::Fields`]. Not for hot paths: bind a
    /// [`Curve`], a [`Surface`] or an [`ExpertTimer`] instead.
    #[must_use]
    pub fn ask(&self, family: Family, variant: &str, shape: &[u32], at: &[u64]) -> Option<Answer> {
        let table = self.table(family, variant, shape)?;
        let question = Sample::question(family, variant, shape, at);
        Some(table.answer(&question, self.machine, &mut loads::Cache::default()))
    }
}

/// SHA-256 of the bytes of a profile, as scenarios name it.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    use sha2::Digest;
    let hash = sha2::Sha256::digest(bytes);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether fields and coordinates of `sample` are within ranges that forms can be asked for.
fn check_sample(sample: &Sample) -> Result<()> {
    let fields = sample.family.fields();
    let refuse = |found: String, expected: String| {
        Err(Error::Invalid {
            path: format!("sample of {}", sample.variant),
            key: fields.name.to_owned(),
            found,
            expected,
        })
    };
    if sample.shape.len() != fields.shape.len() || sample.at.len() != fields.at.len() {
        let found = format!("{} + {} fields", sample.shape.len(), sample.at.len());
        let expected = format!("{} and {}", fields.shape.join(", "), fields.at.join(", "));
        return refuse(found, expected);
    }
    if !(sample.time_us.is_finite() && sample.time_us > 0.0) {
        return refuse(format!("{} us", sample.time_us), "a time above 0".to_owned());
    }
    let experts = sample.family == Family::ExpertGemm;
    for (name, &value) in fields.shape.iter().zip(&sample.shape) {
        if value > FIELD_MAX || (value == 0 && !Fields::may_be_zero(name)) {
            return refuse(format!("{name} {value}"), format!("from 1 to {FIELD_MAX}"));
        }
    }
    for (name, &value) in fields.at.iter().zip(&sample.at) {
        let most = if experts { TOKENS_MAX } else { AT_MAX };
        if value > most || (value == 0 && !Fields::may_be_zero(name)) {
            return refuse(format!("{name} {value}"), format!("from 1 to {most}"));
        }
    }
    if experts {
        let (topk, experts, tp, ep) =
            (sample.shape[2], sample.shape[3], sample.shape[4], sample.shape[5]);
        if topk > experts || experts > 1 << 14 || ep > experts || tp > sample.shape[1] {
            let found = format!("top-{topk} of {experts} experts, tp {tp}, ep {ep}");
            return refuse(found, "at most 16384 experts, no more picks or ranks".to_owned());
        }
    }
    Ok(())
}

/// Tables of one family and variant together.
#[derive(Clone, Debug)]
pub struct VariantSummary {
    /// What was timed.
    pub family: Family,
    /// Which implementation and data types.
    pub variant: String,
    /// Tables.
    pub tables: u64,
    /// Samples of all of them.
    pub samples: u64,
    /// Errors, weighted by the points judged: the mean of the tables' medians and percentiles.
    pub errors: Errors,
}

impl Profile {
    /// Errors by family and variant.
    #[must_use]
    pub fn summary(&self) -> Vec<VariantSummary> {
        let mut rows: BTreeMap<(Family, &str), Vec<&Table>> = BTreeMap::new();
        for table in &self.tables {
            rows.entry((table.family, &table.variant)).or_default().push(table);
        }
        rows.into_iter()
            .map(|((family, variant), tables)| VariantSummary {
                family,
                variant: variant.to_owned(),
                tables: tables.len() as u64,
                samples: tables.iter().map(|table| table.samples).sum(),
                errors: Errors::pooled(tables.iter().map(|table| table.errors)),
            })
            .collect()
    }
}
