//! How fast a device copies its own memory.

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaStream, DriverError, sys};

use crate::units::{Bandwidth, Bytes, Nanos};
use crate::{Error, Result};

/// Copies that are not counted: the first ones pay for clocks and page tables.
const WARM_UP_COPIES: u32 = 5;
/// More repeats than this tell nothing new.
const REPEATS_MAX: u32 = 10_000;

/// The outcome of [`copy_bandwidth`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopySample {
    /// The device as its driver calls it.
    pub device: String,
    /// Bytes of one copy.
    pub bytes: Bytes,
    /// Copies that were timed.
    pub repeats: u32,
    /// Median time of one copy.
    pub median: Nanos,
    /// Bytes copied per second at the median. The memory moves twice as many: each byte is read
    /// once and written once.
    pub bandwidth: Bandwidth,
}

/// The name of device number `device_ordinal`. Has not run on hardware yet.
///
/// # Errors
/// [`Error::Measure`] when there is no CUDA driver or no such device.
pub fn device_name(device_ordinal: usize) -> Result<String> {
    let what = format!("the name of device {device_ordinal}");
    let context = open(device_ordinal, &what)?;
    context.name().map_err(|error| driver_error(&what, error))
}

/// Copies `bytes` from one buffer of the device to another, `repeats` times after a warm-up, and
/// takes the median of the times between CUDA events. Has not run on hardware yet.
///
/// Buffers much larger than the last-level cache measure the memory; smaller ones the cache.
///
/// # Errors
/// [`Error::Measure`] when there is no CUDA driver or no such device, when `bytes` is 0 or does
/// not fit twice into the device's memory, and when `repeats` is 0 or above 10,000.
pub fn copy_bandwidth(device_ordinal: usize, bytes: Bytes, repeats: u32) -> Result<CopySample> {
    let what = format!("copies of {bytes} on device {device_ordinal}");
    let refuse = |found: &str| Error::Measure { what: what.clone(), found: found.to_owned() };
    if repeats == 0 || repeats > REPEATS_MAX {
        return Err(refuse(&format!("{repeats} repeats; expected from 1 to {REPEATS_MAX}")));
    }
    let length = usize::try_from(bytes.0).ok().filter(|length| *length > 0);
    let length = length.ok_or_else(|| refuse("no buffer has that size"))?;
    let context = open(device_ordinal, &what)?;
    let fail = |error| driver_error(&what, error);
    let device = context.name().map_err(fail)?;
    let times = time_copies(&context.default_stream(), length, repeats).map_err(fail)?;
    let median = median(times);
    if median == Nanos(0) {
        return Err(refuse("a copy took no time; take a larger buffer"));
    }
    Ok(CopySample { device, bytes, repeats, median, bandwidth: rate(bytes, median) })
}

/// The context of a device, once the driver is known to be there.
fn open(device_ordinal: usize, what: &str) -> Result<Arc<CudaContext>> {
    if !has_driver() {
        let found = "no CUDA driver library is installed".to_owned();
        return Err(Error::Measure { what: what.to_owned(), found });
    }
    let fail = |error| driver_error(what, error);
    let devices = usize::try_from(CudaContext::device_count().map_err(fail)?).unwrap_or(0);
    if device_ordinal >= devices {
        let found = format!("there are {devices} devices, numbered from 0");
        return Err(Error::Measure { what: what.to_owned(), found });
    }
    CudaContext::new(device_ordinal).map_err(fail)
}

/// Whether the driver's library can be loaded; any other call panics where it cannot.
#[expect(unsafe_code, reason = "loading a library runs its initialisers: it is NVIDIA's driver")]
fn has_driver() -> bool {
    // SAFETY: the library is looked up by the driver's names alone and dropped again.
    unsafe { sys::is_culib_present() }
}

fn driver_error(what: &str, error: DriverError) -> Error {
    Error::Measure { what: what.to_owned(), found: error.to_string() }
}

fn time_copies(
    stream: &Arc<CudaStream>,
    length: usize,
    repeats: u32,
) -> std::result::Result<Vec<Nanos>, DriverError> {
    let source = stream.alloc_zeros::<u8>(length)?;
    let mut target = stream.alloc_zeros::<u8>(length)?;
    for _ in 0..WARM_UP_COPIES {
        stream.memcpy_dtod(&source, &mut target)?;
    }
    let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
    let mut times = Vec::new();
    for _ in 0..repeats {
        let start = stream.record_event(timed)?;
        stream.memcpy_dtod(&source, &mut target)?;
        let end = stream.record_event(timed)?;
        times.push(Nanos::ceil_from(f64::from(start.elapsed_ms(&end)?.max(0.0)) * 1e6));
    }
    Ok(times)
}

/// The middle of the sorted times; the later one of two.
fn median(mut times: Vec<Nanos>) -> Nanos {
    times.sort_unstable();
    times[times.len() / 2]
}

fn rate(bytes: Bytes, time: Nanos) -> Bandwidth {
    let per_second = u128::from(bytes.0) * 1_000_000_000 / u128::from(time.0);
    Bandwidth(u64::try_from(per_second).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_request_is_refused_before_the_device_is_opened() {
        let answer = copy_bandwidth(0, Bytes(1 << 20), 0).unwrap_err().to_string();
        assert!(answer.contains("0 repeats; expected from 1 to 10000"), "{answer}");
        assert!(copy_bandwidth(0, Bytes(0), 1).is_err());
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error_and_no_panic() {
        for answer in [
            device_name(usize::MAX).map(drop),
            copy_bandwidth(usize::MAX, Bytes(1 << 20), 3).map(drop),
        ] {
            assert!(matches!(answer, Err(Error::Measure { .. })));
        }
    }

    #[test]
    fn the_median_gives_the_rate() {
        // 1,000 bytes in the middle one of 4, 1 and 2 ns: 500 GB/s.
        let middle = median(vec![Nanos(4), Nanos(1), Nanos(2)]);
        assert_eq!(rate(Bytes(1_000), middle), Bandwidth(500_000_000_000));
    }
}
