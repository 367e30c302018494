//! Ranges as typed: `3..9`, `3..`, `..9`; the end is not part of them.

use std::ops::Range;
use std::str::FromStr;

/// A range of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span<T>(pub(crate) Range<T>);

/// The numbers that ranges are of.
pub(crate) trait Number: FromStr + PartialOrd {
    const LOW: Self;
    const HIGH: Self;
}

impl Number for u16 {
    const LOW: Self = 0;
    const HIGH: Self = Self::MAX;
}

impl Number for u32 {
    const LOW: Self = 0;
    const HIGH: Self = Self::MAX;
}

impl<T: Number> FromStr for Span<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}`; expected A..B with A below B, A.. or ..B");
        let (start, end) = text.split_once("..").ok_or_else(wrong)?;
        let bound = |text: &str, open: T| {
            if text.is_empty() { Ok(open) } else { text.parse().map_err(|_| wrong()) }
        };
        let (start, end) = (bound(start, T::LOW)?, bound(end, T::HIGH)?);
        if start < end { Ok(Self(start..end)) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_typed() {
        let read = |text: &str| text.parse::<Span<u16>>().map(|span| span.0);
        assert_eq!(read("3..9"), Ok(3..9));
        assert_eq!(read("3.."), Ok(3..u16::MAX));
        assert_eq!(read("..9"), Ok(0..9));
        for wrong in ["", "3", "9..3", "3..3", "a..b", "3..=9", "1..70000", "-1..4"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
