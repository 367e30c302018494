//! What can be wrong with a recording.

use moecast_profiles::registry::UnknownName;

/// Everything that reading, checking or writing a recording can answer with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be opened, read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A file that was read and does not hold what its format demands.
    #[error("{path}: {place}: {found}; expected {expected}")]
    Invalid {
        /// The file.
        path: String,
        /// Record, line, key or tensor inside it.
        place: String,
        /// What was found there.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// No importer recognises a file.
    #[error("{path}: no importer recognises this file; name one with --format: {valid}")]
    Unrecognised {
        /// The file.
        path: String,
        /// Names of all importers.
        valid: String,
    },
    /// A format name that no importer has.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
}

impl Error {
    /// An [`Error::Invalid`] from its four parts.
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

    /// An [`Error::Io`] for `path`.
    pub fn io(path: impl AsRef<std::path::Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().display().to_string(), source }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
