//! Max-min fair rates by progressive filling, solved again only where something changed.
//!
//! The rates of all flows rise together, like water; a link that is full stops the flows that
//! cross it, and the others rise on. The water level at which a link would be full only rises
//! while flows stop elsewhere, so a heap of levels is looked at lazily: the lowest is computed
//! again when it comes up, and put back if it has risen. Links and flows that no change reaches,
//! not even through others, keep their rates. Cost of a solution: the hops of the flows that are
//! reached, and the logarithm of the links for each level looked at; memory is kept.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use super::FlowId;

/// One link of a route.
#[derive(Clone, Copy, Debug)]
struct Hop {
    link: u32,
    share: f64,
}

#[derive(Clone, Debug)]
struct Flow {
    route: Vec<Hop>,
    limit: f64,
    rate: f64,
    /// Whether it is in the lists of its links.
    attached: bool,
    live: bool,
    /// Solution that reached it last, and solution that settled its rate last.
    reached: u64,
    settled: u64,
}

#[derive(Clone, Debug)]
struct Link {
    capacity: f64,
    /// Flow and share, by flow: sums run in this order, whatever came and went before.
    flows: Vec<(u32, f64)>,
    dirty: bool,
    /// While solving: capacity that settled flows leave, and the others' shares and number.
    left: f64,
    weight: f64,
    open: u32,
    /// The weight when it was last summed up rather than subtracted from.
    summed: f64,
}

/// A water level at which something stops: link `place`, or the limit of flow `place - links`.
///
/// Levels are never negative, so that their bits are in their order; equals go by place.
type Level = Reverse<u128>;

fn level_at(level: f64, place: u32) -> Level {
    // Zero has two signs, and the bits of one of them are above all others.
    Reverse(u128::from((level + 0.0).to_bits()) << 32 | u128::from(place))
}

fn level_and_place(level: Level) -> (f64, u32) {
    (f64::from_bits((level.0 >> 32) as u64), level.0 as u32)
}

/// Links with capacities, and the flows that share them.
///
/// Capacities are bytes per nanosecond, or any unit per nanosecond.
#[derive(Clone, Debug)]
pub struct Sharing {
    links: Vec<Link>,
    /// By link: the solution that reached it last.
    reached: Vec<u64>,
    flows: Vec<Flow>,
    free: Vec<u32>,
    /// Links whose flows or capacity changed since the last solution.
    dirty: Vec<u32>,
    /// Flows whose rate the last solution changed.
    changed: Vec<FlowId>,
    solution: u64,
    /// What one connected component consists of, and its levels.
    component_links: Vec<u32>,
    component_flows: Vec<u32>,
    unsettled: usize,
    levels: BinaryHeap<Level>,
}

/// A weight that shrank to this share of its last sum is summed up again: what is left of it would
/// be rounding errors of what was subtracted.
const SHRUNK: f64 = 1e-3;

impl Sharing {
    /// Links of `capacities`, and no flows.
    #[must_use]
    pub fn new(capacities: Vec<f64>) -> Self {
        let link = |capacity| Link {
            capacity: checked(capacity),
            flows: Vec::new(),
            dirty: false,
            left: 0.0,
            weight: 0.0,
            open: 0,
            summed: 0.0,
        };
        Self {
            reached: vec![0; capacities.len()],
            links: capacities.into_iter().map(link).collect(),
            flows: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            changed: Vec::new(),
            solution: 0,
            component_links: Vec::new(),
            component_flows: Vec::new(),
            unsettled: 0,
            levels: BinaryHeap::new(),
        }
    }

