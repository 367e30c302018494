//! A recording cut into events, one after the other; nothing of it is held but the current one.

use moecast_traces::{NO_EXPERT, Phase};
use moecast_traces::{RoutingTrace, TokenColumns};

use super::Granularity;
use crate::cache::Item;

/// What the router said for the tokens of one event in one layer.
#[derive(Default)]
pub(super) struct Said {
    /// The pool's layer.
    pub(super) layer: u16,
    pub(super) tokens: u32,
    pub(super) experts: Vec<u16>,
    pub(super) counts: Vec<u32>,
    pub(super) weights: Vec<f32>,
}

/// One event.
pub(super) struct Event<'a> {
    /// Number of the pool that is asked.
    pub(super) pool: usize,
    /// Index of the step in the recording.
    pub(super) step: usize,
    /// The layer, where the event is of one.
    pub(super) layer: usize,
    /// The same, as the pool counts.
    pub(super) pool_layer: u16,
    /// Items in token-major order, with repeats.
    pub(super) picks: &'a [Item],
    /// Each once.
    pub(super) distinct: &'a [Item],
    /// Whether its first token is a generated one.
    pub(super) all_decode: bool,
    /// `[items of the pool]` whether the token that picked it first was a generated one; holds for
    /// those of the event.
    pub(super) decodes: &'a [bool],
    /// By layer; empty where nobody listens.
    pub(super) routed: &'a [Said],
}

/// Walks over a recording, again and again if need be.
pub(super) struct Walk<'a> {
    trace: &'a RoutingTrace,
    columns: &'a TokenColumns,
    granularity: Granularity,
    global: bool,
    layers: usize,
    experts: usize,
    width: usize,
    picks: Vec<Item>,
    distinct: Vec<Item>,
    decodes: Vec<bool>,
    /// `[items]` number of the last event that had it, and its place among the distinct ones.
    seen: Vec<(u64, u32)>,
    event: u64,
    said: Vec<Said>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(trace: &'a RoutingTrace, granularity: Granularity, global: bool) -> Self {
        let header = trace.header();
        let (layers, experts) = (header.moe_layers(), usize::from(header.experts));
        let items = if global { layers * experts } else { experts };
        Self {
            trace,
            columns: trace.tokens().expect("a replay is of tokens"),
            granularity,
            global,
            layers,
            experts,
            width: header.top_k.into(),
            picks: Vec::new(),
            distinct: Vec::new(),
            decodes: vec![false; items],
            seen: vec![(0, 0); items],
            event: 0,
            said: Vec::new(),
        }
    }

    /// Calls `visit` with every event that picks anybody. What routers said is prepared where
    /// `listens`.
    pub(super) fn each(&mut self, listens: bool, mut visit: impl FnMut(&Event<'_>)) {
        for (step, span) in self.trace.steps().iter().enumerate() {
            match self.granularity {
                Granularity::Layer => {
                    for layer in 0..self.layers {
                        self.begin();
                        self.add(span.rows.clone(), layer, listens);
                        self.end(step, layer, &mut visit);
                    }
                }
                Granularity::Token if self.global => {
                    for row in span.rows.clone() {
                        self.begin();
                        for layer in 0..self.layers {
                            self.add(row..row + 1, layer, listens);
                        }
                        self.end(step, 0, &mut visit);
                    }
                }
                // A token asks every pool of a layer once; single picks are passed on by layer.
                Granularity::Token | Granularity::Access => {
                    for row in span.rows.clone() {
                        for layer in 0..self.layers {
                            self.begin();
                            self.add(row..row + 1, layer, listens);
                            self.end(step, layer, &mut visit);
                        }
                    }
                }
            }
        }
    }

    #[inline]
    fn begin(&mut self) {
        self.picks.clear();
        self.distinct.clear();
        self.said.clear();
        self.event += 1;
    }

    #[inline]
    fn cells(&self, row: usize, layer: usize) -> std::ops::Range<usize> {
        let start = (row * self.layers + layer) * self.width;
        start..start + self.width
    }

    #[inline]
    fn first_item(&self, layer: usize) -> Item {
        if self.global { (layer * self.experts) as Item } else { 0 }
    }

    #[inline]
    fn is_decode(&self, row: usize) -> bool {
        self.columns.phase[row] == Phase::Decode.code()
    }

    /// The picks of tokens `rows` in one layer.
    fn add(&mut self, rows: std::ops::Range<usize>, layer: usize, listens: bool) {
        let first = self.first_item(layer);
        let before = self.distinct.len();
        let mut said =
            Said { layer: if self.global { layer as u16 } else { 0 }, ..Said::default() };
        for row in rows {
            let decode = self.is_decode(row);
            let cells = self.cells(row, layer);
            let tokens = said.tokens;
            for cell in cells {
                let id = self.columns.experts[cell];
                if id == NO_EXPERT {
                    continue;
                }
                said.tokens = tokens + 1;
                let item = first + Item::from(id);
                self.picks.push(item);
                let seen = &mut self.seen[item as usize];
                if seen.0 != self.event {
                    *seen = (self.event, (self.distinct.len() - before) as u32);
                    self.distinct.push(item);
                    self.decodes[item as usize] = decode;
                    if listens {
                        said.experts.push(id);
                        said.counts.push(0);
                        said.weights.push(0.0);
                    }
                }
                if listens {
                    let place = self.seen[item as usize].1 as usize;
                    said.counts[place] += 1;
                    said.weights[place] += match &self.columns.weights {
                        Some(weights) => weights[cell].to_f32(),
                        None => 1.0 / self.width as f32,
                    };
                }
            }
        }
        if listens && !said.experts.is_empty() {
            self.said.push(said);
        }
    }

    #[inline]
    fn end(&mut self, step: usize, layer: usize, visit: &mut impl FnMut(&Event<'_>)) {
        let Some(&first) = self.picks.first() else { return };
        visit(&Event {
            pool: if self.global { 0 } else { layer },
            step,
            layer,
            pool_layer: if self.global { layer as u16 } else { 0 },
            picks: &self.picks,
            distinct: &self.distinct,
            all_decode: self.decodes[first as usize],
            decodes: &self.decodes,
            routed: &self.said,
        });
    }
}
