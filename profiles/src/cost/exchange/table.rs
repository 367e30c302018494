//! A profile's measured exchanges, bound to one model and machine.
//!
//! Tables were measured with experts chosen evenly, so their tokens stand for copies through the
//! port that limits them: NVLink inside one node, the network card between nodes. An exchange
//! takes the time of the tokens that would crowd that port as much.

use super::{Line, Ports, Setting, Way, least};
use crate::cost::Known;
use crate::profile::{Curve, Profile};
use crate::sample::Family;
use crate::table::Source;
use crate::units::Nanos;

/// Streaming multiprocessors that normal kernels use by default. Source: DeepEP README.
pub(super) const SMS: u16 = 20;

pub(super) struct Tables {
    /// Whether the network limits them.
    network: bool,
    ways: [Bound; 2],
    pub(super) known: Vec<Known>,
}

struct Bound {
    curve: Curve,
    /// Tokens a rank that stand for one copy through the busiest port.
    tokens_per_copy: f64,
}

impl Tables {
    /// Tables of `variant` for the very shape of `setting`. `copies(way, share)` is the number
    /// of table-sized copies that an evenly spread token sends, of which `share` leave their
    /// rank (or, across nodes, their node).
    pub(super) fn new(
        setting: &Setting,
        variant: &str,
        copies: &dyn Fn(Way, f64) -> f64,
    ) -> Option<Self> {
        let hardware = setting.hardware;
        let network = hardware.nodes() > 1;
        let places = if network { hardware.nodes() } else { hardware.ranks() };
        let share = 1.0 - 1.0 / f64::from(places);
        if places < 2 {
            return None;
        }
        let profile = setting.profile?;
        let mut known = Vec::new();
        let mut bind = |way: Way| {
            let curve = measured(profile, way, variant, setting)?;
            let source = &profile.provenance;
            known.push(Known {
                kernel: way.name().to_owned(),
                by: format!("table {variant} of {}, by the busiest port", source.system),
                source: curve.source,
                error: curve.error,
            });
            Some(Bound { curve, tokens_per_copy: 1.0 / copies(way, share) })
        };
        let ways = [bind(Way::Dispatch)?, bind(Way::Combine)?];
        Some(Self { network, ways, known })
    }

    /// What one token takes, or `line` does before its first byte: the table does not tell
    /// which part of that is bytes.
    pub(super) fn start(&self, way: Way, line: &Line) -> Nanos {
        least(&self.ways[way as usize].curve).min(line.start())
    }

    /// The table's time; where the network limits the table, NVLink may be busier by `line`.
    pub(super) fn time(&self, way: Way, ports: &Ports, line: &Line) -> Nanos {
        if ports.is_empty() {
            return Nanos(0);
        }
        let Bound { curve, tokens_per_copy } = &self.ways[way as usize];
        let port = if self.network { ports.network } else { ports.domain };
        let time = curve.time_between((port.busiest as f64 * tokens_per_copy).max(1.0));
        if !self.network {
            return time;
        }
        let domain = line.start_ns + line.domain_ns * ports.domain.busiest as f64;
        time.max(Nanos::ceil_from(domain))
    }
}

/// The table that measured the very shape: nodes, ranks, width, picks and experts.
fn measured(profile: &Profile, way: Way, variant: &str, setting: &Setting) -> Option<Curve> {
    let family = match way {
        Way::Dispatch => Family::Dispatch,
        Way::Combine => Family::Combine,
    };
    let (hardware, model) = (setting.hardware, setting.model);
    let [nodes, ranks] = [hardware.nodes(), hardware.ranks()].map(u32::from);
    let [topk, experts] = [model.top_k, model.experts].map(u32::from);
    [0, u32::from(SMS)].into_iter().find_map(|sms| {
        let shape = [nodes, ranks, model.hidden, topk, experts, sms];
        let curve = profile.curve(family, variant, &shape)?;
        (curve.source != Source::Extrapolated).then_some(curve)
    })
}
