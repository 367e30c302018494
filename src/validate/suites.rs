//! Published figures of whole systems: files with the measured setting, the figure and its source.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use moecast_planner::algorithms;
use moecast_planner::problem::{Problem, Shape};
use moecast_profiles::seed::Seed;
use moecast_sim::Placement;
use moecast_sim::serving::file::LayoutFile;
use moecast_sim::serving::service::{Limits, Role, RoutingSource, Speculation};
use moecast_sim::serving::steady::{Repeated, Repeats};
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Errors;
use crate::cli::{self, Global};
use crate::deployment::{Deployment, Names};
use crate::output::{Output, Table};
use crate::{facts, files, measured};

/// Suites that ship with moecast: a name for errors, and the file.
const SHIPPED: &[(&str, &str)] = &[("multi-node", include_str!("suites/multi-node.toml"))];
/// Longest suite that is read.
const SUITE_BYTES_MAX: u64 = 1 << 20;

/// Measured figures that belong together.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    name: String,
    about: String,
    figures: Vec<Figure>,
}

/// A measured figure, and the setting that it was measured in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Figure {
    name: String,
    source: String,
    unit: Unit,
    measured: f64,
    model: String,
    gpu: String,
    gpus_per_node: u16,
    engine: String,
    #[serde(default)]
    engine_version: String,
    layout: LayoutFile,
    #[serde(default)]
    speculation: Speculation,
    routing: Routing,
    /// Slots a layer, placed by EPLB.
    slots: u16,
    pass: Pass,
    /// Absolute error that it may not exceed: what it was when somebody last looked.
    error_max: f64,
    /// What the source does not say, or moecast does not do.
    assumed: Vec<String>,
}

#[derive(Clone, Copy, Deserialize)]
enum Unit {
    #[serde(rename = "tokens/s per GPU")]
    PerGpu,
    #[serde(rename = "tokens/s per node")]
    PerNode,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Routing {
    /// Every expert is as likely as the others.
    Even,
    /// Like the model's published statistics.
    Like,
}

/// What every data-parallel rank works on.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pass {
    #[serde(default)]
    requests: u32,
    #[serde(default)]
    context: u32,
    #[serde(default)]
    prompts: u32,
    #[serde(default)]
    prompt_tokens: u32,
}

/// A figure and its prediction.
struct Row {
    suite: String,
    figure: Figure,
    predicted: Result<(f64, Repeats), String>,
}

impl Row {
    fn error(&self) -> Option<f64> {
        let (predicted, _) = self.predicted.as_ref().ok()?;
        Some(predicted / self.figure.measured - 1.0)
    }
}

pub(super) fn run(arguments: &cli::Validate, global: &Global, output: &Output) -> Result<()> {
    let suites = match &arguments.suite {
        Some(path) => vec![read(path)?],
        None => {
            let shipped = SHIPPED.iter();
            shipped.map(|(name, text)| parse(text, name)).collect::<Result<Vec<_>>>()?
        }
    };
    let spinner = output.spinner("validate");
    let mut rows = Vec::new();
    let mut abouts = Vec::new();
    for suite in suites {
        abouts.push(format!("{}: {}", suite.name, suite.about));
        let of_suite = suite.figures.into_par_iter().map(|figure| {
            let predicted = predict(&figure, Seed(global.seed));
            let predicted = predicted.map_err(|error| format!("{error:#}"));
            Row { suite: suite.name.clone(), figure, predicted }
        });
        rows.extend(of_suite.collect::<Vec<_>>());
    }
    spinner.finish_and_clear();
    answer(&rows, &abouts, output)?;
    let worse = rows.iter().filter_map(worsened).collect::<Vec<_>>();
    match worse.first() {
        Some(first) => bail!("{first}; {} of {} figures are worse", worse.len(), rows.len()),
        None => Ok(()),
    }
}

/// What is worse than the suite says it was.
fn worsened(row: &Row) -> Option<String> {
    let error = row.error()?;
    let most = row.figure.error_max;
    (error.abs() > most).then(|| {
        let name = &row.figure.name;
        format!("{name}: off by {:+.1}%; expected at most {:.1}%", error * 100.0, most * 100.0)
    })
}

fn read(path: &Path) -> Result<Suite> {
    let bytes = files::read_small(path, SUITE_BYTES_MAX)?;
    let shown = path.display().to_string();
    let text = String::from_utf8(bytes).with_context(|| format!("{shown}: expected UTF-8"))?;
    parse(&text, &shown)
}

fn parse(text: &str, name: &str) -> Result<Suite> {
    let suite: Suite = toml::from_str(text).with_context(|| format!("{name}: not a suite"))?;
    for figure in &suite.figures {
        let Pass { requests, context, prompts, prompt_tokens } = figure.pass;
        ensure!(
            requests.min(context) > 0 || prompts.min(prompt_tokens) > 0,
            "{name}: {}: pass without tokens; expected requests and context, or prompts and \
             prompt_tokens",
            figure.name
        );
        ensure!(
            figure.measured > 0.0 && figure.measured.is_finite(),
            "{name}: {}: measured {}; expected a number above 0",
            figure.name,
            figure.measured
        );
    }
    Ok(suite)
}

