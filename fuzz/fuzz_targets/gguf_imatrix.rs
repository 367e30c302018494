//! llama.cpp importance matrices.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moecast_fuzz::{file, import};

fuzz_target!(|bytes: &[u8]| {
    import("gguf-imatrix", &[file("imatrix.gguf", bytes)], None);
});
