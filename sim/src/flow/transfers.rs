//! Amounts that flows have to move, and the instants at which they have moved them.
//!
//! An amount is in the unit of the links' capacities. What a flow has left is worked out when its
//! rate changes, and when it ends; in between nothing is done, however long. Changes at one
//! instant are solved together.

use moecast_profiles::units::{Nanos, SimTime};

use super::soonest::{NEVER, Soonest};
use super::{FlowId, Sharing};

#[derive(Clone, Copy, Debug)]
struct Transfer {
    /// Amount still to move at `since`, and the rate from then on.
    left: f64,
    rate: f64,
    since: SimTime,
    /// Whether its latency has not passed yet.
    waits: bool,
}

/// Flows over time: how much is left of each, and which ends first.
///
/// The caller's clock leads: whatever it does to a flow or link has a time, and times never run
/// back. Before it goes to a later instant it asks [`Self::next_end`] for what ends until then:
///
/// ```
/// use moecast_profiles::units::{Nanos, SimTime};
/// use moecast_sim::flow::Transfers;
///
/// // One link of 2 bytes a nanosecond; a flow of 100 bytes, and 10 ns later one of 10.
/// let mut transfers = Transfers::new(vec![2.0]);
/// let long = transfers.start(SimTime(0), 100.0, Nanos(0), &[(0, 1.0)]);
/// assert_eq!(transfers.next_end(SimTime(10)), None);
/// let short = transfers.start(SimTime(10), 10.0, Nanos(0), &[(0, 1.0)]);
/// // Each has 1 byte a nanosecond until the short one ends.
/// assert_eq!(transfers.next_end(SimTime(1000)), Some((SimTime(20), short)));
/// transfers.end(short, SimTime(20));
/// assert_eq!(transfers.next_end(SimTime(1000)), Some((SimTime(55), long)));
/// ```
#[derive(Clone, Debug)]
pub struct Transfers {
    sharing: Sharing,
    /// By flow.
    transfers: Vec<Transfer>,
    /// End of every flow, or of its latency.
    ends: Soonest,
    /// By link.
    carried: Vec<f64>,
    /// Since when the links have been as they are.
    clock: SimTime,
}

impl Transfers {
    /// Links of `capacities`, and no flows.
    #[must_use]
    pub fn new(capacities: Vec<f64>) -> Self {
        Self {
            carried: vec![0.0; capacities.len()],
            sharing: Sharing::new(capacities),
            transfers: Vec::new(),
            ends: Soonest::default(),
            clock: SimTime(0),
        }
    }

    /// Starts a flow that moves nothing for `latency`, then `amount` at the rate that it shares
    /// with others; for `route` see [`Sharing::start`]. Without a route the amount moves at once.
    ///
    /// # Panics
    /// When `now` is before an earlier call, or a flow has ended before `now` that was not taken
    /// out: broken invariants of the caller.
    pub fn start(
        &mut self,
        now: SimTime,
        amount: f64,
        latency: Nanos,
        route: &[(u32, f64)],
    ) -> FlowId {
        assert!(amount >= 0.0 && amount.is_finite(), "an amount of {amount}");
        self.run_to(now);
        let flow = self.sharing.start(route, 0.0);
        let transfer = Transfer { left: amount, rate: 0.0, since: now, waits: true };
        if flow.index() == self.transfers.len() {
            self.transfers.push(transfer);
        } else {
            self.transfers[flow.index()] = transfer;
        }
        self.ends.set(flow.index(), now.0.saturating_add(latency.0));
        if latency == Nanos(0) {
            self.begin(flow);
        }
        flow
    }

    /// The flow that ends first, if that is at or before `until`; it is named again until
    /// [`Self::end`]. Flows that end together are named by number.
    ///
    /// Nothing else may happen before `until`: latencies that end by then are let pass.
    pub fn next_end(&mut self, until: SimTime) -> Option<(SimTime, FlowId)> {
        loop {
            let (time, flow) = self.next()?;
            if time > until {
                return None;
            }
            if !self.transfers[flow.index()].waits {
                return Some((time, flow));
            }
            self.clock = self.clock.max(time);
            self.begin(flow);
        }
    }

    /// When something next changes in here by itself: a flow or a latency ends.
    pub fn next_change(&mut self) -> Option<SimTime> {
        self.next().map(|(time, _)| time)
    }

