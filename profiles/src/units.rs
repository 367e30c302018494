//! Quantities with units, and the only conversions between them.
//!
//! Durations and sizes that leave a function are integers and are rounded up here, nowhere else.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul, Sub};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Error;

/// A duration in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

/// An instant on the simulated clock, in nanoseconds since the start of the run.
///
/// Instant plus instant does not compile; instant plus [`Nanos`] does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SimTime(pub u64);

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// Bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bandwidth(pub u64);

/// Floating point operations per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flops(pub u64);

/// Power, in whole watts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Watts(pub u64);

impl Nanos {
    /// Rounds a float of nanoseconds up. Negative and non-finite values are a broken invariant.
    #[must_use]
    pub fn ceil_from(nanos: f64) -> Self {
        assert!(nanos.is_finite() && nanos >= 0.0, "a duration of {nanos} ns");
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked above"
        )]
        Self(nanos.ceil() as u64)
    }

    /// Microseconds, for display and reports only.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "display only")]
    pub fn as_micros(self) -> f64 {
        self.0 as f64 / 1e3
    }
}

impl SimTime {
    /// The time from `earlier` to `self`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Nanos {
        assert!(self >= earlier, "time ran back from {} ns to {} ns", earlier.0, self.0);
        Nanos(self.0 - earlier.0)
    }
}

impl Bandwidth {
    /// How long `bytes` take at this bandwidth, rounded up to the next nanosecond.
    #[must_use]
    pub fn time_for(self, bytes: Bytes) -> Nanos {
        assert!(self.0 > 0, "a bandwidth of zero moves no bytes");
        let nanos = (u128::from(bytes.0) * 1_000_000_000).div_ceil(u128::from(self.0));
        Nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// This bandwidth times a share between 0 and 1 (an efficiency), rounded down.
    #[must_use]
    pub fn scaled(self, share: f64) -> Self {
        Self(scale(self.0, share))
    }
}

impl Flops {
    /// How long `operations` take at this rate, rounded up to the next nanosecond.
    #[must_use]
    pub fn time_for(self, operations: u128) -> Nanos {
        assert!(self.0 > 0, "a rate of zero computes nothing");
        let nanos = (operations * 1_000_000_000).div_ceil(u128::from(self.0));
        Nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// This rate times a share between 0 and 1 (an efficiency), rounded down.
    #[must_use]
    pub fn scaled(self, share: f64) -> Self {
        Self(scale(self.0, share))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "rates are far below 2^53 relative precision; the share is checked"
)]
fn scale(rate: u64, share: f64) -> u64 {
    assert!(share > 0.0 && share <= 1.0, "an efficiency of {share}");
    ((rate as f64 * share) as u64).max(1)
}

macro_rules! sums {
    ($($name:ident)+) => {$(
        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                self.0 += other.0;
            }
        }
        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }
        impl Mul<u64> for $name {
            type Output = Self;
            fn mul(self, factor: u64) -> Self {
                Self(self.0 * factor)
            }
        }
        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
                Self(iter.map(|value| value.0).sum())
            }
        }
    )+};
}
sums!(Nanos Bytes);

impl Add<Nanos> for SimTime {
    type Output = Self;
    fn add(self, duration: Nanos) -> Self {
        Self(self.0 + duration.0)
    }
}

