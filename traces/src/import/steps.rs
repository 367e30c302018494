//! Turns dense tables of counts, one `[L, E]` per step, into a trace: keeps the MoE layers, and
//! holds one step.

use super::Input;
use super::shape::{EXPERT_MAX, model_name, span};
use crate::builder::TraceBuilder;
use crate::error::{Error, Result};
use crate::header::Header;

/// The remark of every count recording that was read without a model.
pub(super) const TOP_K_UNKNOWN: &str =
    "top-k is not recorded and no model was named: 1 is assumed, so choices count as tokens";

/// What is known before the first step is read.
pub(super) struct Table<'a> {
    pub(super) importer: &'static str,
    pub(super) input: Input<'a>,
    /// File and tensor that errors name.
    pub(super) path: &'a str,
    pub(super) tensor: &'a str,
    /// Steps, all hidden layers `L`, logical experts `E`.
    pub(super) shape: [usize; 3],
    /// Whether steps without a token at the end are unused rows of the recorder's buffer.
    pub(super) padded: bool,
}

/// Takes the counts `[L, E]` of one step.
pub(super) type Visit<'a> = dyn FnMut(&[u32]) -> Result<()> + 'a;

/// Collects the steps that `each` hands out in order. Where no model tells which layers are
/// dense, they are those without a token in the first step that has any; should a later step
/// contradict that, `each` is called a second time, with the layers then known.
pub(super) fn collect(
    table: &Table<'_>,
    each: &mut dyn FnMut(&mut Visit<'_>) -> Result<()>,
) -> Result<TraceBuilder> {
    let mut pass = Pass::new(table, check_model(table)?);
    each(&mut |counts| pass.step(counts))?;
    if pass.contradicted {
        pass = Pass::new(table, Some(pass.seen));
        each(&mut |counts| pass.step(counts))?;
    }
    pass.finish()
}

/// The layers that the model says hold experts, `[L]`.
fn check_model(table: &Table<'_>) -> Result<Option<Vec<bool>>> {
    let [_, layers, experts] = table.shape;
    let refuse = |found: String, expected: String| {
        let place = format!("tensor `{}`", table.tensor);
        Err(Error::invalid(table.path, place, found, expected))
    };
    if layers == 0 || layers > usize::from(u16::MAX) {
        return refuse(format!("{layers} layers"), "1 to 65535 layers".to_owned());
    }
    if experts == 0 || experts > usize::from(EXPERT_MAX) + 1 {
        let expected = format!("1 to {} experts", usize::from(EXPERT_MAX) + 1);
        return refuse(format!("{experts} experts"), expected);
    }
    let Some(model) = table.input.model else { return Ok(None) };
    if layers != usize::from(model.hidden_layers) {
        let expected = format!("{} layers as {} has", model.hidden_layers, model.name);
        return refuse(format!("{layers} layers"), expected);
    }
    if experts != usize::from(model.experts) {
        let expected = format!("{} experts as {} has", model.experts, model.name);
        return refuse(format!("{experts} experts"), expected);
    }
    Ok(Some((0..model.hidden_layers).map(|layer| model.ordinal(layer).is_some()).collect()))
}

/// One reading of all steps.
struct Pass<'a> {
    table: &'a Table<'a>,
    /// Layers that are kept, `[L]`; unknown until a step holds a token.
    kept: Option<Vec<bool>>,
    /// Layers that held a token in any step, `[L]`.
    seen: Vec<bool>,
    contradicted: bool,
    steps: usize,
    /// Steps without a token since the last one that was pushed.
    pending: usize,
    builder: Option<TraceBuilder>,
}

impl<'a> Pass<'a> {
    fn new(table: &'a Table<'a>, kept: Option<Vec<bool>>) -> Self {
        let seen = vec![false; table.shape[1]];
        Self { table, kept, seen, contradicted: false, steps: 0, pending: 0, builder: None }
    }

    fn step(&mut self, counts: &[u32]) -> Result<()> {
        let experts = self.table.shape[2];
        let used: Vec<bool> = counts
            .chunks_exact(experts)
            .map(|layer| layer.iter().fold(0, |all, &count| all | count) != 0)
            .collect();
        self.steps += 1;
        if !used.contains(&true) {
            self.pending += 1;
            return Ok(());
        }
        for (seen, &used) in self.seen.iter_mut().zip(&used) {
            *seen |= used;
        }
        let kept = self.kept.get_or_insert_with(|| used.clone());
        if let Some(layer) = (0..used.len()).find(|&layer| used[layer] && !kept[layer]) {
            return self.contradict(layer);
        }
        if self.contradicted {
            return Ok(());
        }
        let builder = self.builder.get_or_insert_with(|| open(self.table, kept));
        push_empty(builder, std::mem::take(&mut self.pending));
        for (layer, _) in kept.iter().enumerate().filter(|(_, kept)| **kept) {
            builder.push_counts(&counts[layer * experts..(layer + 1) * experts]);
        }
        Ok(())
    }

    /// A layer that was taken for dense holds tokens.
    fn contradict(&mut self, layer: usize) -> Result<()> {
        let Some(model) = self.table.input.model else {
            self.contradicted = true;
            self.builder = None;
            return Ok(());
        };
        let place =
            format!("tensor `{}`, step {}, layer {layer}", self.table.tensor, self.steps - 1);
        let layers = span(&model.moe_layers);
        let expected = format!("tokens in the MoE layers of {} only: {layers}", model.name);
        Err(Error::invalid(self.table.path, place, "tokens in a dense layer", expected))
    }

    fn finish(self) -> Result<TraceBuilder> {
        let Self { table, seen, pending, builder, .. } = self;
        let Some(mut builder) = builder else {
            let place = format!("tensor `{}`", table.tensor);
            return Err(Error::invalid(table.path, place, "no token", "a count above 0"));
        };
        let mut remarks = Vec::new();
        if pending > 0 && table.padded {
            remarks.push(format!(
                "{pending} steps at the end hold no token (unused rows of the recorder's buffer) \
                 and are left out"
            ));
        } else {
            push_empty(&mut builder, pending);
        }
        if table.input.model.is_none() {
            let dense: Vec<u16> = (0..).zip(&seen).filter(|(_, s)| !**s).map(|(l, _)| l).collect();
            if !dense.is_empty() {
                remarks.push(format!(
                    "layers without a token are taken for dense and left out: {}",
                    span(&dense)
                ));
            }
            remarks.push(TOP_K_UNKNOWN.to_owned());
        }
        builder.header_mut().remarks.extend(remarks);
        Ok(builder)
    }
}

fn push_empty(builder: &mut TraceBuilder, steps: usize) {
    let header = builder.header_mut();
    let empty = vec![0; header.moe_layers() * usize::from(header.experts)];
    for _ in 0..steps {
        builder.push_counts(&empty);
    }
}

fn open(table: &Table<'_>, kept: &[bool]) -> TraceBuilder {
    let [steps, _, experts] = table.shape;
    let layers = (0..).zip(kept).filter(|(_, kept)| **kept).map(|(layer, _)| layer).collect();
    let experts = u16::try_from(experts).expect("checked with the model");
    let top_k = table.input.model.map_or(1, |model| model.top_k);
    let header = Header::new(table.importer, model_name(table.input.model), experts, top_k, layers);
    let mut builder = table.input.builder(header);
    builder.reserve_counts(steps);
    builder
}
