//! A study as it stands in a TOML file, and the points that it means.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use moecast_sim::serving::ServiceFile;
use serde::Deserialize;
use toml::{Table, Value};

use super::label;
use crate::keys::{explained, find, flat, read_toml, set};
use crate::serve;

/// Points that one study may have: more are no answer that people can read.
const POINTS_MAX: u64 = 100_000;

/// A study as typed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Typed {
    /// Path of a service file, relative to the study, or the service itself.
    service: Value,
    /// Keys of the service and the values that each takes, every one with every other.
    #[serde(default)]
    grid: Table,
    /// Keys that take their values together: first with first, second with second.
    #[serde(default)]
    linked: Vec<Table>,
    /// Further points: values that replace those of the service.
    #[serde(default)]
    points: Vec<Table>,
    /// Whether what cannot exist becomes a row with the reason instead of ending the study.
    #[serde(default = "yes")]
    skip_impossible: bool,
}

fn yes() -> bool {
    true
}

/// A study that was read: services with the values that tell them apart.
pub(crate) struct Grid {
    /// Keys that differ, in the order of the columns.
    pub(crate) keys: Vec<String>,
    pub(crate) points: Vec<Point>,
    pub(crate) skip_impossible: bool,
}

/// One service of a study.
pub(crate) struct Point {
    pub(crate) file: ServiceFile,
    /// Its value of every key of the study, where it has one.
    pub(crate) values: Vec<Option<Value>>,
}

/// Keys that take their values together.
struct Axis {
    keys: Vec<String>,
    /// `[choice][key]`
    values: Vec<Vec<Value>>,
}

/// Reads the study at `path`. Paths in its services are relative to where each was read.
pub(crate) fn read(path: &Path) -> Result<Grid> {
    let shown = path.display();
    let typed: Typed = read_toml(path)?;
    let service = service(typed.service, path)?;
    let axes = axes(typed.grid, typed.linked).with_context(|| shown.to_string())?;
    let extra: Vec<Vec<(String, Value)>> = typed.points.into_iter().map(flat).collect();
    check_keys(&axes).with_context(|| shown.to_string())?;
    let product = axes.iter().map(|axis| axis.values.len() as u64).fold(1, u64::saturating_mul);
    let product = if axes.is_empty() { 0 } else { product };
    let count = product.saturating_add(extra.len() as u64);
    ensure!(count > 0, "{shown}: no points; expected [grid], [[linked]] or [[points]]");
    ensure!(
        count <= POINTS_MAX,
        "{shown}: {count} points; expected at most {POINTS_MAX}: fewer values in [grid]"
    );
    let mut keys: Vec<String> = axes.iter().flat_map(|axis| axis.keys.clone()).collect();
    for (key, _) in extra.iter().flatten() {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    let chosen = (0..product).map(|number| choice(&axes, number)).chain(extra);
    let points = chosen
        .enumerate()
        .map(|(number, changes)| {
            point(&service, &keys, &changes)
                .with_context(|| format!("{shown}: point {number} ({})", label::all(&changes)))
        })
        .collect::<Result<_>>()?;
    Ok(Grid { keys, points, skip_impossible: typed.skip_impossible })
}

/// The service that all points start from, with paths relative to the study.
fn service(service: Value, study: &Path) -> Result<Table> {
    let name = match service {
        Value::Table(table) => return Ok(table),
        Value::String(name) => name,
        other => bail!(
            "{}: service: {}; expected the path of a service file or a table",
            study.display(),
            other.type_str()
        ),
    };
    let folder = study.parent().unwrap_or(Path::new(""));
    let path = folder.join(&name);
    // Strictly first, so that a wrong key is told with its line.
    let file = serve::read_file(&path)?;
    let inner = path.parent().unwrap_or(Path::new(""));
    if inner == folder {
        return read_toml(&path);
    }
    let moved = serve::moved(&file, inner, folder)?;
    Ok(Table::try_from(moved)?)
}

fn axes(grid: Table, linked: Vec<Table>) -> Result<Vec<Axis>> {
    let mut axes = Vec::new();
    for (key, value) in flat(grid) {
        let values = choices(&format!("grid: {key}"), value)?;
        axes.push(Axis {
            keys: vec![key],
            values: values.into_iter().map(|value| vec![value]).collect(),
        });
    }
    for (number, table) in linked.into_iter().enumerate() {
        let place = format!("linked {number}");
        let mut axis = Axis { keys: Vec::new(), values: Vec::new() };
        for (key, value) in flat(table) {
            let values = choices(&format!("{place}: {key}"), value)?;
            if axis.keys.is_empty() {
                axis.values.resize(values.len(), Vec::new());
            }
            let (found, expected) = (values.len(), axis.values.len());
            ensure!(
                found == expected,
                "{place}: {key}: {found} values; expected {expected}, as for {}",
                axis.keys[0]
            );
            axis.keys.push(key);
            axis.values.iter_mut().zip(values).for_each(|(choice, value)| choice.push(value));
        }
        ensure!(!axis.keys.is_empty(), "{place}: no keys; expected some with lists of values");
        axes.push(axis);
    }
    // The load changes fastest: neighbouring rows are one setting under more and more of it.
    axes.sort_by_key(|axis| axis.keys.iter().all(|key| label::is_of_load(key)));
    Ok(axes)
}

fn choices(place: &str, value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(values) if !values.is_empty() => Ok(values),
        Value::Array(_) => bail!("{place}: no values; expected at least one"),
        other => bail!("{place}: {}; expected a list of values", other.type_str()),
    }
}

