//! Reads what `torch.save` writes since PyTorch 1.6: a zip with a pickle of the structure and one
//! raw entry per storage (checked with files of PyTorch 2.15).
//!
//! The pickle is read by a machine that knows tensors, dicts, lists, tuples, strings, numbers,
//! booleans and None, and refuses every other global by name: nothing in the file is ever run.
//! Every declared size is checked against the bytes of the file before memory is reserved.
//! Refused: compressed or encrypted entries, big-endian files, tensors that are not contiguous,
//! entries whose CRC-32 is wrong (also `set_crc32_options(False)`), the format before 1.6.

pub(super) use self::archive::{Archive, Counts};
pub(super) use self::value::{Item, Key, Tensor};

mod archive;
mod pickle;
mod tensor;
mod value;

#[cfg(test)]
pub(super) mod write;

#[cfg(test)]
mod tests;
