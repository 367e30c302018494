//! The steady state of closed-loop clients in closed form: one pass of decode, one of prefill, and
//! how often a prompt interrupts.
//!
//! Quick enough to fit constants with, and what a simulation of every request is held against
//! where nothing queues. Routing is even and random: each token draws its top-k experts from a
//! seeded stream. Deliberately absent: batches that change, chunks of prompts, memory for caches,
//! exchanges of expert parallelism with data-parallel attention.

use moecast_profiles::cost::{Attended, AttentionBatch, CostModel};
use moecast_profiles::model::ModelShape;
use moecast_profiles::seed::Seed;
use moecast_profiles::units::Nanos;
use rand::RngExt;

/// Tokens beyond this are drawn no more: the law of large numbers has spoken.
const DRAWN_MAX: u32 = 4_096;

/// Clients that each wait for their answer before they ask again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClosedLoop {
    /// Clients.
    pub concurrency: u32,
    /// Mean tokens of a prompt.
    pub input_tokens: u32,
    /// Mean tokens of an answer.
    pub output_tokens: u32,
    /// Requests of one client; all clients begin at once.
    pub requests_per_client: u32,
}

/// Passes of a model on a tensor-parallel group, and what surrounds them.
pub struct Deployment<'a> {
    /// The whole model.
    pub model: &'a ModelShape,
    /// Costs of one rank, built for the layout.
    pub cost: &'a dyn CostModel,
    /// Replicas of attention that share the requests.
    pub data_ranks: u16,
    /// Ranks that experts are divided over.
    pub expert_ranks: u16,
    /// Seed of the routing.
    pub seed: Seed,
}

/// Factors on what kernels say, and what no kernel accounts for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Surroundings {
    /// On the kernels of decode passes.
    pub decode_factor: f64,
    /// On the kernels of prefill passes.
    pub prefill_factor: f64,
    /// Time of the host per pass.
    pub host_time: Nanos,
    /// Time of the serving stack before the first token.
    pub ttft_offset: Nanos,
}

/// Mean times that clients see.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// Time to the first token, milliseconds.
    pub ttft_ms: f64,
    /// Time between tokens, milliseconds.
    pub tpot_ms: f64,
}

impl Deployment<'_> {
    /// Rows per expert of the busiest rank, where `tokens` tokens draw their experts evenly.
    fn rows(&self, tokens: u32) -> Vec<u32> {
        let (experts, top_k) = (usize::from(self.model.experts), usize::from(self.model.top_k));
        let drawn = tokens.min(DRAWN_MAX);
        let mut generator = self.seed.stream(&format!("steady/{drawn}"));
        let mut rows = vec![0_u32; experts];
        let mut order: Vec<usize> = (0..experts).collect();
        for _ in 0..drawn {
            // The first k of a shuffle: k different experts.
            for place in 0..top_k.min(experts) {
                let other = generator.random_range(place as u64..experts as u64) as usize;
                order.swap(place, other);
                rows[order[place]] += 1;
            }
        }
        for row in &mut rows {
            let scaled = u64::from(*row) * u64::from(tokens) / u64::from(drawn.max(1));
            *row = u32::try_from(scaled).unwrap_or(u32::MAX);
        }
        let per_rank = experts.div_ceil(usize::from(self.expert_ranks.max(1))).max(1);
        let load = |rank: &&[u32]| rank.iter().map(|row| u64::from(*row)).sum::<u64>();
        rows.chunks(per_rank).max_by_key(load).map(<[u32]>::to_vec).unwrap_or_default()
    }

    /// Kernels of one pass: `batch` on every attention replica, `tokens` in all, of which `asked`
    /// want a next token.
    fn pass(&self, batch: AttentionBatch, tokens: u32, asked: u32) -> Nanos {
        let cost = self.cost;
        let own = batch.tokens();
        let layers = u64::from(self.model.hidden_layers);
        let moe = self.model.moe_layers.len() as u64;
        let rows = self.rows(tokens);
        let mut time = (cost.attention(batch) + cost.all_reduce(own)) * layers;
        let experts = cost.gate(own) + cost.experts(u64::from(tokens), &rows);
        time += (experts + cost.shared_experts(own) + cost.all_reduce(own)) * moe;
        time += (cost.dense_layer(own) + cost.all_reduce(own)) * (layers - moe);
        time + cost.head(asked)
    }

    /// Kernels of a pass in which `requests` requests with `context` tokens get a token each.
    #[must_use]
    pub fn decode(&self, requests: u32, context: u32) -> Nanos {
        let own = requests.div_ceil(u32::from(self.data_ranks.max(1)));
        let attended = u64::from(own) * u64::from(context);
        let decode = Attended { requests: own, tokens: own, attended, cached: attended };
        self.pass(AttentionBatch { decode, prefill: Attended::default() }, requests, own)
    }

    /// Kernels of a pass over one prompt.
    #[must_use]
    pub fn prefill(&self, tokens: u32) -> Nanos {
        let long = u64::from(tokens);
        let attended = long * (long + 1) / 2;
        let prefill = Attended { requests: 1, tokens, attended, cached: long };
        self.pass(AttentionBatch { decode: Attended::default(), prefill }, tokens, 1)
    }

    /// What clients of `load` see.
    ///
    /// Between two tokens of a request the others finish their prompts: one pass of prefill per
    /// answer. A first token waits for the pass under way, for prompts that came just before it,
    /// and, once, for those of all clients that began with it.
    #[must_use]
    pub fn closed_loop(&self, load: ClosedLoop, around: Surroundings) -> Seen {
        let ms = |time: Nanos| time.0 as f64 * 1e-6;
        let clients = f64::from(load.concurrency.max(1));
        let (answer, host) = (f64::from(load.output_tokens.max(1)), ms(around.host_time));
        let context = load.input_tokens + load.output_tokens / 2;
        let decode = around.decode_factor * ms(self.decode(load.concurrency, context)) + host;
        let prefill = around.prefill_factor * ms(self.prefill(load.input_tokens)) + host;
        let interruptions = (clients - 1.0) / answer;
        let tpot = decode + interruptions * prefill;
        // Share of the time that goes to prompts of others.
        let busy = (interruptions * prefill / tpot).min(0.95);
        let crowd = (clients - 1.0) / 2.0 / f64::from(load.requests_per_client.max(1));
        let alone = if load.concurrency > 1 { 1.0 } else { 0.0 };
        let wait = alone * decode / 2.0 + busy / (1.0 - busy) * prefill / 2.0 + crowd * prefill;
        Seen { ttft_ms: ms(around.ttft_offset) + prefill + wait, tpot_ms: tpot }
    }
}

