//! An import that is interrupted leaves the folder as it was: no half trace, no temporary file,
//! and the trace that was there before.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::Scratch;

/// Their columns are twice what an import holds, so they are spilled.
const TOKENS: u64 = 8 << 20;

/// An array of one id a token, all 0. Its bytes are a hole in the file.
fn large_recording(scratch: &Scratch) {
    let text = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({TOKENS}, 1, 1), }}\n");
    let length = u16::try_from(text.len()).unwrap().to_le_bytes();
    let header = [b"\x93NUMPY\x01\x00", &length[..], text.as_bytes()].concat();
    let mut file = File::create(scratch.path("a.npy")).unwrap();
    file.write_all(&header).unwrap();
    file.set_len(header.len() as u64 + TOKENS).unwrap();
}

fn start(scratch: &Scratch) -> Child {
    Command::new(env!("CARGO_BIN_EXE_moecast"))
        .args(["trace", "import", "a.npy", "-o", "t.safetensors"])
        .current_dir(scratch.path(""))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn names(scratch: &Scratch) -> Vec<String> {
    let entries = std::fs::read_dir(scratch.path("")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_interrupted_import_leaves_nothing() {
    let scratch = Scratch::new();
    large_recording(&scratch);
    let mut killed = 0;
    for (signal, wait_ms) in ["INT", "KILL"].into_iter().cycle().zip([100, 400, 800, 1600, 3200]) {
        scratch.write("t.safetensors", "what was there before");
        let mut child = start(&scratch);
        std::thread::sleep(Duration::from_millis(wait_ms));
        // Nothing half-written is seen while it works, either.
        assert_eq!(names(&scratch), ["a.npy", "t.safetensors"]);
        if child.try_wait().unwrap().is_some_and(|status| status.success()) {
            break;
        }
        let id = child.id().to_string();
        Command::new("kill").args(["-s", signal, &id]).status().unwrap();
        if !child.wait().unwrap().success() {
            killed += 1;
            assert_eq!(scratch.read("t.safetensors"), b"what was there before", "{signal}");
        }
        assert_eq!(names(&scratch), ["a.npy", "t.safetensors"], "{signal} after {wait_ms} ms");
    }
    assert!(killed > 0, "every import was over before it was interrupted");
}
