//! `moecast trace synth`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use moecast_profiles::seed::Seed;
use moecast_traces::synth::check::checks;
use moecast_traces::synth::fit::{EVALUATIONS_MAX, Fit, fit};
use moecast_traces::synth::{self, Amount, Recipe, Shape, presets};
use moecast_traces::{Spill, TraceBuilder, format};
use serde_json::json;

use super::{checked, describe};
use crate::cli::Global;
use crate::cli::trace::Synth;
use crate::output::{Measure, Output, Table};
use crate::{facts, files};

/// Largest recipe that is read: a thousand layers of recorded loads.
const RECIPE_BYTES_MAX: u64 = 64 << 20;

/// What to make, and where that is from.
struct Task {
    shape: Shape,
    recipe: Recipe,
    /// The preset, if none of its knobs was changed.
    like: Option<String>,
    fit: Option<Fit>,
}

pub(crate) fn run(arguments: &Synth, global: &Global, output: &Output) -> Result<()> {
    let inputs = || arguments.fit.iter().chain(&arguments.recipe);
    for path in arguments.output.iter().chain(&arguments.save) {
        files::apart(path, inputs())?;
    }
    ensure!(
        arguments.output.is_none() || arguments.output != arguments.save,
        "trace synth: --save and --output are one file; expected two"
    );
    let task = resolve(arguments, output)?;
    if let Some(path) = &arguments.save {
        files::write_bytes(path, toml::to_string(&task.recipe)?.as_bytes())?;
    }
    let mut answer = json!({ "recipe": task.recipe, "fit": task.fit });
    answer["files"] = json!({ "recipe": arguments.save, "trace": arguments.output });
    let (mut lines, mut found) = (Vec::new(), Vec::new());
    if let Some(path) = &arguments.output {
        make(arguments, &task, path, Seed(global.seed), output)?;
        let trace = format::read(path)?;
        found = checks(&trace);
        answer["checks"] = json!(found);
        answer["tokens"] = json!(trace.token_count());
        answer["requests"] = json!(trace.request_count());
        answer["steps"] = json!(trace.steps().len());
        lines.push(format!("{}: {}", path.display(), describe(&trace)));
    }
    if output.json(&answer)? {
        return Ok(());
    }
    lines.iter().try_for_each(|line| output.line(line))?;
    if let Some(fit) = &task.fit {
        output
            .note(&format!("\nfitted in {} trials, on other random numbers:", fit.evaluations))?;
        output.table(&fit_table(fit))?;
    }
    if let Some(path) = &arguments.save {
        output.line(&format!("{}: the recipe", path.display()))?;
    }
    checked::print(&found, output)?;
    Ok(())
}

fn resolve(arguments: &Synth, output: &Output) -> Result<Task> {
    let mut task = if let Some(path) = &arguments.fit {
        let trace = format::read(path)?;
        let bar = output.progress("fit", EVALUATIONS_MAX.into(), Measure::Count);
        let found = fit(&trace, &path.display().to_string(), &|tried| bar.set_position(tried));
        bar.finish_and_clear();
        let found = found?;
        let (shape, recipe) = (Shape::from(trace.header()), found.recipe.clone());
        Task { shape, recipe, like: None, fit: Some(found) }
    } else if let Some(path) = &arguments.recipe {
        let name = arguments.model.as_deref().expect("required without a preset");
        let shape = Shape::from(&facts::model(name)?);
        Task { shape, recipe: read_recipe(path)?, like: None, fit: None }
    } else {
        let name = arguments.like.as_deref().expect("required without fit and recipe");
        let recipe = presets::read(name)?.recipe;
        Task { shape: presets::shape(name)?, recipe, like: Some(name.to_owned()), fit: None }
    };
    if let (Some(name), None) = (&arguments.model, &arguments.recipe) {
        task.shape = Shape::from(&facts::model(name)?);
        task.like = None;
    }
    for setting in &arguments.set {
        task.recipe.set_text(setting)?;
        task.like = None;
    }
    Ok(task)
}

fn read_recipe(path: &Path) -> Result<Recipe> {
    let shown = path.display();
    let bytes = files::read_small(path, RECIPE_BYTES_MAX)?;
    let text = String::from_utf8(bytes)
        .with_context(|| format!("{shown}: not UTF-8; expected a recipe"))?;
    let recipe: Recipe = toml::from_str(&text).with_context(|| shown.to_string())?;
    recipe.check(&shown.to_string())?;
    Ok(recipe)
}

fn make(arguments: &Synth, task: &Task, path: &Path, seed: Seed, output: &Output) -> Result<()> {
    let Synth { requests, tokens, batch, .. } = *arguments;
    let generated = arguments.generated.unwrap_or(tokens / 4);
    let amount = Amount { requests, tokens, generated, batch };
    let header = synth::header(&task.shape, &task.recipe, task.like.as_deref(), seed);
    let spill = Spill::to(&files::existing_folder(path));
    let mut builder = TraceBuilder::spilling(header, Some(&spill));
    let bar = output.progress("synth", requests.into(), Measure::Count);
    let done = |requests| bar.set_position(requests);
    synth::generate(&mut builder, &task.recipe, amount, seed, &done)?;
    bar.finish_and_clear();
    let shown = path.display().to_string();
    files::write(path, |file| {
        builder.write_to(&shown, file)?;
        Ok(())
    })
}

fn fit_table(fit: &Fit) -> Table {
    let mut table = Table::new(&["statistic", "recorded", "synthetic"]);
    for row in &fit.rows {
        let fitted = row.fitted.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        table.row([row.name.clone(), format!("{:.3}", row.recorded), fitted]);
    }
    table
}
