//! What a simulated server is offered: requests that come when they come, or clients that wait
//! for their answers.

use super::trace::{RequestHeader, RequestTrace};

/// Requests, and what makes them arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Load {
    /// Every request arrives at its time, however busy the server is.
    Open(RequestTrace),
    /// Every client sends its next request when its last one is answered.
    Closed(ClosedLoop),
}

/// Lengths of a request that has no arrival yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLengths {
    /// Tokens of the prompt, at least 1.
    pub input_tokens: u32,
    /// Tokens of the answer, at least 1.
    pub output_tokens: u32,
}

/// A fixed number of clients, each with one request in the system at a time: a plan without
/// times, since they depend on the server. All clients send their first request at 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedLoop {
    pub(super) header: RequestHeader,
    pub(super) clients: u32,
    /// `[turn][client]`, so that more turns leave the earlier ones as they were.
    pub(super) requests: Vec<RequestLengths>,
}

impl ClosedLoop {
    /// What made it.
    #[must_use]
    pub fn header(&self) -> &RequestHeader {
        &self.header
    }

    /// Requests in the system at a time, at least 1.
    #[must_use]
    pub fn clients(&self) -> u32 {
        self.clients
    }

    /// Requests that each client sends one after the other, at least 1.
    #[must_use]
    pub fn requests_per_client(&self) -> u32 {
        let turns = self.requests.len() / self.clients as usize;
        u32::try_from(turns).expect("made from a 32-bit number of turns")
    }

    /// The request that `client` sends in its turn `turn`, both from 0.
    #[must_use]
    pub fn request(&self, client: u32, turn: u32) -> RequestLengths {
        assert!(client < self.clients, "client {client} of {}", self.clients);
        self.requests[turn as usize * self.clients as usize + client as usize]
    }

    /// The same clients, spread over a turn from the start: the first answers are cut so that
    /// their ends lie apart, as those of clients do that have been at it for long.
    #[must_use]
    pub fn staggered(mut self) -> Self {
        let clients = self.clients as usize;
        for (number, request) in self.requests[..clients].iter_mut().enumerate() {
            let part = u64::from(request.output_tokens) * (number as u64 + 1);
            let part = part.div_ceil(u64::from(self.clients));
            request.output_tokens = u32::try_from(part).expect("no more than before");
        }
        self
    }

    /// All requests, turn by turn and client by client: where clients draw from one queue, this
    /// is its order.
    #[must_use]
    pub fn requests(&self) -> &[RequestLengths] {
        &self.requests
    }
}
