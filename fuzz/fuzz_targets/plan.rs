//! Our own plan format.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moecast_planner::Plan;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(plan) = Plan::read(bytes, "plan.json") {
        // What was read can be written, and is then the same plan.
        let again = Plan::read(plan.to_json().as_bytes(), "again").expect("a plan");
        assert_eq!(plan, again);
    }
});
