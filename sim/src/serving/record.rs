//! What serving leaves behind: facts of requests and passes as they happen, and what is derived
//! from them on the spot, in memory that does not grow with the number of requests.

mod statistic;
mod summary;
#[cfg(test)]
mod tests;
mod timeline;

use moecast_profiles::units::{Nanos, SimTime};

use crate::error::{Error, Result};
use crate::serving::faults::FaultRecord;
use crate::serving::power::PowerModel;

pub use statistic::{Distribution, Statistic};
pub use summary::ServingSummary;
pub use timeline::TimelinePoint;

use timeline::Timeline;

/// Facts of one finished request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// Number of the request in its trace.
    pub id: u64,
    /// The replica that finished it.
    pub replica: u16,
    /// When its client sent it.
    pub arrival: SimTime,
    /// When it reached the engine's scheduler.
    pub reached: SimTime,
    /// Start of the first pass that worked on it.
    pub started: SimTime,
    /// When its first token was there.
    pub first_token: SimTime,
    /// When its last token was there.
    pub finished: SimTime,
    /// Tokens of the prompt.
    pub input_tokens: u32,
    /// Tokens of the answer.
    pub output_tokens: u32,
    /// Tokens of the prompt that were found in the prefix cache.
    pub cached_tokens: u32,
    /// How often it lost its memory and began again.
    pub preemptions: u32,
    /// How often its rank was lost and it went back to the router.
    pub retries: u32,
}

impl RequestRecord {
    /// From arrival to the first token.
    #[must_use]
    pub fn ttft(&self) -> Nanos {
        self.first_token.since(self.arrival)
    }

    /// Mean time between tokens, nanoseconds; none for an answer of one token.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a time of 104 days is 2^53 ns")]
    pub fn tpot_ns(&self) -> Option<f64> {
        let time = self.finished.since(self.first_token).0 as f64;
        (self.output_tokens > 1).then(|| time / f64::from(self.output_tokens - 1))
    }

    /// From arrival to the last token.
    #[must_use]
    pub fn end_to_end(&self) -> Nanos {
        self.finished.since(self.arrival)
    }

    /// From arrival to the first pass that worked on it.
    #[must_use]
    pub fn queue(&self) -> Nanos {
        self.started.since(self.arrival)
    }
}

/// Facts of one forward pass of one replica.
#[derive(Clone, Debug, PartialEq)]
pub struct PassRecord<'a> {
    /// The replica.
    pub replica: u16,
    /// When it began.
    pub start: SimTime,
    /// How long it took.
    pub time: Nanos,
    /// Tokens of prompts in it.
    pub prefill_tokens: u32,
    /// Tokens that generating requests got in it; drafts that were refused are not among them.
    pub decode_tokens: u32,
    /// Requests that the replica is working on.
    pub running: u32,
    /// Requests that wait for the replica.
    pub waiting: u32,
    /// Blocks of its KV memory in use, over all its ranks.
    pub kv_blocks_used: u64,
    /// Blocks of its KV memory, over all its ranks.
    pub kv_blocks: u64,
    /// Max over mean rank load, mean over layers weighted by tokens; 0 where there is no load.
    pub imbalance: f64,
    /// Time that each rank of the replica computed.
    pub rank_busy: &'a [Nanos],
    /// What the pass consists of.
    pub parts: PassParts,
}

/// The parts of a pass, of all stages together; transfers to the host come on top.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassParts {
    /// Kernels of requests that generate.
    pub decode: Nanos,
    /// What prompts add to them.
    pub prefill: Nanos,
    /// Time that no kernel accounts for.
    pub host: Nanos,
}

/// Whoever is told what happens while requests are served.
pub trait Observer {
    /// A request finished.
    fn request(&mut self, record: &RequestRecord);
    /// A forward pass ended.
    fn pass(&mut self, pass: &PassRecord<'_>);
    /// `count` requests got a token `gap` after their previous one.
    fn token_gaps(&mut self, gap: Nanos, count: u32);
    /// A fault began.
    fn fault(&mut self, _record: &FaultRecord) {}
    /// Whether the run may end before all requests are served.
    fn enough(&self) -> bool {
        false
    }
}

/// What a request must keep to count as good; what is absent is not asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slo {
    /// Longest time to the first token.
    pub ttft: Option<Nanos>,
    /// Longest mean time between tokens; answers of one token keep it.
    pub tpot: Option<Nanos>,
    /// Longest time to the last token.
    pub end_to_end: Option<Nanos>,
}

