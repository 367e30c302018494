//! TensorRT-LLM statistics: the safetensors of a rank, beside a sound `meta_info.json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moecast_fuzz::{file, import};

fuzz_target!(|bytes: &[u8]| {
    let meta = file("meta_info.json", br#"{"num_experts": 4, "num_experts_per_token": 2}"#);
    import("trtllm-statistics", &[meta, file("rank0.safetensors", bytes)], None);
});
