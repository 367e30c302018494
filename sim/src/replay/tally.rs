//! What a replay found.

use moecast_traces::RoutingTrace;

/// Look-ups, and how many of them found their expert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All.
    pub look_ups: u64,
    /// Those that found it.
    pub hits: u64,
}

impl Tally {
    /// Those that did not.
    #[must_use]
    pub fn misses(self) -> u64 {
        self.look_ups - self.hits
    }

    /// Hits by look-ups; `None` where nothing was looked up.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub fn hit_rate(self) -> Option<f64> {
        (self.look_ups > 0).then(|| self.hits as f64 / self.look_ups as f64)
    }

    #[inline]
    fn add(&mut self, other: Self) {
        self.look_ups += other.look_ups;
        self.hits += other.hits;
    }
}

/// Some steps that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Number of the first, as recorded.
    pub first_step: u32,
    /// How many.
    pub steps: usize,
    /// What was looked up in them.
    pub tally: Tally,
    /// Bytes that their misses moved, where sizes are known.
    pub bytes_moved: Option<u64>,
}

/// What a replay of one policy with one capacity found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Everything.
    pub total: Tally,
    /// What prompts looked up.
    pub prefill: Tally,
    /// What generated tokens looked up.
    pub decode: Tally,
    /// `[layers]`
    pub per_layer: Vec<Tally>,
    /// Steps in their order, in windows of equal length; the last may be shorter.
    pub over_time: Vec<Window>,
    /// Bytes that all misses moved, where sizes are known.
    pub bytes_moved: Option<u64>,
    /// `[layers]` sizes, or none.
    sizes: Vec<u64>,
    /// Steps of a window.
    window: usize,
}

impl Outcome {
    pub(super) fn new(trace: &RoutingTrace, sizes: &[u64], windows: usize) -> Self {
        let steps = trace.steps();
        let window = steps.len().div_ceil(windows).max(1);
        let bytes_moved = (!sizes.is_empty()).then_some(0);
        let over_time = steps.chunks(window).map(|steps| Window {
            first_step: steps[0].step,
            steps: steps.len(),
            tally: Tally::default(),
            bytes_moved,
        });
        Self {
            total: Tally::default(),
            prefill: Tally::default(),
            decode: Tally::default(),
            per_layer: vec![Tally::default(); trace.header().moe_layers()],
            over_time: over_time.collect(),
            bytes_moved,
            sizes: sizes.to_vec(),
            window,
        }
    }

    /// Whether two steps are in one window of time.
    pub(super) fn same_window(&self, step: usize, other: usize) -> bool {
        step / self.window == other / self.window
    }

    #[inline]
    pub(super) fn add(&mut self, step: usize, layer: usize, decode: bool, tally: Tally) {
        self.total.add(tally);
        if decode { &mut self.decode } else { &mut self.prefill }.add(tally);
        self.per_layer[layer].add(tally);
        let window = &mut self.over_time[step / self.window];
        window.tally.add(tally);
        if let Some(&size) = self.sizes.get(layer) {
            let bytes = tally.misses() * size;
            for sum in [&mut window.bytes_moved, &mut self.bytes_moved].into_iter().flatten() {
                *sum += bytes;
            }
        }
    }
}