    /// Takes a flow out, ended or not; gives the amount that it had left.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn end(&mut self, flow: FlowId, now: SimTime) -> f64 {
        self.run_on(now, Some(flow));
        self.solve();
        self.settle(flow, now);
        self.sharing.stop(flow);
        self.ends.set(flow.index(), NEVER);
        let transfer = &mut self.transfers[flow.index()];
        (transfer.rate, transfer.waits) = (0.0, false);
        transfer.left
    }

    /// Changes the capacity of a link from `now` on.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn set_capacity(&mut self, now: SimTime, link: u32, capacity: f64) {
        self.run_to(now);
        self.sharing.set_capacity(link, capacity);
    }

    /// Amount that every link has carried until `now`; over time and capacity it is utilisation.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn carried(&mut self, now: SimTime) -> &[f64] {
        self.run_to(now);
        self.solve();
        for flow in 0..self.transfers.len() {
            // Flows that were taken out have no rate any more.
            self.settle(FlowId(flow as u32), now);
        }
        &self.carried
    }

    /// The present rate of a flow: 0 while its latency lasts.
    pub fn rate(&mut self, flow: FlowId) -> f64 {
        self.solve();
        self.transfers[flow.index()].rate
    }

    /// The present load of a link.
    pub fn load(&mut self, link: u32) -> f64 {
        self.solve();
        self.sharing.load(link)
    }

    /// What changes first. Latencies that end at the clock pass before rates are worked out.
    fn next(&mut self) -> Option<(SimTime, FlowId)> {
        loop {
            let first = self.ends.first();
            if let Some((time, flow)) = first
                && time <= self.clock.0
                && self.transfers[flow].waits
            {
                self.begin(FlowId(flow as u32));
            } else if self.sharing.is_dirty() {
                self.solve();
            } else {
                return first.map(|(time, flow)| (SimTime(time), FlowId(flow as u32)));
            }
        }
    }

    fn run_to(&mut self, now: SimTime) {
        self.run_on(now, None);
    }

    /// Lets latencies pass until `now`, and sets the clock; `taken` alone may have ended before.
    fn run_on(&mut self, now: SimTime, taken: Option<FlowId>) {
        let clock = self.clock;
        assert!(now >= clock, "a change at {} ns, and it is {} ns already", now.0, clock.0);
        while now > self.clock {
            let Some((time, flow)) = self.next().filter(|(time, _)| *time < now) else {
                self.clock = now;
                return;
            };
            if self.transfers[flow.index()].waits {
                self.clock = self.clock.max(time);
                self.begin(flow);
                continue;
            }
            let ended = format_args!("flow {} ended at {} ns", flow.0, time.0);
            assert!(taken == Some(flow), "{ended}, and it is {} ns already", now.0);
            self.settle(flow, time);
            self.ends.set(flow.index(), NEVER);
        }
    }

    /// The latency of a flow is over: it takes part from the clock on.
    fn begin(&mut self, flow: FlowId) {
        self.sharing.set_limit(flow, f64::INFINITY);
        let rate = self.sharing.rate(flow);
        let transfer = &mut self.transfers[flow.index()];
        (transfer.waits, transfer.since, transfer.rate) = (false, self.clock, rate);
        self.ends.set(flow.index(), transfer.end());
    }

    /// Works out the rates from the clock on.
    fn solve(&mut self) {
        if !self.sharing.is_dirty() {
            return;
        }
        self.sharing.solve();
        for index in 0..self.sharing.changed().len() {
            let flow = self.sharing.changed()[index];
            self.settle(flow, self.clock);
            let transfer = &mut self.transfers[flow.index()];
            transfer.rate = self.sharing.rate(flow);
            self.ends.set(flow.index(), transfer.end());
        }
    }

    /// Moves what a flow has moved until `now` from what is left to what was carried.
    fn settle(&mut self, flow: FlowId, now: SimTime) {
        let end = self.ends.get(flow.index());
        let transfer = &mut self.transfers[flow.index()];
        if transfer.waits {
            return;
        }
        // The end was rounded up to a nanosecond: there, all has moved.
        let moved = if now.0 >= end {
            transfer.left
        } else {
            (transfer.rate * (now.since(transfer.since)).0 as f64).min(transfer.left)
        };
        transfer.left -= moved;
        transfer.since = now;
        if moved > 0.0 {
            for (link, share) in self.sharing.route(flow) {
                self.carried[link as usize] += moved * share;
            }
        }
    }
}

impl Transfer {
    /// When it ends at its present rate.
    fn end(&self) -> u64 {
        if self.left <= 0.0 {
            return self.since.0;
        }
        let nanos = (self.left / self.rate).ceil();
        // A rate of zero, or next to it: not in this run.
        if nanos < NEVER as f64 { self.since.0.saturating_add(nanos as u64) } else { NEVER }
    }
}
