//! How the numbers were made, so that somebody else can make them again.

use moecast_traces::InputDigest;

use super::escape;
use crate::draw::digits;
use crate::{RunFile, StatsFile, StudyFile};

/// A name and what it is called here.
type Fact<'a> = (&'a str, String);

/// The last section of the page of a run.
pub(super) fn of_run(run: &RunFile) -> String {
    let remarks: Vec<&String> = run.remarks.iter().chain(&run.trace.remarks).collect();
    section(facts(run), &remarks, &run.trace.inputs) + &kernels(run)
}

/// How the time of every kernel is known.
fn kernels(run: &RunFile) -> String {
    if run.kernels.is_empty() {
        return String::new();
    }
    let mut html = "<h3>How kernel times are known</h3>\n<div class=\"scroll\" tabindex=\"0\">\n\
                    <table class=\"wide-table left\">\n<thead><tr><th scope=\"col\">kernel</th>\
                    <th scope=\"col\">by</th><th scope=\"col\">how</th>\
                    <th scope=\"col\" class=\"number\">expected error</th></tr></thead>\n\
                    <tbody>\n"
        .to_owned();
    for known in &run.kernels {
        html += &format!(
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"number\">{:.1}%</td></tr>\n",
            escape(&known.kernel),
            escape(&known.by),
            known.source.name(),
            known.error * 100.0
        );
    }
    html += "</tbody>\n</table>\n</div>\n";
    if !run.kernel_flags.is_empty() {
        html += "<details><summary>Remarks on the measurements</summary>\n<ul>\n";
        for flag in &run.kernel_flags {
            html += &format!("<li>{}</li>\n", escape(flag));
        }
        html += "</ul>\n</details>\n";
    }
    html
}

/// The last section of the page of a recording.
pub(super) fn of_recording(file: &StatsFile) -> String {
    let stats = &file.stats;
    let facts = vec![
        ("Model", super::recording::model(file).to_owned()),
        ("MoE layers", layers(&file.layers)),
        ("Experts per layer", experts(usize::from(stats.experts), stats.top_k)),
        ("Recording", recording(&file.source, file.synthetic)),
        ("Tokens", digits::count(stats.tokens)),
        ("Requests", requests(stats.requests)),
        ("Steps", digits::count(stats.steps as u64)),
        ("Made by", format!("moecast {}", file.tool)),
    ];
    section(facts, &file.remarks.iter().collect::<Vec<_>>(), &file.inputs)
}

/// The last section of the page of a study.
pub(super) fn of_study(file: &StudyFile) -> String {
    let mut facts: Vec<Fact> =
        file.common.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    facts.push(("Made by", format!("moecast {}", file.tool)));
    section(facts, &file.remarks.iter().collect::<Vec<_>>(), &[])
}

fn section(facts: Vec<Fact>, remarks: &[&String], inputs: &[InputDigest]) -> String {
    let mut html = "<h2>How this was made</h2>\n<dl>\n".to_owned();
    for (name, value) in facts {
        html += &format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(&value));
    }
    html += "</dl>\n";
    if !remarks.is_empty() {
        html += "<h3>Assumptions and remarks</h3>\n<ul>\n";
        for remark in remarks {
            html += &format!("<li>{}</li>\n", escape(remark));
        }
        html += "</ul>\n";
    }
    if !inputs.is_empty() {
        html += "<h3>Input files of the recording</h3>\n<div class=\"scroll\" tabindex=\"0\">\n\
                 <table class=\"wide-table left\">\n<thead><tr><th scope=\"col\">file</th>\
                 <th scope=\"col\" class=\"number\">bytes</th>\
                 <th scope=\"col\">SHA-256</th></tr></thead>\n<tbody>\n";
        for input in inputs {
            html += &format!(
                "<tr><td>{}</td><td class=\"number\">{}</td><td><code>{}</code></td></tr>\n",
                escape(&input.name),
                digits::count(input.bytes),
                escape(&input.sha256)
            );
        }
        html += "</tbody>\n</table>\n</div>\n";
    }
    html
}

fn layers(layers: &[u16]) -> String {
    match (layers.first(), layers.last()) {
        (Some(first), Some(last)) if first != last => {
            format!("{} (numbers {first} to {last} in the model)", layers.len())
        }
        (Some(only), _) => format!("1 (number {only} in the model)"),
        _ => "0".to_owned(),
    }
}

fn experts(experts: usize, top_k: u16) -> String {
    format!("{experts}, of which a token chooses {top_k}")
}

fn recording(source: &str, synthetic: bool) -> String {
    format!("{source}{}", if synthetic { ", synthetic" } else { "" })
}

fn requests(requests: Option<usize>) -> String {
    requests.map_or("not known".to_owned(), |it| digits::count(it as u64))
}

fn facts(run: &RunFile) -> Vec<Fact<'_>> {
    let trace = &run.trace;
    vec![
        ("Model", run.model.clone()),
        ("MoE layers", layers(&run.layers)),
        ("Experts per layer", experts(run.popularity.first().map_or(0, Vec::len), trace.top_k)),
        ("Cluster", run.cluster.clone()),
        ("Ranks", run.ranks.to_string()),
        ("Engine rule", run.engine.clone()),
        ("Cost model", run.cost.clone()),
        ("Recording", recording(&trace.source, trace.synthetic)),
        ("Simulated part", trace.part.clone()),
        ("Tokens", digits::count(trace.tokens)),
        ("Requests", requests(trace.requests)),
        ("Made by", run.tool.clone()),
    ]
}