#[cfg(test)]
mod tests {
    use moecast_profiles::{builtin, cost};

    use super::*;

    /// Kernels of 10 us each; nobody to reduce with.
    fn fixed(model: &ModelShape) -> std::sync::Arc<dyn CostModel> {
        let device = builtin::device("h200-sxm").unwrap();
        let setting = cost::Setting {
            model,
            device: &device,
            tensor_ranks: 1,
            expert_tensor_ranks: 1,
            expert_ranks: 1,
            profile: None,
        };
        cost::Kernels::new(cost::find("fixed").unwrap(), &setting).unwrap().model
    }

    const NOTHING: Surroundings = Surroundings {
        decode_factor: 1.0,
        prefill_factor: 1.0,
        host_time: Nanos(0),
        ttft_offset: Nanos(0),
    };

    #[test]
    fn one_client_is_solved_by_hand() {
        // Mixtral: 32 layers of attention, gate and experts (10 us each), and the head.
        let model = builtin::model("mixtral-8x7b").unwrap();
        let cost = fixed(&model);
        let deployment = Deployment {
            model: &model,
            cost: cost.as_ref(),
            data_ranks: 1,
            expert_ranks: 1,
            seed: Seed(0),
        };
        let pass = 32.0 * 0.03 + 0.01;
        let load = ClosedLoop {
            concurrency: 1,
            input_tokens: 100,
            output_tokens: 10,
            requests_per_client: 10,
        };
        let seen = deployment.closed_loop(load, NOTHING);
        assert!((seen.tpot_ms - pass).abs() < 1e-9 && (seen.ttft_ms - pass).abs() < 1e-9);
        let around = Surroundings { host_time: Nanos(1_000_000), ..NOTHING };
        let slower = deployment.closed_loop(load, around);
        assert!((slower.tpot_ms - pass - 1.0).abs() < 1e-9, "{slower:?}");
        // Five clients: four others' prompts for every ten tokens.
        let five = ClosedLoop { concurrency: 5, ..load };
        let seen = deployment.closed_loop(five, NOTHING);
        assert!((seen.tpot_ms - 1.4 * pass).abs() < 1e-9, "{seen:?}");
        assert!(seen.ttft_ms > pass);
    }

    #[test]
    fn every_pick_is_a_row_and_the_busiest_rank_has_most() {
        let model = builtin::model("qwen3-30b-a3b").unwrap();
        let cost = fixed(&model);
        let rows = |expert_ranks, tokens| {
            let seed = Seed(0);
            let cost = cost.as_ref();
            Deployment { model: &model, cost, data_ranks: 1, expert_ranks, seed }.rows(tokens)
        };
        assert_eq!(rows(1, 1_000).iter().sum::<u32>(), 8_000);
        assert_eq!(rows(8, 1_000).len(), 16);
        assert!(rows(8, 1_000).iter().sum::<u32>() >= 1_000);
        assert!(rows(1, 1).iter().all(|row| *row <= 1));
    }
}
