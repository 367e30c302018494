//! What the pages of a Parquet column claim, before anything is allocated for them.
//!
//! The parquet crate allocates what a page header says: 2 GiB for a page of ten bytes that
//! claims so. Headers are Thrift structs in compact encoding; only three numbers of each matter.
//! Format: <https://github.com/apache/parquet-format> 2.10, `PageHeader`.

/// Pages of release 0.12.0 have at most 2 MiB.
const PAGE_BYTES_MAX: i64 = 32 << 20;

/// Structs inside structs; page headers have three levels.
const DEPTH_MAX: usize = 8;

/// What a page header says.
#[derive(Default)]
struct Header {
    unpacked_bytes: Option<i64>,
    packed_bytes: Option<i64>,
    values: Option<i64>,
    dictionary: bool,
}

/// Checks the pages of the column chunk at `start` of a table of `rows`.
///
/// # Errors
/// What was found: one line.
pub(super) fn check(bytes: &[u8], start: i64, length: i64, rows: usize) -> Result<(), String> {
    let place = usize::try_from(start).ok().zip(usize::try_from(length).ok());
    let range = place.and_then(|(start, length)| Some((start, start.checked_add(length)?)));
    let (at, end) = range.filter(|(_, end)| *end <= bytes.len()).ok_or_else(|| {
        format!("a column of {length} bytes at byte {start}, outside of the file")
    })?;
    let mut cursor = Cursor { bytes: &bytes[..end], at };
    while cursor.at < end {
        let at = cursor.at;
        let page = |what: &str| format!("a page at byte {at} {what}");
        let header = cursor.header().ok_or_else(|| page("without a header"))?;
        let (Some(unpacked), Some(packed), Some(values)) =
            (header.unpacked_bytes, header.packed_bytes, header.values)
        else {
            return Err(page("without its sizes"));
        };
        if !(0..=PAGE_BYTES_MAX).contains(&unpacked) {
            return Err(page(&format!("of {unpacked} bytes")));
        }
        // A value of a dictionary has at least a byte; a data page has at most every row.
        let most = if header.dictionary { unpacked } else { rows as i64 };
        if !(0..=most).contains(&values) {
            return Err(page(&format!("of {values} values")));
        }
        let packed = usize::try_from(packed).ok().filter(|packed| *packed <= end - cursor.at);
        cursor.at += packed.ok_or_else(|| page("that ends outside of its column"))?;
    }
    Ok(())
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at)?;
        self.at += 1;
        Some(*byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn integer(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn pass(&mut self, bytes: u64) -> Option<()> {
        let bytes = usize::try_from(bytes).ok()?;
        self.at = self.at.checked_add(bytes).filter(|at| *at <= self.bytes.len())?;
        Some(())
    }

    /// The next field of a struct: its number and type; type 0 ends the struct.
    fn field(&mut self, last: &mut i64) -> Option<(i64, u8)> {
        let byte = self.byte()?;
        let kind = byte & 0x0f;
        if kind != 0 {
            *last = match byte >> 4 {
                0 => self.integer()?,
                step => last.checked_add(i64::from(step))?,
            };
        }
        Some((*last, kind))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            // The two truths are types of their own.
            1 | 2 => Some(()),
            3 => self.pass(1),
            4..=6 => self.varint().map(drop),
            7 => self.pass(8),
            8 => {
                let length = self.varint()?;
                self.pass(length)
            }
            9 | 10 => {
                let byte = self.byte()?;
                let count = if byte >> 4 == 15 { self.varint()? } else { u64::from(byte >> 4) };
                for _ in 0..count {
                    match byte & 0x0f {
                        1 | 2 => self.pass(1)?,
                        kind => self.skip(kind, depth)?,
                    }
                }
                Some(())
            }
            12 => {
                let mut last = 0;
                loop {
                    match self.field(&mut last)? {
                        (_, 0) => return Some(()),
                        (_, kind) => self.skip(kind, depth)?,
                    }
                }
            }
            _ => None,
        }
    }

    fn header(&mut self) -> Option<Header> {
        let mut header = Header::default();
        let mut last = 0;
        loop {
            match self.field(&mut last)? {
                (_, 0) => return Some(header),
                (2, 5) => header.unpacked_bytes = Some(self.integer()?),
                (3, 5) => header.packed_bytes = Some(self.integer()?),
                // Headers of data pages, dictionary pages and data pages of the second version.
                (number @ (5 | 7 | 8), 12) => {
                    header.dictionary = number == 7;
                    let mut last = 0;
                    loop {
                        match self.field(&mut last)? {
                            (_, 0) => break,
                            (1, 5) => header.values = Some(self.integer()?),
                            (_, kind) => self.skip(kind, DEPTH_MAX)?,
                        }
                    }
                }
                (_, kind) => self.skip(kind, DEPTH_MAX)?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of a data page of `values`, then `packed` bytes of nothing.
    fn page(unpacked: u8, packed: u8, values: u8) -> Vec<u8> {
        let zigzag = |value: u8| value << 1;
        // Field 1 is the kind, 2 and 3 are the sizes, 5 is the struct whose field 1 counts.
        let mut bytes = vec![0x15, 0, 0x15, zigzag(unpacked), 0x15, zigzag(packed)];
        bytes.extend([0x2c, 0x15, zigzag(values), 0x15, 0, 0, 0]);
        bytes.extend(std::iter::repeat_n(0, usize::from(packed)));
        bytes
    }

    fn check_all(bytes: &[u8], rows: usize) -> Result<(), String> {
        check(bytes, 0, bytes.len() as i64, rows)
    }

    #[test]
    fn honest_pages_pass() {
        let two = [page(20, 10, 5), page(9, 3, 1)].concat();
        assert_eq!(check_all(&two, 5), Ok(()));
        assert!(check_all(&two, 4).unwrap_err().contains("of 5 values"));
        assert!(check_all(&two[..two.len() - 1], 5).unwrap_err().contains("outside of its column"));
        assert!(check(&two, 0, 1 << 40, 5).unwrap_err().contains("outside of the file"));
        assert!(check(&two, -1, 2, 5).unwrap_err().contains("outside of the file"));
    }

    #[test]
    fn a_page_that_claims_gigabytes_is_refused() {
        let mut bytes = page(0, 10, 5);
        // 2^31 - 1 as a zigzag varint, in place of the one byte of 0.
        bytes.splice(3..4, [0xfe, 0xff, 0xff, 0xff, 0x0f]);
        assert!(check_all(&bytes, 5).unwrap_err().contains("of 2147483647 bytes"));
    }
}
