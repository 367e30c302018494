//! What must hold of columns before they are a trace.

use super::{CountColumns, NO_EXPERT, Phase, StepSpan, TokenColumns, count_spans, spans};
use crate::error::{Error, Result};
use crate::header::Header;

fn check_len(path: &str, name: &str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let place = format!("tensor `{name}`");
    Err(Error::invalid(path, place, format!("{found} values"), format!("{expected} values")))
}

pub(super) fn check_tokens(
    header: &Header,
    columns: &TokenColumns,
    path: &str,
) -> Result<Vec<StepSpan>> {
    let tokens = columns.step.len();
    let k = usize::from(header.top_k);
    let wide = tokens * header.moe_layers() * k;
    check_len(path, "experts", columns.experts.len(), wide)?;
    if let Some(weights) = &columns.weights {
        check_len(path, "weights", weights.len(), wide)?;
    }
    check_len(path, "request", columns.request.len(), tokens)?;
    check_len(path, "position", columns.position.len(), tokens)?;
    check_len(path, "phase", columns.phase.len(), tokens)?;
    if let Some(row) = columns.step.windows(2).position(|pair| pair[0] > pair[1]) {
        let found = format!("step {} after {}", columns.step[row + 1], columns.step[row]);
        return Err(Error::invalid(
            path,
            format!("tensor `step`, row {}", row + 1),
            found,
            "steps that never decrease",
        ));
    }
    if let Some(row) = columns.phase.iter().position(|&code| Phase::from_code(code).is_none()) {
        let found = columns.phase[row].to_string();
        let expected = "0 (prefill) or 1 (decode)";
        return Err(Error::invalid(path, format!("tensor `phase`, row {row}"), found, expected));
    }
    if let Some(domain) = &columns.domain {
        check_len(path, "domain", domain.len(), tokens)?;
        let count = header.domains.len();
        if let Some(row) = domain.iter().position(|&index| usize::from(index) >= count) {
            let place = format!("tensor `domain`, row {row}");
            let found = domain[row].to_string();
            return Err(Error::invalid(path, place, found, format!("an index below {count}")));
        }
    }
    check_experts(header, &columns.experts, path)?;
    Ok(spans(&columns.step))
}

/// Every id is an expert or "none", and no token chose one expert twice in a layer.
fn check_experts(header: &Header, experts: &[u16], path: &str) -> Result<()> {
    let k = usize::from(header.top_k);
    for (event, ids) in experts.chunks_exact(k).enumerate() {
        let wrong = ids.iter().find(|&&id| id != NO_EXPERT && id >= header.experts);
        let twice = ids
            .iter()
            .enumerate()
            .find(|(slot, id)| **id != NO_EXPERT && ids[..*slot].contains(id))
            .map(|(_, id)| id);
        let (found, expected) = match (wrong, twice) {
            (Some(id), _) => (format!("expert {id}"), format!("an id below {}", header.experts)),
            (None, Some(id)) => (format!("expert {id} twice"), "distinct experts".to_owned()),
            (None, None) => continue,
        };
        let layer = header.layers[event % header.moe_layers()];
        let place =
            format!("tensor `experts`, token {}, layer {layer}", event / header.moe_layers());
        return Err(Error::invalid(path, place, found, expected));
    }
    Ok(())
}

pub(super) fn check_counts(
    header: &Header,
    columns: &CountColumns,
    path: &str,
) -> Result<Vec<StepSpan>> {
    let size = header.moe_layers() * usize::from(header.experts);
    let steps = columns.counts.len() / size;
    check_len(path, "counts", columns.counts.len(), steps * size)?;
    Ok(count_spans(steps))
}
