use super::*;

const TEXT: &str = "\
nvbandwidth Version: v0.8
Device 0: NVIDIA H200 (00000000:18:00)

Running host_to_device_memcpy_ce.
memcpy CE CPU(row) -> GPU(column) bandwidth (GB/s)
           0         1         2
 0     50.00     55.00     55.50

SUM host_to_device_memcpy_ce 160.50

Running device_to_device_memcpy_read_ce.
memcpy CE GPU(row) -> GPU(column) bandwidth (GB/s)
           0         1
 0       N/A    390.00
 1    391.00       N/A

Running host_device_latency_sm.
memory latency SM CPU(row) <-> GPU(column) (ns)
           0
 0    772.58

Running device_local_copy.
memcpy local GPU(column) bandwidth (GB/s)
           0
 0   1900.00
";

const JSON: &str = r#"{"nvbandwidth": {"version": "0.8", "bufferSize": 64, "testcases": [
  {"name": "device_to_host_bidirectional_memcpy_sm", "status": "Passed",
   "bandwidth_matrix": [["40", "N/A"]]},
  {"name": "device_to_device_memcpy_read_ce", "status": "Waived"}]}}"#;

fn read_text_of(text: &str) -> Result<Samples> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.log");
    std::fs::write(&path, text).unwrap();
    read(&path, &Options::default())
}

fn fails(text: &str, part: &str) {
    let error = read_text_of(text).unwrap_err().to_string();
    assert!(error.contains(part), "{error}");
    assert!(!error.contains('\n'));
}

#[test]
fn text_becomes_times_of_one_copy() {
    let samples = read_text_of(TEXT).unwrap();
    assert_eq!(samples.provenance.system, "nvidia-h200");
    assert_eq!(samples.provenance.version, "0.8");
    let bytes = 512 * MIB;
    let host = &samples.samples[1];
    assert_eq!((host.family, host.variant.as_str()), (Family::HostCopy, "host-to-device/ce"));
    assert_eq!((host.shape.as_slice(), host.at.as_slice()), (&[1][..], &[bytes][..]));
    // The median of three devices.
    assert!((host.time_us - bytes as f64 / 55e3).abs() < 1e-6);
    let local = &samples.samples[0];
    assert_eq!(local.family, Family::DeviceCopy);
    assert!((local.time_us - bytes as f64 / 1900e3).abs() < 1e-6);
    assert_eq!(samples.samples.len(), 2);
    let flags = samples.flags.join("\n");
    assert!(flags.contains("2 rows repeat a key"), "{flags}");
    assert!(flags.contains("512 MiB is the default"), "{flags}");
    assert!(flags.contains("5 figures of device_to_device_memcpy_read_ce, host_dev"), "{flags}");
}

#[test]
fn the_command_line_tells_the_buffer() {
    let samples = read_text_of(&format!("$ ./nvbandwidth -b 1024\n{TEXT}")).unwrap();
    assert_eq!(samples.samples[0].at, [1 << 30]);
}

#[test]
fn json_is_read_too() {
    let samples = read_text_of(JSON).unwrap();
    assert_eq!(samples.samples.len(), 1);
    assert_eq!(samples.samples[0].variant, "device-to-host-bidirectional/sm");
    assert!((samples.samples[0].time_us - 64.0 * MIB as f64 / 40e3).abs() < 1e-6);
}

#[test]
fn wrong_figures_are_located() {
    fails(&TEXT.replace("55.00", "nan"), "line 7, host_to_device_memcpy_ce: nan");
    fails(&TEXT.replace("55.00", "0.00"), "line 7");
    fails(&TEXT.replace("55.00", "55000000"), "GB/s between 0 and");
    fails(&TEXT.replace("     55.50", ""), "line 7: 3 words; expected a row number and 3");
    fails(&JSON.replace("\"40\"", "\"-1\""), "testcases[0], device_to_host_bidir");
    fails(&JSON[..100], "JSON");
    fails("nvbandwidth Version: v0.8\n", "no matrix of bandwidths");
}

#[test]
fn a_cut_off_file_is_no_panic() {
    for text in [TEXT, JSON] {
        for end in 1..text.len() {
            if let Ok(samples) = read_text_of(&text[..end]) {
                assert!(samples.samples.len() <= 2);
            }
        }
    }
}
