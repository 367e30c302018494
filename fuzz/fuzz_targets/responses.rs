//! SGLang responses: JSON around base64.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moecast_fuzz::{file, import, model};

fuzz_target!(|bytes: &[u8]| {
    import("sglang-routed-experts", &[file("responses.jsonl", bytes)], Some(model()));
});