    /// Starts a flow that loads every link of `route` with a share (above 0) of its rate.
    ///
    /// The share is 1 from point to point; an exchange of many is one flow over all ports that it
    /// loads, with a share of 1 at its busiest. A link that comes twice is loaded with both shares.
    /// `limit` is a rate that the flow never exceeds; with a limit of 0 it takes no part until
    /// [`Self::set_limit`]. Rates are as they were until [`Self::solve`].
    pub fn start(&mut self, route: &[(u32, f64)], limit: f64) -> FlowId {
        let flow = self.free.pop().unwrap_or_else(|| {
            self.flows.push(Flow {
                route: Vec::new(),
                limit: 0.0,
                rate: 0.0,
                attached: false,
                live: false,
                reached: 0,
                settled: 0,
            });
            u32::try_from(self.flows.len() - 1).expect("fewer than 2^32 flows at once")
        });
        let slot = &mut self.flows[flow as usize];
        slot.route.clear();
        for &(link, share) in route {
            assert!(share > 0.0 && share.is_finite(), "a share of {share} of link {link}");
            match slot.route.iter_mut().find(|hop| hop.link == link) {
                Some(hop) => hop.share += share,
                None => slot.route.push(Hop { link, share }),
            }
        }
        (slot.live, slot.limit, slot.rate) = (true, 0.0, 0.0);
        self.set_limit(FlowId(flow), limit);
        FlowId(flow)
    }

    /// Stops a flow; its number will be given again.
    pub fn stop(&mut self, flow: FlowId) {
        self.detach(flow.0);
        let slot = &mut self.flows[flow.index()];
        assert!(slot.live, "flow {} was stopped before", flow.0);
        (slot.live, slot.rate) = (false, 0.0);
        self.free.push(flow.0);
    }

    /// Changes the rate that a flow never exceeds.
    pub fn set_limit(&mut self, flow: FlowId, limit: f64) {
        assert!(self.flows[flow.index()].live, "flow {} was stopped", flow.0);
        let old = std::mem::replace(&mut self.flows[flow.index()].limit, checked(limit));
        if limit > 0.0 && old == 0.0 {
            self.attach(flow.0);
        } else if limit == 0.0 {
            self.detach(flow.0);
            self.flows[flow.index()].rate = 0.0;
        } else if limit != old {
            self.touch(flow.0);
        }
        // No link stops a flow that crosses none, so no solution reaches it.
        if self.flows[flow.index()].route.is_empty() {
            self.flows[flow.index()].rate = limit;
        }
    }

    /// Changes the capacity of a link.
    pub fn set_capacity(&mut self, link: u32, capacity: f64) {
        let state = &mut self.links[link as usize];
        if state.capacity != checked(capacity) {
            state.capacity = capacity;
            mark(&mut self.dirty, state, link);
        }
    }

    /// The rate of a flow since the last solution; 0 if it started later.
    #[must_use]
    pub fn rate(&self, flow: FlowId) -> f64 {
        self.flows[flow.index()].rate
    }

    /// What the flows load a link with.
    #[must_use]
    pub fn load(&self, link: u32) -> f64 {
        let flows = &self.links[link as usize].flows;
        flows.iter().map(|(flow, share)| share * self.flows[*flow as usize].rate).sum()
    }

    /// The capacity of a link.
    #[must_use]
    pub fn capacity(&self, link: u32) -> f64 {
        self.links[link as usize].capacity
    }

