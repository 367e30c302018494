//! The baseline: the latency of a link class and the bytes of the busiest port at the
//! datasheet's bandwidth, classes side by side. No kernel reaches it.

use std::sync::Arc;

use super::{Entry, ExchangeModel, Port, Rule, Traffic, Way, known};
use crate::cost::Known;
use crate::hardware::LinkClass;
use crate::table::Source;
use crate::units::{Bandwidth, Bytes, Nanos};

pub(super) const ENTRY: Entry = Entry {
    name: "ports",
    about: "latency and the busiest port's bytes at datasheet bandwidth (a lower bound)",
    build: |setting| {
        let link = |class| Link {
            latency: setting.hardware.latency(class),
            bandwidth: setting.hardware.bandwidth(class).unwrap_or(Bandwidth(u64::MAX)),
        };
        let copy = Way::ALL.map(|way| setting.copy_bytes(way));
        let (domain, network) = (link(LinkClass::Domain), link(LinkClass::Network));
        Ok(Arc::new(Datasheet { copy, domain, network }))
    },
};

struct Datasheet {
    copy: [Bytes; 2],
    domain: Link,
    network: Link,
}

struct Link {
    latency: Nanos,
    bandwidth: Bandwidth,
}

impl Link {
    fn time(&self, copy: Bytes, port: Port) -> Nanos {
        if port.busiest == 0 {
            return Nanos(0);
        }
        self.latency + self.bandwidth.time_for(copy * port.busiest)
    }
}

impl ExchangeModel for Datasheet {
    fn time(&self, way: Way, traffic: &Traffic) -> Nanos {
        let (copy, ports) = (self.copy[way as usize], &traffic.per_rank);
        self.domain.time(copy, ports.domain).max(self.network.time(copy, ports.network))
    }

    /// The least latency of the machine's links: which of them a layer uses is not known yet.
    fn start(&self, _way: Way) -> Nanos {
        self.domain.latency.min(self.network.latency)
    }

    fn rule(&self) -> Rule {
        Rule::PerRank
    }

    fn known(&self) -> Vec<Known> {
        known("datasheet bandwidths and assumed latencies of the machine", Source::Assumed, 0.5)
    }
}
