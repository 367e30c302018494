//! Samples as JSON lines: a header that says what was measured where, then a sample a line.

use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Family, Sample};
use crate::{Error, Result};

/// The version of samples files that this code writes, and the newest it reads.
const VERSION: u64 = 1;

/// What was measured, with what, and who says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The GPU (or processor), by the name of its hardware preset where there is one.
    pub system: String,
    /// Inference engine, or the name of the benchmark.
    pub engine: String,
    /// Its version.
    pub version: String,
    /// Where the figures come from: a package and its version, or "measured".
    pub source: String,
}

/// A file of samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Where they come from.
    pub provenance: Provenance,
    /// What is suspicious about them, one line each.
    pub flags: Vec<String>,
    /// The samples.
    pub samples: Vec<Sample>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    moecast_samples: u64,
    provenance: Provenance,
    #[serde(default)]
    flags: Vec<String>,
}

/// Writes `samples`.
///
/// # Errors
/// What writing to `to` answers.
pub fn write_samples(samples: &Samples, to: &mut dyn Write) -> std::io::Result<()> {
    let header = Header {
        moecast_samples: VERSION,
        provenance: samples.provenance.clone(),
        flags: samples.flags.clone(),
    };
    writeln!(to, "{}", serde_json::to_string(&header).map_err(std::io::Error::other)?)?;
    for sample in &samples.samples {
        writeln!(to, "{}", Value::Object(object(sample)))?;
    }
    Ok(())
}

fn object(sample: &Sample) -> Map<String, Value> {
    let fields = sample.family.fields();
    let mut object = Map::new();
    object.insert("family".to_owned(), json!(fields.name));
    object.insert("variant".to_owned(), json!(sample.variant));
    for (name, value) in fields.shape.iter().zip(&sample.shape) {
        object.insert((*name).to_owned(), json!(value));
    }
    for (name, value) in fields.at.iter().zip(&sample.at) {
        object.insert((*name).to_owned(), json!(value));
    }
    object.insert("time_us".to_owned(), json!(sample.time_us));
    if let Some(spread) = sample.spread {
        object.insert("spread".to_owned(), json!(spread));
    }
    object
}

/// Reads samples from `from`, which errors call `path`.
///
/// # Errors
/// [`Error::Invalid`] with the line, and what would be right.
pub fn read_samples(from: &mut dyn BufRead, path: &str) -> Result<Samples> {
    let mut samples = Samples::default();
    for (number, line) in (1_usize..).zip(from.lines()) {
        let line = line.map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let at = |found: String, expected: &str| Error::Invalid {
            path: path.to_owned(),
            key: format!("line {number}"),
            found,
            expected: expected.to_owned(),
        };
        if number == 1 {
            let header: Header = serde_json::from_str(&line).map_err(|_| {
                let expected = r#"a header like {"moecast_samples":1,"provenance":{...}}"#;
                at("no header of a samples file".to_owned(), expected)
            })?;
            if header.moecast_samples != VERSION {
                let found = format!("samples of version {}", header.moecast_samples);
                return Err(at(found, "version 1, the only one that this moecast reads"));
            }
            samples.provenance = header.provenance;
            samples.flags = header.flags;
        } else if !line.trim().is_empty() {
            let value: Map<String, Value> = serde_json::from_str(&line)
                .map_err(|error| at(error.to_string(), "one JSON object"))?;
            samples.samples.push(sample(&value).map_err(|(found, expected)| at(found, &expected))?);
        }
    }
    if samples == Samples::default() {
        return Err(Error::Invalid {
            path: path.to_owned(),
            key: "line 1".to_owned(),
            found: "an empty file".to_owned(),
            expected: "a header and samples".to_owned(),
        });
    }
    Ok(samples)
}

/// A sample from its object, or what was found and what would be right.
fn sample(object: &Map<String, Value>) -> std::result::Result<Sample, (String, String)> {
    let text = |key: &str| {
        let value = object.get(key).and_then(Value::as_str);
        value.ok_or_else(|| (format!("no `{key}`"), format!("a text `{key}`")))
    };
    let family = Family::find(text("family")?)
        .map_err(|error| (error.to_string(), "a family of kernels".to_owned()))?;
    let fields = family.fields();
    let number = |key: &str| {
        let value = object.get(key).and_then(Value::as_u64);
        value.ok_or_else(|| (format!("no `{key}`"), format!("a count `{key}`")))
    };
    let narrow = |key: &&str| {
        let value = number(key)?;
        u32::try_from(value).map_err(|_| (format!("`{key}` {value}"), "at most 2^32".to_owned()))
    };
    let known = fields.shape.iter().chain(fields.at);
    let known: Vec<&str> =
        known.copied().chain(["family", "variant", "time_us", "spread"]).collect();
    if let Some(key) = object.keys().find(|key| !known.contains(&key.as_str())) {
        return Err((format!("key `{key}`"), format!("only {}", known.join(", "))));
    }
    let time_us = object.get("time_us").and_then(Value::as_f64).unwrap_or(f64::NAN);
    if !(time_us.is_finite() && time_us > 0.0) {
        let found = object.get("time_us").map_or("no `time_us`".to_owned(), Value::to_string);
        return Err((found, "a time above 0 microseconds".to_owned()));
    }
    Ok(Sample {
        family,
        variant: text("variant")?.to_owned(),
        shape: fields.shape.iter().map(narrow).collect::<std::result::Result<_, _>>()?,
        at: fields.at.iter().map(|key| number(key)).collect::<std::result::Result<_, _>>()?,
        time_us,
        spread: object.get("spread").and_then(Value::as_f64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Samples {
        let sample = |family, shape: &[u32], at: &[u64]| Sample {
            family,
            variant: "cublas/bfloat16".to_owned(),
            shape: shape.to_vec(),
            at: at.to_vec(),
            time_us: 12.5,
            spread: Some(0.25),
        };
        Samples {
            provenance: Provenance { system: "h200-sxm".to_owned(), ..Provenance::default() },
            flags: vec!["looks odd".to_owned()],
            samples: vec![
                sample(Family::Gemm, &[4096, 7168], &[16]),
                sample(Family::DecodeAttention, &[32, 8, 128, 0], &[8, 4096]),
            ],
        }
    }

    fn check(text: &str, part: &str) {
        let error = read_samples(&mut text.as_bytes(), "x.jsonl").unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert!(!error.contains('\n'));
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        write_samples(&samples(), &mut bytes).unwrap();
        assert_eq!(read_samples(&mut bytes.as_slice(), "x").unwrap(), samples());
    }

    #[test]
    fn wrong_lines_are_located() {
        let mut bytes = Vec::new();
        write_samples(&samples(), &mut bytes).unwrap();
        let good = String::from_utf8(bytes).unwrap();
        check("", "an empty file");
        check(&good.replace("\"moecast_samples\":1", "\"moecast_samples\":2"), "version 2");
        check(&good.replace("\"m\":16,", ""), "line 2: no `m`");
        check(&good.replace("12.5", "-1"), "line 2: -1; expected a time above 0");
        check(&good.replace("12.5", "null"), "line 2");
        check(&good.replace("\"m\"", "\"mm\""), "line 2");
        check(&good.replace("gemm", "gem"), "line 2");
        check("{}\n", "line 1: no header");
    }
}
