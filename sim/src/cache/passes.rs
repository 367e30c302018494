//! Where a model is in its passes, for policies that know layers and count tokens.

use super::{Item, Routed, Setting};

/// Passes and tokens of one pool.
#[derive(Clone, Debug)]
pub(super) struct Passes {
    layers: usize,
    width: usize,
    /// The layer that was routed last.
    layer: Option<usize>,
    /// Passes that have begun.
    pub(super) pass: u64,
    /// Tokens of the passes that have begun.
    pub(super) tokens: u64,
}

impl Passes {
    pub(super) fn new(setting: &Setting) -> Self {
        let width = setting.experts * setting.versions;
        Self { layers: setting.layers, width, layer: None, pass: 0, tokens: 0 }
    }

    /// Takes note of what the router said; a layer that is not behind the last begins a pass.
    pub(super) fn routed(&mut self, said: &Routed<'_>) {
        let layer = usize::from(said.layer);
        if self.layer.is_none_or(|last| layer <= last) {
            self.pass += 1;
            self.tokens += u64::from(said.tokens);
        }
        self.layer = Some(layer);
    }

    /// The pool's layer of `item`.
    pub(super) fn layer_of(&self, item: Item) -> usize {
        item as usize / self.width
    }

    /// Layers from that of `incoming` until that of `item` is next, in turns.
    pub(super) fn ahead(&self, item: Item, incoming: Item) -> usize {
        (self.layer_of(item) + self.layers - self.layer_of(incoming)) % self.layers
    }

    /// One for an expert of the current layer, falling to nearly zero for the layer just before.
    pub(super) fn nearness(&self, item: Item, incoming: Item) -> f64 {
        1.0 - self.ahead(item, incoming) as f64 / self.layers as f64
    }
}
