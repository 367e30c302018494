//! Output of NVIDIA's nvbandwidth, as text or JSON (`-j`).
//!
//! A test is a matrix of GB/s (10^9 bytes a second), one row a device or the host, one column a
//! device; its buffer is 512 MiB unless `-b` was given, which only the command line or a log of
//! it says. Copies between host and device become `host-copy` (variant: `host-to-device/ce`,
//! `device-to-host-bidirectional/sm` and so on, the median over devices), copies inside a device
//! `device-copy`. Copies between devices, copies of all devices at once and latencies are not
//! mapped: they are links, which hardware profiles hold. They are counted in a flag.
//! Format: <https://github.com/NVIDIA/nvbandwidth> 0.8, `output.cpp` and `json_output.cpp`.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::check::{Row, check, invalid, timed};
use super::text::{preset, read_text};
use super::{Entry, Options};
use crate::Result;
use crate::sample::{Family, Provenance, Samples};

pub(super) const ENTRY: Entry = Entry {
    name: "nvbandwidth",
    about: "copies between host and device: text or JSON of nvbandwidth",
    read,
};

const MIB: u64 = 1 << 20;

/// The default of `-b`.
const BUFFER_MIB: u64 = 512;

/// No link of today moves more, GB/s; a larger figure is in MB/s.
const GB_PER_SECOND_MAX: f64 = 50_000.0;

/// One figure of a matrix.
struct Cell {
    test: String,
    line: usize,
    gb_per_second: f64,
}

/// What a file says before its samples are made.
#[derive(Default)]
struct Output {
    version: String,
    device: String,
    buffer_bytes: Option<u64>,
    cells: Vec<Cell>,
    /// Tests that are not mapped.
    others: BTreeMap<String, usize>,
}

fn read(path: &Path, options: &Options) -> Result<Samples> {
    let (text, name) = read_text(path)?;
    let json = text.find('{').filter(|_| text.contains("\"testcases\""));
    let output = match json {
        Some(start) => from_json(&name, &text[start..])?,
        None => from_text(&name, &text)?,
    };
    if output.cells.is_empty() {
        let expected = "a matrix under `Running host_to_device_memcpy_ce.` or a sibling";
        return Err(invalid(&name, "text", "no matrix of bandwidths", expected));
    }
    let bytes = output.buffer_bytes.unwrap_or(BUFFER_MIB * MIB);
    let row = |cell: &Cell| {
        let (family, variant) = mapped(&cell.test)?;
        let shape: &[u32] = if family == Family::HostCopy { &[1] } else { &[] };
        let time_us = bytes as f64 / cell.gb_per_second / 1e3;
        Some(Row { row: cell.line, sample: timed(family, &variant, shape, &[bytes], time_us) })
    };
    let checked = check(&name, output.cells.iter().filter_map(row).collect())?;
    let mut flags = checked.flags;
    if output.buffer_bytes.is_none() {
        flags.push(format!("{name}: the buffer size is not said; {BUFFER_MIB} MiB is the default"));
    }
    if !output.others.is_empty() {
        let figures: usize = output.others.values().sum();
        let tests: Vec<&str> = output.others.keys().map(String::as_str).collect();
        flags.push(format!("{name}: {figures} figures of {} are not mapped", tests.join(", ")));
    }
    Ok(Samples {
        provenance: Provenance {
            system: preset(options.system.as_deref().unwrap_or(&output.device)),
            engine: "nvbandwidth".to_owned(),
            version: options.version.clone().unwrap_or(output.version),
            source: "measured with nvbandwidth".to_owned(),
        },
        flags,
        samples: checked.samples,
    })
}

/// The family and variant of a test, or none where moecast has no use for it.
fn mapped(test: &str) -> Option<(Family, String)> {
    if let Some(way) = test.strip_prefix("device_local_copy") {
        let way = way.trim_start_matches('_');
        return Some((Family::DeviceCopy, if way.is_empty() { "ce" } else { way }.to_owned()));
    }
    let (way, engine) = test.split_once("_memcpy_")?;
    let ways = ["device_to_host", "host_to_device"];
    let known = ways.contains(&way.strip_suffix("_bidirectional").unwrap_or(way));
    known.then(|| (Family::HostCopy, format!("{}/{engine}", way.replace('_', "-"))))
}

