//! A heat map in text: colours where there are any, shades where there are none.

use std::fmt::Write;

/// Loads in rows; every row is drawn against its own mean.
pub(crate) struct HeatMap {
    pub(crate) rows: Vec<HeatRow>,
    /// What the columns are, named above them.
    pub(crate) columns: &'static str,
}

/// A row of cells.
pub(crate) struct HeatRow {
    /// What several rows have in common, said on the first of them.
    pub(crate) group: String,
    pub(crate) label: String,
    pub(crate) loads: Vec<u64>,
    pub(crate) max_over_mean: f64,
}

/// A step of the scale: the cells whose load over the mean is below `below`.
struct Level<S> {
    below: f64,
    words: &'static str,
    sign: S,
}

const fn level<S>(below: f64, words: &'static str, sign: S) -> Level<S> {
    Level { below, words, sign }
}

/// Backgrounds of the 256 colours from black over purple to yellow; the mean is in the middle.
const COLORS: [Level<u8>; 10] = [
    level(f64::MIN_POSITIVE, "0", 16),
    level(0.25, "<.25", 17),
    level(0.5, "<.5", 54),
    level(0.75, "<.75", 90),
    level(1.25, "<1.25", 126),
    level(1.5, "<1.5", 161),
    level(2.0, "<2", 203),
    level(3.0, "<3", 215),
    level(6.0, "<6", 222),
    level(f64::INFINITY, "6+", 230),
];

const SHADES: [Level<char>; 5] = [
    level(0.25, "<.25", ' '),
    level(0.75, "<.75", '\u{2591}'),
    level(1.25, "<1.25", '\u{2592}'),
    level(2.0, "<2", '\u{2593}'),
    level(f64::INFINITY, "2+", '\u{2588}'),
];

/// Widest cell, in characters: wider ones are harder to tell apart, not easier.
const CELL_MAX: usize = 4;

/// What stands behind the cells.
const TAIL: &str = "max/mean";

impl HeatMap {
    /// At most `width` characters a line, unless labels alone are longer.
    pub(super) fn render(&self, width: usize, colored: bool) -> String {
        let longest = |of: fn(&HeatRow) -> &str| {
            self.rows.iter().map(|row| of(row).chars().count()).max().unwrap_or(0)
        };
        let (groups, labels) = (longest(|row| &row.group), longest(|row| &row.label));
        let left = if groups == 0 { labels } else { groups + 1 + labels };
        let experts = self.rows.first().map_or(0, |row| row.loads.len()).max(1);
        let room = width.saturating_sub(left + 2 + TAIL.len()).max(8);
        let bin = experts.div_ceil(room);
        let columns = experts.div_ceil(bin);
        let cell = (room / columns).clamp(1, CELL_MAX);
        let mut text = self.heading(left, columns * cell, experts);
        for row in &self.rows {
            let head = if groups == 0 {
                format!("{:>labels$}", row.label)
            } else {
                format!("{:<groups$} {:<labels$}", row.group, row.label)
            };
            let cells = cells(&row.loads, bin, cell, colored);
            let tail = format!("{:.2}", row.max_over_mean);
            let _ = writeln!(text, "{head} {cells} {tail:>8}");
        }
        text += &legend(bin, colored);
        text
    }

    /// The first and the last column, and what they are, above the cells.
    fn heading(&self, left: usize, wide: usize, experts: usize) -> String {
        let (first, last) = ("0", (experts - 1).to_string());
        let room = wide.saturating_sub(first.len() + last.len());
        let middle = if self.columns.len() + 2 <= room { self.columns } else { "" };
        let line = format!("{first}{middle:^room$}{last}");
        format!("{:left$} {line:<wide$} {TAIL}\n", "")
    }
}

/// One row of cells: each of `bin` experts, `cell` characters wide.
#[expect(clippy::cast_precision_loss, reason = "loads, for a ratio")]
fn cells(loads: &[u64], bin: usize, cell: usize, colored: bool) -> String {
    let mean = loads.iter().sum::<u64>() as f64 / loads.len() as f64;
    let ratios = loads.chunks(bin).map(|bin| {
        let most = bin.iter().max().map_or(0.0, |&load| load as f64);
        if mean > 0.0 { most / mean } else { 0.0 }
    });
    let mut text = String::new();
    for ratio in ratios {
        if colored {
            let _ = write!(text, "\u{1b}[48;5;{}m{:cell$}", sign(&COLORS, ratio), "");
        } else {
            text.extend(std::iter::repeat_n(sign(&SHADES, ratio), cell));
        }
    }
    if colored {
        text += "\u{1b}[0m";
    }
    text
}

fn sign<S: Copy>(levels: &[Level<S>], ratio: f64) -> S {
    let found = levels.iter().find(|level| ratio < level.below);
    found.unwrap_or(&levels[levels.len() - 1]).sign
}

fn legend(bin: usize, colored: bool) -> String {
    let mut text = "load over mean:".to_owned();
    if colored {
        for level in &COLORS {
            let _ = write!(text, " \u{1b}[48;5;{}m  \u{1b}[0m{}", level.sign, level.words);
        }
    } else {
        for level in &SHADES {
            let _ = write!(text, "  [{}] {}", level.sign, level.words);
        }
    }
    text.push('\n');
    if bin > 1 {
        let _ = writeln!(text, "a column is the busiest of {bin} experts");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(loads: &[u64]) -> HeatMap {
        let row = HeatRow {
            group: String::new(),
            label: "7".to_owned(),
            loads: loads.to_vec(),
            max_over_mean: 2.0,
        };
        HeatMap { rows: vec![row], columns: "experts" }
    }

    #[test]
    fn shades_are_of_the_load_over_the_mean() {
        let expected = "  0   experts    3 max/mean\n\
                        7 \u{20}\u{20}\u{20}\u{20}\u{2591}\u{2591}\u{2591}\u{2591}\u{2592}\u{2592}\
                        \u{2592}\u{2592}\u{2588}\u{2588}\u{2588}\u{2588}     2.00\n\
                        load over mean:  [ ] <.25  [\u{2591}] <.75  [\u{2592}] <1.25  [\u{2593}] \
                        <2  [\u{2588}] 2+\n";
        assert_eq!(map(&[0, 2, 4, 10]).render(80, false), expected);
    }

    #[test]
    fn many_experts_share_columns_and_no_line_is_too_long() {
        for (experts, colored) in [(8, false), (128, false), (256, false), (384, true)] {
            let text = map(&vec![1; experts]).render(80, colored);
            for line in text.lines() {
                let mut plain = String::new();
                for (index, part) in line.split("\u{1b}[").enumerate() {
                    let code = if index == 0 { part } else { part.split_once('m').unwrap().1 };
                    plain += code;
                }
                assert!(plain.chars().count() <= 80, "{experts}: {plain}");
            }
            assert_eq!(text.contains("busiest of"), experts > 70);
        }
    }

    #[test]
    fn a_row_without_load_is_blank() {
        assert!(map(&[0; 4]).render(80, false).contains("7                  "));
    }
}
