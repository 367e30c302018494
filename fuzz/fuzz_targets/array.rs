//! Arrays of vLLM: `.npy`, and `.npz` with its zip.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moecast_fuzz::{file, import};

fuzz_target!(|bytes: &[u8]| {
    import("vllm-routed-experts", &[file("request.npy", bytes)], None);
});
