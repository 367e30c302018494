//! Writes comma-separated text. Of tokens: one line per token and layer,
//! `step,request,position,phase,domain,layer,expert_0..,weight_0..`, with absolute layer numbers,
//! empty cells where a token chose fewer experts or has no domain, and the weight columns where
//! there are gate weights. Of counts: `layer,expert,count`, summed over steps, as the importer
//! `counts-csv` reads it.

use std::io::{self, Write};

use moecast_profiles::ids::MoeLayer;

use super::Entry;
use crate::error::Result;
use crate::trace::{Events, NO_EXPERT, Phase, RoutingTrace, TokenColumns};

pub(super) const ENTRY: Entry = Entry {
    name: "csv",
    about: "one line per token and layer; of counts layer,expert,count, summed over steps",
    check,
    write,
};

#[expect(clippy::unnecessary_wraps, reason = "other formats refuse")]
fn check(trace: &RoutingTrace, _path: &str) -> Result<Vec<String>> {
    let steps = trace.steps().len();
    let summed = trace.tokens().is_none() && steps > 1;
    Ok(summed.then(|| format!("the counts of {steps} steps are summed")).into_iter().collect())
}

fn write(trace: &RoutingTrace, into: &mut dyn Write) -> io::Result<()> {
    match trace.events() {
        Events::Tokens(columns) => tokens(trace, columns, into),
        Events::Counts(_) => counts(trace, into),
    }
}

fn tokens(trace: &RoutingTrace, columns: &TokenColumns, into: &mut dyn Write) -> io::Result<()> {
    let header = trace.header();
    let k = usize::from(header.top_k);
    write!(into, "step,request,position,phase,domain,layer")?;
    (0..k).try_for_each(|place| write!(into, ",expert_{place}"))?;
    if columns.weights.is_some() {
        (0..k).try_for_each(|place| write!(into, ",weight_{place}"))?;
    }
    writeln!(into)?;
    let domains: Vec<String> = header.domains.iter().map(|name| quoted(name)).collect();
    for row in 0..columns.step.len() {
        let phase = match Phase::from_code(columns.phase[row]) {
            Some(Phase::Prefill) => "prefill",
            _ => "decode",
        };
        let domain = columns.domain.as_ref().map(|domain| usize::from(domain[row]));
        let domain = domain.map_or("", |index| &domains[index]);
        for (ordinal, layer) in header.layers.iter().enumerate() {
            let (step, request) = (columns.step[row], columns.request[row]);
            let position = columns.position[row];
            write!(into, "{step},{request},{position},{phase},{domain},{layer}")?;
            let start = (row * header.moe_layers() + ordinal) * k;
            let ids = &columns.experts[start..start + k];
            for &id in ids {
                if id == NO_EXPERT { write!(into, ",")? } else { write!(into, ",{id}")? }
            }
            if let Some(weights) = &columns.weights {
                for (&id, weight) in ids.iter().zip(&weights[start..start + k]) {
                    if id == NO_EXPERT { write!(into, ",")? } else { write!(into, ",{weight}")? }
                }
            }
            writeln!(into)?;
        }
    }
    Ok(())
}

/// A name as a cell, quoted where it must be.
fn quoted(name: &str) -> String {
    if name.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", name.replace('"', "\"\""))
    } else {
        name.to_owned()
    }
}

fn counts(trace: &RoutingTrace, into: &mut dyn Write) -> io::Result<()> {
    writeln!(into, "layer,expert,count")?;
    for (ordinal, layer) in (0..).zip(&trace.header().layers) {
        for (expert, count) in trace.layer_loads(MoeLayer(ordinal)).iter().enumerate() {
            writeln!(into, "{layer},{expert},{count}")?;
        }
    }
    Ok(())
}
