//! Recordings that are text: every format reads the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moecast_fuzz::{file, import};

fuzz_target!(|bytes: &[u8]| {
    let paths = [file("recording.txt", bytes)];
    for format in ["counts-csv", "jsonl-layers", "route-trace-csv"] {
        import(format, &paths, None);
    }
});
