//! What a layer's router chose for the tokens of a pass, as picks, and what experts are asked for.

use moecast_profiles::ids::MoeLayer;
use moecast_traces::{NO_EXPERT, RoutingTrace};

use super::rule::Pick;
use super::shape::Shape;

/// Picks and demand of one layer, in buffers that are used again.
#[derive(Debug, Default)]
pub(super) struct Picks {
    pub(super) picks: Vec<Pick>,
    before: Vec<Pick>,
    /// Distinct experts as routed, in order of first pick, their tokens and gate weights.
    pub(super) experts: Vec<u16>,
    pub(super) counts: Vec<u32>,
    pub(super) weights: Vec<f32>,
    /// `[E * versions]` place in `asked` plus one; 0 where nobody asks.
    place: Vec<u32>,
    /// Which of `asked` every pick is for, in order.
    pub(super) sequence: Vec<u32>,
    /// Distinct (expert, version) as asked for, tokens and gate weights.
    pub(super) asked: Vec<(u16, u8, u32, f32)>,
}

/// A gate weight for slot number `slot` of a recording that has none, before a token's are made to
/// sum to 1: gamma variates of shape 2, so that a token's weights are a Dirichlet variate. Of two
/// experts a token HOBBIT's thresholds then take 65, 32 and 3% in high, low and no precision;
/// its paper has 67, 30 and 3% for Mixtral, which is what the shape was chosen by.
fn drawn(slot: u64) -> f32 {
    let uniform = |number: u64| {
        // SplitMix64 (Steele, Lea, Flood, 2014): a number's hash, the same on every machine.
        let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 40) as f32 / (1_u32 << 24) as f32
    };
    let [one, other] = [uniform(slot * 2), uniform(slot * 2 + 1)];
    -((1.0 - one) * (1.0 - other)).max(f32::MIN_POSITIVE).ln() + f32::EPSILON
}

/// What a rule did to picks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) changed: u64,
    pub(super) lowered: u64,
}

/// Reads what `rows` chose in `layer`: picks token by token, by rank.
pub(super) fn read(trace: &RoutingTrace, layer: usize, rows: &[usize], into: &mut Vec<Pick>) {
    into.clear();
    let header = trace.header();
    let k = usize::from(header.top_k);
    let columns = trace.tokens().expect("checked: the recording knows tokens");
    let ordinal = MoeLayer(u16::try_from(layer).expect("layers are u16"));
    for (token, &row) in (0_u32..).zip(rows) {
        let start = (row * header.moe_layers() + ordinal.index()) * k;
        let first = into.len();
        for slot in start..start + k {
            let expert = columns.experts[slot];
            if expert == NO_EXPERT {
                continue;
            }
            let weight = match &columns.weights {
                Some(weights) => weights[slot].to_f32(),
                None => drawn(slot as u64),
            };
            into.push(Pick { token, expert, rank: 0, weight, version: 0 });
        }
        let own = &mut into[first..];
        if columns.weights.is_none() {
            let sum: f32 = own.iter().map(|pick| pick.weight).sum();
            own.iter_mut().for_each(|pick| pick.weight /= sum);
        }
        own.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        for (rank, pick) in (0..).zip(own) {
            pick.rank = rank;
        }
    }
}

impl Picks {
    /// Sums up the picks as routed, which [`Self::group`] has grouped. Drawn weights are for rules:
    /// nobody learns from them.
    pub(super) fn count(&mut self, top_k: usize, recorded: bool) {
        let even = 1.0 / top_k as f32;
        self.experts.clear();
        self.counts.clear();
        self.weights.clear();
        for &(expert, _, rows, weight) in &self.asked {
            self.experts.push(expert);
            self.counts.push(rows);
            self.weights.push(if recorded { weight } else { rows as f32 * even });
        }
    }

    /// Groups picks by expert and version, in order of first pick.
    pub(super) fn group(&mut self, shape: &Shape) {
        self.place.resize(shape.experts * shape.versions, 0);
        self.asked.clear();
        self.sequence.clear();
        for pick in &self.picks {
            let at = usize::from(pick.expert) * shape.versions + usize::from(pick.version);
            if self.place[at] == 0 {
                self.asked.push((pick.expert, pick.version, 0, 0.0));
                self.place[at] = u32::try_from(self.asked.len()).expect("few experts");
            }
            self.sequence.push(self.place[at] - 1);
            let own = &mut self.asked[self.place[at] as usize - 1];
            own.2 += 1;
            own.3 += pick.weight;
        }
        for &(expert, version, ..) in &self.asked {
            self.place[usize::from(expert) * shape.versions + usize::from(version)] = 0;
        }
    }

    /// Applies `rule`, groups anew and says what changed; `touched[token]` becomes true for tokens
    /// whose picks did.
    pub(super) fn change(
        &mut self,
        shape: &Shape,
        touched: &mut [bool],
        rule: impl FnOnce(&mut Vec<Pick>),
    ) -> Changes {
        self.before.clone_from(&self.picks);
        rule(&mut self.picks);
        let mut changes = Changes::default();
        if self.picks == self.before {
            return changes;
        }
        let mut after = self.picks.iter().peekable();
        let mut own: Vec<Pick> = Vec::new();
        for old in self.before.chunk_by(|a, b| a.token == b.token) {
            own.clear();
            while let Some(pick) = after.next_if(|pick| pick.token == old[0].token) {
                own.push(*pick);
            }
            for pick in old {
                match own.iter().find(|new| new.expert == pick.expert) {
                    None => changes.changed += 1,
                    Some(new) if new.version > pick.version => changes.lowered += 1,
                    Some(_) => continue,
                }
                touched[old[0].token as usize] = true;
            }
        }
        assert!(after.next().is_none(), "a rule keeps picks token by token");
        self.group(shape);
        changes
    }
}
