//! Standard output of NVIDIA's nccl-tests (and AMD's rccl-tests).
//!
//! A comment line for each rank, then a row for each size:
//! `size count type redop root time algbw busbw #wrong`, times in microseconds, out of place
//! first and in place after it. Where there is no operation and root, `none` and -1 are printed,
//! or nothing. Out-of-place times are taken. The column `size` is what moecast calls bytes: the
//! buffer for all-reduce, what is gathered on a rank for all-gather, what a rank sends for
//! all-to-all and what it gives for reduce-scatter.
//! Format: <https://github.com/NVIDIA/nccl-tests> 2.17, `src/common.cu`.

use std::path::Path;

use super::check::{Row, check, invalid, timed};
use super::text::{preset, read_text};
use super::{Entry, Options};
use crate::Result;
use crate::sample::{Family, Provenance, Samples};

pub(super) const ENTRY: Entry = Entry {
    name: "nccl-tests",
    about: "collectives: text that all_reduce_perf and its siblings print (nccl-tests)",
    read,
};

/// The programs, and what each times.
const PROGRAMS: [(&str, Family); 4] = [
    ("all_gather", Family::AllGather),
    ("all_reduce", Family::AllReduce),
    ("alltoall", Family::AllToAll),
    ("reduce_scatter", Family::ReduceScatter),
];

/// What the lines before a row said.
#[derive(Default)]
struct State {
    family: Option<Family>,
    ranks: u32,
    device: String,
    version: String,
    /// A row was seen since the last line about ranks, so that the next begins a new run.
    rows: bool,
}

fn read(path: &Path, options: &Options) -> Result<Samples> {
    let (text, name) = read_text(path)?;
    // Older versions do not print which program runs; people put it into the file's name.
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
    let mut state = State { family: program(stem), ..State::default() };
    let mut rows = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        // A command that was typed stands in the same file as what it printed.
        if let Some(family) = program(line) {
            state.family = Some(family);
        }
        if let Some(comment) = line.strip_prefix('#') {
            state.comment(comment.trim());
        } else if let Some(row) = state.row(&name, number, line)? {
            rows.push(row);
            state.rows = true;
        }
    }
    if rows.is_empty() {
        let expected = "rows of `size count type redop root time algbw busbw`";
        return Err(invalid(&name, "text", "no row of nccl-tests", expected));
    }
    let checked = check(&name, rows)?;
    Ok(Samples {
        provenance: Provenance {
            system: preset(options.system.as_deref().unwrap_or(&state.device)),
            engine: "nccl-tests".to_owned(),
            version: options.version.clone().unwrap_or(state.version),
            source: "measured with nccl-tests".to_owned(),
        },
        flags: checked.flags,
        samples: checked.samples,
    })
}

/// What a line or a file's name that holds `NAME_perf` (or is NAME) times.
fn program(text: &str) -> Option<Family> {
    let named = |name: &str| text.contains(&format!("{name}_perf")) || text == name;
    PROGRAMS.iter().find(|(name, _)| named(name)).map(|(_, family)| *family)
}

impl State {
    fn comment(&mut self, comment: &str) {
        let mut words = comment.split_whitespace();
        match (words.next(), words.next()) {
            (Some("Rank"), Some(rank)) => {
                if std::mem::take(&mut self.rows) {
                    self.ranks = 0;
                }
                let rank = rank.parse::<u32>().unwrap_or(0);
                self.ranks = self.ranks.max(rank.saturating_add(1));
                let device = comment.split_once(']').map_or("", |(_, device)| device);
                self.device = device.trim().to_lowercase().replace(' ', "-");
            }
            (Some("nccl-tests"), Some("version")) => {
                self.version = words.next().unwrap_or("").to_owned();
            }
            (Some("nranks"), Some(count)) => self.ranks = count.parse().unwrap_or(self.ranks),
            _ => {}
        }
    }

