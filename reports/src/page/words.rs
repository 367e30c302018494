//! What was compared and what came out, in sentences.

use super::escape;
use crate::RunFile;
use crate::draw::digits::{self, time_unit, with_unit};

/// "a", "a and b", "a, b and c".
pub(super) fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

pub(super) fn amount(count: u64, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", digits::count(count))
}

/// The paragraph under the title, as HTML.
pub(super) fn summary(run: &RunFile) -> String {
    let names: Vec<String> =
        run.candidates.iter().map(|it| format!("<strong>{}</strong>", escape(&it.name))).collect();
    let (model, cluster) = (escape(&run.model), escape(&run.cluster));
    let ranks = amount(u64::from(run.ranks), "rank");
    let where_ = format!("the experts of {model} on {cluster} ({ranks})");
    let opening = match names.len() {
        0 => return format!("This run holds no placement of {where_}."),
        1 => format!("This report shows the placement {} of {where_}.", names[0]),
        count => {
            format!("This report compares {count} placements of {where_}: {}.", listed(&names))
        }
    };
    let mut text = format!("{opening} {}", simulated(run));
    if let Some(outcome) = outcome(run) {
        text += &format!(" {outcome}");
    }
    text
}

/// Which part of which recording was simulated, and whether the planner knew it.
fn simulated(run: &RunFile) -> String {
    let trace = &run.trace;
    let steps = run.candidates.first().map_or(0, |it| it.summary.steps);
    let (what, many) = match trace.requests {
        Some(requests) => (amount(requests as u64, "request"), "requests"),
        None => (amount(steps, "step"), "steps"),
    };
    let tokens = amount(trace.tokens, "token");
    let kind = if trace.synthetic { "synthetic recording" } else { "recording" };
    let source = escape(&trace.source);
    let each = if run.candidates.len() == 1 { "It" } else { "Each" };
    match trace.part.as_str() {
        "heldout" => format!(
            "{each} was simulated on the held-out part of the {kind} ({source}): {what} with \
             {tokens} that the planner did not see."
        ),
        "train" => format!(
            "{each} was simulated on the training part of the {kind} ({source}): {what} with \
             {tokens}. The planner worked from the same {many}, so the plan looks better here than \
             it will in use."
        ),
        "all" => format!(
            "{each} was simulated on the whole {kind} ({source}): {what} with {tokens}. The \
             planner may have worked from the same {many}; then the plan looks better here than it \
             will in use."
        ),
        other => format!(
            "{each} was simulated on the part “{}” of the {kind} ({source}): {what} with {tokens}.",
            escape(other)
        ),
    }
}

/// The last candidate against the first.
fn outcome(run: &RunFile) -> Option<String> {
    let [first, .., last] = run.candidates.as_slice() else {
        return None;
    };
    let (before, after) = (&first.summary, &last.summary);
    let times = [before.step_time_us.mean, after.step_time_us.mean];
    let change = digits::change(times[0], times[1])?;
    let unit = time_unit(times[0].max(times[1]));
    Some(format!(
        "With {}, the busiest rank of a layer has {} times the mean load and a step takes {} on \
         average; with {}, it has {} times the mean load and a step takes {} ({change}).",
        escape(&first.name),
        digits::ratio(before.imbalance),
        with_unit(times[0], unit),
        escape(&last.name),
        digits::ratio(after.imbalance),
        with_unit(times[1], unit),
    ))
}
