//! Values of Parquet pages.
//!
//! The parquet crate's own decoders assert on damaged pages; a file from elsewhere must not be
//! able to. Only what tables of timings use is known: plain and dictionary encoding of one value
//! a row. Format: <https://github.com/apache/parquet-format> 2.10, `Encodings.md`.

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::Page;

/// A value that stands plainly in a page.
pub(super) trait Plain: Clone {
    /// The first value of `bytes`, which then begins after it.
    fn take(bytes: &mut &[u8]) -> Option<Self>;
}

impl Plain for i64 {
    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let (value, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(Self::from_le_bytes(*value))
    }
}

impl Plain for f64 {
    fn take(bytes: &mut &[u8]) -> Option<Self> {
        i64::take(bytes).map(|bits| Self::from_bits(bits as u64))
    }
}

impl Plain for Bytes {
    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        *bytes = rest;
        Some(Self::copy_from_slice(value))
    }
}

/// A column being decoded.
pub(super) struct Decoder<T> {
    /// Whether rows may lack a value, so that pages say which do.
    optional: bool,
    dictionary: Vec<T>,
    pub(super) values: Vec<T>,
}

impl<T: Plain> Decoder<T> {
    pub(super) fn new(optional: bool) -> Self {
        Self { optional, dictionary: Vec::new(), values: Vec::new() }
    }

    /// Decodes the next page.
    ///
    /// # Errors
    /// What was found: one line.
    pub(super) fn page(&mut self, page: &Page) -> Result<(), String> {
        let short = || "a page that ends early".to_owned();
        match page {
            Page::DictionaryPage { buf, num_values, .. } => {
                let mut bytes: &[u8] = buf;
                let values = (0..*num_values).map(|_| T::take(&mut bytes));
                self.dictionary = values.collect::<Option<_>>().ok_or_else(short)?;
                Ok(())
            }
            Page::DataPage { buf, num_values, encoding, .. } => {
                let mut bytes: &[u8] = buf;
                if self.optional {
                    let levels = Bytes::take(&mut bytes).ok_or_else(short)?;
                    self.levels(&levels, *num_values as usize)?;
                }
                self.data(bytes, *num_values as usize, *encoding)
            }
            Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                def_levels_byte_len,
                rep_levels_byte_len,
                ..
            } => {
                let bytes = buf.get(*rep_levels_byte_len as usize..).ok_or_else(short)?;
                let split = bytes.split_at_checked(*def_levels_byte_len as usize);
                let (levels, bytes) = split.ok_or_else(short)?;
                if self.optional {
                    self.levels(levels, *num_values as usize)?;
                }
                self.data(bytes, *num_values as usize, *encoding)
            }
        }
    }

    /// Each row must have its value.
    fn levels(&self, bytes: &[u8], count: usize) -> Result<(), String> {
        let levels = hybrid(bytes, 1, count).ok_or("levels that end early")?;
        match levels.iter().position(|level| *level == 0) {
            Some(gap) => Err(format!("no value in row {}", self.values.len() + gap + 1)),
            None => Ok(()),
        }
    }

    fn data(&mut self, bytes: &[u8], count: usize, encoding: Encoding) -> Result<(), String> {
        match encoding {
            Encoding::PLAIN => {
                let mut bytes = bytes;
                for _ in 0..count {
                    self.values.push(T::take(&mut bytes).ok_or("values that end early")?);
                }
            }
            Encoding::RLE_DICTIONARY => {
                let (width, bytes) = bytes.split_first().ok_or("a page without values")?;
                let indices = hybrid(bytes, *width, count).ok_or("values that end early")?;
                for index in indices {
                    let value = self.dictionary.get(index as usize);
                    self.values.push(value.ok_or("a value outside of the dictionary")?.clone());
                }
            }
            other => return Err(format!("values in encoding {other}")),
        }
        Ok(())
    }
}

/// `count` numbers of `width` bits from runs of one number and groups of eight packed ones.
fn hybrid(bytes: &[u8], width: u8, count: usize) -> Option<Vec<u32>> {
    let mut bytes = bytes;
    let mut numbers = Vec::new();
    let width = usize::from(width);
    if width > 32 {
        return None;
    }
    while numbers.len() < count {
        let head = varint(&mut bytes)?;
        let length = usize::try_from(head >> 1).ok().filter(|length| *length > 0)?;
        let missing = count - numbers.len();
        if head & 1 == 0 {
            let (value, rest) = bytes.split_at_checked(width.div_ceil(8))?;
            let value = value.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
            numbers.extend(std::iter::repeat_n(value, length.min(missing)));
            bytes = rest;
        } else {
            let wanted = length.saturating_mul(8).min(missing);
            // The last group may be cut off after its last number.
            let packed = bytes.get(..(wanted * width).div_ceil(8))?;
            numbers.extend((0..wanted).map(|index| unpack(packed, index * width, width)));
            bytes = bytes.get(length.saturating_mul(width)..).unwrap_or(&[]);
        }
    }
    Some(numbers)
}

/// The number of `width` bits that begins at bit `at`, lowest bit first.
fn unpack(bytes: &[u8], at: usize, width: usize) -> u32 {
    let first = at / 8;
    let last = (at + width).div_ceil(8);
    let window =
        bytes[first..last].iter().rev().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
    ((window >> (at % 8)) & ((1 << width) - 1)) as u32
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_groups_are_unpacked() {
        // The format's own example: 0 to 7 in three bits, after a head of one group.
        let group = [0b11, 0b1000_1000, 0b1100_0110, 0b1111_1010];
        assert_eq!(hybrid(&group, 3, 8).unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(hybrid(&group, 3, 5).unwrap(), [0, 1, 2, 3, 4]);
        assert_eq!(hybrid(&[6, 0x2c, 0x01], 9, 3).unwrap(), [300, 300, 300]);
        assert_eq!(hybrid(&[0xfe, 0x01], 0, 4).unwrap(), [0; 4]);
    }

    #[test]
    fn what_ends_early_or_never_is_none() {
        assert_eq!(hybrid(&[0b11, 0b1000_1000], 3, 8), None);
        assert_eq!(hybrid(&[0, 0, 0, 0], 1, 3), None);
        assert_eq!(hybrid(&[6, 1], 40, 3), None);
        assert_eq!(hybrid(&[0xff; 12], 3, 3), None);
        assert_eq!(hybrid(&[6, 1], 8, 4), None);
    }
}
