//! What launching costs: kernels that do nothing, one by one or as a graph.

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};

use super::super::Point;
use super::{Device, OrFail, Timing, to_usize, unsupported};

/// Launches `at[0]` empty kernels: the host's and the device's part together.
pub(super) fn time(device: &Device, point: &Point, repeats: usize) -> Timing<Vec<f64>> {
    let kernels = to_usize(point.at[0])?;
    let launch_all = || -> Timing<()> {
        for _ in 0..kernels {
            device.kernels.nothing(&device.stream).or_fail("a launch")?;
        }
        Ok(())
    };
    match point.variant.as_str() {
        "kernel" => one_by_one(device, repeats, launch_all),
        "graph" => {
            let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
            device.stream.begin_capture(mode).or_fail("a graph")?;
            let launched = launch_all();
            // Capturing ends also where a launch failed: the stream is used again.
            let graph = device.stream.end_capture(CUgraphInstantiate_flags(0));
            launched?;
            let graph = graph.or_fail("a graph")?;
            let graph = graph.ok_or_else(|| unsupported("the graph is empty".to_owned()))?;
            graph.upload().or_fail("a graph")?;
            one_by_one(device, repeats, || graph.launch().or_fail("a graph"))
        }
        other => Err(unsupported(format!("no launches of `{other}`"))),
    }
}

/// Each repeat starts on an idle device: no queue hides what the host does.
fn one_by_one(
    device: &Device,
    repeats: usize,
    launch: impl Fn() -> Timing<()>,
) -> Timing<Vec<f64>> {
    let mut times = Vec::with_capacity(repeats);
    for _ in 0..repeats {
        times.extend(device.timed(1, 0, |_| launch())?);
    }
    Ok(times)
}
