//! Benchmark runs of real deployments, from a CSV file with a header.
//!
//! One row is one configuration of one engine under a closed loop of clients. Needed are `model`,
//! `gpu`, `tp`, `ep`, `isl`, `osl`, `concurrency`, `backend`, `ttft_ms` and `tpot_ms`; [`COLUMNS`]
//! lists the others and what they are where a file does not have them or leaves a cell empty.

use super::csv::split;
use crate::registry::nearest;
use crate::{Error, Result};

/// One measured configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuredRun {
    /// Name of the run.
    pub id: String,
    /// Model, as its maker calls it.
    pub model: String,
    /// Architecture of the model.
    pub arch: String,
    /// Kind of GPU, by its hardware preset.
    pub gpu: String,
    /// GPUs of the deployment.
    pub n_gpus: u32,
    /// Tensor-parallel size of attention.
    pub tp: u32,
    /// Expert-parallel size.
    pub ep: u32,
    /// Tensor-parallel size of experts.
    pub moe_tp: u32,
    /// Data-parallel size of attention.
    pub dp: u32,
    /// Nominal tokens of a prompt.
    pub isl: u32,
    /// Nominal tokens of an answer.
    pub osl: u32,
    /// Clients, each with one request at a time.
    pub concurrency: u32,
    /// Data type of the computation.
    pub precision: String,
    /// Data type of expert weights.
    pub moe_weight_dtype: String,
    /// Engine.
    pub engine: String,
    /// Version of the engine.
    pub version: String,
    /// Whose kernel tables a prediction uses.
    pub kernel_source: String,
    /// Mean time to the first token, milliseconds.
    pub ttft_ms: f64,
    /// Mean time between tokens, milliseconds.
    pub tpot_ms: f64,
    /// Runs that the figures are means of.
    pub n_repeats: u32,
    /// Lengths are uniform between this share of the nominal ones and the nominal ones.
    pub length_range: f64,
    /// Tokens of one pass of a data-parallel rank at most, where the run says it.
    pub step_tokens_max: Option<u32>,
    /// Requests of a data-parallel rank at a time at most, where the run says it.
    pub sequences_max: Option<u32>,
    /// Who measured.
    pub source: String,
    /// How far the source trusts the figures.
    pub trust: String,
    /// What was mended about its labels.
    pub label_fix: String,
    /// When it was measured.
    pub measured: String,
    /// What the runs of one sweep share.
    pub series: String,
}

/// A column: its name, and what stands for it where it is absent; `None` must be there.
pub type Column = (&'static str, Option<&'static str>);

/// Every column, in the order in which files have them.
pub const COLUMNS: &[Column] = &[
    ("id", Some("line N")),
    ("model", None),
    ("arch", Some("nothing")),
    ("gpu", None),
    ("n_gpus", Some("tp x dp, or ep where that is more")),
    ("tp", None),
    ("ep", None),
    ("moe_tp", Some("n_gpus / ep")),
    ("dp", Some("1")),
    ("isl", None),
    ("osl", None),
    ("concurrency", None),
    ("precision", Some("nothing")),
    ("moe_weight_dtype", Some("nothing")),
    ("backend", None),
    ("version", Some("unknown")),
    ("kernel_source", Some("nothing: who predicts fills it in")),
    ("ttft_ms", None),
    ("tpot_ms", None),
    ("n_repeats", Some("1")),
    ("length_range", Some("1: every request has the nominal lengths")),
    ("step_tokens_max", Some("as InferenceX starts that engine")),
    ("sequences_max", Some("as InferenceX starts that engine")),
    ("source", Some("nothing")),
    ("trust", Some("nothing")),
    ("label_fix", Some("nothing")),
    ("measured", Some("nothing")),
    ("series", Some("nothing")),
];

/// Reads runs from the `bytes` of a CSV file that errors call `path`.
///
/// Names of GPUs are read as those of hardware presets: `H200_SXM` is `h200-sxm`.
///
/// # Errors
/// [`Error::Invalid`] names the line and the column, what was found and what would be right.
pub fn read_runs(bytes: &[u8], path: &str) -> Result<Vec<MeasuredRun>> {
    let refuse = |key: String, found: String, expected: &str| Error::Invalid {
        path: path.to_owned(),
        key,
        // A quoted cell may hold the ends of lines; an answer is one line.
        found: found.replace(['\n', '\r'], " "),
        expected: expected.to_owned(),
    };
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        refuse(format!("line {}", before + 1), "bytes that are no text".to_owned(), "UTF-8")
    })?;
    let records = split(text).map_err(|(line, found)| {
        refuse(format!("line {line}"), found.to_owned(), "comma-separated values")
    })?;
    let mut records = records.into_iter();
    let Some((_, header)) = records.next() else {
        return Err(refuse("line 1".to_owned(), "an empty file".to_owned(), "a header"));
    };
    let header: Vec<&str> = header.iter().map(|name| name.trim()).collect();
    check_header(&header)
        .map_err(|(found, expected)| refuse("line 1".to_owned(), found, &expected))?;
    let mut runs = Vec::new();
    for (line, cells) in records {
        let place = |column: &str| format!("line {line}, {column}");
        if cells.len() != header.len() {
            let expected = format!("{}, as the header has", header.len());
            return Err(refuse(place("cells"), cells.len().to_string(), &expected));
        }
        let row = Row { header: &header, cells: &cells };
        runs.push(row.run(line).map_err(|(column, found, expected)| {
            refuse(place(column), format!("`{found}`"), expected)
        })?);
    }
    Ok(runs)
}

