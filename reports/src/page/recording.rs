//! What a recording is and what stands out in it, in sentences.

use std::collections::BTreeMap;

use super::escape;
use super::words::{amount, listed};
use crate::draw::digits;
use crate::{RunFile, StatsFile, Subject, figures};

/// The model as it is called; recorders may not say it.
pub(super) fn model(file: &StatsFile) -> &str {
    if file.model.is_empty() { "a model without a name" } else { &file.model }
}

/// The title of a page about nothing but a recording.
pub(super) fn title(file: &StatsFile) -> String {
    format!("Expert routing of {}", model(file))
}

/// The paragraph under the title of such a page, as HTML.
pub(super) fn summary(file: &StatsFile) -> String {
    let kind = if file.synthetic { "synthetic recording" } else { "recording" };
    let source = escape(&file.source);
    format!(
        "This report describes a {kind} of {} ({source}): {}. {}",
        escape(model(file)),
        size(file),
        unevenness(file)
    )
}

/// The heading above the figures of the recording on the page of a run, as HTML.
pub(super) fn section(file: &StatsFile, run: &RunFile) -> String {
    let trace = &run.trace;
    let same = (&file.source, &file.inputs) == (&trace.source, &trace.inputs);
    let which = if same {
        "What follows is about all of the recording, whatever the placement and the part that was \
         simulated"
    } else {
        "What follows is about another recording than the one that was simulated"
    };
    format!("<h2>The recording</h2>\n<p>{which}: {}. {}</p>\n", size(file), unevenness(file))
}

fn size(file: &StatsFile) -> String {
    let stats = &file.stats;
    let requests = stats
        .requests
        .map_or(String::new(), |requests| format!(" of {}", amount(requests as u64, "request")));
    format!(
        "{}{requests} in {}, {} of {}, of which a token chooses {}",
        amount(stats.tokens, "token"),
        amount(stats.steps as u64, "step"),
        amount(stats.layers as u64, "MoE layer"),
        amount(u64::from(stats.experts), "expert"),
        stats.top_k
    )
}

fn unevenness(file: &StatsFile) -> String {
    format!(
        "The busiest expert of a layer has {} times the mean load, averaged over the layers.",
        digits::ratio(file.stats.max_over_mean)
    )
}

/// Which figures are not there, and why, one line per reason.
pub(super) fn absent(file: &StatsFile) -> String {
    let mut names: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for entry in figures::ALL {
        if let Some(Err(reason)) = entry.of(Subject::Recording(file)) {
            names.entry(reason).or_default().push(entry.name.to_owned());
        }
    }
    let mut html = String::new();
    for (reason, names) in names {
        html += &format!("<p class=\"absent\">Not shown: {}; {reason}.</p>\n", listed(&names));
    }
    html
}
