//! Times as recordings write them, parsed to nanoseconds in integers: no digit is lost to a
//! float. Digits beyond the nanosecond are rounded half up.

/// Nanoseconds of a plain decimal number of seconds, such as `5` or `0.123`.
pub(super) fn seconds(text: &str) -> Option<i128> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, fraction_nanos(fraction)?),
        None => (text, 0),
    };
    // Eighteen digits of seconds are far beyond any recording and far below overflow.
    let is_whole = !whole.is_empty() && whole.len() <= 18;
    let whole = if is_whole { digits(whole)? } else { return None };
    Some(whole * 1_000_000_000 + fraction)
}

/// Nanoseconds since 1970 of `2023-11-16 18:15:46.6805900`, with up to any number of decimals,
/// `T` or a blank between date and time, and perhaps an offset `Z` or `+00:00` from UTC at the
/// end; without one the time is taken as UTC.
pub(super) fn timestamp(text: &str) -> Option<i128> {
    let (date, time) = (text.get(..10)?, text.get(11..)?);
    if !matches!(text.as_bytes()[10], b' ' | b'T') {
        return None;
    }
    let (clock, rest) = (time.get(..8)?, &time[8..]);
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            (fraction_nanos(&rest[..end])?, &rest[end..])
        }
        None => (0, rest),
    };
    let seconds = days(date)? * 86_400 + clock_seconds(clock)? - offset_seconds(zone)?;
    Some(seconds * 1_000_000_000 + fraction)
}

/// Days since 1970 of `2023-11-16`, in the Gregorian calendar.
fn days(date: &str) -> Option<i128> {
    let [year, month, day] = separated(date, '-', [4, 2, 2])?;
    let is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days_of = |month| match month {
        2 => 28 + i128::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if year < 1970 || !(1..=12).contains(&month) || !(1..=days_of(month)).contains(&day) {
        return None;
    }
    let before = year - 1;
    let leap_days = before / 4 - before / 100 + before / 400;
    // 719162 days lie between the first of January of the years 1 and 1970.
    let year_start = before * 365 + leap_days - 719_162;
    Some(year_start + (1..month).map(days_of).sum::<i128>() + day - 1)
}

/// Seconds since midnight of `18:15:46`.
fn clock_seconds(clock: &str) -> Option<i128> {
    let [hour, minute, second] = separated(clock, ':', [2, 2, 2])?;
    (hour < 24 && minute < 60 && second < 60).then_some(hour * 3600 + minute * 60 + second)
}

/// Seconds that a clock with this offset is ahead of UTC.
fn offset_seconds(zone: &str) -> Option<i128> {
    let sign = match zone.as_bytes().first() {
        None => return Some(0),
        Some(b'Z') => return (zone.len() == 1).then_some(0),
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) => return None,
    };
    let [hour, minute] = separated(&zone[1..], ':', [2, 2])?;
    (hour < 24 && minute < 60).then_some(sign * (hour * 3600 + minute * 60))
}

/// The numbers in `text`, each of its own number of digits.
fn separated<const N: usize>(text: &str, mark: char, lengths: [usize; N]) -> Option<[i128; N]> {
    let mut parts = text.split(mark);
    let mut numbers = [0; N];
    for (number, length) in numbers.iter_mut().zip(lengths) {
        let part = parts.next().filter(|part| part.len() == length)?;
        *number = digits(part)?;
    }
    parts.next().is_none().then_some(numbers)
}

/// Nanoseconds of the digits behind a decimal point.
fn fraction_nanos(text: &str) -> Option<i128> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digit = |place: usize| text.as_bytes().get(place).map_or(0, |byte| byte - b'0');
    let nanos = (0..9).fold(0, |nanos, place| nanos * 10 + i128::from(digit(place)));
    Some(nanos + i128::from(digit(9) >= 5))
}

/// At most eighteen digits as a number.
fn digits(text: &str) -> Option<i128> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_exact() {
        assert_eq!(seconds("0"), Some(0));
        assert_eq!(seconds("5.5"), Some(5_500_000_000));
        // As a float this would end in ...002.
        assert_eq!(seconds("9007199254.740993001"), Some(9_007_199_254_740_993_001));
        assert_eq!(seconds("1.9999999996"), Some(2_000_000_000));
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1 ", "NaN", "1234567890123456789"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn timestamps_are_exact() {
        assert_eq!(timestamp("1970-01-01 00:00:00"), Some(0));
        assert_eq!(timestamp("1970-01-02T00:00:01.000000001Z"), Some(86_401_000_000_001));
        // `date -d '2023-11-16 18:15:46 UTC' +%s` says 1700158546.
        let azure = timestamp("2023-11-16 18:15:46.6805900");
        assert_eq!(azure, Some(1_700_158_546_680_590_000));
        // `date -d '2024-03-01 00:00:00 UTC' +%s` says 1709251200: 2024 is a leap year.
        assert_eq!(timestamp("2024-03-01 00:00:00+00:00"), Some(1_709_251_200_000_000_000));
        assert_eq!(timestamp("2024-03-01 01:30:00+01:30"), timestamp("2024-03-01 00:00:00"));
        assert_eq!(timestamp("2024-02-29 23:00:00-01:00"), timestamp("2024-03-01 00:00:00"));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2023-11-16",
            "2023-11-16 18:15",
            "2023-11-16 18:15:46.",
            "2023-11-16 18:15:46 UTC",
            "2023-11-16 18:15:60",
            "2023-11-16 24:00:00",
            "2023-02-29 00:00:00",
            "2023-13-01 00:00:00",
            "1969-12-31 23:59:59",
            "2023-11-16x18:15:46",
            "2023-11-16 18:15:46+1:00",
            "2023-11-1\u{e9} 18:15:46",
            "+023-11-16 18:15:46",
        ] {
            assert_eq!(timestamp(text), None, "{text}");
        }
    }
}
