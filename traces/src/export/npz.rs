//! Writes an archive of NumPy arrays, as `numpy.savez` does: the tensors of the trace by their
//! names and shapes (see [`crate::format`]), and `header`, a string that holds the JSON of the
//! header: `json.loads(numpy.load(file)["header"].item())`.

use std::io::{self, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::Entry;
use crate::error::Result;
use crate::npy::preamble;
use crate::trace::{Events, RoutingTrace};

pub(super) const ENTRY: Entry = Entry {
    name: "npz",
    about: "NumPy arrays by the names of the tensors, and `header`, a string of JSON",
    check,
    write,
};

#[expect(clippy::unnecessary_wraps, reason = "other formats refuse")]
fn check(_trace: &RoutingTrace, _path: &str) -> Result<Vec<String>> {
    Ok(Vec::new())
}

fn write(trace: &RoutingTrace, into: &mut dyn Write) -> io::Result<()> {
    let header = trace.header();
    let [layers, experts, k] =
        [header.moe_layers(), usize::from(header.experts), usize::from(header.top_k)];
    let mut archive = Archive { zip: ZipWriter::new_stream(into) };
    let text = serde_json::to_string(header).map_err(io::Error::other)?;
    let characters: Vec<u32> = text.chars().map(u32::from).collect();
    let descr = format!("<U{}", characters.len());
    archive.array("header", &descr, &[], bytemuck::cast_slice(&characters))?;
    match trace.events() {
        Events::Counts(columns) => {
            let shape = [trace.steps().len(), layers, experts];
            archive.array("counts", "<u4", &shape, bytemuck::cast_slice(&columns.counts))?;
        }
        Events::Tokens(columns) => {
            let rows = columns.step.len();
            let wide = [rows, layers, k];
            archive.array("experts", "<u2", &wide, bytemuck::cast_slice(&columns.experts))?;
            if let Some(weights) = &columns.weights {
                archive.array("weights", "<f2", &wide, bytemuck::cast_slice(weights))?;
            }
            for (name, column) in [
                ("request", &columns.request),
                ("position", &columns.position),
                ("step", &columns.step),
            ] {
                archive.array(name, "<u4", &[rows], bytemuck::cast_slice(column))?;
            }
            archive.array("phase", "|u1", &[rows], &columns.phase)?;
            if let Some(domain) = &columns.domain {
                archive.array("domain", "<u2", &[rows], bytemuck::cast_slice(domain))?;
            }
        }
    }
    archive.zip.finish()?;
    Ok(())
}

/// A zip of stored members that are named `NAME.npy`.
struct Archive<W: Write> {
    zip: ZipWriter<zip::write::StreamWriter<W>>,
}

impl<W: Write> Archive<W> {
    fn array(&mut self, name: &str, descr: &str, shape: &[usize], data: &[u8]) -> io::Result<()> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .large_file(true);
        self.zip.start_file(format!("{name}.npy"), options)?;
        self.zip.write_all(&preamble(descr, shape))?;
        self.zip.write_all(data)
    }
}
