//! Typed indices. A number that counts layers can never be passed where experts are meant.

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize,
            Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u16);

        impl $name {
            /// The position in a slice that is indexed by this id.
            #[must_use]
            pub fn index(self) -> usize {
                usize::from(self.0)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id! {
    /// Ordinal among the MoE layers of a model: 0 is the first layer that has experts.
    ///
    /// Never the absolute layer number; only [`crate::model::ModelShape`] converts.
    MoeLayer
}
id! {
    /// A logical (routed) expert of one layer.
    ExpertId
}
id! {
    /// A physical place for one expert's weights. A different type from [`ExpertId`] on purpose.
    Slot
}
id! {
    /// A member of the expert-parallel group: one GPU.
    Rank
}
