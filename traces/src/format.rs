//! Our own file: safetensors with one versioned metadata key, memory-mapped on reading.

/// Version of the header that this build reads and writes.
pub const VERSION: u32 = 1;
