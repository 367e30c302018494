//! The reader of every exporter.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moecast_planner::export::{ALL, Context};

fuzz_target!(|bytes: &[u8]| {
    let context = Context { path: "plan".to_owned(), experts: 8, ranks: 4, layers: vec![0, 1] };
    for exporter in ALL {
        let _ = (exporter.read)(bytes, &context);
    }
});
