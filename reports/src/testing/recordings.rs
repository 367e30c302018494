//! Statistics of recordings for tests.

use moecast_traces::stats::stats;
use moecast_traces::{Events, Header, Phase, RoutingTrace, TokenRow, TraceBuilder};
use serde_json::Value;

use moecast_traces::synth::check::Check;

use crate::StatsFile;

/// A recording of one request whose picks are uneven in a way that repeats itself; every `domains`
/// tokens, one is of each domain.
fn trace(tokens: u32, layers: u16, experts: u16, top_k: u16, domains: u16) -> RoutingTrace {
    let mut header = Header::new("toy-recorder", "toy", experts, top_k, (3..3 + layers).collect());
    header.remarks = vec!["One request was empty.".to_owned()];
    let mut builder = TraceBuilder::new(header.clone());
    let mut state = 12_345_u64;
    let mut draw = |below: u16| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 33) as u16 % below
    };
    for step in 0..tokens {
        let mut row = Vec::new();
        for layer in 0..layers {
            let first = draw(experts).min(draw(experts)) + layer % 3;
            row.extend((0..top_k).map(|pick| (first + pick) % experts));
        }
        let (position, phase, experts) = (step, Phase::Decode, &row[..]);
        builder.push_token(TokenRow { request: 0, position, step, phase, experts, weights: None });
    }
    let trace = builder.finish("test").unwrap();
    if domains == 0 {
        return trace;
    }
    header.domains = (0..domains).map(|domain| format!("domain {domain}")).collect();
    let mut columns = trace.tokens().unwrap().clone();
    columns.domain =
        Some((0..tokens).map(|t| (t % u32::from(domains)) as u16).collect::<Vec<_>>().into());
    RoutingTrace::new(header, Events::Tokens(columns), "test").unwrap()
}

fn measured(trace: &RoutingTrace) -> StatsFile {
    StatsFile::new("0.1.0", trace.header(), stats(trace), Vec::new())
}

fn check(name: &str, published: f64, found: f64) -> Check {
    let source = "a paper, table 2".to_owned();
    let found = Some(found);
    Check { name: name.to_owned(), published, found, tolerance: 0.05, source }
}

/// Two layers, four experts, two domains and two checks: small, with every figure.
pub(crate) fn recording() -> StatsFile {
    let checks = vec![check("SRP at 4", 0.6, 0.62), check("LRU at 2", 0.6, 0.5)];
    StatsFile { checks, ..measured(&trace(40, 2, 4, 2, 2)) }
}

/// A recording that only counted.
pub(crate) fn counted() -> StatsFile {
    let mut builder = TraceBuilder::new(Header::new("toy-counts", "toy", 3, 1, vec![2, 5]));
    builder.push_counts(&[4, 0, 2, 0, 0, 0]);
    builder.push_counts(&[2, 2, 2, 0, 0, 0]);
    measured(&builder.finish("test").unwrap())
}

/// The same with every number that is not whole replaced.
fn with_numbers(file: &StatsFile, number: f64) -> StatsFile {
    fn replace(value: &mut Value, number: f64) {
        match value {
            Value::Number(found) if found.is_f64() => *value = number.into(),
            Value::Array(values) => values.iter_mut().for_each(|value| replace(value, number)),
            Value::Object(values) => values.values_mut().for_each(|value| replace(value, number)),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(file).unwrap();
    replace(&mut value, number);
    serde_json::from_value(value).unwrap()
}

/// Statistics of every shape, each with what is special about it.
pub(crate) fn every_recording() -> Vec<(&'static str, StatsFile)> {
    let normal = measured(&trace(600, 12, 32, 4, 5));
    let mut large = measured(&trace(300, 3, 512, 8, 0));
    let layers = large.stats.per_layer.clone();
    large.layers = (3..97).collect();
    large.stats.per_layer = layers.into_iter().cycle().take(94).collect();
    for (layer, &number) in large.stats.per_layer.iter_mut().zip(&large.layers) {
        layer.layer = number;
    }
    let long = "a name that goes on and on and on, well beyond what any figure has room for";
    let hostile = "\u{202e}<&>\"'\u{1}";
    let mut names = measured(&trace(60, 3, 8, 2, 3));
    names.model = long.repeat(3);
    hostile.clone_into(&mut names.source);
    names.stats.domains.as_mut().unwrap().parts =
        vec![long.to_owned(), hostile.to_owned(), String::new()];
    names.checks = vec![check(long, 1e12, -1e12), check(hostile, 0.0, f64::MAX)];
    let mut many = measured(&trace(400, 2, 16, 2, 90));
    many.checks = (0..300).map(|index| check("a check", 1.0, f64::from(index) / 100.0)).collect();
    let mut most = measured(&trace(60, 3, 8, 2, 3));
    most.stats.reuse.as_mut().unwrap().histogram.fill(u64::MAX);
    let mut nothing = counted();
    nothing.layers.clear();
    nothing.stats.per_layer.clear();
    vec![
        ("normal", normal),
        ("small", recording()),
        ("counted", counted()),
        ("one token", measured(&trace(1, 1, 1, 1, 0))),
        ("one layer", measured(&trace(30, 1, 8, 2, 1))),
        ("largest", large),
        ("hostile names", names),
        ("many domains and checks", many),
        ("huge", with_numbers(&recording(), f64::MAX)),
        ("negative", with_numbers(&recording(), -3.5)),
        ("zero", with_numbers(&recording(), 0.0)),
        ("tiny", with_numbers(&recording(), 1e-300)),
        ("most", most),
        ("nothing", nothing),
    ]
}