/// Refuses two axes that would set the same.
fn check_keys(axes: &[Axis]) -> Result<()> {
    let keys: Vec<&String> = axes.iter().flat_map(|axis| &axis.keys).collect();
    for (index, a) in keys.iter().enumerate() {
        for b in &keys[..index] {
            let inside = |outer: &str, inner: &str| inner.starts_with(&format!("{outer}."));
            let same = a == b || inside(a, b) || inside(b, a);
            ensure!(!same, "{b} and {a}: twice; expected every key to change in one place only");
        }
    }
    Ok(())
}

/// The values of grid point `number`; the last axis changes fastest.
fn choice(axes: &[Axis], mut number: u64) -> Vec<(String, Value)> {
    let mut chosen = Vec::new();
    for axis in axes.iter().rev() {
        let count = axis.values.len() as u64;
        let index = usize::try_from(number % count).expect("below the number of values");
        number /= count;
        let own = axis.keys.iter().cloned().zip(axis.values[index].iter().cloned());
        chosen.splice(0..0, own);
    }
    chosen
}

fn point(service: &Table, keys: &[String], changes: &[(String, Value)]) -> Result<Point> {
    let mut table = service.clone();
    for (key, value) in changes {
        set(&mut table, key, value.clone())?;
    }
    let values = keys.iter().map(|key| find(&table, key).cloned()).collect();
    let file = table.try_into().map_err(|error: toml::de::Error| explained(&error, changes))?;
    Ok(Point { file, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        toml::from_str(text).unwrap()
    }

    fn axes_of(grid: &str, linked: &[&str]) -> Result<Vec<Axis>> {
        axes(table(grid), linked.iter().map(|text| table(text)).collect())
    }

    /// 2 x 2 points; the load changes fastest, linked keys change together.
    #[test]
    fn a_grid_is_every_choice_with_every_other() {
        let grid = "\"load.set.clients\" = [1, 2]";
        let axes = axes_of(grid, &["layout.tensor = [4, 8]\nlayout.expert = [4, 8]"]).unwrap();
        let points: Vec<String> = (0..4).map(|number| label::all(&choice(&axes, number))).collect();
        let expected = [(4, 1), (4, 2), (8, 1), (8, 2)].map(|(ranks, clients)| {
            let layout = format!("layout.expert = {ranks}, layout.tensor = {ranks}");
            format!("{layout}, load.set.clients = {clients}")
        });
        assert_eq!(points, expected);
    }

    #[test]
    fn two_places_for_one_key_are_refused() {
        for (grid, linked) in [
            ("\"layout.tensor\" = [1]", "layout.tensor = [1]"),
            ("layout = [{ tensor = 1 }]", "layout.tensor = [1]"),
        ] {
            let axes = axes_of(grid, &[linked]).unwrap();
            assert!(check_keys(&axes).unwrap_err().to_string().contains("twice"));
        }
        let error = axes_of("", &["gpu = [\"a\", \"b\"]\nreplicas = [1]"]).err().unwrap();
        assert!(error.to_string().contains("1 values; expected 2, as for gpu"), "{error}");
    }
}
