//! The restricted reader against files that are damaged or mean harm.

use proptest::prelude::*;
use zip::CompressionMethod;

use super::super::Progress;
use super::super::tests::{file, ignore_progress};
use super::pickle::unpickle;
use super::write::{Writer, i32_bytes, stat};
use super::*;

/// Opens `bytes` as a `.pt` and answers with the error, without the path.
fn refusal(bytes: &[u8]) -> String {
    let (_folder, path) = file("a.pt", bytes);
    let input =
        super::super::Input { paths: &[], model: None, progress: &ignore_progress, spill: None };
    let progress = Progress::new(&input);
    match Archive::open(&path, &progress) {
        Ok(_) => panic!("the file was accepted"),
        Err(error) => error.to_string().replace(&format!("{}: ", path.display()), ""),
    }
}

/// A file that names `global` and would call it.
fn calling(module: &str, name: &str) -> Vec<u8> {
    let call = format!("c{module}\n{name}\n");
    Writer::new().raw(call.as_bytes()).raw(b"(").text("true").raw(b"tR").file()
}

#[test]
fn foreign_globals_are_refused_by_name() {
    assert_eq!(
        refusal(&calling("os", "system")),
        "data.pkl, byte 2: the global `os.system`; \
         expected only tensors, lists, dicts, strings and numbers"
    );
    for (module, name) in [
        ("posix", "system"),
        ("builtins", "eval"),
        ("torch", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("torch._utils", "_rebuild_parameter"),
        ("collections", "Counter"),
    ] {
        let found = refusal(&calling(module, name));
        assert!(found.contains(&format!("the global `{module}.{name}`")), "{found}");
    }
    // A type that is known is still no function.
    let found = refusal(&calling("torch", "IntStorage"));
    assert_eq!(
        found,
        "data.pkl, byte 31: a call with arguments; \
         expected only tensors, lists, dicts, strings and numbers"
    );
}

#[test]
fn opcodes_that_torch_does_not_write_are_refused() {
    // i: INST, o: OBJ, b: BUILD, \x81: NEWOBJ, \x93: STACK_GLOBAL, P: PERSID, 0: POP, 2: DUP.
    for opcode in b"iob\x81\x93P02\x82V" {
        let found = refusal(&Writer::new().raw(b"N").raw(&[*opcode]).file());
        let expected = format!("data.pkl, byte 3: opcode 0x{opcode:02x}");
        assert!(found.starts_with(&expected), "{found}");
    }
    let other = Writer { pickle: vec![0x80, 4, b'N'], storages: Vec::new() };
    assert_eq!(refusal(&other.file()), "data.pkl, byte 0: pickle protocol 4; expected protocol 2");
}

#[test]
fn declared_sizes_are_checked_before_anything_is_reserved() {
    let huge = i64::MAX / 8;
    let lying = |elements, offset, shape: &[i64], strides: Option<&[i64]>| {
        let mut writer = Writer::new();
        writer.storages.push(i32_bytes(&[1, 2, 3, 4]));
        refusal(&writer.view("IntStorage", elements, offset, shape, strides).file())
    };
    let huge_storage = lying(huge, 0, &[huge], None);
    let place = "entry `archive/data/0`: 16 bytes in a file of ";
    assert!(huge_storage.starts_with(place), "{huge_storage}");
    assert!(huge_storage.ends_with("expected 1152921504606846975 elements of I32"));
    assert!(lying(5, 0, &[4], None).contains("expected 5 elements of I32"));
    assert!(lying(4, 0, &[5], None).contains("a tensor of shape [5] at offset 0 of 4 elements"));
    assert!(lying(4, 1, &[4], None).contains("at offset 1 of 4 elements"));
    assert!(lying(4, 0, &[2, 2], Some(&[1, 2])).contains("strides [1, 2]: not contiguous"));
    assert!(lying(4, 0, &[huge, huge], Some(&[0, 0])).contains("a tensor of shape"));
    assert!(lying(-1, 0, &[1], None).contains("another persistent id"));
    assert!(lying(4, 0, &[-1], None).contains("a tensor of shape [-1]"));
    // A string, a long int and a memo that reach beyond the pickle.
    let text = Writer::new().raw(b"X\xff\xff\xff\x7fabc").file();
    assert_eq!(
        refusal(&text),
        "data.pkl, byte 2: the end of the pickle; expected 2147483647 more bytes"
    );
    let long = Writer::new().raw(&[0x8a, 200]).file();
    assert!(refusal(&long).contains("an int of 200 bytes"), "{}", refusal(&long));
    let memo = Writer::new().raw(b"Nr\xff\xff\xff\xffj\xfe\xff\xff\xff").file();
    assert!(refusal(&memo).contains("memo 4294967294"), "{}", refusal(&memo));
}

#[test]
fn a_key_counts_once() {
    let twice = Writer::new().raw(b"}(").text("a").int(1).text("a").int(2).raw(b"u").file();
    assert_eq!(refusal(&twice), "data.pkl, byte 36: key `a` twice; expected each key once");
}

#[test]
fn storages_may_not_be_compressed() {
    let bomb = stat(0, [1000, 10, 10], &vec![0; 100_000]);
    let found = refusal(&bomb.zip(CompressionMethod::Deflated));
    assert_eq!(
        found,
        "entry `archive/data/0`: compression Deflated; \
         expected a stored entry, as torch.save writes"
    );
}

#[test]
fn other_files_are_told_what_they_are() {
    let refused = |bytes: &[u8]| refusal(bytes).split(';').next().unwrap().to_owned();
    assert_eq!(refused(b""), "start of the file: less than 4 bytes");
    assert_eq!(
        refused(b"\x80\x02\x8a\x0a"),
        "start of the file: a file of torch.save before PyTorch 1.6"
    );
    assert_eq!(refused(b"layer,expert,count"), "start of the file: no zip");
}

/// Lists and dicts may hold themselves; nothing walks them.
#[test]
fn cycles_and_deep_nesting_are_harmless() {
    let cycle = Writer::new().raw(b"]q\x00h\x00a.");
    assert!(unpickle("a", &cycle.pickle).is_ok());
    let deep = [vec![0x80, 2], vec![b']'; 200_000], vec![b'a'; 199_999], vec![b'.']].concat();
    assert!(unpickle("a", &deep).is_ok());
    let marks = [vec![0x80, 2], vec![b'('; 200_000], vec![b't'; 200_000], vec![b'.']].concat();
    assert!(unpickle("a", &marks).is_ok());
}

/// `a = []; b = [a, a]; c = [b, b]; ...` has 2^n leaves and n lists.
#[test]
fn shared_values_are_not_copied() {
    let mut writer = Writer::new().raw(b"]q\x00");
    for _ in 0..60 {
        writer = writer.raw(b"](h\x00h\x00eq\x00");
    }
    assert!(unpickle("a", &writer.raw(b".").pickle).is_ok());
}

proptest! {
    #[test]
    fn no_bytes_make_the_machine_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = unpickle("a", &bytes);
    }

    #[test]
    fn no_opcodes_make_the_machine_panic(
        opcodes in prop::collection::vec(
            prop::sample::select(b"N\x88\x89K\x01])}(t\x85\x86\x87aesuq\x00h\x00QR".to_vec()),
            0..60,
        )
    ) {
        let _ = unpickle("a", &[&[0x80, 2], opcodes.as_slice(), b"."].concat());
    }
}
