//! How crowded links are by what all ranks send each other at once.

use super::{Fabric, Tree};
use crate::hardware::LinkClass;

/// Copies over every link; kept from one count to the next, so that counting does not allocate.
///
/// A pair of ranks costs two additions: what a rank sends is kept by how far it climbs, and comes
/// to its links only when [`Self::loads`] asks for them.
#[derive(Clone, Debug)]
pub struct Crowd {
    ranks: usize,
    /// `[levels of the domain, then of the network][rank]`: copies that turn at that level.
    sent: Vec<u64>,
    received: Vec<u64>,
    /// By link.
    loads: Vec<u64>,
}

impl Crowd {
    /// For the links of `fabric`, all empty.
    #[must_use]
    pub fn new(fabric: &Fabric) -> Self {
        let levels = (fabric.domain.height + fabric.network.height) * fabric.ranks;
        Self {
            ranks: fabric.ranks,
            sent: vec![0; levels],
            received: vec![0; levels],
            loads: vec![0; fabric.graph.edge_count()],
        }
    }

    /// Whether it was made for as many ranks and links as `fabric` has.
    #[must_use]
    pub fn fits(&self, fabric: &Fabric) -> bool {
        let levels = (fabric.domain.height + fabric.network.height) * fabric.ranks;
        (self.ranks, self.sent.len()) == (fabric.ranks, levels)
            && self.loads.len() == fabric.graph.edge_count()
    }

    /// Empties all links.
    pub fn clear(&mut self) {
        self.sent.fill(0);
        self.received.fill(0);
    }

    /// Adds copies from rank `source` to rank `target`; to itself they cross nothing.
    pub fn add(&mut self, fabric: &Fabric, source: usize, target: usize, copies: u64) {
        if source == target || copies == 0 {
            return;
        }
        let near = source / fabric.gpus_per_node == target / fabric.gpus_per_node;
        let level = if near {
            fabric.domain.meeting(source, target)
        } else {
            fabric.domain.height + fabric.network.meeting(source, target)
        };
        self.sent[level * self.ranks + source] += copies;
        self.received[level * self.ranks + target] += copies;
    }

    /// Copies over every link.
    pub fn loads(&mut self, fabric: &Fabric) -> &[u64] {
        self.loads.fill(0);
        self.climb(&fabric.domain, 0);
        self.climb(&fabric.network, fabric.domain.height);
        &self.loads
    }

    fn climb(&mut self, tree: &Tree, first: usize) {
        for rank in 0..self.ranks {
            let (mut up, mut down) = (0, 0);
            for (level, step) in tree.steps(rank).iter().enumerate().rev() {
                up += self.sent[(first + level) * self.ranks + rank];
                down += self.received[(first + level) * self.ranks + rank];
                self.loads[step.up as usize] += up;
                self.loads[step.down as usize] += down;
            }
        }
    }

    /// Copies that would take as long through a rank's own port as the busiest link of `class`
    /// takes for its own, rounded up.
    pub fn busiest(&mut self, fabric: &Fabric, class: LinkClass) -> u64 {
        let port = match class {
            LinkClass::Local => return 0,
            LinkClass::Domain => fabric.ports[0].0,
            LinkClass::Network => fabric.ports[1].0,
        };
        let loads = self.loads(fabric);
        let of_class = loads.iter().zip(fabric.links()).filter(|(_, link)| link.class == class);
        let copies = of_class.map(|(load, link)| {
            if link.bandwidth.0 == port {
                return *load;
            }
            let copies = (u128::from(*load) * u128::from(port)).div_ceil(link.bandwidth.0.into());
            u64::try_from(copies).unwrap_or(u64::MAX)
        });
        copies.max().unwrap_or(0)
    }

    /// Puts the load in time of every link that is crossed, relative to the busiest, which has 1:
    /// `(link, share)` by link, nothing where nothing is sent. Returns nanoseconds that the busiest
    /// link takes for each byte of a copy.
    pub fn shares(&mut self, fabric: &Fabric, into: &mut Vec<(u32, f64)>) -> f64 {
        into.clear();
        let loads = self.loads(fabric).iter().zip(fabric.links()).zip(0_u32..);
        let crossed = loads.filter(|((load, _), _)| **load > 0);
        into.extend(
            crossed.map(|((load, link), number)| (number, *load as f64 / link.bandwidth.0 as f64)),
        );
        let busiest = into.iter().map(|(_, time)| *time).fold(0.0, f64::max);
        into.iter_mut().for_each(|(_, time)| *time /= busiest);
        busiest * 1e9
    }
}
