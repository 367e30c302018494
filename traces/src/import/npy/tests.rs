//! Headers that NumPy writes and headers that lie.

use super::*;

/// An array with header `text`, as version 1.0.
pub(in crate::import) fn with_header(text: &str, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap().to_le_bytes();
    [MAGIC, &[1, 0], &length, text.as_bytes(), data].concat()
}

/// An array of 32-bit ids.
pub(in crate::import) fn array(shape: [usize; 3], ids: &[i32]) -> Vec<u8> {
    let [tokens, layers, k] = shape;
    let text = format!(
        "{{'descr': '<i4', 'fortran_order': False, 'shape': ({tokens}, {layers}, {k}), }}   \n"
    );
    let data: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    with_header(&text, &data)
}

fn open(mut bytes: &[u8]) -> std::result::Result<Array, String> {
    let source = Source { path: "a", part: None };
    Array::open(source, &mut bytes).map_err(|error| error.to_string())
}

#[test]
fn a_header_of_numpy_is_read() {
    let bytes = array([2, 3, 4], &[0; 24]);
    let found = open(&bytes).unwrap();
    assert_eq!((found.data_type, found.shape), (DataType::I32, [2, 3, 4]));
    assert_eq!(found.total_bytes, bytes.len() as u64);
    let text = "{\"shape\":(0,1,1),\"fortran_order\":False,\"descr\":\"|u1\"}";
    let length = u32::try_from(text.len()).unwrap().to_le_bytes();
    let bytes = [MAGIC, &[3, 0], &length, text.as_bytes()].concat();
    let found = open(&bytes).unwrap();
    assert_eq!((found.data_type, found.shape), (DataType::U8, [0, 1, 1]));
    assert_eq!(found.header_bytes, bytes.len() as u64);
}

#[test]
fn ids_of_every_type_are_read() {
    let cases: [(&str, &[u8], i64); 5] = [
        ("|u1", &[200], 200),
        ("<u2", &[0xff, 0xff], 65_535),
        ("<i2", &[0xff, 0xff], -1),
        ("<i4", &[1, 0, 1, 0], 65_537),
        ("<i8", &[0xff; 8], -1),
    ];
    for (descr, data, expected) in cases {
        let text =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (1, 1, 1), }}\n");
        let bytes = with_header(&text, data);
        let source = Source { path: "a", part: None };
        let mut reader = bytes.as_slice();
        let array = Array::open(source, &mut reader).unwrap();
        let mut found = Vec::new();
        let mut token = |ids: &[i64]| {
            found.extend_from_slice(ids);
            Ok(())
        };
        array.each_token(source, &mut reader, &mut token).unwrap();
        assert_eq!(found, [expected], "{descr}");
    }
}

#[test]
fn headers_that_are_something_else_say_what_is_wrong() {
    let dict = "{'descr': '<i4', 'fortran_order': False, 'shape': (tokens, layers, k)}";
    let shape = "[tokens, layers, k] with 1 to 4096 layers and k of 1 to 512";
    let ids = "ids as |u1, <u2, <i2, <i4 or <i8";
    let keys = "the keys descr, fortran_order and shape";
    let cases: [(&str, &str, String); 15] = [
        ("'<i4'", "'<f4'", format!("type `<f4`; expected {ids}")),
        ("'<i4'", "'>i4'", format!("type `>i4`: big-endian; expected {ids}")),
        (
            "'<i4'",
            "'|O'",
            format!("Python objects (a pickle, which is never read); expected {ids}"),
        ),
        ("'<i4'", "[('a', '<i4')]", "a structured type; expected an array of ids".into()),
        ("False", "True", "Fortran order; expected C order".into()),
        ("False", "0", format!("`0, \\'shape\\': (2, 3, 4), }}`; expected {dict}")),
        ("(2, 3, 4)", "(-1, 3, 4)", format!("shape [-1, 3, 4]; expected {shape}")),
        ("(2, 3, 4)", "(2, 3)", format!("shape [2, 3]; expected {shape}")),
        ("(2, 3, 4)", "(2, 0, 4)", format!("shape [2, 0, 4]; expected {shape}")),
        ("(2, 3, 4)", "(2, 3, 65535)", format!("shape [2, 3, 65535]; expected {shape}")),
        ("(2, 3, 4)", "(4294967296, 3, 4)", format!("shape [4294967296, 3, 4]; expected {shape}")),
        (
            "(2, 3, 4)",
            "(99999999999999999999, 3, 4)",
            "shape (99999999999999999999, 3, 4), }; expected sizes below 2^63".into(),
        ),
        ("'shape'", "'name'", format!("key `name`; expected {keys}")),
        ("'shape'", "'descr'", format!("`(2, 3, 4), }}`; expected {dict}")),
        (", 'shape': (2, 3, 4)", "", format!("a key is absent; expected {keys}")),
    ];
    let good = "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3, 4), }";
    for (old, new, expected) in cases {
        let text = good.replacen(old, new, 1);
        let found = open(&with_header(&text, &[0; 96])).unwrap_err();
        assert_eq!(found, format!("a: header: {expected}"));
    }
    let twice = good.replacen("'shape'", "'descr': '<i4', 'shape'", 1);
    let found = open(&with_header(&twice, &[])).unwrap_err();
    assert_eq!(found, format!("a: header: key `descr` twice; expected {keys}"));
}

#[test]
fn other_versions_and_lengths_are_refused_before_anything_is_reserved() {
    let version = [MAGIC, &[4, 0, 0, 0, 0, 0]].concat();
    let expected = "a: header: version 4.0; expected version 1.0, 2.0 or 3.0";
    assert_eq!(open(&version).unwrap_err(), expected);
    let long = [MAGIC, &[2, 0, 0xff, 0xff, 0xff, 0xff]].concat();
    let expected = "a: header: 4294967295 bytes; expected 65536 at most";
    assert_eq!(open(&long).unwrap_err(), expected);
    let found = open(b"PK\x03\x04....").unwrap_err();
    assert!(found.starts_with("a: header: no array of NumPy"), "{found}");
}
