//! Products by cuBLASLt: out (m x n) = x (m x k) times weights (n x k), transposed, row by row.
//!
//! cuBLASLt counts columns first, so it computes the transposed product with the weights as its
//! transposed first matrix: the "TN" layout, the only one that it has for fp8. The binding's safe
//! part knows no fp8, hence the calls below.
#![expect(unsafe_code, reason = "cuBLASLt's descriptors are raw pointers, owned here")]

use std::ffi::c_void;
use std::ptr::from_ref;

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};

use super::{Device, OrFail, Timing, unsupported};

/// cuBLASLt's scratch memory: what NVIDIA recommends for Hopper.
const WORKSPACE_BYTES: usize = 32 << 20;

/// Types of x and weights; the output is bf16, sums are f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// bfloat16.
    Bf16,
    /// e4m3, unscaled.
    Fp8,
}

impl Number {
    fn data_type(self) -> sys::cudaDataType {
        match self {
            Self::Bf16 => sys::cudaDataType::CUDA_R_16BF,
            Self::Fp8 => sys::cudaDataType::CUDA_R_8F_E4M3,
        }
    }

    /// Bytes of one.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Bf16 => 2,
            Self::Fp8 => 1,
        }
    }
}

/// The library and its scratch memory.
pub(super) struct Handle {
    raw: sys::cublasLtHandle_t,
    workspace: CudaSlice<u8>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: made by `open`, destroyed once. An error here has nobody to hear it.
        let _ = unsafe { result::destroy_handle(self.raw) };
    }
}

impl Handle {
    /// Opens the library; `None` where it is not installed.
    pub(super) fn open(device: &Device) -> Timing<Option<Self>> {
        // SAFETY: the library is looked up by its names alone.
        if !unsafe { sys::is_culib_present() } {
            return Ok(None);
        }
        device.context.bind_to_thread().or_fail("cuBLASLt")?;
        let workspace = device.stream.alloc_zeros(WORKSPACE_BYTES).or_fail("cuBLASLt")?;
        Ok(Some(Self { raw: result::create_handle().or_fail("cuBLASLt")?, workspace }))
    }

    /// The product of `m` rows by an `n` x `k` matrix, with the algorithm that cuBLASLt ranks
    /// first.
    pub(super) fn product(&self, number: Number, [m, n, k]: [usize; 3]) -> Timing<Product<'_>> {
        Product::new(self, number, [m as u64, n as u64, k as u64]).map_err(|error| {
            let why = format!("cuBLASLt has no {number:?} product {m} x {n} x {k}: {error}");
            unsupported(why)
        })
    }
}

/// A product whose algorithm is chosen.
pub(super) struct Product<'a> {
    handle: &'a Handle,
    descriptor: sys::cublasLtMatmulDesc_t,
    /// Weights, x, out; null where not made yet.
    layouts: [sys::cublasLtMatrixLayout_t; 3],
    algorithm: Option<sys::cublasLtMatmulAlgo_t>,
}

impl Drop for Product<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once; errors have nobody to hear them.
        unsafe {
            for layout in self.layouts.into_iter().filter(|layout| !layout.is_null()) {
                let _ = result::destroy_matrix_layout(layout);
            }
            let _ = result::destroy_matmul_desc(self.descriptor);
        }
    }
}

impl<'a> Product<'a> {
    fn new(handle: &'a Handle, number: Number, [m, n, k]: [u64; 3]) -> Result<Self, CublasError> {
        let sums = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let descriptor = result::create_matmul_desc(sums, sys::cudaDataType::CUDA_R_32F)?;
        let layouts = [std::ptr::null_mut(); 3];
        let mut product = Self { handle, descriptor, layouts, algorithm: None };
        let transposed = 1_i32;
        // SAFETY: the attribute is a 32-bit operation, 1 is transposed; it is copied.
        unsafe {
            result::set_matmul_desc_attribute(
                descriptor,
                sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA,
                from_ref(&transposed).cast(),
                size_of::<i32>(),
            )?;
        }
        let out = sys::cudaDataType::CUDA_R_16BF;
        let shapes = [(number.data_type(), k, n), (number.data_type(), k, m), (out, n, m)];
        for (layout, (data_type, rows, columns)) in product.layouts.iter_mut().zip(shapes) {
            *layout = result::create_matrix_layout(data_type, rows, columns, rows.cast_signed())?;
        }
        product.algorithm = Some(product.choose()?);
        Ok(product)
    }

    fn choose(&self) -> Result<sys::cublasLtMatmulAlgo_t, CublasError> {
        let preference = result::create_matmul_pref()?;
        let [weights, x, out] = self.layouts;
        let size = WORKSPACE_BYTES;
        // SAFETY: every descriptor is alive; the attribute is a size and is copied.
        let chosen = unsafe {
            result::set_matmul_pref_attribute(
                preference,
                sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                from_ref(&size).cast(),
                size_of::<usize>(),
            )
            .and_then(|()| {
                result::get_matmul_algo_heuristic(
                    self.handle.raw,
                    self.descriptor,
                    weights,
                    x,
                    out,
                    out,
                    preference,
                )
            })
        };
        // SAFETY: made above, destroyed once.
        unsafe { result::destroy_matmul_pref(preference) }?;
        Ok(chosen?.algo)
    }

    /// Queues the product of `x` and `weights` into `out`: addresses of buffers as large as the
    /// shape that the product was made for, which the callers have checked.
    pub(super) fn queue(
        &self,
        stream: &CudaStream,
        [weights, x, out]: [CUdeviceptr; 3],
    ) -> Timing<()> {
        let (one, zero) = (1.0_f32, 0.0_f32);
        let [weights_layout, x_layout, out_layout] = self.layouts;
        let (workspace, _guard) = self.handle.workspace.device_ptr(stream);
        let algorithm = self.algorithm.as_ref().map_or(std::ptr::null(), from_ref);
        // SAFETY: descriptors are alive, scalars are f32 as the descriptor says, and the
        // callers size the buffers.
        unsafe {
            result::matmul(
                self.handle.raw,
                self.descriptor,
                from_ref(&one).cast(),
                from_ref(&zero).cast(),
                pointer(weights),
                weights_layout,
                pointer(x),
                x_layout,
                pointer(out),
                out_layout,
                pointer(out).cast_mut(),
                out_layout,
                algorithm,
                pointer(workspace).cast_mut(),
                WORKSPACE_BYTES,
                stream.cu_stream().cast(),
            )
        }
        .or_fail("cuBLASLt")
    }
}

/// An address of device memory as the C interface wants it; never followed on the host.
fn pointer(address: CUdeviceptr) -> *const c_void {
    address as usize as *const c_void
}