fn check_header(header: &[&str]) -> std::result::Result<(), (String, String)> {
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    for (index, name) in header.iter().enumerate() {
        if !names.contains(name) {
            let like = nearest(name, &names).map_or(String::new(), |n| format!("`{n}`, or "));
            return Err((format!("column `{name}`"), format!("{like}one of {}", names.join(", "))));
        }
        if header[..index].contains(name) {
            return Err((format!("column `{name}` twice"), "each column once".to_owned()));
        }
    }
    let missing =
        COLUMNS.iter().find(|(name, default)| default.is_none() && !header.contains(name));
    match missing {
        Some((name, _)) => Err((format!("no column `{name}`"), "it in the header".to_owned())),
        None => Ok(()),
    }
}

/// What is wrong: the column, its cell, and what would be right.
type Wrong = (&'static str, String, &'static str);

struct Row<'a> {
    header: &'a [&'a str],
    cells: &'a [String],
}

impl Row<'_> {
    fn run(&self, line: usize) -> std::result::Result<MeasuredRun, Wrong> {
        let [tp, ep] = [self.count("tp", None)?, self.count("ep", None)?];
        let dp = self.count("dp", Some(1))?;
        let n_gpus = self.count("n_gpus", Some(tp.saturating_mul(dp).max(ep)))?;
        let id = Some(self.text("id")).filter(|id| !id.is_empty());
        let version = Some(self.text("version")).filter(|version| !version.is_empty());
        let length_range = self.figure("length_range", Some(1.0))?;
        if length_range > 1.0 {
            let expected = "a share above 0, at most 1";
            return Err(("length_range", length_range.to_string(), expected));
        }
        Ok(MeasuredRun {
            id: id.unwrap_or_else(|| format!("line {line}")),
            model: self.name("model")?,
            arch: self.text("arch"),
            gpu: self.name("gpu")?.to_lowercase().replace('_', "-"),
            n_gpus,
            tp,
            ep,
            moe_tp: self.count("moe_tp", Some((n_gpus / ep).max(1)))?,
            dp,
            isl: self.count("isl", None)?,
            osl: self.count("osl", None)?,
            concurrency: self.count("concurrency", None)?,
            precision: self.text("precision"),
            moe_weight_dtype: self.text("moe_weight_dtype"),
            engine: self.name("backend")?,
            version: version.unwrap_or_else(|| "unknown".to_owned()),
            kernel_source: self.text("kernel_source"),
            ttft_ms: self.figure("ttft_ms", None)?,
            tpot_ms: self.figure("tpot_ms", None)?,
            n_repeats: self.count("n_repeats", Some(1))?,
            length_range,
            step_tokens_max: self.maybe("step_tokens_max")?,
            sequences_max: self.maybe("sequences_max")?,
            source: self.text("source"),
            trust: self.text("trust"),
            label_fix: self.text("label_fix"),
            measured: self.text("measured"),
            series: self.text("series"),
        })
    }

    /// The cell of `column`; empty where there is none.
    fn text(&self, column: &str) -> String {
        let index = self.header.iter().position(|name| *name == column);
        index.map_or(String::new(), |index| self.cells[index].trim().to_owned())
    }

    fn name(&self, column: &'static str) -> std::result::Result<String, Wrong> {
        let text = self.text(column);
        if text.is_empty() { Err((column, text, "a name")) } else { Ok(text) }
    }

    fn count(&self, column: &'static str, or: Option<u32>) -> std::result::Result<u32, Wrong> {
        let text = self.text(column);
        match (text.parse(), or) {
            (Err(_), Some(default)) if text.is_empty() => Ok(default),
            (Ok(count), _) if count > 0 => Ok(count),
            _ => Err((column, text, "a whole number above 0")),
        }
    }

    fn maybe(&self, column: &'static str) -> std::result::Result<Option<u32>, Wrong> {
        let given = !self.text(column).is_empty();
        given.then(|| self.count(column, None)).transpose()
    }

    fn figure(&self, column: &'static str, or: Option<f64>) -> std::result::Result<f64, Wrong> {
        let text = self.text(column);
        match (text.parse::<f64>(), or) {
            (Err(_), Some(default)) if text.is_empty() => Ok(default),
            (Ok(figure), _) if figure > 0.0 && figure.is_finite() => Ok(figure),
            _ => Err((column, text, "a number above 0")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: &str = "model,gpu,tp,ep,isl,osl,concurrency,backend,ttft_ms,tpot_ms";
    const ROW: &str = "\"toy, 8x1B\",H200_SXM,4,2,1024,512,16,sglang,250.5,9.25";

    fn refused(text: &str, expected: &str) {
        let error = read_runs(text.as_bytes(), "runs.csv").unwrap_err().to_string();
        assert!(error.starts_with("runs.csv: ") && error.contains(expected), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }

    #[test]
    fn the_needed_columns_are_enough() {
        let runs = read_runs(format!("{HEADER}\n{ROW}\n").as_bytes(), "runs.csv").unwrap();
        let run = &runs[0];
        assert_eq!((run.model.as_str(), run.gpu.as_str()), ("toy, 8x1B", "h200-sxm"));
        assert_eq!((run.n_gpus, run.moe_tp, run.dp, run.n_repeats), (4, 2, 1, 1));
        assert_eq!((run.id.as_str(), run.version.as_str()), ("line 2", "unknown"));
        assert_eq!((run.length_range, run.ttft_ms, run.tpot_ms), (1.0, 250.5, 9.25));
        assert_eq!((run.step_tokens_max, run.sequences_max), (None, None));
    }

    #[test]
    fn every_column_is_read_from_its_place() {
        let header: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        let row = "a,m,x,g,8,8,4,2,1,10,20,3,fp8,fp4,e,1.0,k,5,6,7,0.8,99,9,s,A,n2,today,z";
        let text = format!("{}\n{row}\n", header.join(","));
        let run = read_runs(text.as_bytes(), "runs.csv").unwrap().remove(0);
        let counts = [run.n_gpus, run.tp, run.ep, run.moe_tp, run.dp, run.isl, run.osl];
        assert_eq!(counts, [8, 8, 4, 2, 1, 10, 20]);
        assert_eq!((run.concurrency, run.n_repeats, run.length_range), (3, 7, 0.8));
        assert_eq!((run.step_tokens_max, run.sequences_max), (Some(99), Some(9)));
        let names = [run.id, run.model, run.arch, run.gpu, run.precision, run.moe_weight_dtype];
        assert_eq!(names, ["a", "m", "x", "g", "fp8", "fp4"]);
        let names = [run.engine, run.version, run.kernel_source, run.source, run.trust];
        assert_eq!(names, ["e", "1.0", "k", "s", "A"]);
        assert_eq!([run.label_fix, run.measured, run.series], ["n2", "today", "z"]);
    }

    #[test]
    fn wrong_cells_are_named_by_line_and_column() {
        let with = |from: &str, to: &str| format!("{HEADER}\n{ROW}\n{}\n", ROW.replace(from, to));
        refused(&with("250.5", "NaN"), "line 3, ttft_ms: `NaN`; expected a number above 0");
        refused(&with("250.5", "0"), "line 3, ttft_ms: `0`");
        refused(&with("9.25", "-9.25"), "line 3, tpot_ms: `-9.25`");
        refused(&with("9.25", "inf"), "line 3, tpot_ms: `inf`");
        refused(&with("9.25", ""), "line 3, tpot_ms: ``");
        refused(&with("1024", "0"), "line 3, isl: `0`; expected a whole number above 0");
        refused(&with("1024", "1024.5"), "line 3, isl: `1024.5`");
        refused(&with("sglang", " "), "line 3, backend: ``; expected a name");
        refused(&with(",9.25", ""), "line 3, cells: 9; expected 10");
        refused(&with("\"toy", "\"\"toy"), "line 3: text after a closing quote");
    }

    #[test]
    fn wrong_headers_are_answered_with_the_nearest_column() {
        refused("", "an empty file");
        refused(&HEADER.replace("isl,", ""), "no column `isl`");
        let wrong = HEADER.replace("tpot_ms", "tpot_s");
        refused(&wrong, "column `tpot_s`; expected `tpot_ms`, or one of id, model");
        refused(&format!("{HEADER},tp"), "column `tp` twice");
        let text = format!("{HEADER},length_range\n{ROW},1.5\n");
        refused(&text, "line 2, length_range: `1.5`; expected a share");
        let error = read_runs(b"model\n\xff", "runs.csv").unwrap_err().to_string();
        assert!(error.contains("line 2: bytes that are no text"), "{error}");
    }

    #[test]
    fn a_header_alone_holds_no_runs() {
        assert!(read_runs(HEADER.as_bytes(), "runs.csv").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn damaged_files_are_read_or_refused(at in 0_usize..200, byte in 0_u8..=255) {
            let mut bytes = format!("{HEADER}\n{ROW}\n{ROW}\n").into_bytes();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            let _ = read_runs(&bytes, "runs.csv");
            bytes.truncate(at);
            let _ = read_runs(&bytes, "runs.csv");
        }
    }
}
