//! Reads the tables of one system and engine.

use std::path::Path;

use super::columns::Table;
use super::source::{Place, Source};
use super::tables::{Context, SPECS, Spec};
use super::version::{Version, nearest};
use crate::Result;
use crate::import::Options;
use crate::import::check::{Row, check, invalid};
use crate::import::text::preset;
use crate::sample::{Family, Provenance, Sample, Samples};

/// An engine's version whose expert GEMMs a source has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Available {
    /// As the source writes it: `h200_sxm`.
    pub system: String,
    /// `sglang`, `trtllm` or `vllm`.
    pub engine: String,
    /// `0.5.14`.
    pub version: String,
}

/// Lists the systems, engines and versions that `source` has expert GEMMs of, in order.
///
/// # Errors
/// A source that cannot be read or holds no tables.
pub fn available(source: &Path) -> Result<Vec<Available>> {
    let source = Source::open(source)?;
    let mut places: Vec<&Place> = source.places.iter().filter(|place| is_moe(place)).collect();
    places.sort_by_key(|place| (&place.system, &place.backend, &place.version));
    let entry = |place: &&Place| Available {
        system: place.system.clone(),
        engine: place.backend.clone(),
        version: place.version.text.clone(),
    };
    Ok(places.iter().map(entry).collect())
}

fn is_moe(place: &Place) -> bool {
    place.family == "moe" && place.table == "moe_perf"
}

pub(super) fn read(path: &Path, options: &Options) -> Result<Samples> {
    let mut source = Source::open(path)?;
    let (system, engine, version) = choose(&source, options)?;
    let gpus_per_node = source.datasheet(&system, "num_gpus_per_node")?;
    let bandwidth = source.datasheet(&system, "mem_bw")?;
    let mut samples = Samples {
        provenance: Provenance {
            system: preset(&system),
            engine: engine.clone(),
            version: version.text.clone(),
            source: match source.release.as_str() {
                "" => "aiconfigurator-core (Apache-2.0)".to_owned(),
                release => format!("aiconfigurator-core {release} (Apache-2.0)"),
            },
        },
        ..Samples::default()
    };
    for spec in SPECS {
        let backend = spec.backend.unwrap_or(&engine);
        let is_ours = |place: &&Place| {
            (place.system == system && place.family == spec.family)
                && (place.backend == backend && place.table == spec.table)
        };
        let mut places: Vec<Place> = source.places.iter().filter(is_ours).cloned().collect();
        places.sort_by(|a, b| b.version.cmp(&a.version));
        let versions: Vec<&Version> = places.iter().map(|place| &place.version).collect();
        // Other libraries have versions of their own: the newest.
        let picked = match spec.backend {
            Some(_) => versions.first().copied(),
            None => nearest(&version, &versions),
        };
        let Some(place) = places.iter().find(|place| Some(&place.version) == picked) else {
            continue;
        };
        if spec.backend.is_none() && place.version != version {
            let asked = format!("there is no {} of {}", spec.table, version.text);
            samples.flags.push(format!("{}: {asked}, this is the nearest", place.name()));
        }
        let mut table = Reading { source: &mut source, spec, engine: &engine, gpus_per_node };
        let mut rows = table.rows(place)?;
        if spec.table.starts_with("wideep_deepep") {
            rows = table.with_nodes(rows, place, &places, &mut samples.flags)?;
        }
        let checked = check(&place.name(), rows)?;
        if spec.family == "gemm" {
            possible(&place.name(), &checked.samples)?;
            samples.flags.extend(launch_bound(&place.name(), &checked.samples, bandwidth));
        }
        samples.flags.extend(checked.flags);
        samples.samples.extend(checked.samples);
    }
    Ok(samples)
}

/// A table being read.
struct Reading<'a> {
    source: &'a mut Source,
    spec: &'a Spec,
    engine: &'a str,
    gpus_per_node: f64,
}

impl Reading<'_> {
    fn rows(&mut self, place: &Place) -> Result<Vec<Row>> {
        let (bytes, name) = self.source.read(&place.name())?;
        let table = Table::open(bytes, name)?;
        let context = Context {
            engine: self.engine,
            version: &place.version,
            gpus_per_node: self.gpus_per_node as u64,
        };
        (self.spec.read)(&table, &context)
    }

    /// DeepEP across nodes was timed once, in an older version than DeepEP within one: takes
    /// what is within a node from `rows` and what is across from the newest that has any.
    fn with_nodes(
        &mut self,
        rows: Vec<Row>,
        place: &Place,
        places: &[Place],
        flags: &mut Vec<String>,
    ) -> Result<Vec<Row>> {
        let across = |row: &Row| row.sample.shape[0] > 1;
        if rows.iter().any(across) {
            return Ok(rows);
        }
        let mut rows = rows;
        for older in places.iter().filter(|older| older.version != place.version) {
            let found: Vec<Row> = self.rows(older)?.into_iter().filter(across).collect();
            if !found.is_empty() {
                flags.push(format!("{}: rows across nodes are of this version", older.name()));
                // The two Hopper systems hold the same figures to the last digit.
                if ["h100_sxm", "h200_sxm"].contains(&older.system.as_str()) {
                    let what = "rows across nodes are one measurement for H100 and H200";
                    flags.push(format!("{}: {what}", older.name()));
                }
                rows.extend(found);
                break;
            }
        }
        Ok(rows)
    }
}

