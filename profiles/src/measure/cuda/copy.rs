//! Copies: inside device memory, and between host and device, some at once.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, HostSlice, PinnedHostSlice, sys};

use super::super::Point;
use super::layout::Rotation;
use super::{Device, HOLD_COPIES, HOLD_KERNELS, OrFail, Timing, to_usize, unsupported};

/// Copies `at[0]` bytes from one place of device memory to another: each byte is read once and
/// written once.
pub(super) fn time_on_device(device: &Device, point: &Point, repeats: usize) -> Timing<Vec<f64>> {
    let bytes = to_usize(point.at[0])?;
    let rotation = Rotation::new(bytes, device.l2_bytes);
    device.room_for(2 * rotation.bytes_total())?;
    let stream = &device.stream;
    let buffer = || stream.alloc_zeros::<u8>(rotation.bytes_total()).or_fail("a buffer");
    let (source, mut target) = (buffer()?, buffer()?);
    device.timed(repeats, HOLD_KERNELS, |repeat| {
        let part = rotation.offset(repeat)..rotation.offset(repeat) + bytes;
        let mut to = target.slice_mut(part.clone());
        stream.memcpy_dtod(&source.slice(part), &mut to).or_fail("a copy on the device")
    })
}

/// The ways of a host copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ways {
    to_device: bool,
    to_host: bool,
}

impl Ways {
    fn find(name: &str) -> Option<Self> {
        match name {
            "to-device" => Some(Self { to_device: true, to_host: false }),
            "to-host" => Some(Self { to_device: false, to_host: true }),
            "both" => Some(Self { to_device: true, to_host: true }),
            _ => None,
        }
    }
}

/// One of the copies at once: its stream and its memory on either side.
struct Lane<H> {
    stream: Arc<CudaStream>,
    host: H,
    device: CudaSlice<u8>,
    to_device: bool,
}

/// Copies `at[0]` bytes `shape[0]` times at once, each way, each on a stream of its own: the time
/// until the last one is done, hence of one of them. `pageable` copies are issued by one thread,
/// as a driver's staging makes them wait for each other anyway.
pub(super) fn time_with_host(
    device: &Device,
    point: &Point,
    memory: &str,
    ways: &str,
    repeats: usize,
) -> Timing<Vec<f64>> {
    let (in_flight, bytes) = (point.shape[0] as usize, to_usize(point.at[0])?);
    let ways = Ways::find(ways).ok_or_else(|| unsupported(format!("no copies `{ways}`")))?;
    device.room_for(2 * in_flight * bytes)?;
    if memory == "pinned" {
        let lanes = lanes(device, in_flight, bytes, ways, || pinned(device, bytes))?;
        time_lanes(device, lanes, HOLD_COPIES, repeats)
    } else {
        let lanes = lanes(device, in_flight, bytes, ways, || Ok(vec![1_u8; bytes]))?;
        time_lanes(device, lanes, 0, repeats)
    }
}

#[expect(unsafe_code, reason = "pinned memory comes without a value")]
fn pinned(device: &Device, bytes: usize) -> Timing<PinnedHostSlice<u8>> {
    // SAFETY: it is written below before anything reads it.
    let mut memory = unsafe { device.context.alloc_pinned_with_flags::<u8>(bytes, 0) }
        .or_fail("pinned memory")?;
    memory.as_mut_slice().or_fail("pinned memory")?.fill(1);
    Ok(memory)
}

fn lanes<H>(
    device: &Device,
    in_flight: usize,
    bytes: usize,
    ways: Ways,
    host: impl Fn() -> Timing<H>,
) -> Timing<Vec<Lane<H>>> {
    let mut lanes = Vec::new();
    for _ in 0..in_flight {
        for (wanted, to_device) in [(ways.to_device, true), (ways.to_host, false)] {
            if wanted {
                let stream = device.context.new_stream().or_fail("a stream")?;
                let memory = stream.alloc_zeros(bytes).or_fail("a buffer")?;
                stream.synchronize().or_fail("a buffer")?;
                lanes.push(Lane { stream, host: host()?, device: memory, to_device });
            }
        }
    }
    Ok(lanes)
}

fn time_lanes<H: HostSlice<u8>>(
    device: &Device,
    mut lanes: Vec<Lane<H>>,
    hold: i64,
    repeats: usize,
) -> Timing<Vec<f64>> {
    let untimed = Some(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING);
    let times = device.timed(repeats, hold, |_| {
        let start = device.stream.record_event(untimed).or_fail("an event")?;
        for lane in &mut lanes {
            lane.stream.wait(&start).or_fail("an event")?;
            if lane.to_device {
                lane.stream.memcpy_htod(&lane.host, &mut lane.device)
            } else {
                lane.stream.memcpy_dtoh(&lane.device, &mut lane.host)
            }
            .or_fail("a copy between host and device")?;
        }
        for lane in &lanes {
            let end = lane.stream.record_event(untimed).or_fail("an event")?;
            device.stream.wait(&end).or_fail("an event")?;
        }
        Ok(())
    });
    // Host memory lives until nothing copies it, also after an error.
    for lane in &lanes {
        lane.stream.synchronize().or_fail("a copy between host and device")?;
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Kind, plan_for};
    use crate::sample::Family;

    #[test]
    fn the_plan_asks_for_ways_that_exist() {
        for point in plan_for(&Kind::Cuda).points {
            if point.family == Family::HostCopy {
                let (memory, ways) = point.variant.split_once('/').unwrap();
                assert!(["pinned", "pageable"].contains(&memory));
                assert!(Ways::find(ways).is_some(), "{ways}");
            }
        }
        assert_eq!(Ways::find("sideways"), None);
    }
}
