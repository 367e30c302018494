//! Flows over links that they share: who gets how much, and what ends first.
//!
//! [`Sharing`] divides the capacities of links among flows by max-min fairness: no flow can get
//! more without taking from one that has no more than it. [`Transfers`] lets time pass over it:
//! amounts to move, latencies, and the instant at which each flow has moved its amount. Both know
//! numbers of links and flows only; what a link is called, and which flow is whose, is the
//! caller's.
//!
//! Max-min fairness is how concurrent streams of one kind share ports in the mean; it has no
//! packets, queues or congestion control (as in SimGrid: Velho, Schnorr, Casanova and Legrand,
//! "On the validity of flow-level TCP network models", ACM TOMACS 23(4), 2013).

mod sharing;
mod soonest;
#[cfg(test)]
mod tests;
mod transfers;

pub use sharing::Sharing;
pub use transfers::Transfers;

/// A flow; the number of one that was stopped is given again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FlowId(u32);

impl FlowId {
    /// Its number: small, for tables by flow.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
