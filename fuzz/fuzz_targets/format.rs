//! Our own trace format.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moecast_fuzz::file;
use moecast_traces::{format, stats};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(trace) = format::read(&file("trace.safetensors", bytes)) {
        let _ = stats::load::per_layer(&trace);
        // What was read can be written, and is then read again.
        let mut again = Vec::new();
        format::write(&trace, "again", &mut again).expect("a trace that was read");
        format::read(&file("again.safetensors", &again)).expect("a trace that was written");
    }
});
