//! What can be wrong with a static fact that somebody typed.

use crate::registry::UnknownName;

/// Everything that reading a profile, a model or a quantity can answer with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A quantity whose text has no valid number or unit.
    #[error("read `{text}` as {what}: {found}; write it like {example}")]
    Quantity {
        /// The text as typed.
        text: String,
        /// What it should have been ("a bandwidth").
        what: &'static str,
        /// What is wrong with it.
        found: String,
        /// A valid example.
        example: &'static str,
    },
    /// A name that no registry entry has.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// A file that cannot be opened or read.
    #[error("read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A file that was read and does not say what it must say.
    #[error("{path}: {key}: {found}; expected {expected}")]
    Invalid {
        /// The file or preset.
        path: String,
        /// The key or line inside it.
        key: String,
        /// What was found there.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// A benchmark that could not run or gave no figure.
    #[error("measure {what}: {found}")]
    Measure {
        /// What was to be measured.
        what: String,
        /// Why there is no figure.
        found: String,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
