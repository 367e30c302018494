//! `torch.save` files as they are: the archive. Its checksums keep mutations from the pickle.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moecast_fuzz::{TORCH, file, import, model};

fuzz_target!(|bytes: &[u8]| {
    let paths = [file("recording.pt", bytes)];
    for format in TORCH {
        import(format, &paths, Some(model()));
    }
});
