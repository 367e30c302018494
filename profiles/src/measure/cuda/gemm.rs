//! Dense products by cuBLASLt, bf16 and fp8.

use cudarc::driver::DevicePtr;

use super::super::Point;
use super::kernels::Pattern;
use super::layout::Rotation;
use super::lt::Number;
use super::{Cuda, HOLD_KERNELS, OrFail, Timing, to_usize, unsupported};

impl Cuda {
    /// x (`at[0]` rows) times a matrix of `shape`; weights are never in the cache, x may be.
    pub(super) fn time_gemm(
        &mut self,
        point: &Point,
        number: &str,
        repeats: usize,
    ) -> Timing<Vec<f64>> {
        let (number, pattern) = match number {
            "bf16" => (Number::Bf16, Pattern::Bf16),
            "fp8" if self.device.capability >= (8, 9) => (Number::Fp8, Pattern::Fp8),
            "fp8" => {
                let (major, minor) = self.device.capability;
                let why = format!("compute capability {major}.{minor} has no fp8; 8.9 has");
                return Err(unsupported(why));
            }
            _ => return Err(unsupported(format!("no products of `{number}`"))),
        };
        let (n, k) = (point.shape[0] as usize, point.shape[1] as usize);
        let m = to_usize(point.at[0])?;
        self.open_lt()?;
        let lt = self.lt.take();
        let rotation = Rotation::new(n * k * number.bytes(), self.device.l2_bytes);
        let times = self.with_random(pattern, &rotation).and_then(|(device, weights)| {
            let handle = lt.as_ref().and_then(Option::as_ref);
            let handle = handle.ok_or_else(|| unsupported("no cuBLASLt".to_owned()))?;
            let x = device.random_bytes(m * k * number.bytes(), pattern)?;
            device.room_for(2 * m * n)?;
            let out = device.stream.alloc_zeros::<u16>(m * n).or_fail("a buffer")?;
            let product = handle.product(number, [m, n, k])?;
            let address = weights.device_ptr(&device.stream).0;
            let (x, out) = (x.device_ptr(&device.stream).0, out.device_ptr(&device.stream).0);
            device.timed(repeats, HOLD_KERNELS, |repeat| {
                let weights = address + rotation.offset(repeat) as u64;
                product.queue(&device.stream, [weights, x, out])
            })
        });
        self.lt = lt;
        times
    }
}