impl Slo {
    /// Whether `record` keeps it.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a time of 104 days is 2^53 ns")]
    pub fn is_met(&self, record: &RequestRecord) -> bool {
        let within = |limit: Option<Nanos>, time: Nanos| limit.is_none_or(|limit| time <= limit);
        within(self.ttft, record.ttft())
            && within(self.end_to_end, record.end_to_end())
            && self.tpot.is_none_or(|limit| {
                record.tpot_ns().is_none_or(|tpot_ns| tpot_ns <= limit.0 as f64)
            })
    }
}

/// What a [`Recorder`] must know of the deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct RecorderSettings {
    /// GPUs of the whole deployment.
    pub gpus: u32,
    /// GPUs of one node.
    pub gpus_per_node: u32,
    /// Replicas of the model.
    pub replicas: u16,
    /// Ranks of one stage of the largest replica.
    pub ranks_per_replica: u16,
    /// What counts as good.
    pub slo: Slo,
    /// What one GPU draws.
    pub power: PowerModel,
    /// Price of one GPU for an hour, in any currency.
    pub price_per_gpu_hour: Option<f64>,
    /// Points of the timeline at most; 0 for none.
    pub timeline_points_max: usize,
}

impl RecorderSettings {
    fn validate(&self) -> Result<()> {
        let counts = [
            ("gpus", self.gpus),
            ("gpus_per_node", self.gpus_per_node),
            ("replicas", u32::from(self.replicas)),
            ("ranks_per_replica", u32::from(self.ranks_per_replica)),
        ];
        for (place, count) in counts {
            if count == 0 {
                return Err(Error::scenario(place, "0", "at least 1"));
            }
        }
        match self.price_per_gpu_hour {
            Some(price) if !(price.is_finite() && price >= 0.0) => {
                Err(Error::scenario("price_per_gpu_hour", price.to_string(), "a price, 0 or more"))
            }
            _ => Ok(()),
        }
    }
}

/// Sums over time, that passes add to.
#[derive(Clone, Debug, Default)]
struct PassSums {
    /// Time in passes, all replicas together.
    time_s: f64,
    running: Level,
    waiting: Level,
    /// Share of the KV memory of one replica.
    kv_share: Level,
    /// Imbalance times tokens, and the tokens, of passes that have load.
    imbalance: f64,
    imbalance_tokens: f64,
    passes: u64,
}

/// A level by the time it lasted.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    /// Level times seconds.
    integral: f64,
    max: f64,
}

impl Level {
    fn add(&mut self, level: f64, seconds: f64) {
        self.integral += level * seconds;
        self.max = self.max.max(level);
    }
}

/// Sums over requests.
#[derive(Clone, Debug, Default)]
struct RequestSums {
    requests: u64,
    good: u64,
    input_tokens: u64,
    output_tokens: u64,
    cached_tokens: u64,
    preemptions: u64,
}

/// The observer that keeps what people ask of a run.
#[derive(Clone, Debug)]
pub struct Recorder {
    settings: RecorderSettings,
    requests: RequestSums,
    passes: PassSums,
    /// `[replica * ranks + rank]` time computed, and time in passes.
    rank_busy: Vec<Nanos>,
    rank_passes: Vec<Nanos>,
    /// By replica, the end of its last pass: passes of a pipeline overlap.
    ends: Vec<SimTime>,
    ttft: Statistic,
    tpot: Statistic,
    itl: Statistic,
    end_to_end: Statistic,
    queue: Statistic,
    timeline: Timeline,
}

impl Recorder {
    /// A recorder that has seen nothing yet.
    ///
    /// # Errors
    /// [`Error::Scenario`] when a count is zero or the price is no price.
    pub fn new(settings: RecorderSettings) -> Result<Self> {
        settings.validate()?;
        let ranks = usize::from(settings.replicas) * usize::from(settings.ranks_per_replica);
        Ok(Self {
            timeline: Timeline::new(settings.timeline_points_max),
            requests: RequestSums::default(),
            passes: PassSums::default(),
            rank_busy: vec![Nanos(0); ranks],
            rank_passes: vec![Nanos(0); ranks],
            ends: vec![SimTime(0); usize::from(settings.replicas)],
            settings,
            ttft: Statistic::new(),
            tpot: Statistic::new(),
            itl: Statistic::new(),
            end_to_end: Statistic::new(),
            queue: Statistic::new(),
        })
    }

