//! What can be wrong with a placement or a scenario.

/// Everything that building a placement or a scenario can answer with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A placement that no engine could load.
    #[error("placement: {place}: {found}; expected {expected}")]
    Placement {
        /// Layer, slot or field.
        place: String,
        /// What was found there.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// Parts of a scenario that do not belong together.
    #[error("scenario: {place}: {found}; expected {expected}")]
    Scenario {
        /// The field.
        place: String,
        /// What was found there.
        found: String,
        /// What would be right.
        expected: String,
    },
}

impl Error {
    /// An [`Error::Placement`] from its parts.
    pub fn placement(
        place: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Placement { place: place.into(), found: found.into(), expected: expected.into() }
    }

    /// An [`Error::Scenario`] from its parts.
    pub fn scenario(
        place: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Scenario { place: place.into(), found: found.into(), expected: expected.into() }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
