//! What importers share about shapes: how layers are shown, and how much padding is reasonable.

use moecast_profiles::model::ModelShape;

use crate::error::{Error, Result};

/// The largest expert id that a trace can hold; one above it stands for "none".
pub(super) const EXPERT_MAX: u16 = u16::MAX - 2;

/// Padding that is always allowed: a small file may well be sparse.
const PADDED_CELLS_FREE: u64 = 1 << 22;

/// Padded cells per cell that the file gives.
const PADDED_CELLS_PER_GIVEN: u64 = 4096;

/// The model's name for the header, empty where none was named.
pub(super) fn model_name(model: Option<&ModelShape>) -> &str {
    model.map_or("", |model| &model.name)
}

/// Layer numbers for a message: `3 to 60` where they are contiguous, else the list.
pub(super) fn span(layers: &[u16]) -> String {
    match layers {
        [] => "none".to_owned(),
        [only] => only.to_string(),
        [first, .., last] if usize::from(last - first) + 1 == layers.len() => {
            format!("{first} to {last}")
        }
        _ => layers.iter().map(u16::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// Refuses a recording whose few given values would be padded to a table out of all proportion:
/// one stray id must not cost gigabytes. `cells` are the dimensions of the table.
pub(super) fn check_padding(path: &str, cells: [u64; 3], given: u64) -> Result<()> {
    let [steps, layers, width] = cells;
    let total = steps.saturating_mul(layers).saturating_mul(width);
    let allowed = given.saturating_mul(PADDED_CELLS_PER_GIVEN).max(PADDED_CELLS_FREE);
    if total <= allowed {
        return Ok(());
    }
    let found = format!("{given} values in a table of {steps} x {layers} x {width}");
    Err(Error::invalid(path, "whole recording", found, "a table that is not almost empty"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_shown_short() {
        assert_eq!(span(&[]), "none");
        assert_eq!(span(&[4]), "4");
        assert_eq!(span(&[3, 4, 5]), "3 to 5");
        assert_eq!(span(&[0, 2, 3]), "0, 2, 3");
    }

    #[test]
    fn a_stray_id_does_not_cost_gigabytes() {
        assert!(check_padding("a", [1, 61, 256], 10).is_ok());
        let error = check_padding("a", [1, 60_000, 60_000], 2).unwrap_err();
        let text = "a: whole recording: 2 values in a table of 1 x 60000 x 60000; \
                    expected a table that is not almost empty";
        assert_eq!(error.to_string(), text);
    }
}