    /// Time to the first token, milliseconds.
    #[must_use]
    pub fn ttft(&self) -> &Statistic {
        &self.ttft
    }

    /// Mean time between the tokens of a request, milliseconds.
    #[must_use]
    pub fn tpot(&self) -> &Statistic {
        &self.tpot
    }

    /// Time between two tokens, milliseconds.
    #[must_use]
    pub fn itl(&self) -> &Statistic {
        &self.itl
    }

    /// Time to the last token, milliseconds.
    #[must_use]
    pub fn end_to_end(&self) -> &Statistic {
        &self.end_to_end
    }

    /// How deployment and load went over time, in the order of passes.
    #[must_use]
    pub fn timeline(&self) -> Vec<TimelinePoint> {
        self.timeline.points()
    }

    /// What follows from all facts until `end`, with the run beginning at zero.
    #[must_use]
    pub fn summary(&self, end: SimTime) -> ServingSummary {
        summary::summary(self, end)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a time of 104 days is 2^53 ns")]
fn ms(time: Nanos) -> f64 {
    time.0 as f64 / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "a time of 104 days is 2^53 ns")]
fn seconds(time: Nanos) -> f64 {
    time.0 as f64 / 1e9
}

impl Observer for Recorder {
    fn request(&mut self, record: &RequestRecord) {
        let sums = &mut self.requests;
        sums.requests += 1;
        sums.good += u64::from(self.settings.slo.is_met(record));
        sums.input_tokens += u64::from(record.input_tokens);
        sums.output_tokens += u64::from(record.output_tokens);
        sums.cached_tokens += u64::from(record.cached_tokens);
        sums.preemptions += u64::from(record.preemptions);
        self.ttft.add(ms(record.ttft()));
        self.end_to_end.add(ms(record.end_to_end()));
        self.queue.add(ms(record.queue()));
        if let Some(tpot_ns) = record.tpot_ns() {
            self.tpot.add(tpot_ns / 1e6);
        }
    }

    fn pass(&mut self, pass: &PassRecord<'_>) {
        let ranks = usize::from(self.settings.ranks_per_replica);
        let replica = usize::from(pass.replica);
        let (busy, replicas) = (pass.rank_busy.len(), self.settings.replicas);
        assert!(busy <= ranks, "{busy} ranks of a pass of replica {replica}, at most {ranks}");
        assert!(pass.replica < replicas, "replica {replica} of {replicas}");
        assert!(pass.imbalance.is_finite(), "an imbalance of {}", pass.imbalance);
        let first = replica * ranks;
        // What passes of a pipeline overlap counts once; they end in the order of their starts.
        let end = pass.start + pass.time;
        let alone = end.since(pass.start.max(self.ends[replica]).min(end));
        self.ends[replica] = self.ends[replica].max(end);
        for (rank, busy) in (first..).zip(pass.rank_busy) {
            // Parts round up one by one, so that their sum may be longer than the pass.
            self.rank_busy[rank] += (*busy).min(pass.time);
            self.rank_passes[rank] += alone;
        }
        let (time, sums) = (seconds(alone), &mut self.passes);
        sums.passes += 1;
        sums.time_s += time;
        sums.running.add(f64::from(pass.running), time);
        sums.waiting.add(f64::from(pass.waiting), time);
        sums.kv_share.add(pass.kv_share(), time);
        if pass.imbalance > 0.0 {
            sums.imbalance += pass.imbalance * pass.tokens();
            sums.imbalance_tokens += pass.tokens();
        }
        self.timeline.add(pass);
    }

    fn token_gaps(&mut self, gap: Nanos, count: u32) {
        self.itl.add_many(ms(gap), u64::from(count));
    }
}

impl PassRecord<'_> {
    fn tokens(&self) -> f64 {
        f64::from(self.prefill_tokens) + f64::from(self.decode_tokens)
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of blocks stays far below 2^53")]
    fn kv_share(&self) -> f64 {
        crate::record::ratio(self.kv_blocks_used as f64, self.kv_blocks as f64)
    }
}
