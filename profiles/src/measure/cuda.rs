//! A CUDA device, timed by CUDA events. **Has not run on hardware yet.**
//!
//! The driver, NVRTC and cuBLASLt are loaded at run time, so this builds where no CUDA is
//! installed and answers there with an error. Our own kernels (`cuda/kernels.cu`) are compiled by
//! NVRTC for the device at hand (compute capability 8.0 and newer). Weights and caches are random
//! numbers in a store that exceeds the L2 cache, another part of it each time. Before short work
//! a kernel holds the stream until the host has queued what follows, so that times are of the
//! device; launches are timed without it, since there the host is what is timed.

mod attention;
mod copy;
mod experts;
mod gemm;
mod kernels;
mod launch;
mod layout;
mod lt;

use std::fmt::Display;
use std::sync::Arc;

use cudarc::driver::sys::{self, CUdevice_attribute as Attribute};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream};

use super::{Bench, Kind, Point, TimingError};
use crate::sample::Family;
use crate::{Error, Result};

use kernels::{Kernels, Pattern};
use layout::Rotation;

type Timing<T> = std::result::Result<T, TimingError>;

/// How long the stream is held before kernels and before copies, device cycles.
const HOLD_KERNELS: i64 = 2_000_000;
const HOLD_COPIES: i64 = 20_000_000;

/// A CUDA device that is open.
pub struct Cuda {
    device: Device,
    random: Option<Random>,
    /// `None` until asked for, then whether cuBLASLt is installed.
    lt: Option<Option<lt::Handle>>,
}

/// What every benchmark needs.
struct Device {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    kernels: Kernels,
    name: String,
    capability: (i32, i32),
    l2_bytes: usize,
    processors: u32,
}

/// Random numbers in device memory.
struct Random {
    words: CudaSlice<u32>,
    pattern: Pattern,
}

/// Opens device number `ordinal` and compiles the kernels for it. Has not run on hardware yet.
///
/// # Errors
/// [`Error::Measure`] when there is no CUDA driver, no such device, no NVRTC library, or the
/// kernels do not compile for the device (older than compute capability 8.0).
pub fn open(ordinal: usize) -> Result<Cuda> {
    let what = format!("CUDA device {ordinal}");
    let refuse = |found: String| Error::Measure { what: what.clone(), found };
    if !has_driver() {
        return Err(refuse("no CUDA driver library is installed".to_owned()));
    }
    let fail = |error: cudarc::driver::DriverError| refuse(error.to_string());
    let devices = usize::try_from(CudaContext::device_count().map_err(fail)?).unwrap_or(0);
    if ordinal >= devices {
        return Err(refuse(format!("there are {devices} devices, numbered from 0")));
    }
    let context = CudaContext::new(ordinal).map_err(fail)?;
    order_by_hand(&context);
    let capability = context.compute_capability().map_err(fail)?;
    let attribute = |attribute| context.attribute(attribute).map_err(fail);
    let l2_bytes = attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?;
    let processors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    let device = Device {
        // Streams that are not the default one can be captured into graphs.
        stream: context.new_stream().map_err(fail)?,
        kernels: Kernels::compile(&context, capability).map_err(refuse)?,
        name: context.name().map_err(fail)?,
        capability,
        l2_bytes: usize::try_from(l2_bytes).unwrap_or(0).max(1 << 20),
        processors: u32::try_from(processors).unwrap_or(1).max(1),
        context,
    };
    Ok(Cuda { device, random: None, lt: None })
}

/// Whether the driver's library can be loaded; any other call panics where it cannot.
#[expect(unsafe_code, reason = "loading a library runs its initialisers: it is NVIDIA's driver")]
fn has_driver() -> bool {
    // SAFETY: the library is looked up by the driver's names alone and dropped again.
    unsafe { sys::is_culib_present() }
}

/// Buffers stop recording an event for each use, which would be timed too.
#[expect(unsafe_code, reason = "every buffer is used by one stream, or after a synchronisation")]
fn order_by_hand(context: &CudaContext) {
    // SAFETY: buffers are made, used and dropped on one stream each; the streams of the host
    // copies wait for each other's events.
    unsafe { context.disable_event_tracking() }
}

impl Bench for Cuda {
    fn name(&self) -> String {
        self.device.name.clone()
    }

    fn kind(&self) -> Kind {
        Kind::Cuda
    }

    fn time(&mut self, point: &Point, repeats: u32) -> Timing<Vec<f64>> {
        let repeats = repeats as usize;
        let (implementation, kind) = point.variant.split_once('/').unwrap_or_default();
        match (point.family, implementation) {
            (Family::Launch, _) => launch::time(&self.device, point, repeats),
            (Family::DeviceCopy, _) => copy::time_on_device(&self.device, point, repeats),
            (Family::HostCopy, "pinned" | "pageable") => {
                copy::time_with_host(&self.device, point, implementation, kind, repeats)
            }
            (Family::Gemm, "cublaslt") => self.time_gemm(point, kind, repeats),
            (Family::DecodeAttention, "nvrtc") => self.time_attention(point, repeats),
            (Family::ExpertGemm, "nvrtc" | "cublaslt-loop") => {
                self.time_experts(point, implementation == "nvrtc", repeats)
            }
            _ => Err(unsupported(format!("no benchmark of {point}"))),
        }
    }

