//! Reads a Hugging Face `config.json` into a [`ModelShape`].

use std::path::Path;

use super::ModelShape;
use crate::{Error, Result};

/// Reads the `config.json` at `path`.
///
/// # Errors
/// When the file cannot be read, is no model configuration, or describes no MoE model.
pub fn read_config(path: &Path) -> Result<ModelShape> {
    Err(Error::Invalid {
        path: path.display().to_string(),
        key: String::new(),
        found: String::new(),
        expected: String::new(),
    })
}
