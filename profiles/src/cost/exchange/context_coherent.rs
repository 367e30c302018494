//! Context-coherent expert parallelism, as ExFlow (arXiv 2401.08383): every rank knows the context
//! of every request, so that a token stays with its expert and goes straight to the rank of its
//! expert in the next layer. One all-to-all a layer, and no way back; an all-gather of the new
//! tokens once a pass keeps the contexts coherent.
//!
//! Both collectives are NCCL's, with its figures. The all-gather is spread over the layers of a
//! pass. Assumed: what is gathered is one vector of the model's width a token, in the type of
//! results. ExFlow's models choose one expert; with k of them the results of k - 1 travel to the
//! rank of the first, which is assumed too.

use std::sync::Arc;

use super::nccl::{ALL_GATHER, CHANNELS, Collective, EXCHANGE, linear_start_us};
use super::{Entry, ExchangeModel, Rule, Setting, Traffic, Way};
use crate::cost::Known;
use crate::sample::Family;
use crate::units::Nanos;

pub(super) const ENTRY: Entry = Entry {
    name: "context-coherent",
    about: "tokens stay with their experts: one all-to-all a layer, one all-gather a pass (ExFlow)",
    build: |setting| Ok(Arc::new(ContextCoherent::new(setting))),
};

struct ContextCoherent {
    exchange: Collective,
    gather: Collective,
    copy: [f64; 2],
    /// Share of the picks whose results travel.
    returned: f64,
    layers: f64,
    ranks: f64,
    nodes: f64,
}

impl ContextCoherent {
    fn new(setting: &Setting) -> Self {
        let (model, hardware) = (setting.model, setting.hardware);
        let exchange = Collective::new(setting, Family::AllToAll, &EXCHANGE);
        Self {
            exchange: exchange.starting(linear_start_us(hardware)),
            gather: Collective::new(setting, Family::AllGather, &ALL_GATHER),
            copy: Way::ALL.map(|way| setting.copy_bytes(way).0 as f64),
            returned: 1.0 - 1.0 / f64::from(model.top_k.max(1)),
            layers: model.moe_layers.len().max(1) as f64,
            ranks: f64::from(hardware.ranks()),
            nodes: f64::from(hardware.nodes()),
        }
    }

    /// All-to-all of `share` of the copies.
    fn all_to_all(&self, way: Way, traffic: &Traffic, share: f64) -> Nanos {
        let ports = &traffic.per_pick;
        let bytes = |copies: u64| copies as f64 * share * self.copy[way as usize];
        let (domain, network) = (bytes(ports.domain.busiest), bytes(ports.network.busiest));
        let whole = self.ranks / (self.ranks - 1.0).max(1.0);
        self.exchange.time(domain * whole, domain, network)
    }

    /// One layer's part of the all-gather that ends a pass.
    fn coherence(&self, traffic: &Traffic) -> Nanos {
        let all = traffic.tokens_most as f64 * self.ranks * self.copy[Way::Combine as usize];
        let domain = all * (self.ranks - 1.0) / self.ranks;
        let network = all * (self.nodes - 1.0) / self.ranks;
        Nanos::ceil_from(self.gather.time(all, domain, network).0 as f64 / self.layers)
    }
}

impl ExchangeModel for ContextCoherent {
    fn time(&self, way: Way, traffic: &Traffic) -> Nanos {
        if traffic.per_pick.is_empty() {
            return Nanos(0);
        }
        match way {
            Way::Dispatch => self.all_to_all(way, traffic, 1.0) + self.coherence(traffic),
            Way::Combine if self.returned > 0.0 => self.all_to_all(way, traffic, self.returned),
            Way::Combine => Nanos(0),
        }
    }

    fn start(&self, way: Way) -> Nanos {
        match way {
            Way::Combine if self.returned == 0.0 => Nanos(0),
            _ => self.exchange.start(),
        }
    }

    fn rule(&self) -> Rule {
        Rule::PerPick
    }

    fn sends(&self, way: Way) -> f64 {
        match way {
            Way::Dispatch => 1.0,
            Way::Combine => self.returned,
        }
    }

    fn multiprocessors(&self) -> u16 {
        CHANNELS
    }

    fn stays(&self) -> bool {
        true
    }

    fn known(&self) -> Vec<Known> {
        Way::ALL.map(|way| self.exchange.known(way, self.nodes > 1.0)).to_vec()
    }
}
