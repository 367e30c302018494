//! Profiles of measured kernels.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moecast_profiles::profile::Profile;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(profile) = Profile::read(bytes, "x.profile") {
        // What was read can be shown and written, and is then the same profile.
        let _ = profile.summary();
        for table in profile.tables() {
            let _ = (table.constants(), table.split());
        }
        let again = Profile::read(&profile.write(), "again").expect("a profile");
        assert_eq!(profile, again);
    }
});
