//! Decodes base64 with the standard alphabet and padding (RFC 4648, section 4), and nothing else:
//! no line breaks, no other alphabet, no bits beyond the last byte.

/// The bytes, or the position of the first character that cannot be there.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, usize> {
    let text = text.as_bytes();
    let padding = text.iter().rev().take(2).take_while(|&&byte| byte == b'=').count();
    let digits = &text[..text.len() - padding];
    if !text.len().is_multiple_of(4) {
        return Err(text.len());
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for (group, quad) in digits.chunks(4).enumerate() {
        let mut bits: u32 = 0;
        for (at, &digit) in quad.iter().enumerate() {
            let value = value(digit).ok_or(group * 4 + at)?;
            bits |= u32::from(value) << (26 - 6 * at);
        }
        let whole = quad.len() * 6 / 8;
        let (kept, rest) = (bits.to_be_bytes(), bits << (8 * whole));
        if rest != 0 {
            return Err(group * 4 + quad.len() - 1);
        }
        bytes.extend_from_slice(&kept[..whole]);
    }
    Ok(bytes)
}

fn value(digit: u8) -> Option<u8> {
    Some(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The other direction, for tests that make responses.
    pub(in crate::import) fn encode(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for group in bytes.chunks(3) {
            let bits = group.iter().zip([16, 8, 0]).map(|(&b, shift)| u32::from(b) << shift);
            let bits: u32 = bits.sum();
            for at in 0..4 {
                let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
                text.push(if at > group.len() { '=' } else { char::from(digit) });
            }
        }
        text
    }

    /// The test vectors of RFC 4648, section 10.
    #[test]
    fn vectors_of_the_standard() {
        let cases = [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ];
        for (text, bytes) in cases {
            assert_eq!(decode(text).unwrap(), bytes.as_bytes());
            assert_eq!(encode(bytes.as_bytes()), text);
        }
        assert_eq!(decode("+/+/").unwrap(), [0xfb, 0xff, 0xbf]);
    }

    #[test]
    fn the_wrong_character_is_found() {
        let cases = [
            ("Zg=", 3),
            ("Zg", 2),
            ("Z===", 1),
            ("====", 0),
            ("Zm9v\n", 5),
            ("Zm-v", 2),
            ("Zm9vZ=9v", 5),
            ("Zh==", 1),
            ("Zm9=", 2),
            ("Zmé", 2),
        ];
        for (text, at) in cases {
            assert_eq!(decode(text), Err(at), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            prop_assert_eq!(decode(&encode(&bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,20}") {
            let _ = decode(&text);
        }
    }
}
