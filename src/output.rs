//! The only place that knows there is a terminal: tables, JSON, progress and errors.

use std::io::{ErrorKind, IsTerminal, Write};
use std::panic::PanicHookInfo;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::cli::Global;

mod heat_map;

pub(crate) use heat_map::{HeatMap, HeatRow};

/// Characters of a line where there is no terminal to ask.
const WIDTH: usize = 80;

/// Where and how a command answers.
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    verbose: bool,
    /// Bold headings; off with `NO_COLOR` and where nobody looks.
    styled: bool,
}

impl Output {
    pub(crate) fn new(global: &Global) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            styled: !no_color && std::io::stdout().is_terminal(),
        }
    }

    /// Whether JSON was asked for: an answer that is costly to make is made only then.
    pub(crate) fn wants_json(&self) -> bool {
        self.json
    }

    /// Prints `value` where JSON was asked for; says whether it was.
    pub(crate) fn json(&self, value: &Value) -> Result<bool> {
        if self.json {
            let text = serde_json::to_string_pretty(value)?;
            self.bytes(format!("{text}\n").as_bytes())?;
        }
        Ok(self.json)
    }

    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()?;
        Ok(())
    }

    pub(crate) fn line(&self, text: &str) -> Result<()> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// A line that `--quiet` hides.
    pub(crate) fn note(&self, text: &str) -> Result<()> {
        if self.quiet { Ok(()) } else { self.line(text) }
    }

    /// Lines that only `--verbose` shows.
    pub(crate) fn details(&self, lines: impl IntoIterator<Item = String>) -> Result<()> {
        if !self.verbose {
            return Ok(());
        }
        lines.into_iter().try_for_each(|line| self.line(&line))
    }

    /// Remarks of a trace or a run; hidden by `--quiet`.
    pub(crate) fn remarks<'a>(&self, remarks: impl IntoIterator<Item = &'a String>) -> Result<()> {
        remarks.into_iter().try_for_each(|remark| self.note(&format!("note: {remark}")))
    }

    pub(crate) fn table(&self, table: &Table) -> Result<()> {
        self.bytes(table.render(self.styled).as_bytes())
    }

    /// As wide as the terminal; in colours where there are any.
    pub(crate) fn heat_map(&self, map: &HeatMap) -> Result<()> {
        let size = terminal_size::terminal_size_of(std::io::stdout());
        let width = size.map_or(WIDTH, |(width, _)| usize::from(width.0));
        self.bytes(map.render(width, self.styled).as_bytes())
    }

    /// A bar on standard error; invisible where that is no terminal, with `--quiet` or `--json`.
    pub(crate) fn progress(&self, what: &str, length: u64, style: Measure) -> ProgressBar {
        let visible = !self.quiet && !self.json && std::io::stderr().is_terminal();
        let target =
            if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(length), target);
        let template = match style {
            Measure::Bytes => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            Measure::Count => "{msg} {wide_bar} {pos}/{len} {eta}",
        };
        let style = ProgressStyle::with_template(template).expect("the templates are constant");
        bar.set_style(style);
        bar.set_message(what.to_owned());
        bar
    }

    /// A sign of life for work of unknown length; as visible as [`Self::progress`].
    pub(crate) fn spinner(&self, what: &str) -> ProgressBar {
        let bar = self.progress(what, 0, Measure::Count);
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
        bar.set_style(style.expect("the template is constant"));
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        bar
    }

    /// One line: where, what was found, what would be right.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let text = one_line(error);
        // Nothing is left to do when even standard error is gone.
        let _ = writeln!(std::io::stderr(), "moecast: {text}");
    }
}

/// Everything that `error` says, in one line.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    // Some errors say their cause themselves.
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
        }
    }
    text.replace('\n', " ")
}

/// One line of what the parser of arguments says in several, up to its usage.
pub(crate) fn usage_error(text: &str) {
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let words: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let text = words.join(" ");
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    // Nothing is left to do when even standard error is gone.
    let _ = writeln!(std::io::stderr(), "moecast: {text} (--help says more)");
}

/// A time in the unit that suits it, four significant digits at most.
pub(crate) fn show_micros(micros: f64) -> String {
    if micros < 1e3 { format!("{micros:.1} us") } else { format!("{:.3} ms", micros / 1e3) }
}

/// What a progress bar counts.
#[derive(Clone, Copy)]
pub(crate) enum Measure {
    Bytes,
    Count,
}

/// Whether `error` only says that the reader of our output went away (`moecast list | head`).
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == ErrorKind::BrokenPipe)
}

/// A panic is a defect of moecast, whatever the input was.
pub(crate) fn report_panic(info: &PanicHookInfo<'_>) {
    let _ = writeln!(
        std::io::stderr(),
        "moecast: internal error, please report it with the command that you ran: {info}"
    );
}

/// A table whose first column is text and whose other columns are right-aligned.
pub(crate) struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { headings: headings.iter().map(|&text| text.to_owned()).collect(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().collect();
        assert_eq!(cells.len(), self.headings.len(), "cells of a row");
        self.rows.push(cells);
    }

    fn render(&self, styled: bool) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.headings[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.headings.len()).map(width).collect();
        let line = |cells: &[String]| {
            let mut text = String::new();
            for (column, (cell, &width)) in cells.iter().zip(&widths).enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                let left = column == 0 || self.is_text(column);
                text += gap;
                text += &if left { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
            }
            text.trim_end().to_owned()
        };
        let heading = line(&self.headings);
        let mut text =
            if styled { format!("\u{1b}[1m{heading}\u{1b}[0m\n") } else { format!("{heading}\n") };
        for row in &self.rows {
            text += &line(row);
            text.push('\n');
        }
        text
    }

    /// Whether a column holds words rather than figures.
    fn is_text(&self, column: usize) -> bool {
        let starts_with_letter =
            |row: &Vec<String>| row[column].chars().next().is_some_and(char::is_alphabetic);
        !self.rows.is_empty() && self.rows.iter().all(starts_with_letter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_align_right_and_words_left() {
        let mut table = Table::new(&["placement", "time", "note"]);
        table.row(["linear".into(), "9.5 us".into(), "before".into()]);
        table.row(["plan".into(), "10.25 us".into(), "after".into()]);
        let expected = "placement      time  note\n\
                        linear       9.5 us  before\n\
                        plan       10.25 us  after\n";
        assert_eq!(table.render(false), expected);
    }
}
