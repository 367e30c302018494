//! Requests in the system, and the store that holds them: memory follows the requests that are
//! there, not those that were.

use moecast_profiles::units::SimTime;

/// Index into [`Sequences`].
pub(crate) type Key = u32;

/// One request from its sending to its last token.
#[derive(Clone, Debug)]
pub(crate) struct Sequence<'a> {
    pub(crate) id: u64,
    /// When its client sent it.
    pub(crate) sent: SimTime,
    /// When it reached the scheduler.
    pub(crate) reached: SimTime,
    pub(crate) input: u32,
    pub(crate) output: u32,
    /// Shared blocks of its prompt that are whole.
    pub(crate) prefix: &'a [u32],
    /// Recorded request whose routing it borrows.
    pub(crate) borrowed: u32,
    /// Tokens that must be read before the next token is made: the prompt, and what was made
    /// before its cache was lost.
    pub(crate) target: u32,
    /// Tokens in the cache.
    pub(crate) kv_tokens: u32,
    /// Tokens whose cache waits elsewhere: in host memory, or on the way from another pool.
    pub(crate) stored: u32,
    pub(crate) generated: u32,
    /// Private blocks, and shared prefixes.
    pub(crate) blocks: u64,
    pub(crate) held: usize,
    pub(crate) cached_tokens: u32,
    pub(crate) started: Option<SimTime>,
    pub(crate) first_token: SimTime,
    pub(crate) last_token: SimTime,
    pub(crate) preemptions: u32,
    /// How often its rank was lost.
    pub(crate) retries: u32,
    pub(crate) lane: u16,
    /// Whether a pass that works on it is under way.
    pub(crate) in_pass: bool,
}

impl Sequence<'_> {
    /// Whether its prompt has been read.
    pub(crate) fn decodes(&self) -> bool {
        self.kv_tokens >= self.target
    }

    /// Tokens still to be read.
    pub(crate) fn unread(&self) -> u32 {
        self.target.saturating_sub(self.kv_tokens)
    }
}

/// A slab of sequences.
#[derive(Default)]
pub(crate) struct Sequences<'a> {
    places: Vec<Option<Sequence<'a>>>,
    free: Vec<Key>,
}

impl<'a> Sequences<'a> {
    pub(crate) fn insert(&mut self, sequence: Sequence<'a>) -> Key {
        if let Some(key) = self.free.pop() {
            self.places[key as usize] = Some(sequence);
            return key;
        }
        self.places.push(Some(sequence));
        Key::try_from(self.places.len() - 1).expect("fewer than 2^32 requests at a time")
    }

    pub(crate) fn remove(&mut self, key: Key) -> Sequence<'a> {
        self.free.push(key);
        self.places[key as usize].take().expect("a request that is there")
    }

    pub(crate) fn get(&self, key: Key) -> &Sequence<'a> {
        self.places[key as usize].as_ref().expect("a request that is there")
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> &mut Sequence<'a> {
        self.places[key as usize].as_mut().expect("a request that is there")
    }

    /// Requests in the system.
    pub(crate) fn count(&self) -> usize {
        self.places.len() - self.free.len()
    }
}
