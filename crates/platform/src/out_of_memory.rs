//! One answer to "was that a lack of memory?" for all backends, from what their errors say.
//!
//! Errors of graphics drivers reach the program as texts: Burn panics with them. The texts here are those of the CUDA driver,
//! of CubeCL (which Burn allocates through), of wgpu, of Vulkan and of Metal, and of the ways in which Rust and the
//! system say that the processor's memory is used up.

use crate::gpu::Backend;

/// A lack of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// Whose memory was used up.
    pub backend: Backend,
    /// What was asked for in vain, when the error says so.
    pub wanted_bytes: Option<u64>,
}

impl OutOfMemory {
    /// What `error` says about a lack of memory, of a process that computes on `device`; `None` when it is about something
    /// else.
    pub fn of(error: &str, device: Backend) -> Option<Self> {
        let backend = if is_cuda_out_of_memory(error) {
            Backend::Cuda
        } else if is_mps_out_of_memory(error) {
            Backend::Mps
        } else if is_vulkan_out_of_memory(error) {
            Backend::Vulkan
        } else if is_cpu_out_of_memory(error) {
            Backend::Cpu
        } else if is_device_out_of_memory(error) {
            device
        } else {
            return None;
        };
        Some(Self { backend, wanted_bytes: wanted_bytes(error) })
    }
}

/// The number in "allocating N bytes", "allocation of N bytes" or "buffer of size: N".
fn wanted_bytes(error: &str) -> Option<u64> {
    ["allocating ", "allocation of ", "buffer of size: "].iter().find_map(|before| {
        let (_, rest) = error.split_once(before)?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    })
}

/// Whether CubeCL, which does not say on which device, could not allocate.
fn is_device_out_of_memory(error: &str) -> bool {
    [
        "out of device memory allocating",
        "can't allocate buffer of size",
        "out-of-memory error happened during launch",
    ]
    .iter()
    .any(|text| error.contains(text))
}

/// Whether the CUDA driver had no memory left.
pub fn is_cuda_out_of_memory(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    error.contains("cuda_error_out_of_memory") || error.contains("cuda") && error.contains("out of memory")
}

/// Whether Metal had no memory left.
pub fn is_mps_out_of_memory(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    error.contains("kiogpucommandbuffercallbackerroroutofmemory")
        || error.contains("mtlcommandbuffererroroutofmemory")
        || ["metal", "mps"].iter().any(|name| error.contains(name)) && is_lack(&error)
}

/// Whether a Vulkan driver, or wgpu above one, had no memory left.
pub fn is_vulkan_out_of_memory(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    ["error_out_of_device_memory", "error_out_of_host_memory", "not enough memory left"]
        .iter()
        .any(|text| error.contains(text))
        || ["vulkan", "wgpu"].iter().any(|name| error.contains(name)) && is_lack(&error)
}

/// Whether the machine, or the container, had no memory left for the process.
pub fn is_cpu_out_of_memory(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    // Rust's allocation failure, ENOMEM, and Windows' word for it.
    (error.contains("memory allocation of") && error.contains("failed"))
        || error.contains("cannot allocate memory")
        || error.contains("not enough memory resources")
        || error.contains("memory allocation failed")
}

fn is_lack(lower: &str) -> bool {
    ["out of memory", "out-of-memory", "outofmemory", "insufficient memory"]
        .iter()
        .any(|text| lower.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_backend_is_known_by_its_own_words() {
        for (error, backend) in [
            ("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")", Backend::Cuda),
            ("CUDA out of memory. Tried to allocate 2.00 GiB", Backend::Cuda),
            ("MPS backend out of memory (MPS allocated: 17.7 GB)", Backend::Mps),
            (
                "Execution of the command buffer was aborted: Insufficient Memory \
                 (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
                Backend::Mps,
            ),
            ("Metal: Out of Memory", Backend::Mps),
            ("ERROR_OUT_OF_DEVICE_MEMORY", Backend::Vulkan),
            ("ERROR_OUT_OF_HOST_MEMORY", Backend::Vulkan),
            ("wgpu error: Out of Memory", Backend::Vulkan),
            ("In Device::create_buffer: Not enough memory left.", Backend::Vulkan),
            ("memory allocation of 17179869184 bytes failed", Backend::Cpu),
            ("Cannot allocate memory (os error 12)", Backend::Cpu),
            ("Not enough memory resources are available to process this command. (os error 8)", Backend::Cpu),
        ] {
            let found = OutOfMemory::of(error, Backend::Cpu);
            assert_eq!(found.map(|found| found.backend), Some(backend), "{error}");
        }
    }

    #[test]
    fn other_errors_are_not_taken_for_it() {
        for error in [
            "CUDA_ERROR_ILLEGAL_ADDRESS",
            "an illegal memory access was encountered",
            "No space left on device (os error 28)",
            "wgpu error: Validation Error",
            "linear: weight is [3, 4], expected [4, 4]",
            "",
        ] {
            assert_eq!(OutOfMemory::of(error, Backend::Cuda), None, "{error}");
        }
    }

    #[test]
    fn errors_without_a_name_are_the_devices_own_and_their_sizes_are_read() {
        let of = |error, device| OutOfMemory::of(error, device).unwrap();
        for backend in Backend::GPUS {
            let found = of("out of device memory allocating 4096 bytes\n<backtrace>", backend);
            assert_eq!(found, OutOfMemory { backend, wanted_bytes: Some(4096) });
            let found = of("can't allocate buffer of size: 17179869184\n", backend);
            assert_eq!(found, OutOfMemory { backend, wanted_bytes: Some(17_179_869_184) });
            let found = of("An out-of-memory error happened during launch\nCaused by:\n  full", backend);
            assert_eq!(found, OutOfMemory { backend, wanted_bytes: None });
        }
        let found = of("memory allocation of 5000 bytes failed", Backend::Cuda);
        assert_eq!(found, OutOfMemory { backend: Backend::Cpu, wanted_bytes: Some(5000) });
    }
}
