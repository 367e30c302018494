//! What can go wrong on the way to a report.

use moecast_profiles::registry::UnknownName;

/// Everything that reading a run or drawing can answer with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that does not hold what its format demands.
    #[error("{path}: {place}: {found}; expected {expected}")]
    Invalid {
        /// The file.
        path: String,
        /// Key or line inside it.
        place: String,
        /// What was found there.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// The drawing library gave up.
    #[error("draw {figure}: {cause}")]
    Draw {
        /// Name of the figure.
        figure: String,
        /// What the library says.
        cause: String,
    },
    /// A name that no figure has.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
}

impl Error {
    /// An [`Error::Invalid`] from its four parts.
    pub(crate) fn invalid(path: &str, place: String, found: String, expected: &str) -> Self {
        let (path, expected) = (path.to_owned(), expected.to_owned());
        Self::Invalid { path, place, found, expected }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
