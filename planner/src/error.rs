//! What can be wrong with a problem, a plan or an engine's file.

use moecast_profiles::registry::UnknownName;

/// Everything that planning, exporting or reading a plan can answer with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A problem that no placement can solve, or that an algorithm does not take.
    #[error("plan: {place}: {found}; expected {expected}")]
    Problem {
        /// The field.
        place: String,
        /// What was found there.
        found: String,
        /// What would be right.
        expected: String,
    },
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
    /// A file that cannot be opened or read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A placement that breaks a law.
    #[error(transparent)]
    Sim(#[from] moecast_sim::Error),
    /// A name that no entry has.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
}

impl Error {
    /// An [`Error::Problem`] from its parts.
    pub fn problem(
        place: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Problem { place: place.into(), found: found.into(), expected: expected.into() }
    }

    /// An [`Error::Invalid`] from its parts.
    pub fn invalid(
        path: impl Into<String>,
        place: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Invalid {
            path: path.into(),
            place: place.into(),
            found: found.into(),
            expected: expected.into(),
        }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
