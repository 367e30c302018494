//! Runs for tests, and a strict reader of markup.

mod recordings;
mod studies;

use moecast_sim::Summary;
use moecast_sim::record::{ByteMeans, PartMeans, TimeStats};
use moecast_traces::InputDigest;

use crate::{Candidate, RUN_VERSION, RunFile, TraceFacts};

pub(crate) use recordings::{counted, every_recording, recording};
pub(crate) use studies::{every_study, study};

/// Two layers, two ranks, three experts: everything can be checked by hand.
pub(crate) fn small() -> RunFile {
    let candidate = |name: &str, slots, parts: PartMeans, rank_load: [[u64; 2]; 2], first| {
        let mean = parts.attention + parts.dense + parts.dispatch + parts.experts + parts.combine;
        let summary = Summary {
            steps: 1,
            tokens: 10,
            step_time_us: TimeStats { mean, mean_ci95: None, p50: mean, p90: mean, p99: mean },
            parts_us: parts,
            imbalance: (first + 1.0) / 2.0,
            imbalance_per_layer: vec![first, 1.0],
            rank_load: rank_load.map(|row| row.to_vec()).to_vec(),
            rank_utilisation: vec![0.75, 0.5],
            bytes_per_step: ByteMeans { local: 1e3, domain: 2.5e3, network: 0.0 },
            tokens_per_second: 10.0 / mean * 1e6,
        };
        Candidate { name: name.to_owned(), slots, wasted_slots: 0, summary }
    };
    let slow =
        PartMeans { attention: 10.0, dense: 2.0, dispatch: 3.0, experts: 20.0, combine: 5.0 };
    let fast = PartMeans { experts: 12.0, dispatch: 2.0, combine: 4.0, ..slow };
    RunFile {
        version: RUN_VERSION,
        tool: "moecast 0.1.0".to_owned(),
        model: "toy".to_owned(),
        cluster: "desk:1x2".to_owned(),
        ranks: 2,
        engine: "vllm".to_owned(),
        cost: "roofline".to_owned(),
        kernels: Vec::new(),
        kernel_flags: Vec::new(),
        trace: TraceFacts {
            source: "toy-recorder".to_owned(),
            synthetic: false,
            tokens: 10,
            requests: Some(4),
            top_k: 1,
            part: "heldout".to_owned(),
            inputs: vec![InputDigest {
                name: "toy.json".to_owned(),
                bytes: 12_345,
                sha256: "00ff".to_owned(),
            }],
            remarks: vec!["One request was empty.".to_owned()],
        },
        layers: vec![3, 4],
        popularity: vec![vec![6, 3, 1], vec![5, 5, 0]],
        imbalance_bound: 1.0,
        candidates: vec![
            candidate("linear", 4, slow, [[9, 1], [5, 5]], 1.8),
            candidate("plan", 4, fast, [[6, 4], [5, 5]], 1.2),
        ],
        remarks: vec!["Costs are assumed.".to_owned()],
    }
}

/// A run of some size; the load is uneven in a way that repeats itself.
pub(crate) fn sized(names: &[&str], layers: u16, ranks: u16, experts: usize) -> RunFile {
    let mut run = small();
    run.ranks = ranks;
    run.layers = (3..3 + layers).collect();
    let uneven = |a: usize, b: usize| 100 + (a * 7_919 + b * 104_729) as u64 % 997;
    run.popularity = (0..usize::from(layers))
        .map(|layer| (0..experts).map(|expert| uneven(layer, expert)).collect())
        .collect();
    let summary = run.candidates[0].summary.clone();
    run.candidates = names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let mut summary = summary.clone();
            let softened = |load: u64| 500 + load / (index as u64 + 1);
            summary.rank_load = (0..usize::from(layers))
                .map(|layer| (0..usize::from(ranks)).map(|r| softened(uneven(layer, r))).collect())
                .collect();
            summary.imbalance_per_layer =
                (0..layers).map(|layer| 1.1 + f64::from(layer % 5) / 4.0).collect();
            summary.rank_utilisation =
                (0..ranks).map(|rank| 0.4 + f64::from(rank % 7) / 20.0).collect();
            Candidate { name: (*name).to_owned(), slots: 300, wasted_slots: index, summary }
        })
        .collect();
    run
}

