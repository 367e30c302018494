//! Which replica gets a request.

use moecast_profiles::registry::{UnknownName, find as find_entry};

/// What a router knows of a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Requests there, waiting and running.
    pub requests: u32,
    /// Tokens of prompts that are still to be read there.
    pub unread_tokens: u64,
    /// Tokens of this request's prompt that its cache holds.
    pub matched_tokens: u32,
}

/// Picks replicas; sees only the past.
pub trait Router: Send {
    /// The index of the replica that serves a request with a prompt of `input_tokens`; `replicas`
    /// is never empty.
    fn pick(&mut self, input_tokens: u32, replicas: &[View]) -> usize;
}

/// A router that users pick by name.
pub struct Entry {
    /// Name as typed.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Makes one.
    pub build: fn() -> Box<dyn Router>,
}

moecast_profiles::named!(Entry);

/// Every router, alphabetical.
pub const ALL: &[Entry] = &[
    Entry {
        name: "least-loaded",
        about: "the replica with the fewest unread tokens, then the fewest requests",
        build: || Box::new(LeastLoaded),
    },
    Entry {
        name: "prefix-aware",
        about: "the replica that holds most of the prompt, unless it is far busier than others",
        build: || Box::new(PrefixAware),
    },
    Entry {
        name: "round-robin",
        about: "each replica in turn",
        build: || Box::new(RoundRobin { next: 0 }),
    },
];

/// Finds a router by name.
///
/// # Errors
/// [`UnknownName`] lists the valid names.
pub fn find(name: &str) -> Result<&'static Entry, UnknownName> {
    find_entry("router", ALL, name)
}

struct RoundRobin {
    next: usize,
}

impl Router for RoundRobin {
    fn pick(&mut self, _: u32, replicas: &[View]) -> usize {
        let picked = self.next % replicas.len();
        self.next = picked + 1;
        picked
    }
}

struct LeastLoaded;

impl Router for LeastLoaded {
    fn pick(&mut self, _: u32, replicas: &[View]) -> usize {
        least_loaded(replicas)
    }
}

fn least_loaded(replicas: &[View]) -> usize {
    let load = |index: &usize| (replicas[*index].unread_tokens, replicas[*index].requests);
    (0..replicas.len()).min_by_key(load).expect("never empty")
}

/// As SGLang's router: the best match while loads are balanced, the least loaded otherwise.
struct PrefixAware;

/// Loads are out of balance when the busiest has more than this many requests more than the
/// idlest, and more than so many times as many (SGLang router: 32 and 1.5 by its documentation).
const MORE_REQUESTS: u32 = 32;
const TIMES_PER_HUNDRED: u64 = 150;

impl Router for PrefixAware {
    fn pick(&mut self, _: u32, replicas: &[View]) -> usize {
        let requests = || replicas.iter().map(|view| view.requests);
        let (most, least) = (requests().max().unwrap_or(0), requests().min().unwrap_or(0));
        let apart = most - least > MORE_REQUESTS
            && u64::from(most) * 100 > u64::from(least) * TIMES_PER_HUNDRED;
        let best = replicas.iter().map(|view| view.matched_tokens).max().unwrap_or(0);
        if apart || best == 0 {
            return least_loaded(replicas);
        }
        let load = |index: &usize| (replicas[*index].unread_tokens, replicas[*index].requests);
        let holders = (0..replicas.len()).filter(|index| replicas[*index].matched_tokens == best);
        holders.min_by_key(load).expect("somebody holds the best match")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_router_names_a_replica() {
        for entry in ALL {
            let mut router = (entry.build)();
            for replicas in 1..5 {
                let views = vec![View::default(); replicas];
                assert!(router.pick(100, &views) < replicas, "{}", entry.name);
            }
        }
    }

    #[test]
    fn a_prefix_wins_until_its_replica_is_far_busier() {
        let mut views = [View { requests: 10, matched_tokens: 512, ..View::default() }; 2];
        views[0] = View { requests: 0, ..View::default() };
        assert_eq!(PrefixAware.pick(600, &views), 1);
        views[1].requests = 40;
        assert_eq!(PrefixAware.pick(600, &views), 0);
        assert_eq!(LeastLoaded.pick(600, &views), 0);
    }
}
