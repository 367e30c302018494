//! What storing an expert in fewer bits costs: read from a table, or assumed.

use std::collections::{BTreeMap, BTreeSet};

use super::super::BITS_MAX;
use crate::error::{Error, Result};
use crate::export::node::one_line;
use crate::export::tree::utf8;

/// The header of a table of errors.
const HEADER: &str = "layer,expert,bits,error";

/// Widths for which errors are assumed where none are given.
pub const ASSUMED_WIDTHS: [u8; 5] = [1, 2, 3, 4, 8];

/// Quantisation errors `[M][E][W]` at the widths `[W]`, ascending, in any unit that adds up.
#[derive(Clone, Debug, PartialEq)]
pub struct Errors {
    widths: Vec<u8>,
    experts: usize,
    /// `[M * E * W]`.
    values: Vec<f64>,
    assumed: bool,
}

impl Errors {
    /// The errors of a uniform quantiser without a table: 4^-bits for every expert, because one bit
    /// more halves the step and quarters its square.
    #[must_use]
    pub fn assumed(layers: usize, experts: usize) -> Self {
        let row = ASSUMED_WIDTHS.map(|bits| 0.25_f64.powi(i32::from(bits)));
        let values = std::iter::repeat_n(row, layers * experts).flatten().collect();
        Self { widths: ASSUMED_WIDTHS.to_vec(), experts, values, assumed: true }
    }

    /// Reads the CSV `layer,expert,bits,error`: absolute layer numbers, all of `layers`; every one
    /// of `experts` experts of each at the same widths, in any order. `path` is named in errors.
    ///
    /// # Errors
    /// Names the line and what it holds, or the cell that is missing.
    pub fn read(text: &[u8], path: &str, layers: &[u16], experts: u16) -> Result<Self> {
        let mut cells: BTreeMap<(u16, u16, u8), f64> = BTreeMap::new();
        let mut lines = utf8(text, path)?.lines().enumerate();
        let header = lines.next().map_or("", |(_, line)| line);
        if header != HEADER {
            return Err(Error::invalid(path, "line 1", format!("`{}`", one_line(header)), HEADER));
        }
        for (index, line) in lines {
            let refuse = |expected: String| {
                let found = format!("`{}`", one_line(line));
                Error::invalid(path, format!("line {}", index + 1), found, expected)
            };
            let (key, error) =
                cell(line).ok_or_else(|| refuse(format!("four numbers: {HEADER}")))?;
            let (layer, expert, bits) = key;
            if layers.binary_search(&layer).is_err() {
                return Err(refuse(format!("a MoE layer of {layers:?}")));
            }
            if expert >= experts {
                return Err(refuse(format!("an expert id below {experts}")));
            }
            if !(1..=BITS_MAX).contains(&bits) {
                return Err(refuse(format!("1 to {BITS_MAX} bits")));
            }
            if !error.is_finite() || error < 0.0 {
                return Err(refuse("an error that is finite and not negative".to_owned()));
            }
            if cells.insert(key, error).is_some() {
                return Err(refuse("every layer, expert and width once".to_owned()));
            }
        }
        let widths: BTreeSet<u8> = cells.keys().map(|(_, _, bits)| *bits).collect();
        let mut values = Vec::with_capacity(cells.len());
        for &layer in layers {
            for expert in 0..experts {
                for &bits in &widths {
                    let value = cells.get(&(layer, expert, bits)).ok_or_else(|| {
                        let found = format!("no error of layer {layer}, expert {expert}");
                        let expected = format!("one at {bits} bits, as other experts have");
                        Error::invalid(path, "the table", found, expected)
                    })?;
                    values.push(*value);
                }
            }
        }
        if values.is_empty() {
            return Err(Error::invalid(path, "the table", "no rows", "at least one width"));
        }
        let widths = widths.into_iter().collect();
        Ok(Self { widths, experts: experts.into(), values, assumed: false })
    }

    /// The same without widths above `bits`, which would be wider than experts are stored.
    ///
    /// # Errors
    /// When no width is left.
    pub fn at_most(self, bits: u8) -> Result<Self> {
        let kept = self.widths.iter().filter(|width| **width <= bits).count();
        if kept == 0 {
            let found = format!("widths {:?}", self.widths);
            let expected = format!("one of at most {bits} bits, as experts are stored");
            return Err(Error::problem("errors", found, expected));
        }
        let rows = self.values.chunks(self.widths.len().max(1));
        let values = rows.flat_map(|row| row[..kept].to_vec()).collect();
        let widths = self.widths[..kept].to_vec();
        Ok(Self { widths, values, ..self })
    }

