//! Speed and memory of a large import. The work is that of a release build:
//! `cargo test --release -p moecast-traces a_gigabyte -- --ignored --nocapture`

use std::fs::File;
use std::io::BufWriter;
use std::time::Instant;

use super::super::torch::write::write_large_stat;
use super::{counts, import_paths, model};

/// Largest resident size that this process had, in bytes.
pub(super) fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Processor time of every thread of this process, in seconds.
pub(super) fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    // User and system time are fields 14 and 15 of proc(5), in hundredths of a second.
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}

#[test]
#[ignore = "writes and reads a gigabyte"]
#[cfg(target_os = "linux")]
#[expect(clippy::print_stderr, reason = "the figures are the point of this test")]
fn a_gigabyte_is_read_fast_and_held_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("expert_distribution_recorder_1.0.pt");
    let deepseek = model("deepseek-v3");
    let [layers, dense, experts] = [61, 3, 256];
    let steps = (1 << 30) / (layers * experts * 4);
    let mut seed = 1_u32;
    write_large_stat(
        BufWriter::new(File::create(&path).unwrap()),
        [steps, layers, experts],
        |step| {
            let used = usize::try_from(dense * experts * 4).unwrap();
            for count in step[used..].chunks_exact_mut(4) {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                count.copy_from_slice(&(seed >> 24).to_le_bytes());
            }
        },
    );
    let bytes = std::fs::metadata(&path).unwrap().len();
    let before = peak_bytes();
    let (start, processor) = (Instant::now(), processor_seconds());
    let trace = import_paths("auto", Some(&deepseek), &[path]).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let processor = processor_seconds() - processor;
    let kept = counts(&trace).len() as u64 * 4;
    let speed = bytes as f64 / 1e6 / seconds;
    let peak = peak_bytes();
    eprintln!("{bytes} bytes in {seconds:.2} s: {speed:.0} MB/s, {processor:.2} s of processor");
    eprintln!("peak {peak} bytes ({before} before), tensors {kept} bytes");
    assert!(peak < kept * 3 / 2, "peak {peak} of {kept}");
    assert!(speed > 300.0, "{speed} MB/s");
}
