//! How the numbers were made, so that somebody else can make them again.

use super::escape;
use crate::RunFile;
use crate::draw::digits;

/// The last section of the page.
pub(super) fn how_made(run: &RunFile) -> String {
    let mut html = "<h2>How this was made</h2>\n<dl>\n".to_owned();
    for (name, value) in facts(run) {
        html += &format!("<dt>{name}</dt><dd>{}</dd>\n", escape(&value));
    }
    html += "</dl>\n";
    let remarks: Vec<&String> = run.remarks.iter().chain(&run.trace.remarks).collect();
    if !remarks.is_empty() {
        html += "<h3>Assumptions and remarks</h3>\n<ul>\n";
        for remark in remarks {
            html += &format!("<li>{}</li>\n", escape(remark));
        }
        html += "</ul>\n";
    }
    if !run.trace.inputs.is_empty() {
        html += "<h3>Input files of the recording</h3>\n<div class=\"scroll\" tabindex=\"0\">\n\
                 <table class=\"wide-table left\">\n<thead><tr><th scope=\"col\">file</th>\
                 <th scope=\"col\">bytes</th><th scope=\"col\">SHA-256</th></tr></thead>\n\
                 <tbody>\n";
        for input in &run.trace.inputs {
            html += &format!(
                "<tr><td>{}</td><td>{}</td><td><code>{}</code></td></tr>\n",
                escape(&input.name),
                digits::count(input.bytes),
                escape(&input.sha256)
            );
        }
        html += "</tbody>\n</table>\n</div>\n";
    }
    html
}

fn facts(run: &RunFile) -> Vec<(&'static str, String)> {
    let trace = &run.trace;
    let layers = match (run.layers.first(), run.layers.last()) {
        (Some(first), Some(last)) if first != last => {
            format!("{} (numbers {first} to {last} in the model)", run.layers.len())
        }
        (Some(only), _) => format!("1 (number {only} in the model)"),
        _ => "0".to_owned(),
    };
    let experts = run.popularity.first().map_or(0, Vec::len);
    let synthetic = if trace.synthetic { ", synthetic" } else { "" };
    let requests = trace.requests.map_or("not known".to_owned(), |it| digits::count(it as u64));
    vec![
        ("Model", run.model.clone()),
        ("MoE layers", layers),
        ("Experts per layer", format!("{experts}, of which a token chooses {}", trace.top_k)),
        ("Cluster", run.cluster.clone()),
        ("Ranks", run.ranks.to_string()),
        ("Engine rule", run.engine.clone()),
        ("Cost model", run.cost.clone()),
        ("Recording", format!("{}{synthetic}", trace.source)),
        ("Simulated part", trace.part.clone()),
        ("Tokens", digits::count(trace.tokens)),
        ("Requests", requests),
        ("Made by", format!("moecast {}", run.tool)),
    ]
}