/// The system, engine and version that `options` ask for.
fn choose(source: &Source, options: &Options) -> Result<(String, String, Version)> {
    let unknown = |key: &str, asked: &Option<String>, mut valid: Vec<String>| {
        valid.dedup();
        let found = asked.as_ref().map_or_else(|| "none asked for".to_owned(), String::clone);
        invalid(&source.name, key, found, format!("one of {}", valid.join(", ")))
    };
    let moe: Vec<&Place> = source.places.iter().filter(|place| is_moe(place)).collect();
    let is_system = |place: &&&Place| {
        options
            .system
            .as_ref()
            .is_some_and(|asked| *asked == place.system || preset(asked) == preset(&place.system))
    };
    let of_system: Vec<&Place> = moe.iter().filter(is_system).copied().collect();
    if of_system.is_empty() {
        let mut valid: Vec<String> = moe.iter().map(|place| place.system.clone()).collect();
        valid.sort();
        return Err(unknown("system", &options.system, valid));
    }
    let is_engine = |place: &&&Place| options.engine.as_ref() == Some(&place.backend);
    let mut places: Vec<&Place> = of_system.iter().filter(is_engine).copied().collect();
    if places.is_empty() {
        let mut valid: Vec<String> = of_system.iter().map(|place| place.backend.clone()).collect();
        valid.sort();
        return Err(unknown("engine", &options.engine, valid));
    }
    places.sort_by(|a, b| a.version.cmp(&b.version));
    let found = match &options.version {
        Some(asked) => places.iter().find(|place| place.version.text == *asked),
        // A version without dense products is an addendum of a few models.
        None => {
            let whole = |place: &&&Place| {
                let same = |other: &Place| {
                    other.family == "gemm"
                        && other.system == place.system
                        && other.backend == place.backend
                        && other.version == place.version
                };
                source.places.iter().any(same)
            };
            places.iter().rev().find(whole).or(places.last())
        }
    };
    match found {
        Some(place) => Ok((place.system.clone(), place.backend.clone(), place.version.clone())),
        None => {
            let valid = places.iter().map(|place| place.version.text.clone()).collect();
            Err(unknown("version", &options.version, valid))
        }
    }
}

/// No GPU of today computes this fast: 10 PFLOP/s is the most that a datasheet claims.
const FLOPS_MAX: f64 = 40e15;

/// Refuses products that no GPU computes: a whole table in a larger unit has no odd row.
fn possible(name: &str, samples: &[Sample]) -> Result<()> {
    let flops = |sample: &Sample| {
        let shape: f64 = sample.shape.iter().map(|side| f64::from(*side)).product();
        2.0 * shape * sample.at[0] as f64 / (sample.time_us * 1e-6)
    };
    match samples.iter().find(|sample| flops(sample) > FLOPS_MAX) {
        None => Ok(()),
        Some(sample) => {
            let (sides, rows) = (&sample.shape, sample.at[0]);
            let key = format!("n {}, k {}, m {rows}", sides[0], sides[1]);
            let found = format!("{} us, {:.0e} FLOP/s", sample.time_us, flops(sample));
            Err(invalid(name, key, found, "a time in milliseconds that a GPU can reach"))
        }
    }
}

/// Flags variants whose products of one row take far longer than reading their weights: what
/// was timed is the launch, which a CUDA graph would hide.
fn launch_bound(name: &str, samples: &[Sample], bytes_per_second: f64) -> Vec<String> {
    let mut flags = Vec::new();
    for variant in samples.chunk_by(|a, b| a.variant == b.variant) {
        let Some(width) = element_bytes(&variant[0].variant) else { continue };
        let one = variant.iter().filter(|sample| sample.family == Family::Gemm && sample.at == [1]);
        let mut over: Vec<f64> = one
            .map(|sample| {
                let weights = f64::from(sample.shape[0]) * f64::from(sample.shape[1]) * width;
                sample.time_us - 3.0 * weights / bytes_per_second * 1e6
            })
            .collect();
        over.sort_by(f64::total_cmp);
        if over.get(over.len() / 2).is_some_and(|median| *median > 15.0) {
            let what = "is bound by launches: one row takes over 3 times the weights' reading";
            flags.push(format!("{name}: {} {what} and 15 us", variant[0].variant));
        }
    }
    flags
}

/// Bytes of a weight of the type that a variant ends with.
fn element_bytes(variant: &str) -> Option<f64> {
    match variant.rsplit('/').next()? {
        "bfloat16" | "float16" => Some(2.0),
        "fp8" | "fp8_block" | "int8_wo" | "sq" => Some(1.0),
        "int4_wo" | "nvfp4" => Some(0.5),
        _ => None,
    }
}
