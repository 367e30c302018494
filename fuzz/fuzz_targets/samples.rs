//! Samples, and what is fitted to them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moecast_profiles::profile::Profile;
use moecast_profiles::sample::{read_samples, write_samples};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(samples) = read_samples(&mut &bytes[..], "x.jsonl") {
        let mut written = Vec::new();
        write_samples(&samples, &mut written).expect("memory");
        assert_eq!(read_samples(&mut &written[..], "again").expect("samples"), samples);
        if samples.samples.len() < 40 && samples.samples.iter().all(|one| one.at[0] < 4096) {
            let _ = Profile::from_samples(&samples, &|_, _| {});
        }
    }
});