    /// Links and shares of a flow.
    pub fn route(&self, flow: FlowId) -> impl Iterator<Item = (u32, f64)> + '_ {
        self.flows[flow.index()].route.iter().map(|hop| (hop.link, hop.share))
    }

    /// Whether something changed since the last solution.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Flows whose rate the last solution changed.
    #[must_use]
    pub fn changed(&self) -> &[FlowId] {
        &self.changed
    }

    /// Sets the rates of all flows that a change since the last solution can reach.
    pub fn solve(&mut self) {
        self.changed.clear();
        if self.dirty.is_empty() {
            return;
        }
        self.solution += 1;
        for index in 0..self.dirty.len() {
            let link = self.dirty[index];
            self.links[link as usize].dirty = false;
            if self.reached[link as usize] != self.solution {
                self.gather(link);
                self.fill();
            }
        }
        self.dirty.clear();
    }

    /// Collects everything that is connected with `link`.
    fn gather(&mut self, link: u32) {
        self.component_links.clear();
        self.component_flows.clear();
        self.reached[link as usize] = self.solution;
        self.component_links.push(link);
        let mut next = 0;
        while let Some(&link) = self.component_links.get(next) {
            next += 1;
            for &(flow, _) in &self.links[link as usize].flows {
                let state = &mut self.flows[flow as usize];
                if state.reached == self.solution {
                    continue;
                }
                state.reached = self.solution;
                self.component_flows.push(flow);
                for hop in &state.route {
                    let reached = &mut self.reached[hop.link as usize];
                    if *reached != self.solution {
                        *reached = self.solution;
                        self.component_links.push(hop.link);
                    }
                }
            }
        }
    }

    /// Lets the water rise over the component.
    fn fill(&mut self) {
        let mut levels = std::mem::take(&mut self.levels).into_vec();
        levels.clear();
        for &place in &self.component_links {
            let link = &mut self.links[place as usize];
            (link.left, link.open) = (link.capacity, link.flows.len() as u32);
            link.weight = link.flows.iter().map(|(_, share)| share).sum();
            link.summed = link.weight;
            if link.open > 0 {
                levels.push(level_at(link.left / link.weight, place));
            }
        }
        let links = self.links.len() as u32;
        for &flow in &self.component_flows {
            let limit = self.flows[flow as usize].limit;
            if limit.is_finite() {
                levels.push(level_at(limit, links + flow));
            }
        }
        let mut levels = BinaryHeap::from(levels);
        self.unsettled = self.component_flows.len();
        // Links that are never full remain, and nobody needs their levels in order.
        while self.unsettled > 0
            && let Some(mut lowest) = levels.peek_mut()
        {
            let (level, place) = level_and_place(*lowest);
            if place >= links {
                PeekMut::pop(lowest);
                self.settle(place - links, level);
                continue;
            }
            if self.links[place as usize].open == 0 {
                PeekMut::pop(lowest);
                continue;
            }
            let now = self.level(place).max(level);
            if now > level {
                *lowest = level_at(now, place);
                continue;
            }
            PeekMut::pop(lowest);
            for index in 0..self.links[place as usize].flows.len() {
                let (flow, _) = self.links[place as usize].flows[index];
                self.settle(flow, level);
            }
        }
        self.levels = levels;
    }

    /// The level at which `link` is full, with what has stopped so far.
    fn level(&mut self, place: u32) -> f64 {
        let link = &mut self.links[place as usize];
        if link.weight < SHRUNK * link.summed {
            let open = link.flows.iter().filter(|(flow, _)| {
                let flow = &self.flows[*flow as usize];
                flow.settled != self.solution
            });
            link.weight = open.map(|(_, share)| share).sum();
            link.summed = link.weight;
        }
        link.left.max(0.0) / link.weight
    }

    /// Stops a flow at `rate`, unless it has stopped already.
    fn settle(&mut self, flow: u32, rate: f64) {
        let state = &mut self.flows[flow as usize];
        if state.settled == self.solution {
            return;
        }
        state.settled = self.solution;
        self.unsettled -= 1;
        for hop in &state.route {
            let link = &mut self.links[hop.link as usize];
            link.open -= 1;
            link.weight -= hop.share;
            // Links without end stay so; infinity less infinity would be no number.
            if link.left.is_finite() {
                link.left -= hop.share * rate;
            }
        }
        if state.rate != rate {
            state.rate = rate;
            self.changed.push(FlowId(flow));
        }
    }

    fn attach(&mut self, flow: u32) {
        let state = &mut self.flows[flow as usize];
        state.attached = true;
        for hop in &state.route {
            let link = &mut self.links[hop.link as usize];
            let place = link.flows.partition_point(|(other, _)| *other < flow);
            link.flows.insert(place, (flow, hop.share));
            mark(&mut self.dirty, link, hop.link);
        }
    }

    fn detach(&mut self, flow: u32) {
        let state = &mut self.flows[flow as usize];
        if !std::mem::replace(&mut state.attached, false) {
            return;
        }
        for hop in &state.route {
            let link = &mut self.links[hop.link as usize];
            let place = link.flows.partition_point(|(other, _)| *other < flow);
            link.flows.remove(place);
            mark(&mut self.dirty, link, hop.link);
        }
    }

    fn touch(&mut self, flow: u32) {
        for hop in &self.flows[flow as usize].route {
            mark(&mut self.dirty, &mut self.links[hop.link as usize], hop.link);
        }
    }
}

fn mark(dirty: &mut Vec<u32>, link: &mut Link, place: u32) {
    if !std::mem::replace(&mut link.dirty, true) {
        dirty.push(place);
    }
}

fn checked(rate: f64) -> f64 {
    assert!(rate >= 0.0, "a rate of {rate}");
    rate
}