impl Output {
    /// Takes a figure, which `key` locates.
    fn figure(&mut self, name: &str, key: &str, test: &str, line: usize, word: &str) -> Result<()> {
        if mapped(test).is_none() {
            *self.others.entry(test.to_owned()).or_default() += 1;
            return Ok(());
        }
        if word == "N/A" {
            return Ok(());
        }
        let gb_per_second = word.parse::<f64>().unwrap_or(f64::NAN);
        if !(gb_per_second > 0.0 && gb_per_second <= GB_PER_SECOND_MAX) {
            let expected = format!("GB/s between 0 and {GB_PER_SECOND_MAX}");
            return Err(invalid(name, format!("{key}, {test}"), word, expected));
        }
        self.cells.push(Cell { test: test.to_owned(), line, gb_per_second });
        Ok(())
    }
}

fn from_text(name: &str, text: &str) -> Result<Output> {
    let mut output = Output::default();
    let mut test = String::new();
    // Figures stand between a line that names the unit and the next empty line.
    let mut columns: Option<usize> = None;
    let mut in_matrix = false;
    for (number, line) in (1..).zip(text.lines()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Some(version) = line.strip_prefix("nvbandwidth Version: ") {
            output.version = version.trim().trim_start_matches('v').to_owned();
        } else if let Some(device) = line.strip_prefix("Device 0: ") {
            output.device = device_name(device);
        } else if let Some(running) = line.strip_prefix("Running ") {
            test = running.trim().trim_end_matches('.').to_owned();
            in_matrix = false;
        } else if line.contains("(GB/s)") || line.contains("(ns)") {
            (in_matrix, columns) = (true, None);
        } else if words.is_empty() || words[0] == "SUM" {
            in_matrix = false;
        } else if in_matrix && columns.is_none() {
            columns = Some(words.len());
        } else if let (true, Some(columns)) = (in_matrix, columns) {
            if words.len() != columns + 1 {
                let found = format!("{} words", words.len());
                let expected = format!("a row number and {columns} figures");
                return Err(invalid(name, format!("line {number}"), found, expected));
            }
            for word in &words[1..] {
                output.figure(name, &format!("line {number}"), &test, number, word)?;
            }
        } else if let Some(bytes) = buffer_option(&words) {
            output.buffer_bytes = Some(bytes);
        }
    }
    Ok(output)
}

/// The `-b` of a command line that was logged, in bytes.
fn buffer_option(words: &[&str]) -> Option<u64> {
    let is_command = words.iter().any(|word| word.ends_with("nvbandwidth"));
    let at = words.iter().position(|word| *word == "-b" || *word == "--bufferSize")?;
    let size: u64 = words.get(at + 1).filter(|_| is_command)?.parse().ok()?;
    // The first versions took bytes; nobody copies a TiB.
    let unit = if size < MIB { MIB } else { 1 };
    size.checked_mul(unit).filter(|bytes| *bytes > 0)
}

/// `NVIDIA H200 (0000:18:00)` as a name.
fn device_name(device: &str) -> String {
    let device = device.split('(').next().unwrap_or(device);
    device.trim().to_lowercase().replace(' ', "-")
}

fn from_json(name: &str, text: &str) -> Result<Output> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let root = match values.next() {
        Some(Ok(root)) => root,
        Some(Err(error)) => return Err(invalid(name, "JSON", error.to_string(), "one object")),
        None => return Err(invalid(name, "JSON", "nothing", "one object")),
    };
    let root = &root["nvbandwidth"];
    let text_of = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let mut output = Output { version: text_of(&root["version"]), ..Output::default() };
    let device = text_of(&root["GPU Device list"][0]);
    output.device = device_name(device.split_once(": ").map_or("", |(_, device)| device));
    let mib = root["bufferSize"].as_u64().and_then(|mib| mib.checked_mul(MIB));
    output.buffer_bytes = mib.filter(|bytes| *bytes > 0);
    let Some(tests) = root["testcases"].as_array() else {
        return Err(invalid(name, "testcases", "no array", "an array of tests"));
    };
    for (index, test) in tests.iter().enumerate() {
        let key = format!("testcases[{index}]");
        let title = text_of(&test["name"]);
        for row in test["bandwidth_matrix"].as_array().into_iter().flatten() {
            let Some(cells) = row.as_array() else {
                return Err(invalid(name, key, "a row that is no array", "an array of GB/s"));
            };
            for cell in cells {
                let word = cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
                output.figure(name, &key, &title, index + 1, &word)?;
            }
        }
    }
    Ok(output)
}
