//! Times between tokens, told to an observer.

use moecast_profiles::units::Nanos;

use super::record::Observer;

/// Tells gaps between tokens in runs of equal ones: requests that share passes share gaps.
#[derive(Default)]
pub(super) struct Gaps {
    gap: Nanos,
    count: u32,
    /// Tokens that came with another one.
    together: u32,
}

impl Gaps {
    pub(super) fn add(&mut self, observer: &mut dyn Observer, gap: Nanos, made: u32) {
        if gap != self.gap {
            self.flush(observer);
            self.gap = gap;
        }
        self.count += 1;
        self.together += made - 1;
    }

    fn flush(&mut self, observer: &mut dyn Observer) {
        if self.count > 0 {
            observer.token_gaps(self.gap, self.count);
        }
        self.count = 0;
    }

    pub(super) fn tell(mut self, observer: &mut dyn Observer) {
        self.flush(observer);
        if self.together > 0 {
            observer.token_gaps(Nanos(0), self.together);
        }
    }
}
