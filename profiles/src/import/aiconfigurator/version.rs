//! Versions of engines, in order.

use std::cmp::Ordering;

/// `1.3.0rc20`, `0.5.6.post2`, `0.1.dev19262`: numbers, then perhaps a stage and its number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Version {
    pub(super) text: String,
    release: Vec<u64>,
    stage: Stage,
    stage_number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Stage {
    Dev,
    Alpha,
    Beta,
    Candidate,
    Final,
    Post,
}

impl Version {
    /// Reads any text; what is no number counts as 0, so that every folder has its place.
    pub(super) fn new(text: &str) -> Self {
        let letters = text.find(|character: char| character.is_ascii_alphabetic());
        let (numbers, rest) = text.split_at(letters.unwrap_or(text.len()));
        let mut release: Vec<u64> =
            numbers.split('.').filter_map(|number| number.parse().ok()).collect();
        while release.last() == Some(&0) {
            release.pop();
        }
        let digits = rest.find(|character: char| character.is_ascii_digit());
        let (word, number) = rest.split_at(digits.unwrap_or(rest.len()));
        let stage = match word.trim_end_matches(['.', '-', '_']) {
            "" => Stage::Final,
            "dev" => Stage::Dev,
            "a" | "alpha" => Stage::Alpha,
            "b" | "beta" => Stage::Beta,
            "post" => Stage::Post,
            _ => Stage::Candidate,
        };
        let end = number.find(|character: char| !character.is_ascii_digit());
        let stage_number = number[..end.unwrap_or(number.len())].parse().unwrap_or(0);
        Self { text: text.to_owned(), release, stage, stage_number }
    }

    /// Whether this is at least the release `numbers`.
    pub(super) fn at_least(&self, numbers: &str) -> bool {
        *self >= Self::new(numbers)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |version: &Self| (version.stage, version.stage_number);
        self.release
            .cmp(&other.release)
            .then_with(|| key(self).cmp(&key(other)))
            .then_with(|| self.text.cmp(&other.text))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The newest of `versions` that is not newer than `asked`, else the oldest.
pub(super) fn nearest<'a>(asked: &Version, versions: &[&'a Version]) -> Option<&'a Version> {
    let older = versions.iter().filter(|version| **version <= asked).max();
    older.or_else(|| versions.iter().min()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_in_the_order_of_their_releases() {
        let order = [
            "0.1.dev19262",
            "0.5.6",
            "0.5.6.post2",
            "0.5.10",
            "0.5.14",
            "1.0.0rc6",
            "1.0.0",
            "1.3.0rc2",
            "1.3.0rc10",
            "1.3.0rc20",
            "1.3.0",
            "2.23",
            "2.26.2",
        ];
        for pair in order.windows(2) {
            assert!(Version::new(pair[0]) < Version::new(pair[1]), "{pair:?}");
        }
        assert!(Version::new("0.20.0").at_least("0.20"));
        assert!(!Version::new("0.20.0rc1").at_least("0.20"));
        // Nothing that a folder can be called is refused.
        for odd in ["", "..", "v1", "99999999999999999999999", "x.é", "1.2rc-"] {
            assert_eq!(Version::new(odd), Version::new(odd));
        }
    }

    #[test]
    fn the_nearest_is_older_where_any_is() {
        let versions: Vec<Version> = ["0.5.6.post2", "0.5.10", "0.5.14"].map(Version::new).to_vec();
        let all: Vec<&Version> = versions.iter().collect();
        let found = |asked: &str| nearest(&Version::new(asked), &all).map(|v| v.text.as_str());
        assert_eq!(found("0.5.13"), Some("0.5.10"));
        assert_eq!(found("0.5.14"), Some("0.5.14"));
        assert_eq!(found("0.4"), Some("0.5.6.post2"));
        assert_eq!(nearest(&Version::new("1"), &[]), None);
    }
}