/// One unit: its name and how many base units it is.
type Unit = (&'static str, f64);

const NANOS_UNITS: &[Unit] = &[("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];
const BYTES_UNITS: &[Unit] = &[
    ("B", 1.0),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
];
const BANDWIDTH_UNITS: &[Unit] = &[
    ("B/s", 1.0),
    ("MB/s", 1e6),
    ("GB/s", 1e9),
    ("TB/s", 1e12),
    ("Gbit/s", 1.25e8),
    ("GiB/s", 1_073_741_824.0),
];
const FLOPS_UNITS: &[Unit] =
    &[("FLOP/s", 1.0), ("GFLOP/s", 1e9), ("TFLOP/s", 1e12), ("PFLOP/s", 1e15)];
const WATTS_UNITS: &[Unit] = &[("W", 1.0), ("kW", 1e3)];

fn parse(
    text: &str,
    what: &'static str,
    example: &'static str,
    units: &[Unit],
) -> Result<u64, Error> {
    let error = |found: String| Error::Quantity { text: text.to_owned(), what, found, example };
    let trimmed = text.trim();
    let split = trimmed
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .ok_or_else(|| error("it has no unit".to_owned()))?;
    let (number, unit) = (trimmed[..split].trim(), trimmed[split..].trim());
    let value: f64 =
        number.parse().map_err(|_| error(format!("`{number}` is not a positive number")))?;
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let factor = factor.ok_or_else(|| {
        let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
        error(format!("`{unit}` is none of the units {}", names.join(", ")))
    })?;
    let base = (value * factor).round();
    if base < 9.2e18 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
        Ok(base as u64)
    } else {
        Err(error("it is too large".to_owned()))
    }
}

/// The largest unit in which the value is at least one; lossy on purpose.
#[expect(clippy::cast_precision_loss, reason = "display only")]
fn show(f: &mut fmt::Formatter<'_>, value: u64, units: &[Unit]) -> fmt::Result {
    let value = value as f64;
    let (name, factor) =
        units.iter().rev().find(|(_, factor)| value >= *factor).unwrap_or(&units[0]);
    let scaled = value / factor;
    let digits = if scaled >= 100.0 || scaled.fract() == 0.0 { 0 } else { 2 };
    write!(f, "{scaled:.digits$} {name}")
}

/// The exact text of a value: the largest unit that divides it.
#[expect(clippy::cast_precision_loss, reason = "checked to be exact by the round trip")]
fn exact(value: u64, units: &[Unit]) -> String {
    let by_factor = units.iter().rev().find_map(|(name, factor)| {
        let scaled = value as f64 / factor;
        let whole = scaled.fract() == 0.0 && (1.0..1e6).contains(&scaled);
        whole.then(|| format!("{scaled} {name}"))
    });
    by_factor.unwrap_or_else(|| format!("{value} {}", units[0].0))
}

macro_rules! quantity {
    ($name:ident, $what:literal, $example:literal, $units:ident, $shown:expr) => {
        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                parse(text, $what, $example, $units).map(Self)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                show(f, self.0, $shown)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&exact(self.0, $units))
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}
quantity!(Nanos, "a duration", "\"2 ms\"", NANOS_UNITS, NANOS_UNITS);
quantity!(Bytes, "a size", "\"80 GiB\"", BYTES_UNITS, &BYTES_UNITS[..5]);
quantity!(Bandwidth, "a bandwidth", "\"900 GB/s\"", BANDWIDTH_UNITS, &BANDWIDTH_UNITS[..4]);
quantity!(Flops, "a rate", "\"989 TFLOP/s\"", FLOPS_UNITS, FLOPS_UNITS);
quantity!(Watts, "a power", "\"700 W\"", WATTS_UNITS, &WATTS_UNITS[..1]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_for_rounds_up() {
        // 10 bytes at 3 GB/s are 3.33 ns: the next whole nanosecond is 4.
        assert_eq!(Bandwidth(3_000_000_000).time_for(Bytes(10)), Nanos(4));
        assert_eq!(Bandwidth(3_000_000_000).time_for(Bytes(0)), Nanos(0));
        assert_eq!(Flops(1_000).time_for(1), Nanos(1_000_000));
    }

    #[test]
    fn text_round_trips_exactly() {
        for text in ["141 GB", "80 GiB", "1 B", "1234567 B"] {
            let value: Bytes = text.parse().unwrap();
            assert_eq!(exact(value.0, BYTES_UNITS).parse::<Bytes>().unwrap(), value, "{text}");
        }
        assert_eq!("400 Gbit/s".parse::<Bandwidth>().unwrap(), Bandwidth(50_000_000_000));
        assert_eq!("1.2 kW".parse::<Watts>().unwrap().to_string(), "1200 W");
        assert_eq!("4.8 TB/s".parse::<Bandwidth>().unwrap().to_string(), "4.80 TB/s");
    }

    #[test]
    fn wrong_text_says_what_would_be_right() {
        let error = "900".parse::<Bandwidth>().unwrap_err().to_string();
        assert_eq!(error, "read `900` as a bandwidth: it has no unit; write it like \"900 GB/s\"");
        let error = "9 parsec".parse::<Nanos>().unwrap_err().to_string();
        assert!(error.contains("`parsec` is none of the units ns, us, ms, s"), "{error}");
        assert!("-1 B".parse::<Bytes>().is_err());
        assert!("99999999999999 TB".parse::<Bytes>().is_err());
    }

    #[test]
    #[should_panic(expected = "time ran back")]
    fn time_does_not_run_back() {
        let _ = SimTime(1).since(SimTime(2));
    }
}
