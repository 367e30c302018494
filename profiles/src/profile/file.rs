//! Profiles in files: a zip archive with `profile.json` (what people read) and `residuals.bin`
//! (what they do not).
//!
//! `residuals.bin` holds, table by table, the low bytes of the residuals, their high bytes, and
//! one bit per residual that says whether it was measured. Residuals are differences along the
//! last axis, which compress to about a byte each.

use std::io::{Cursor, Read, Write};

use serde::{Deserialize, Serialize};

use super::Profile;
use crate::kernel::{Machine, kernel};
use crate::sample::{Family, Fields, Provenance};
use crate::table::{Errors, Table};
use crate::{Error, Result};

/// The version of profiles that this moecast writes, and the newest it reads.
pub const VERSION: u64 = 1;

/// Longest parts of a profile that are read: files from strangers do not get to fill the memory.
const JSON_MAX: u64 = 16 << 20;
const RESIDUALS_MAX: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    moecast_profile: u64,
    provenance: Provenance,
    flags: Vec<String>,
    machine: MachineFile,
    tables: Vec<TableFile>,
}

/// The version alone: read first, so that a newer file is called newer and not wrong.
#[derive(Deserialize)]
struct VersionOnly {
    moecast_profile: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MachineFile {
    bandwidth_tb_s: f64,
    rate_bf16_tflop_s: f64,
    rate_fp8_tflop_s: f64,
    multiprocessors: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableFile {
    family: String,
    variant: String,
    samples: u64,
    form: String,
    parameters: Vec<f64>,
    shapes: Vec<Vec<u32>>,
    odd: Vec<usize>,
    axes: Vec<Vec<u64>>,
    errors: Errors,
    flags: Vec<String>,
}

impl Profile {
    /// The profile as the bytes of a file; the same profile gives the same bytes.
    ///
    /// # Panics
    /// Never: archives in memory do not fail.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated)
            .compression_level(Some(9))
            .last_modified_time(zip::DateTime::default());
        let json = serde_json::to_string(&self.to_file()).expect("profiles are plain data");
        let residuals: Vec<u8> = self.tables.iter().flat_map(pack).collect();
        let parts = [("profile.json", json.as_bytes()), ("residuals.bin", &residuals[..])];
        for (name, bytes) in parts {
            archive.start_file(name, options).expect("archives in memory do not fail");
            archive.write_all(bytes).expect("archives in memory do not fail");
        }
        archive.finish().expect("archives in memory do not fail").into_inner()
    }

    /// Reads a profile from the `bytes` of a file that errors call `path`.
    ///
    /// # Errors
    /// [`Error::Invalid`] says what is wrong; a profile of a newer version is named as one.
    pub fn read(bytes: &[u8], path: &str) -> Result<Self> {
        let refuse = |key: &str, found: String, expected: &str| Error::Invalid {
            path: path.to_owned(),
            key: key.to_owned(),
            found,
            expected: expected.to_owned(),
        };
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|_| {
            refuse("file", "no zip archive".to_owned(), "a profile written by moecast")
        })?;
        let mut part = |name: &str, most: u64| -> Result<Vec<u8>> {
            let missing = |error: zip::result::ZipError| {
                refuse(name, error.to_string(), "a profile written by moecast")
            };
            let entry = archive.by_name(name).map_err(missing)?;
            let mut bytes = Vec::new();
            let read = entry.take(most + 1).read_to_end(&mut bytes);
            read.map_err(|error| refuse(name, error.to_string(), "an undamaged archive"))?;
            if bytes.len() as u64 > most {
                return Err(refuse(name, "a longer part".to_owned(), "at most 64 MiB"));
            }
            Ok(bytes)
        };
        let json = part("profile.json", JSON_MAX)?;
        let wrong = |error: serde_json::Error| {
            refuse("profile.json", error.to_string(), "what `moecast profile` writes")
        };
        let version: VersionOnly = serde_json::from_slice(&json).map_err(wrong)?;
        if version.moecast_profile != VERSION {
            let found = format!("version {}", version.moecast_profile);
            return Err(refuse("profile.json", found, "version 1, all that this moecast reads"));
        }
        let file: File = serde_json::from_slice(&json).map_err(wrong)?;
        let residuals = part("residuals.bin", RESIDUALS_MAX)?;
        let mut rest = &residuals[..];
        let mut tables = Vec::new();
        for (index, table) in file.tables.into_iter().enumerate() {
            let found = unpack(table, &mut rest).map_err(|found| {
                refuse(&format!("table {index}"), found, "what `moecast profile` writes")
            })?;
            tables.push(found);
        }
        let MachineFile { bandwidth_tb_s, rate_bf16_tflop_s, rate_fp8_tflop_s, multiprocessors } =
            file.machine;
        let machine = Machine {
            bandwidth: bandwidth_tb_s,
            rate_bf16: rate_bf16_tflop_s,
            rate_fp8: rate_fp8_tflop_s,
            multiprocessors,
        };
        Ok(Self { provenance: file.provenance, flags: file.flags, machine, tables })
    }

