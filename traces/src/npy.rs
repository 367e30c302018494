//! Arrays of NumPy, format version 1.0: what writers and readers of every room share.

use crate::error::{Error, Result};
use crate::import::npy::{Array, Source};

/// Bytes that the beginning of an array is a multiple of.
const ALIGNMENT: usize = 64;

/// The beginning of an array of format version 1.0: elements of the type `descr` ("<i8") in C
/// order follow it.
///
/// # Panics
/// When the shape has more numbers than the 65,535 bytes of a header hold.
#[must_use]
pub fn preamble(descr: &str, shape: &[usize]) -> Vec<u8> {
    let shape = match shape {
        [] => "()".to_owned(),
        [size] => format!("({size},)"),
        sizes => format!("{sizes:?}").replace('[', "(").replace(']', ")"),
    };
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let start = b"\x93NUMPY\x01\x00";
    let unpadded = start.len() + 2 + text.len() + 1;
    text.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(ALIGNMENT) - unpadded));
    text.push('\n');
    let length = u16::try_from(text.len()).expect("three numbers fit");
    [start, &length.to_le_bytes()[..], text.as_bytes()].concat()
}

/// Reads a table `[a, b, c]` of integers: its shape and its elements in C order. `path` is named in
/// errors.
///
/// # Errors
/// When the bytes are no such array, or more or fewer than its shape says.
pub fn read_table(bytes: &[u8], path: &str) -> Result<([usize; 3], Vec<i64>)> {
    let mut left = bytes;
    let source = Source { path, part: None };
    let array = Array::open(source, &mut left)?;
    if array.total_bytes != bytes.len() as u64 {
        let found = format!("{} bytes", bytes.len());
        return Err(Error::invalid(path, "whole file", found, format!("{}", array.total_bytes)));
    }
    let mut table = Vec::new();
    array.each_token(source, &mut left, |row| {
        table.extend_from_slice(row);
        Ok(())
    })?;
    Ok((array.shape, table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_survives_and_a_byte_less_or_more_is_refused() {
        let mut bytes = preamble("<i8", &[1, 2, 3]);
        assert_eq!(bytes.len() % ALIGNMENT, 0);
        bytes.extend((1..=6_i64).flat_map(i64::to_le_bytes));
        assert_eq!(read_table(&bytes, "f").unwrap(), ([1, 2, 3], vec![1, 2, 3, 4, 5, 6]));
        for end in 0..bytes.len() {
            read_table(&bytes[..end], "f").unwrap_err();
        }
        bytes.push(0);
        read_table(&bytes, "f").unwrap_err();
    }
}
