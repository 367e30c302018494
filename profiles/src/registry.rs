//! What every registry shares: names, one-line descriptions, and a helpful answer to a typo.

/// An entry that a user picks by name.
pub trait Named {
    /// The name as typed on the command line.
    fn name(&self) -> &'static str;
    /// One line that says what it is.
    fn about(&self) -> &'static str;
}

/// Makes a type with the fields `name` and `about` an entry of a registry.
#[macro_export]
macro_rules! named {
    ($entry:ty) => {
        impl $crate::registry::Named for $entry {
            fn name(&self) -> &'static str {
                self.name
            }
            fn about(&self) -> &'static str {
                self.about
            }
        }
    };
}

/// A name that no entry of a family has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("find {family} `{name}`: {hint}valid names are {valid}")]
pub struct UnknownName {
    family: &'static str,
    name: String,
    hint: String,
    valid: String,
}

/// Finds `name` in `all`; the error lists the valid names and the nearest one.
///
/// # Errors
/// [`UnknownName`] when no entry has that name.
pub fn find<'a, E: Named>(
    family: &'static str,
    all: &'a [E],
    name: &str,
) -> Result<&'a E, UnknownName> {
    all.iter().find(|entry| entry.name() == name).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(Named::name).collect();
        unknown(family, name, &names)
    })
}

/// The error for `name`, which is none of `names`.
#[must_use]
pub fn unknown(family: &'static str, name: &str, names: &[&str]) -> UnknownName {
    let hint = nearest(name, names).map_or_else(String::new, |n| format!("did you mean `{n}`? "));
    UnknownName { family, name: name.to_owned(), hint, valid: names.join(", ") }
}

/// The valid name that is most like `name`, if any is close.
#[must_use]
pub fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    names
        .iter()
        .map(|valid| (strsim::damerau_levenshtein(name, valid), *valid))
        .filter(|(distance, valid)| *distance <= valid.len().max(name.len()) / 3 + 1)
        .min()
        .map(|(_, valid)| valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_answered_with_the_nearest_name() {
        let error = unknown("hardware", "h20-sxm", &["a100-sxm", "h200-sxm"]);
        assert_eq!(
            error.to_string(),
            "find hardware `h20-sxm`: did you mean `h200-sxm`? valid names are a100-sxm, h200-sxm"
        );
    }

    #[test]
    fn a_stranger_gets_the_list_alone() {
        let error = unknown("hardware", "abacus-9000", &["a100-sxm"]);
        assert!(!error.to_string().contains("did you mean"), "{error}");
    }
}