fn with_numbers(mut run: RunFile, number: f64) -> RunFile {
    run.imbalance_bound = number;
    for it in &mut run.candidates {
        let summary = &mut it.summary;
        summary.imbalance = number;
        summary.tokens_per_second = number;
        summary.imbalance_per_layer.fill(number);
        summary.rank_utilisation.fill(number);
        let mean_ci95 = Some(number);
        summary.step_time_us =
            TimeStats { mean: number, mean_ci95, p50: number, p90: number, p99: number };
        summary.bytes_per_step = ByteMeans { local: number, domain: number, network: number };
        summary.parts_us = PartMeans {
            attention: number,
            dense: number,
            dispatch: number,
            experts: number,
            combine: number,
        };
    }
    run
}

/// Runs of every shape, each with what is special about it.
pub(crate) fn every_shape() -> Vec<(&'static str, RunFile)> {
    let three = ["linear", "eplb", "plan"];
    let mut zero = sized(&three, 4, 4, 8);
    for it in &mut zero.candidates {
        it.summary.rank_load.iter_mut().for_each(|row| row.fill(0));
    }
    zero.popularity.iter_mut().for_each(|row| row.fill(0));
    let mut most = sized(&three, 4, 4, 8);
    most.popularity.iter_mut().for_each(|row| row.fill(u64::MAX));
    for it in &mut most.candidates {
        it.summary.rank_load.iter_mut().for_each(|row| row.fill(u64::MAX));
    }
    let long = "a name that goes on and on and on, well beyond what any figure has room for";
    let mut long_names = sized(&[long, "\u{202e}<&>\"'\u{1}", "", long], 6, 8, 16);
    long_names.model = long.repeat(3);
    let mut unequal = sized(&three, 4, 4, 8);
    unequal.candidates[1].summary = Summary::default();
    unequal.layers = vec![9, 2, 65_535, 2];
    let mut no_layers = sized(&three, 0, 4, 8);
    no_layers.ranks = 0;
    vec![
        ("normal", sized(&three, 58, 32, 256)),
        ("small", small()),
        ("one candidate", sized(&["linear"], 8, 8, 16)),
        ("one layer", sized(&three, 1, 8, 16)),
        ("one rank", sized(&three, 8, 1, 16)),
        ("one of everything", sized(&["linear"], 1, 1, 1)),
        ("no candidate", sized(&[], 8, 8, 16)),
        ("no layers and no ranks", no_layers),
        ("no load", with_numbers(zero, 0.0)),
        ("largest", sized(&three, 94, 144, 512)),
        ("seven candidates", sized(&["a", "b", "c", "d", "e", "f", "g"], 12, 8, 64)),
        ("not a number", with_numbers(sized(&three, 4, 4, 8), f64::NAN)),
        ("infinite", with_numbers(sized(&three, 4, 4, 8), f64::INFINITY)),
        ("huge", with_numbers(most, f64::MAX)),
        ("negative", with_numbers(sized(&three, 4, 4, 8), -3.5)),
        ("tiny", with_numbers(sized(&three, 4, 4, 8), 1e-300)),
        ("hostile names", long_names),
        ("shapes that disagree", unequal),
    ]
}

/// Reads markup as strictly as an XML parser: tags nest, attributes are quoted, text holds no
/// bare `<` or `&`. Returns the names of the elements.
pub(crate) fn elements(markup: &str) -> Vec<String> {
    let mut open: Vec<&str> = Vec::new();
    let mut names = Vec::new();
    let mut rest = markup.strip_prefix("<!doctype html>").unwrap_or(markup);
    while let Some(at) = rest.find('<') {
        check_text(&rest[..at]);
        let end = rest[at..].find('>').expect("a tag ends") + at;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed what was not open");
            continue;
        }
        let empty = tag.ends_with('/');
        let tag = tag.trim_end_matches('/');
        let name = tag.split([' ', '\n']).next().expect("a tag has a name");
        check_attributes(&tag[name.len()..]);
        names.push(name.to_owned());
        if !empty && name != "meta" {
            open.push(name);
        }
    }
    check_text(rest);
    assert!(open.is_empty(), "left open: {open:?}");
    names
}

fn check_text(text: &str) {
    for (at, _) in text.match_indices('&') {
        let name: String = text[at + 1..].chars().take_while(|&c| c != ';').collect();
        assert!(["amp", "lt", "gt", "quot", "apos", "#39"].contains(&name.as_str()), "&{name}");
    }
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "control character: {text:?}");
}

fn check_attributes(attributes: &str) {
    let mut rest = attributes.trim_start();
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").expect("a quoted value");
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{name:?}");
        let (value, after) = value.split_once('"').expect("a closing quote");
        check_text(value);
        rest = after.trim_start();
    }
}