    fn flags(&self) -> Vec<String> {
        vec!["these CUDA benchmarks have not been checked on hardware".to_owned()]
    }
}

impl Cuda {
    /// Random numbers of `pattern`, at least `rotation` of them, and what else is used with them.
    fn with_random(
        &mut self,
        pattern: Pattern,
        rotation: &Rotation,
    ) -> Timing<(&Device, &CudaSlice<u32>)> {
        let words = rotation.bytes_total().div_ceil(4);
        let fits = self.random.as_ref().is_some_and(|random| random.words.len() >= words);
        if !fits {
            self.random = None;
            self.device.room_for(4 * words)?;
        }
        let random = match self.random.take() {
            Some(random) if random.pattern == pattern => random,
            Some(random) => self.device.randomise(random.words, pattern)?,
            None => {
                let words = self.device.stream.alloc_zeros(words).or_fail("random numbers")?;
                self.device.randomise(words, pattern)?
            }
        };
        Ok((&self.device, &self.random.insert(random).words))
    }

    /// cuBLASLt, opened on first use.
    fn open_lt(&mut self) -> Timing<()> {
        if self.lt.is_none() {
            self.lt = Some(lt::Handle::open(&self.device)?);
        }
        match self.lt {
            Some(Some(_)) => Ok(()),
            _ => Err(unsupported("no cuBLASLt library is installed".to_owned())),
        }
    }
}

impl Device {
    /// Refuses what does not leave a tenth of the free memory free.
    fn room_for(&self, bytes: usize) -> Timing<()> {
        // What was dropped is given back when the stream gets there.
        self.stream.synchronize().or_fail("free memory")?;
        let (free, _) = self.context.mem_get_info().or_fail("free memory")?;
        if bytes > free / 10 * 9 {
            return Err(unsupported(format!("{bytes} bytes do not fit into {free} free ones")));
        }
        Ok(())
    }

    fn randomise(&self, mut words: CudaSlice<u32>, pattern: Pattern) -> Timing<Random> {
        self.kernels.fill_random(&self.stream, &mut words, pattern).or_fail("random numbers")?;
        Ok(Random { words, pattern })
    }

    /// `bytes` of random numbers of their own.
    fn random_bytes(&self, bytes: usize, pattern: Pattern) -> Timing<CudaSlice<u32>> {
        self.room_for(bytes)?;
        let words = self.stream.alloc_zeros(bytes.div_ceil(4).max(1)).or_fail("a buffer")?;
        Ok(self.randomise(words, pattern)?.words)
    }

    /// Microseconds between events before and after `work(repeat)`, each queued on the stream
    /// while a kernel holds it for `hold` cycles.
    fn timed(
        &self,
        repeats: usize,
        hold: i64,
        mut work: impl FnMut(usize) -> Timing<()>,
    ) -> Timing<Vec<f64>> {
        let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        self.stream.synchronize().or_fail("what went before")?;
        if hold > 0 {
            self.kernels.hold(&self.stream, hold).or_fail("holding the stream")?;
        }
        let mut events = Vec::with_capacity(repeats);
        for repeat in 0..repeats {
            let start = self.stream.record_event(timed).or_fail("an event")?;
            work(repeat)?;
            events.push((start, self.stream.record_event(timed).or_fail("an event")?));
        }
        self.stream.synchronize().or_fail("a kernel")?;
        let elapsed = |(start, end): &(cudarc::driver::CudaEvent, _)| {
            start.elapsed_ms(end).map(|millis| f64::from(millis) * 1e3).or_fail("events")
        };
        events.iter().map(elapsed).collect()
    }
}

fn unsupported(why: String) -> TimingError {
    TimingError::Unsupported(why)
}

/// The field of a shape or load as an index.
fn to_usize(value: u64) -> Timing<usize> {
    usize::try_from(value).map_err(|_| unsupported(format!("{value} is too large")))
}

/// A kernel's argument.
fn to_i32(value: usize) -> Timing<i32> {
    i32::try_from(value).map_err(|_| unsupported(format!("{value} is too large")))
}

/// Says what was tried where a library refuses.
trait OrFail<T> {
    fn or_fail(self, what: &str) -> Timing<T>;
}

impl<T, E: Display> OrFail<T> for std::result::Result<T, E> {
    fn or_fail(self, what: &str) -> Timing<T> {
        self.map_err(|error| {
            Error::Measure { what: what.to_owned(), found: error.to_string() }.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_an_error_and_no_panic() {
        assert!(matches!(open(usize::MAX), Err(Error::Measure { .. })));
    }
}
