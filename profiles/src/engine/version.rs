//! Versions of engines, in the order in which they were released.
//!
//! The order of Python packages, numeric per component: `0.9` before `0.10`, `1.3.0rc10` before
//! `1.3.0rc20` before `1.3.0` before `1.3.0.post1`. llama.cpp's builds (`b4567`) are numbers too.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// A version that can be compared.
#[derive(Clone, Debug)]
pub struct Version {
    text: String,
    order: Order,
}

/// Release without trailing zeros; stage (development, alpha, beta, candidate, release) and its
/// number; post release plus one; development number, of which none is the last.
type Order = (Vec<u64>, (u8, u64), u64, u64);

const RELEASE: u8 = 4;

impl Version {
    /// Reads a version; `None` for text that is none, such as `unknown` or `gpt-oss-dev`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let trimmed = text.trim();
        let start = trimmed.strip_prefix(['v', 'b']).unwrap_or(trimmed);
        // What follows a plus says how it was built, not what it is.
        let public = start.split('+').next()?.to_ascii_lowercase();
        let mut rest = public.as_str();
        let mut release = vec![number(&mut rest)?];
        while rest.starts_with('.') && rest[1..].starts_with(|next: char| next.is_ascii_digit()) {
            rest = &rest[1..];
            release.push(number(&mut rest)?);
        }
        while release.len() > 1 && release.last() == Some(&0) {
            release.pop();
        }
        let (mut stage, mut post, mut development) = (None, 0, u64::MAX);
        while !rest.is_empty() {
            rest = rest.strip_prefix(['.', '-', '_']).unwrap_or(rest);
            let letters = rest.find(|next: char| !next.is_ascii_alphabetic());
            let (word, after) = rest.split_at(letters.unwrap_or(rest.len()));
            rest = after;
            let count = number(&mut rest).unwrap_or(0);
            match word {
                "a" | "alpha" => stage = Some((1, count)),
                "b" | "beta" => stage = Some((2, count)),
                "rc" | "c" => stage = Some((3, count)),
                "post" => post = count.checked_add(1)?,
                "dev" => development = count,
                _ => return None,
            }
        }
        let unstaged = if development < u64::MAX && post == 0 { (0, 0) } else { (RELEASE, 0) };
        let order = (release, stage.unwrap_or(unstaged), post, development);
        Some(Self { text: trimmed.to_owned(), order })
    }
}

/// The digits that `rest` starts with.
fn number(rest: &mut &str) -> Option<u64> {
    let end = rest.find(|next: char| !next.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    let number = digits.parse().ok()?;
    *rest = after;
    Some(number)
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(format!("`{text}` is no version; write it like \"0.16.0\""))
        })
    }
}

/// Versions from one, up to and without another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// The first; `None` is the first ever.
    pub from: Option<Version>,
    /// The first that is not in it any more; `None` is never.
    pub until: Option<Version>,
}

impl VersionRange {
    /// Whether `version` is in it.
    #[must_use]
    pub fn holds(&self, version: &Version) -> bool {
        self.from.as_ref().is_none_or(|from| version >= from)
            && self.until.as_ref().is_none_or(|until| version < until)
    }

    /// Whether no version is in it.
    pub(super) fn is_empty(&self) -> bool {
        matches!((&self.from, &self.until), (Some(from), Some(until)) if from >= until)
    }

    /// Whether some version is in both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let ends_before = |first: &Self, second: &Self| match (&first.until, &second.from) {
            (Some(until), Some(from)) => until <= from,
            _ => false,
        };
        !ends_before(self, other) && !ends_before(other, self)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.until) {
            (Some(from), Some(until)) => write!(f, "versions from {from} until {until}"),
            (Some(from), None) => write!(f, "versions from {from}"),
            (None, Some(until)) => write!(f, "versions until {until}"),
            (None, None) => f.write_str("every version"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn versions_are_ordered_as_they_were_released() {
        let ordered = [
            "0.5.6",
            "0.5.6.post2",
            "0.5.9",
            "0.9.2",
            "0.10.0",
            "0.16.0",
            "0.18",
            "1.0.0rc3",
            "1.1.0rc2.post2",
            "1.3.0.dev4",
            "1.3.0a1",
            "1.3.0b2",
            "1.3.0rc1",
            "1.3.0rc10",
            "1.3.0rc20",
            "1.3.0",
            "1.3.0.post1",
            "b4567",
            "b10000",
        ];
        for pair in ordered.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
        assert_eq!(version("v0.16"), version("0.16.0+cu128"));
    }

    #[test]
    fn names_that_are_no_versions_are_none() {
        for text in ["", "unknown", "gpt-oss-dev", "glm5-hopper", "1..2", "1.x", "99e99", "1.2 "] {
            assert_eq!(Version::parse(text).is_some(), text == "1.2 ", "{text}");
        }
        assert!(Version::parse("99999999999999999999999").is_none());
    }

    #[test]
    fn a_range_ends_before_its_end() {
        let range = VersionRange { from: Some(version("0.16")), until: Some(version("0.17")) };
        assert!(range.holds(&version("0.16.0")) && range.holds(&version("0.16.3")));
        assert!(!range.holds(&version("0.17.0")) && !range.holds(&version("0.15.9")));
        let next = VersionRange { from: Some(version("0.17")), until: None };
        assert!(!range.overlaps(&next) && !next.overlaps(&range));
        let all = VersionRange { from: None, until: None };
        assert!(range.overlaps(&all) && all.overlaps(&next));
    }

    proptest! {
        #[test]
        fn any_text_is_a_version_or_none(text in ".{0,20}") {
            if let Some(found) = Version::parse(&text) {
                prop_assert_eq!(Version::parse(&found.to_string()), Some(found));
            }
        }

        #[test]
        fn numbers_decide_component_by_component(
            first in prop::collection::vec(0_u64..30, 1..4),
            second in prop::collection::vec(0_u64..30, 1..4),
        ) {
            let text = |parts: &[u64]| {
                parts.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
            };
            let pad = |parts: &[u64]| {
                (0..4).map(|at| parts.get(at).copied().unwrap_or(0)).collect::<Vec<u64>>()
            };
            let found = version(&text(&first)).cmp(&version(&text(&second)));
            prop_assert_eq!(found, pad(&first).cmp(&pad(&second)));
        }
    }
}
