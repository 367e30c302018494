//! Where an answer changes from no to yes: doubling, then halving.

use anyhow::Result;

/// The smallest number from 1 to `most` for which `holds`, where it holds for all larger ones
/// too. At most `2 log2(most)` questions; the number before the answer is always one of them.
pub(super) fn smallest(
    most: u32,
    holds: &mut dyn FnMut(u32) -> Result<bool>,
) -> Result<Option<u32>> {
    let (mut fails, mut number) = (0, 1.min(most));
    loop {
        if number == 0 {
            return Ok(None);
        }
        if holds(number)? {
            break;
        }
        if number == most {
            return Ok(None);
        }
        fails = number;
        number = number.saturating_mul(2).min(most);
    }
    while number - fails > 1 {
        let middle = fails + (number - fails) / 2;
        if holds(middle)? {
            number = middle;
        } else {
            fails = middle;
        }
    }
    Ok(Some(number))
}

/// The largest number from `least` to `most` for which `holds`, where it holds for all smaller
/// ones too; the search begins at `start`. The number after the answer is always asked.
pub(super) fn largest(
    [least, start, most]: [i32; 3],
    step: i32,
    holds: &mut dyn FnMut(i32) -> Result<bool>,
) -> Result<Option<i32>> {
    let (mut good, mut bad) = (None, None);
    let (mut at, mut step) = (start.clamp(least, most), step);
    while good.is_none() || bad.is_none() {
        if holds(at)? {
            good = Some(at);
            if at == most {
                return Ok(good);
            }
        } else {
            bad = Some(at);
            if at == least {
                return Ok(None);
            }
        }
        let away = if bad.is_none() { step } else { -step };
        at = at.saturating_add(away).clamp(least, most);
        step = step.saturating_mul(2);
    }
    let (mut good, mut bad) = (good.unwrap_or(least), bad.unwrap_or(most));
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if holds(middle)? {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Ok(Some(good))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a scan; few questions, and the neighbour of the answer among them.
    #[test]
    fn the_smallest_that_holds_is_found_and_the_one_before_was_asked() {
        for most in [0, 1, 2, 7, 64, 1000] {
            for edge in 1..=most + 2 {
                let mut asked = Vec::new();
                let found = smallest(most, &mut |number| {
                    asked.push(number);
                    Ok(number >= edge)
                });
                assert_eq!(found.unwrap(), (edge <= most).then_some(edge), "{edge} of {most}");
                assert!(asked.len() <= 21, "{} questions", asked.len());
                if (2..=most).contains(&edge) {
                    assert!(asked.contains(&(edge - 1)), "{edge} of {most}");
                }
            }
        }
    }

    #[test]
    fn the_largest_that_holds_is_found_and_the_one_after_was_asked() {
        for start in [-40, 0, 17, 40] {
            for edge in -41..=40 {
                let mut asked = Vec::new();
                let found = largest([-40, start, 40], 3, &mut |number| {
                    asked.push(number);
                    Ok(number <= edge)
                });
                assert_eq!(found.unwrap(), (edge >= -40).then_some(edge), "{edge} from {start}");
                assert!(edge == 40 || asked.contains(&(edge + 1)), "{edge} from {start}");
            }
        }
    }
}