    fn to_file(&self) -> File {
        let table = |table: &Table| TableFile {
            family: table.family.name().to_owned(),
            variant: table.variant.clone(),
            samples: table.samples,
            form: table.form_name().to_owned(),
            parameters: table.parameters.clone(),
            shapes: table.shapes.clone(),
            odd: (0..table.odd.len()).filter(|shape| table.odd[*shape]).collect(),
            axes: table.axes.clone(),
            errors: table.errors,
            flags: table.flags.clone(),
        };
        File {
            moecast_profile: VERSION,
            provenance: self.provenance.clone(),
            flags: self.flags.clone(),
            machine: MachineFile {
                bandwidth_tb_s: self.machine.bandwidth,
                rate_bf16_tflop_s: self.machine.rate_bf16,
                rate_fp8_tflop_s: self.machine.rate_fp8,
                multiprocessors: self.machine.multiprocessors,
            },
            tables: self.tables.iter().map(table).collect(),
        }
    }
}

/// Residuals of a table as bytes.
fn pack(table: &Table) -> Vec<u8> {
    let line = table.axes.last().map_or(1, Vec::len);
    let mut differences = Vec::with_capacity(table.residuals.len());
    for line in table.residuals.chunks(line) {
        let mut before = 0_i16;
        for &value in line {
            differences.push(value.wrapping_sub(before));
            before = value;
        }
    }
    let low = differences.iter().map(|value| value.to_le_bytes()[0]);
    let high = differences.iter().map(|value| value.to_le_bytes()[1]);
    let bits = table.measured.chunks(8).map(|bits| {
        bits.iter().enumerate().fold(0, |byte, (bit, &set)| byte | (u8::from(set) << bit))
    });
    low.chain(high).chain(bits).collect()
}

/// Whether a table's description is one that forms and grids can be asked for; its form.
fn check(file: &TableFile, family: Family) -> std::result::Result<usize, String> {
    let kernel = kernel(family);
    let form = kernel.forms.iter().position(|form| *form == file.form);
    let form = form.ok_or_else(|| format!("no closed form `{}`", file.form))?;
    let group = crate::kernel::Group { variant: &file.variant, machine: Machine::unknown() };
    let expected = (kernel.parameters)(&group).len();
    if file.parameters.len() != expected {
        return Err(format!("{} constants where the form has {expected}", file.parameters.len()));
    }
    if !file.parameters.iter().all(|value| value.is_finite() && *value > 0.0) {
        return Err("a constant that is no positive number".to_owned());
    }
    let fields = family.fields().shape.len();
    if file.shapes.is_empty() || file.shapes.iter().any(|shape| shape.len() != fields) {
        return Err(format!("a shape without its {fields} fields"));
    }
    let zero = |shape: &Vec<u32>| {
        let mut fields = family.fields().shape.iter().zip(shape);
        fields.any(|(name, value)| *value == 0 && !Fields::may_be_zero(name))
    };
    if file.shapes.iter().any(zero) {
        return Err("a shape with a field of 0".to_owned());
    }
    let ascending = |axis: &Vec<u64>| axis.windows(2).all(|pair| pair[0] < pair[1]);
    if file.axes.len() != kernel.axes.len()
        || file.axes.iter().any(|axis| axis.is_empty() || !ascending(axis))
    {
        return Err(format!("axes that are not {} ascending lists", kernel.axes.len()));
    }
    Ok(form)
}

/// A table from its description and the front of `rest`; or what is wrong.
fn unpack(file: TableFile, rest: &mut &[u8]) -> std::result::Result<Table, String> {
    let family = Family::find(&file.family).map_err(|error| error.to_string())?;
    let form = check(&file, family)?;
    let cells = file
        .axes
        .iter()
        .try_fold(file.shapes.len(), |cells, axis| cells.checked_mul(axis.len()))
        .filter(|cells| cells.checked_mul(2).is_some_and(|bytes| bytes <= rest.len()))
        .ok_or("more residuals claimed than stored")?;
    let bits = cells.div_ceil(8);
    if rest.len() < cells * 2 + bits {
        return Err("fewer residuals stored than claimed".to_owned());
    }
    let (bytes, after) = rest.split_at(cells * 2 + bits);
    *rest = after;
    let (low, high, bits) = (&bytes[..cells], &bytes[cells..2 * cells], &bytes[2 * cells..]);
    let line = file.axes.last().map_or(1, Vec::len);
    let mut residuals = Vec::with_capacity(cells);
    let mut before = 0_i16;
    for cell in 0..cells {
        if cell % line == 0 {
            before = 0;
        }
        before = before.wrapping_add(i16::from_le_bytes([low[cell], high[cell]]));
        residuals.push(before);
    }
    let mut odd = vec![false; file.shapes.len()];
    for shape in file.odd {
        *odd.get_mut(shape).ok_or("an odd shape that is not there")? = true;
    }
    Ok(Table {
        family,
        variant: file.variant,
        samples: file.samples,
        form,
        parameters: file.parameters,
        shapes: file.shapes,
        odd,
        axes: file.axes,
        residuals,
        measured: (0..cells).map(|cell| bits[cell / 8] >> (cell % 8) & 1 == 1).collect(),
        errors: file.errors,
        flags: file.flags,
    })
}
