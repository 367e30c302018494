//! Request traces: every format reads the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moecast_fuzz::file;
use moecast_traces::requests::ALL;

fuzz_target!(|bytes: &[u8]| {
    let paths = [file("requests.csv", bytes)];
    for format in ALL {
        let _ = (format.read)(&paths);
    }
});