    /// A row of figures, or none where a line only begins with a digit.
    fn row(&self, name: &str, number: usize, line: &str) -> Result<Option<Row>> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(Ok(bytes)) = words.first().map(|word| word.parse::<u64>()) else {
            return Ok(None);
        };
        let key = |column: &str| format!("line {number}, {column}");
        if words.len() < 8 || words[1].parse::<u64>().is_err() {
            let found = format!("{} columns", words.len());
            let expected = "size count type redop root time algbw busbw";
            return Err(invalid(name, key("row"), found, expected));
        }
        // Versions before 2.11 print no redop and root where there are none.
        let at = if words[3].parse::<f64>().is_ok() { 3 } else { 5 };
        let time = words[at].parse::<f64>().unwrap_or(f64::NAN);
        let bandwidth = words[at + 1].parse::<f64>().unwrap_or(f64::NAN);
        if bytes == 0 {
            // Nothing was sent: what is timed is the launch.
            return Ok(None);
        }
        if !(time.is_finite() && time > 0.0) {
            return Err(invalid(name, key("time"), words[at], "microseconds above 0"));
        }
        // GB/s is printed with two digits: where those say anything, they fix the unit of time.
        let implied = bytes as f64 / time / 1e3;
        if bandwidth > 0.1 && !(0.5..2.0).contains(&(implied / bandwidth)) {
            let found = format!("{time} us beside {bandwidth} GB/s for {bytes} bytes");
            return Err(invalid(name, key("time"), found, "microseconds that agree with algbw"));
        }
        let Some(family) = self.family else {
            let expected = "a line or file name that says all_reduce_perf or a sibling";
            return Err(invalid(name, key("row"), "no name of the program", expected));
        };
        if self.ranks == 0 {
            return Err(invalid(name, key("row"), "no ranks", "`#  Rank` lines before the rows"));
        }
        let variant = format!("nccl/{}", words[2]);
        let sample = timed(family, &variant, &[self.ranks], &[bytes], time);
        Ok(Some(Row { row: number, sample }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# nccl-tests version 2.17.6 nccl-headers=22808 nccl-library=22808
# Collective test starting: all_reduce_perf
# nThread 1 nGpus 2 minBytes 8 maxBytes 128M step: 2(factor)
# Using devices
#  Rank  0 Group  0 Pid 52 on host device  0 [0000:18:00] NVIDIA H200
#  Rank  1 Group  0 Pid 52 on host device  1 [0000:2a:00] NVIDIA H200
#
#       size         count      type   redop    root     time   algbw   busbw #wrong     time
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)
           8             2     float     sum      -1    17.21    0.00    0.00      0    17.01
     1048576        262144     float     sum      -1    20.00   52.43   52.43      0    19.80
    67108864      16777216     float     sum      -1    250.0  268.44  268.44      0    249.1
# Out of bounds values : 0 OK
";

    fn read_as(file: &str, text: &str) -> Result<Samples> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        std::fs::write(&path, text).unwrap();
        read(&path, &Options::default())
    }

    fn fails(text: &str, part: &str) {
        let error = read_as("out.txt", text).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert!(!error.contains('\n'));
    }

    #[test]
    fn rows_become_samples() {
        let samples = read_as("out.txt", TEXT).unwrap();
        assert_eq!(samples.provenance.system, "nvidia-h200");
        assert_eq!(samples.provenance.version, "2.17.6");
        assert_eq!(samples.samples.len(), 3);
        let expected = timed(Family::AllReduce, "nccl/float", &[2], &[1_048_576], 20.0);
        assert_eq!(samples.samples[1], expected);
    }

    #[test]
    fn the_file_name_tells_the_program() {
        let text = TEXT.replace("all_reduce_perf", "(a program)");
        fails(&text, "no name of the program");
        let samples = read_as("alltoall_perf.txt", &text).unwrap();
        assert_eq!(samples.samples[0].family, Family::AllToAll);
    }

    #[test]
    fn rows_without_an_operation_are_read() {
        let text = TEXT.replace("all_reduce", "all_gather").replace("    sum      -1", "");
        assert_eq!(read_as("out.txt", &text).unwrap().samples[2].time_us, 250.0);
    }

    #[test]
    fn two_runs_in_one_file_keep_their_ranks() {
        let second = TEXT.lines().filter(|line| !line.contains("Rank  1")).collect::<Vec<_>>();
        let second = second.join("\n").replace("all_reduce", "all_gather");
        let samples = read_as("out.txt", &format!("{TEXT}{second}\n")).unwrap();
        let ranks: Vec<u32> = samples.samples.iter().map(|sample| sample.shape[0]).collect();
        // All-gather, the second run, sorts first.
        assert_eq!(ranks, [1, 1, 1, 2, 2, 2]);
    }

    #[test]
    fn wrong_rows_are_located() {
        fails(&TEXT.replace("   20.00 ", "   nan "), "line 11, time: nan");
        fails(&TEXT.replace("   20.00 ", "    0.00 "), "line 11, time: 0.00");
        fails(&TEXT.replace("   20.00 ", "   0.020 "), "agree with algbw");
        fails(
            &TEXT.replace("   20.00   52.43   52.43      0    19.80", ""),
            "line 11, row: 5 columns",
        );
        fails(&TEXT.replace("Rank", "rank"), "no ranks");
        fails("# nothing\n", "no row of nccl-tests");
    }

    /// Truncation at any byte is an error or fewer samples, never a panic.
    #[test]
    fn a_cut_off_file_is_no_panic() {
        for end in 1..TEXT.len() {
            if let Ok(samples) = read_as("out.txt", &TEXT[..end]) {
                assert!(samples.samples.len() <= 3);
            }
        }
    }
}
