//! The `#` lines and the column line of a route trace: facts that its rows cannot carry.

use super::super::text::{Lines, Row, line_error, short};
use crate::error::{Error, Result};

const VERSION: &str = "# route_trace v1";
const RUN_KEYS: &str = "# model=... arch=... n_layer=... n_expert=... n_expert_used=...";

/// Columns that tell how the recording device cached experts: known, and not kept.
const CACHE_COLUMNS: [&str; 2] = ["residency", "expert_bytes"];

/// What the file says about its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Preamble {
    /// File name of the model without its folder, or the architecture.
    pub(super) model: String,
    /// All layers of the model.
    pub(super) hidden_layers: u16,
    pub(super) experts: u16,
    pub(super) top_k: u16,
    /// Layers that hold experts.
    pub(super) layers: Vec<u16>,
    /// Bytes of one expert of each of them; empty where the file does not say.
    pub(super) expert_bytes: Vec<u64>,
}

/// Where the columns stand: newer versions of the engine append some.
pub(super) struct Columns {
    pub(super) turn: usize,
    pub(super) phase: usize,
    pub(super) step: usize,
    pub(super) layer: usize,
    pub(super) slot: usize,
    pub(super) expert: usize,
    pub(super) weight: Option<usize>,
    pub(super) dropped: Option<usize>,
    pub(super) count: usize,
    /// Columns that a trace has no place for.
    pub(super) ignored: Vec<String>,
}

/// Reads up to and with the column line.
pub(super) fn read(path: &str, lines: &mut Lines<'_>) -> Result<(Preamble, Columns)> {
    expect_version(path, lines)?;
    let mut preamble = match lines.next()? {
        Some((number, line)) => run_facts(Row { path, number }, line)?,
        None => return Err(ended(path, RUN_KEYS)),
    };
    let mut expert_bytes = Vec::new();
    while let Some((number, line)) = lines.next()? {
        let row = Row { path, number };
        let Some(line) = line.strip_prefix('#') else {
            preamble.layers = moe_layers(row, preamble.hidden_layers, &expert_bytes)?;
            let sizes = expert_bytes.iter().map(|&(_, bytes)| bytes);
            preamble.expert_bytes = sizes.filter(|&bytes| bytes > 0).collect();
            return Ok((preamble, columns(row, line)?));
        };
        expert_bytes.push(layer_facts(row, line)?);
    }
    Err(ended(path, "the line of column names"))
}

fn ended(path: &str, expected: &str) -> Error {
    Error::invalid(path, "preamble", "the end of the file", expected)
}

fn expect_version(path: &str, lines: &mut Lines<'_>) -> Result<()> {
    match lines.next()? {
        Some((_, line)) if line == VERSION => Ok(()),
        Some((number, line)) => {
            Err(line_error(path, number, format!("`{}`", short(line)), format!("`{VERSION}`")))
        }
        None => Err(ended(path, VERSION)),
    }
}

/// `# model=<path> arch=<a> n_layer=<n> n_expert=<n> n_expert_used=<n>`; a path may hold spaces.
fn run_facts(row: Row<'_>, line: &str) -> Result<Preamble> {
    let wrong = || line_error(row.path, row.number, format!("`{}`", short(line)), RUN_KEYS);
    let rest = line.strip_prefix("# model=").ok_or_else(wrong)?;
    let (model, rest) = rest.rsplit_once(" arch=").ok_or_else(wrong)?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let &[arch, hidden_layers, experts, top_k] = fields.as_slice() else { return Err(wrong()) };
    let number = |text: &str, key: &str| {
        let value = text.strip_prefix(key).and_then(|text| text.strip_prefix('='));
        row.number::<u16>(key, value.ok_or_else(wrong)?, "an integer from 0 to 65535")
    };
    let file = model.rsplit(['/', '\\']).next().unwrap_or_default();
    let preamble = Preamble {
        model: if file.is_empty() { arch } else { file }.to_owned(),
        hidden_layers: number(hidden_layers, "n_layer")?,
        experts: number(experts, "n_expert")?,
        top_k: number(top_k, "n_expert_used")?,
        layers: Vec::new(),
        expert_bytes: Vec::new(),
    };
    if preamble.top_k == 0 || preamble.top_k > preamble.experts || preamble.experts == u16::MAX {
        let found = format!("n_expert={} n_expert_used={}", preamble.experts, preamble.top_k);
        return Err(line_error(row.path, row.number, found, "1 <= n_expert_used <= n_expert"));
    }
    Ok(preamble)
}

/// `# layer=<n> expert_bytes=<n> dense_bytes=<n>`: the layer and the bytes of one expert.
fn layer_facts(row: Row<'_>, line: &str) -> Result<(u16, u64)> {
    let (mut layer, mut bytes) = (None, None);
    for field in line.split_ascii_whitespace() {
        match field.split_once('=') {
            Some(("layer", text)) => layer = Some(row.number("layer", text, "a layer number")?),
            Some(("expert_bytes", text)) => {
                bytes = Some(row.number("expert_bytes", text, "a number of bytes")?);
            }
            Some(("dense_bytes", text)) => {
                row.number::<u64>("dense_bytes", text, "a number of bytes")?;
            }
            _ => break,
        }
    }
    layer.zip(bytes).ok_or_else(|| {
        let expected = "# layer=... expert_bytes=... dense_bytes=...";
        line_error(row.path, row.number, format!("`#{}`", short(line)), expected)
    })
}

/// The layers whose experts have weights; all of them where the file does not say.
fn moe_layers(row: Row<'_>, hidden_layers: u16, facts: &[(u16, u64)]) -> Result<Vec<u16>> {
    if facts.is_empty() {
        return Ok((0..hidden_layers).collect());
    }
    let numbers = facts.iter().map(|&(layer, _)| layer);
    if !numbers.eq(0..hidden_layers) {
        let found = format!("{} `# layer=` lines above", facts.len());
        let expected = format!("one for each of {hidden_layers} layers, in order");
        return Err(line_error(row.path, row.number, found, expected));
    }
    Ok(facts.iter().filter(|(_, bytes)| *bytes > 0).map(|&(layer, _)| layer).collect())
}

fn columns(row: Row<'_>, line: &str) -> Result<Columns> {
    let names: Vec<&str> = line.split(',').collect();
    let find = |name: &str| names.iter().position(|&found| found == name);
    let require = |name: &str| {
        find(name).ok_or_else(|| {
            let found = format!("columns `{}`", short(line));
            line_error(row.path, row.number, found, format!("a column `{name}`"))
        })
    };
    let known = ["turn", "phase", "step", "layer", "slot", "expert", "weight", "dropped"];
    if let Some(twice) = (1..names.len()).find(|&at| names[..at].contains(&names[at])) {
        let found = format!("column `{}` twice", short(names[twice]));
        return Err(line_error(row.path, row.number, found, "each column once"));
    }
    let mut ignored: Vec<String> =
        names.iter().filter(|name| !known.contains(name)).map(|name| short(name)).collect();
    ignored.sort_by_key(|name| !CACHE_COLUMNS.contains(&name.as_str()));
    Ok(Columns {
        turn: require("turn")?,
        phase: require("phase")?,
        step: require("step")?,
        layer: require("layer")?,
        slot: require("slot")?,
        expert: require("expert")?,
        weight: find("weight"),
        dropped: find("dropped"),
        count: names.len(),
        ignored,
    })
}
