//! Recordings larger than memory: each is imported by a process of its own, whose largest
//! resident size must stay below half a gigabyte. They are written to the folder for temporary
//! files, which needs room for three times their size:
//! `TMPDIR=... cargo test --release -p moecast-traces larger_than -- --ignored --nocapture \
//! --test-threads=1`, with `LARGE_BYTES` for another size than 8 GB.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::super::base64::tests::encode;
use super::super::torch::write::write_large_stat;
use super::limits::{peak_bytes, processor_seconds};
use super::{Input, build, ignore_progress, model};
use crate::{Spill, format};

const RESIDENT_BYTES_MAX: u64 = 512 << 20;

const LAYERS: usize = 61;
const DENSE: usize = 3;
const EXPERTS: usize = 256;
const TOP_K: usize = 8;

/// Size of a recording of which the default is `default`.
fn bytes_wanted(default: u64) -> u64 {
    std::env::var("LARGE_BYTES").ok().map_or(default, |text| text.parse().unwrap())
}

/// Ids `[tokens, LAYERS, TOP_K]`, distinct in every cell; the dense layers hold zeros.
fn ids(tokens: usize) -> Vec<u16> {
    let mut seed = 1_u32;
    let mut ids = Vec::with_capacity(tokens * LAYERS * TOP_K);
    for cell in 0..tokens * LAYERS {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let first = usize::try_from(seed >> 24).unwrap();
        let dense = cell % LAYERS < DENSE;
        ids.extend((0..TOP_K).map(|slot| {
            let id = if dense { 0 } else { (first + 31 * slot) % EXPERTS };
            u16::try_from(id).unwrap()
        }));
    }
    ids
}

/// Imports what `write` writes to a file called `name`, and checks speed, memory and extent.
#[expect(clippy::print_stderr, reason = "the figures are the point of these tests")]
fn import_large(name: &str, format: &str, tokens: Option<u64>, write: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    write(&path);
    let bytes = std::fs::metadata(&path).unwrap().len();
    let test = concat!(module_path!(), "::import_alone");
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test.split_once("::").unwrap().1, "--ignored", "--nocapture"])
        .env("LARGE_FORMAT", format)
        .env("LARGE_INPUT", &path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stderr);
    let figures: Vec<&str> =
        text.lines().find_map(|line| line.strip_prefix("figures ")).unwrap().split(' ').collect();
    let &[peak, seconds, processor] = figures.as_slice() else { panic!("{figures:?}") };
    let (peak, seconds) = (peak.parse::<u64>().unwrap(), seconds.parse::<f64>().unwrap());
    let speed = bytes as f64 / 1e6 / seconds;
    eprintln!(
        "{format}: {bytes} bytes in {seconds:.1} s ({processor} s of processor), {speed:.0} MB/s, \
         peak {peak} bytes"
    );
    assert!(peak < RESIDENT_BYTES_MAX, "{peak} bytes");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
    if let Some(tokens) = tokens {
        let trace = format::read(&output(&path)).unwrap();
        assert_eq!(trace.token_count(), tokens);
    }
}

fn output(input: &Path) -> PathBuf {
    input.with_extension("trace.safetensors")
}

#[test]
#[ignore = "run by the tests of this file, in a process of its own"]
#[expect(clippy::print_stderr, reason = "the figures are the point of these tests")]
fn import_alone() {
    let Some(path) = std::env::var_os("LARGE_INPUT").map(PathBuf::from) else { return };
    let format = std::env::var("LARGE_FORMAT").unwrap();
    let start = Instant::now();
    let spill = Spill::to(path.parent().unwrap());
    let (deepseek, paths) = (model("deepseek-v3"), [path.clone()]);
    let builder = build(
        &format,
        Input {
            paths: &paths,
            model: Some(&deepseek).filter(|_| format != "route-trace-csv"),
            progress: &ignore_progress,
            spill: Some(&spill),
        },
    )
    .unwrap();
    let mut file = BufWriter::with_capacity(1 << 20, File::create(output(&path)).unwrap());
    builder.write_to("output", &mut file).unwrap();
    file.flush().unwrap();
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("\nfigures {} {seconds} {}", peak_bytes(), processor_seconds());
}

#[test]
#[ignore = "writes and reads gigabytes"]
fn a_stat_larger_than_memory() {
    let (bytes, row) = (bytes_wanted(8_000_000_000), LAYERS * EXPERTS * 4);
    let steps = i64::try_from(bytes).unwrap() / i64::try_from(row).unwrap();
    import_large("expert_distribution.pt", "sglang-stat", None, |path| {
        let shape = [steps, 61, 256];
        let mut seed = 1_u32;
        let mut counts = vec![0; row];
        for count in counts[DENSE * EXPERTS * 4..].chunks_exact_mut(4) {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            count.copy_from_slice(&(seed >> 24).to_le_bytes());
        }
        let file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
        write_large_stat(file, shape, |step| step.copy_from_slice(&counts));
    });
}

