//! Numbers as people read them.

/// What stands where there is no number.
const NONE: &str = "n/a";

/// A unit that suits the size of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Unit {
    pub(crate) name: &'static str,
    /// How many base units it is.
    pub(crate) size: f64,
}

const TIMES: [Unit; 3] =
    [Unit { name: "µs", size: 1.0 }, Unit { name: "ms", size: 1e3 }, Unit { name: "s", size: 1e6 }];

const BYTES: [Unit; 6] = [
    Unit { name: "B", size: 1.0 },
    Unit { name: "kB", size: 1e3 },
    Unit { name: "MB", size: 1e6 },
    Unit { name: "GB", size: 1e9 },
    Unit { name: "TB", size: 1e12 },
    Unit { name: "PB", size: 1e15 },
];

fn suited(units: &[Unit], max: f64) -> Unit {
    *units.iter().rev().find(|unit| max.abs() >= unit.size).unwrap_or(&units[0])
}

/// The unit for times up to `max` microseconds.
pub(crate) fn time_unit(max: f64) -> Unit {
    suited(&TIMES, max)
}

/// The unit for amounts up to `max` bytes.
pub(crate) fn byte_unit(max: f64) -> Unit {
    suited(&BYTES, max)
}

/// `value` base units in `unit`, three digits and the unit's name.
pub(crate) fn with_unit(value: f64, unit: Unit) -> String {
    match value.is_finite() {
        true => format!("{} {}", significant(value / unit.size), unit.name),
        false => NONE.to_owned(),
    }
}

/// Three significant digits: 0.0123, 1.23, 12.3, 123, 12,345.
pub(crate) fn significant(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        NONE.to_owned()
    } else if size == 0.0 {
        "0".to_owned()
    } else if !(1e-4..1e15).contains(&size) {
        signed(value, format!("{size:.2e}"))
    } else if size >= 99.95 {
        signed(value, count(size.round() as u64))
    } else {
        with_places(value, places(size))
    }
}

/// Decimal places that leave three significant digits of `size`; 2 where it is no number.
pub(crate) fn places(size: f64) -> usize {
    // Where the rounding adds a digit (9.996 is 10.0), one place less is left.
    let rounded = |places: i32| (size * 10_f64.powi(places)).round() / 10_f64.powi(places);
    let enough = (0..=6).find(|&places| rounded(places) >= 10_f64.powi(2 - places));
    enough.map_or(2, |places| places as usize)
}

/// A number with so many decimal places.
pub(crate) fn with_places(value: f64, places: usize) -> String {
    match value.is_finite() {
        true if value.abs() < 1e6 => signed(value, format!("{:.places$}", value.abs())),
        _ => significant(value),
    }
}

/// A ratio, to two places.
pub(crate) fn ratio(value: f64) -> String {
    match value.is_finite() {
        true if value.abs() < 1e4 => signed(value, format!("{:.2}", value.abs())),
        _ => significant(value),
    }
}

/// A share as percent, to one place.
pub(crate) fn percent(share: f64) -> String {
    match share.is_finite() {
        true if share.abs() < 1e4 => signed(share, format!("{:.1}%", share.abs() * 100.0)),
        true => format!("{}%", significant(share * 100.0)),
        false => NONE.to_owned(),
    }
}

/// The change from `first` to `value` with its sign; `None` where nothing can be compared.
pub(crate) fn change(first: f64, value: f64) -> Option<String> {
    let share = (value - first) / first;
    if !share.is_finite() || first <= 0.0 {
        None
    } else if share.abs() < 5e-4 {
        Some("±0.0%".to_owned())
    } else {
        let sign = if share > 0.0 { "+" } else { "" };
        Some(format!("{sign}{}", percent(share)))
    }
}

/// A whole number with commas between the thousands.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A minus that is as wide as a plus.
fn signed(value: f64, size: String) -> String {
    let zero = size.chars().all(|c| !c.is_ascii_digit() || c == '0');
    if value < 0.0 && !zero { format!("−{size}") } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_at_every_size() {
        let texts = [0.0, 0.0123, 0.999_9, 1.234, 9.999, 99.99, 123.4, 12_345.6, -4.5, 1e300];
        let shown: Vec<String> = texts.into_iter().map(significant).collect();
        assert_eq!(
            shown,
            ["0", "0.0123", "1.00", "1.23", "10.0", "100", "123", "12,346", "−4.50", "1.00e300"]
        );
    }

    #[test]
    fn what_is_no_number_says_so() {
        for text in [significant(f64::NAN), ratio(f64::INFINITY), percent(f64::NAN)] {
            assert_eq!(text, "n/a");
        }
        assert_eq!(change(0.0, 1.0), None);
        assert_eq!(change(f64::NAN, 1.0), None);
    }

    #[test]
    fn changes_carry_their_sign() {
        assert_eq!(change(4.0, 3.0).as_deref(), Some("−25.0%"));
        assert_eq!(change(4.0, 5.0).as_deref(), Some("+25.0%"));
        assert_eq!(change(4.0, 4.0001).as_deref(), Some("±0.0%"));
    }

    #[test]
    fn the_largest_value_picks_the_unit() {
        assert_eq!(with_unit(4_310.0, time_unit(5_000.0)), "4.31 ms");
        assert_eq!(with_unit(43.1, time_unit(43.1)), "43.1 µs");
        assert_eq!(with_unit(0.0, byte_unit(0.0)), "0 B");
        assert_eq!(with_unit(2.5e6, byte_unit(3e9)), "0.00250 GB");
        assert_eq!(count(1_234_567), "1,234,567");
    }
}