fn predict(figure: &Figure, seed: Seed) -> Result<(f64, Repeats)> {
    let deployment = Deployment::new(Names {
        model: facts::model(&figure.model)?,
        gpu: &figure.gpu,
        gpus_per_node: figure.gpus_per_node,
        engine: &figure.engine,
        version: &figure.engine_version,
        layout: figure.layout.resolve(),
        cost: None,
        profile: None,
    })?;
    let like = match figure.routing {
        Routing::Even => None,
        Routing::Like => facts::likeness(&deployment.model, seed)?,
    };
    let placement = place(figure, &deployment, like.as_deref(), seed)?;
    let routing = like.map_or(RoutingSource::Even, RoutingSource::Mean);
    let pool = deployment.pool(Role::Both, 1, routing, Some(placement), Limits::default());
    let gpus = f64::from(deployment.layout.gpus());
    let service = measured::alone(deployment, pool, figure.speculation, seed)?;
    let Pass { requests, context, prompts, prompt_tokens } = figure.pass;
    let pass = service.repeat(0, &Repeated { requests, context, prompts, prompt_tokens });
    let per_gpu = pass.tokens / (pass.time.0 as f64 * 1e-9) / gpus;
    let predicted = match figure.unit {
        Unit::PerGpu => per_gpu,
        Unit::PerNode => per_gpu * f64::from(figure.gpus_per_node),
    };
    Ok((predicted, pass))
}

/// EPLB over the loads of `like`, or over even ones.
fn place(
    figure: &Figure,
    deployment: &Deployment,
    like: Option<&moecast_traces::RoutingTrace>,
    seed: Seed,
) -> Result<Placement> {
    let model = &deployment.model;
    let shape = Shape {
        ranks: deployment.layout.expert,
        nodes: deployment.hardware.nodes(),
        groups: model.expert_groups,
        slots: figure.slots,
    };
    let problem = match like {
        Some(trace) => Problem::from_trace(trace, shape)?,
        None => {
            let layer = vec![1.0; usize::from(model.experts)];
            Problem::from_weights(&vec![layer; model.moe_layers.len()], shape)?
        }
    };
    Ok((algorithms::find("eplb")?.propose)(&problem, seed)?)
}

fn answer(rows: &[Row], abouts: &[String], output: &Output) -> Result<()> {
    let errors = Errors::of(rows.iter().filter_map(Row::error));
    if output.wants_json() {
        let (done, skipped): (Vec<&Row>, Vec<&Row>) =
            rows.iter().partition(|row| row.predicted.is_ok());
        let skipped: Vec<Value> = skipped.into_iter().map(to_json).collect();
        let rows: Vec<Value> = done.into_iter().map(to_json).collect();
        output.json(&json!({
            "summary": { "throughput": errors }, "rows": rows, "skipped": skipped,
        }))?;
        return Ok(());
    }
    for about in abouts {
        output.note(about)?;
    }
    let mut table = Table::new(&["figure", "measured", "predicted", "error", "pass", "imbalance"]);
    for row in rows {
        let mut cells = vec![row.figure.name.clone(), format!("{:.0}", row.figure.measured)];
        match &row.predicted {
            Ok((predicted, pass)) => cells.extend([
                format!("{predicted:.0}"),
                format!("{:+.1}%", row.error().unwrap_or(0.0) * 100.0),
                format!("{:.1} ms", pass.time.0 as f64 * 1e-6),
                format!("{:.2}", pass.imbalance),
            ]),
            Err(why) => cells.push(format!("skipped: {why}")),
        }
        table.row(cells);
    }
    output.table(&table)?;
    output.note(&format!(
        "\nno constant was fitted; {} figures, median error {:.1}%, within 20%: {:.0}%",
        errors.count,
        errors.median_ape * 100.0,
        errors.within_20 * 100.0
    ))?;
    for row in rows {
        output.note(&format!("note: {}: {}", row.figure.name, row.figure.source))?;
        for assumed in &row.figure.assumed {
            output.note(&format!("      assumed: {assumed}"))?;
        }
    }
    Ok(())
}

fn to_json(row: &Row) -> Value {
    let figure = &row.figure;
    let unit = match figure.unit {
        Unit::PerGpu => "tokens/s per GPU",
        Unit::PerNode => "tokens/s per node",
    };
    let mut json = json!({
        "suite": row.suite, "name": figure.name, "source": figure.source, "unit": unit,
        "measured": figure.measured, "assumed": figure.assumed,
    });
    match &row.predicted {
        Ok((predicted, pass)) => {
            json["predicted"] = json!(predicted);
            json["error"] = json!(row.error());
            json["pass_ms"] = json!(pass.time.0 as f64 * 1e-6);
            json["imbalance"] = json!(pass.imbalance);
        }
        Err(why) => json["reason"] = json!(why),
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_suites_are_sound_and_can_be_run() {
        for (name, text) in SHIPPED {
            let suite = parse(text, name).unwrap();
            assert_eq!(suite.name, *name);
            for figure in &suite.figures {
                let (predicted, pass) = predict(figure, Seed(0)).unwrap();
                let error = (predicted / figure.measured - 1.0).abs();
                let most = figure.error_max;
                // A bound that has become loose hides what gets worse again.
                assert!((most - 0.05..=most).contains(&error), "{}: {error}", figure.name);
                assert!(pass.imbalance >= 1.0, "{}: {}", figure.name, pass.imbalance);
            }
        }
    }

    #[test]
    fn wrong_suites_are_answered_in_a_line() {
        let right = SHIPPED[0].1;
        for (from, to, expected) in [
            ("measured = 57674", "measured = 0", "measured 0; expected a number above 0"),
            ("pass = { prompts = 16, prompt_tokens = 1024 }", "pass = {}", "without tokens"),
        ] {
            let error = parse(&right.replacen(from, to, 1), "own.toml").err().unwrap();
            let said = format!("{error:#}");
            assert!(said.contains(expected) && said.lines().count() == 1, "{said}");
        }
    }
}