/// An array of 32-bit ids, as vLLM writes it.
fn write_array(into: &mut dyn Write, tokens: u64) {
    const BLOCK: usize = 512;
    let text = format!(
        "{{'descr': '<i4', 'fortran_order': False, 'shape': ({tokens}, {LAYERS}, {TOP_K}), }}\n"
    );
    let length = u16::try_from(text.len()).unwrap().to_le_bytes();
    into.write_all(&[b"\x93NUMPY\x01\x00", &length[..], text.as_bytes()].concat()).unwrap();
    let bytes: Vec<u8> = ids(BLOCK).iter().flat_map(|&id| i32::from(id).to_le_bytes()).collect();
    let mut left = tokens;
    while left > 0 {
        let some = left.min(BLOCK as u64);
        let count = usize::try_from(some).unwrap() * LAYERS * TOP_K * 4;
        into.write_all(&bytes[..count]).unwrap();
        left -= some;
    }
}

const TOKEN_BYTES: u64 = (LAYERS * TOP_K * 4) as u64;

#[test]
#[ignore = "writes and reads gigabytes"]
fn an_array_larger_than_memory() {
    let tokens = bytes_wanted(8_000_000_000) / TOKEN_BYTES;
    import_large("a.npy", "vllm-routed-experts", Some(tokens), |path| {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
        write_array(&mut file, tokens);
        file.flush().unwrap();
    });
}

#[test]
#[ignore = "writes and reads gigabytes"]
fn an_archive_larger_than_memory() {
    const REQUEST: u64 = 1000;
    let requests = bytes_wanted(8_000_000_000) / TOKEN_BYTES / REQUEST;
    import_large("a.npz", "vllm-routed-experts", Some(requests * REQUEST), |path| {
        let file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
        let mut zip = ZipWriter::new(file);
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        for request in 0..requests {
            zip.start_file(format!("r{request:08}.npy"), options).unwrap();
            write_array(&mut zip, REQUEST);
        }
        zip.finish().unwrap().flush().unwrap();
    });
}

/// Writes lines until there are enough bytes; says how many lines there are.
fn write_lines(path: &Path, bytes: u64, mut line: impl FnMut(u64, &mut String)) -> u64 {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let mut text = String::new();
    let mut lines = 0;
    while file.stream_position().unwrap() < bytes {
        text.clear();
        for _ in 0..1000 {
            line(lines, &mut text);
            lines += 1;
        }
        file.write_all(text.as_bytes()).unwrap();
    }
    file.flush().unwrap();
    lines
}

#[test]
#[ignore = "writes and reads gigabytes"]
fn json_lines_larger_than_memory() {
    let ids = ids(64);
    let row = LAYERS * TOP_K;
    let layers: Vec<String> = (0..64)
        .map(|token| {
            let layers: Vec<String> = ids[token * row..][..row]
                .chunks_exact(TOP_K)
                .skip(DENSE)
                .map(|ids| format!("{ids:?}"))
                .collect();
            layers.join(", ")
        })
        .collect();
    import_large("a.jsonl", "jsonl-layers", None, |path| {
        write_lines(path, bytes_wanted(1_500_000_000), |token, text| {
            let layers = &layers[usize::try_from(token % 64).unwrap()];
            writeln!(text, "{{\"tok\": {token}, \"layers\": [{layers}]}}").unwrap();
        });
    });
}

#[test]
#[ignore = "writes and reads gigabytes"]
fn a_route_trace_larger_than_memory() {
    const PROMPT: u64 = 100;
    import_large("a.csv", "route-trace-csv", None, |path| {
        let facts = "# route_trace v1\n\
                     # model=a arch=b n_layer=2 n_expert=256 n_expert_used=8\n\
                     turn,phase,step,layer,slot,expert\n";
        // A prompt is written layer by layer: 100 tokens, 2 layers, 8 slots.
        write_lines(path, bytes_wanted(1_500_000_000), |number, text| {
            if number == 0 {
                text.push_str(facts);
            }
            let (turn, cell) = (number / (PROMPT * 16), number % (PROMPT * 16));
            let (layer, token, slot) = (cell / (PROMPT * 8), cell / 8 % PROMPT, cell % 8);
            let expert = (token + 31 * slot) % 256;
            writeln!(text, "{turn},0,{token},{layer},{slot},{expert}").unwrap();
        });
    });
}

#[test]
#[ignore = "writes and reads gigabytes"]
fn responses_larger_than_memory() {
    const TOKENS: usize = 300;
    let bytes: Vec<u8> = ids(TOKENS).iter().flat_map(|&id| i32::from(id).to_le_bytes()).collect();
    let text = encode(&bytes);
    let (prompt, completion) = (200, TOKENS + 1 - 200);
    let response = format!(
        "{{\"meta_info\": {{\"prompt_tokens\": {prompt}, \"completion_tokens\": {completion}, \
         \"routed_experts\": \"{text}\"}}}}"
    );
    let count = bytes_wanted(2_000_000_000) / response.len() as u64;
    let tokens = Some(count * TOKENS as u64);
    import_large("a.jsonl", "sglang-routed-experts", tokens, |path| {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
        (0..count).for_each(|_| writeln!(file, "{response}").unwrap());
        file.flush().unwrap();
    });
}