    /// The widths `[W]`, ascending.
    #[must_use]
    pub fn widths(&self) -> &[u8] {
        &self.widths
    }

    /// What a reader should know: whether these were measured.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let text = "quantisation errors are assumed, not measured: 4^-bits for every expert";
        self.assumed.then(|| text.to_owned()).into_iter().collect()
    }

    /// `[W]` errors of one expert.
    pub(super) fn of(&self, layer: usize, expert: usize) -> &[f64] {
        let width = self.widths.len();
        let start = (layer * self.experts + expert) * width;
        &self.values[start..start + width]
    }

    /// Layers and experts.
    pub(super) fn shape(&self) -> (usize, usize) {
        let row = self.experts * self.widths.len();
        (self.values.len().checked_div(row).unwrap_or(0), self.experts)
    }
}

fn cell(line: &str) -> Option<((u16, u16, u8), f64)> {
    let fields: Vec<&str> = line.split(',').collect();
    let &[layer, expert, bits, error] = fields.as_slice() else { return None };
    // `parse` alone would take `+3` and `inf`.
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if ![layer, expert, bits].into_iter().all(digits) {
        return None;
    }
    let key = (layer.parse().ok()?, expert.parse().ok()?, bits.parse().ok()?);
    Some((key, error.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "layer,expert,bits,error\n3,0,2,0.5\n3,1,2,0.25\n3,0,4,1e-3\n3,1,4,0\n";

    #[test]
    fn a_table_in_any_order() {
        let errors = Errors::read(TABLE.as_bytes(), "f", &[3], 2).unwrap();
        assert_eq!((errors.widths(), errors.shape()), (&[2, 4][..], (1, 2)));
        assert_eq!((errors.of(0, 0), errors.of(0, 1)), (&[0.5, 1e-3][..], &[0.25, 0.0][..]));
        assert_eq!(errors.remarks(), [""; 0]);
        assert_eq!(Errors::assumed(1, 2).remarks().len(), 1);
        assert_eq!(Errors::assumed(3, 2).of(2, 1)[..2], [0.25, 0.0625]);
    }

    #[test]
    fn what_is_wider_than_stored_is_left_out() {
        let errors = Errors::read(TABLE.as_bytes(), "f", &[3], 2).unwrap();
        let narrow = errors.clone().at_most(3).unwrap();
        assert_eq!((narrow.widths(), narrow.shape()), (&[2][..], (1, 2)));
        assert_eq!((narrow.of(0, 0), narrow.of(0, 1)), (&[0.5][..], &[0.25][..]));
        assert_eq!(errors.clone().at_most(4).unwrap(), errors);
        let error = errors.at_most(1).unwrap_err().to_string();
        assert!(error.contains("at most 1 bits, as experts are stored"), "{error}");
    }

    /// What is replaced, by what, and the error.
    const REFUSED: &[(&str, &str, &str)] = &[
        ("bits", "width", "line 1: `layer,expert,width,error`; expected layer,expert,bits,error"),
        ("3,0,4", "4,0,4", "line 4: `4,0,4,1e-3`; expected a MoE layer of [3]"),
        ("3,0,4", "3,2,4", "line 4: `3,2,4,1e-3`; expected an expert id below 2"),
        ("3,0,4", "3,0,17", "line 4: `3,0,17,1e-3`; expected 1 to 16 bits"),
        ("3,0,4", "3,0,+4", "line 4: `3,0,+4,1e-3`; expected four numbers"),
        ("1e-3", "-1", "line 4: `3,0,4,-1`; expected an error that is finite and not negative"),
        ("1e-3", "nan", "line 4: `3,0,4,nan`; expected an error that is finite"),
        ("3,1,4,0", "3,0,4,0", "line 5: `3,0,4,0`; expected every layer, expert and width once"),
        ("3,1,4,0\n", "", "the table: no error of layer 3, expert 1; expected one at 4 bits"),
    ];

    #[test]
    fn what_is_no_table_is_refused() {
        for (from, to, expected) in REFUSED {
            let text = TABLE.replacen(from, to, 1);
            let error = Errors::read(text.as_bytes(), "f", &[3], 2).unwrap_err().to_string();
            assert!(error.starts_with(&format!("f: {expected}")), "{error}");
        }
        Errors::read(b"layer,expert,bits,error\n", "f", &[3], 2).unwrap_err();
        Errors::read(b"\xff", "f", &[3], 2).unwrap_err();
    }
}
