//! Facts about the machine: processor, instruction sets, memory in use, graphics processors.
//!
//! Everything here only looks; nothing is set. What a system does not tell is `None`, never a guess.

pub mod gpu;
mod instruction_sets;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;
mod out_of_memory;
mod utilization;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use other as system;

pub use out_of_memory::{
    OutOfMemory, is_cpu_out_of_memory, is_cuda_out_of_memory, is_mps_out_of_memory, is_vulkan_out_of_memory,
};
use serde::Serialize;
pub use utilization::{CpuLoad, GpuLoad, Utilization, Watch, gpu_loads};

/// The machine as far as training cares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Operating system, as Rust names it: `linux`, `macos`, `windows`, ….
    pub os: String,
    /// Architecture the program was built for: `x86_64`, `aarch64`, ….
    pub arch: String,
    /// The processor's name as its maker gives it.
    pub processor: Option<String>,
    /// Physical cores; hardware threads where the system does not tell them apart.
    pub n_cores: usize,
    /// Hardware threads this process may use, after affinity and container quotas.
    pub n_threads_available: usize,
    /// Vector extensions the processor has, oldest first, in the spelling of Rust's target features.
    pub instruction_sets: Vec<String>,
    /// Memory of the machine, or of the container if that has less.
    pub total_memory_bytes: Option<u64>,
}

/// Looks at the machine.
pub fn machine() -> Machine {
    let n_threads_available = std::thread::available_parallelism().map_or(1, usize::from);
    Machine {
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        processor: system::processor(),
        n_cores: system::n_cores().unwrap_or(n_threads_available),
        n_threads_available,
        instruction_sets: instruction_sets::detect(),
        total_memory_bytes: system::total_memory_bytes(),
    }
}

/// Memory this process can still get without swapping: what is free, what the system would give back, and no more
/// than the container allows.
pub fn available_memory_bytes() -> Option<u64> {
    system::available_memory_bytes()
}

/// Memory of this process that is in RAM now.
pub fn current_memory_bytes() -> Option<u64> {
    system::current_memory_bytes()
}

/// The most memory this process ever had in RAM.
pub fn peak_memory_bytes() -> Option<u64> {
    system::peak_memory_bytes()
}

/// Times this process touched a page that the system first had to put there, without reading a file: nearly all of them
/// fresh memory. A page of memory is 4 KiB, or 2 MiB where the system grants huge ones.
pub fn n_page_faults() -> Option<u64> {
    system::n_page_faults()
}

/// Seconds of processor time that this process has used, over all its threads.
#[cfg(unix)]
pub fn cpu_secs() -> Option<f64> {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let secs = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Some(secs(usage.user_time()) + secs(usage.system_time()))
}

/// Seconds of processor time that this process has used: not asked for on this system.
#[cfg(not(unix))]
pub fn cpu_secs() -> Option<f64> {
    None
}

/// Bytes that this user can still write in the file system of `path`, which exists.
#[cfg(unix)]
pub fn free_disk_bytes(path: &std::path::Path) -> Option<u64> {
    let statistics = nix::sys::statvfs::statvfs(path).ok()?;
    // 32 or 64 bits, depending on the system.
    #[expect(clippy::useless_conversion, reason = "64 bits on this one")]
    let (n_blocks, block_bytes) =
        (u64::from(statistics.blocks_available()), u64::from(statistics.fragment_size()));
    n_blocks.checked_mul(block_bytes)
}

/// Size of the file system of `path`, which exists.
#[cfg(unix)]
pub fn total_disk_bytes(path: &std::path::Path) -> Option<u64> {
    let statistics = nix::sys::statvfs::statvfs(path).ok()?;
    #[expect(clippy::useless_conversion, reason = "64 bits on this one")]
    let (n_blocks, block_bytes) = (u64::from(statistics.blocks()), u64::from(statistics.fragment_size()));
    n_blocks.checked_mul(block_bytes)
}

/// Size of the file system of `path`: not asked for on this system.
#[cfg(not(unix))]
pub fn total_disk_bytes(_: &std::path::Path) -> Option<u64> {
    None
}

/// Bytes that this user can still write in the file system of `path`: not asked for on this system.
#[cfg(not(unix))]
pub fn free_disk_bytes(_: &std::path::Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_cores_threads_and_memory() {
        let machine = machine();
        assert!(machine.n_cores >= 1 && machine.n_threads_available >= 1, "{machine:?}");
        let total = machine.total_memory_bytes.unwrap();
        assert!(total > 1 << 26, "{machine:?}");
        assert!(available_memory_bytes().unwrap() <= total);
        if cfg!(target_arch = "x86_64") {
            assert!(machine.instruction_sets.contains(&"sse2".to_owned()), "{machine:?}");
        }
        let json = serde_json::to_value(&machine).unwrap();
        assert_eq!(json["os"], std::env::consts::OS);
    }

    #[test]
    fn memory_in_use_follows_what_the_process_touches() {
        const N_BYTES: usize = 64 << 20;
        let before = current_memory_bytes().unwrap();
        let n_faults_before = n_page_faults();
        // One byte in every page makes the whole block resident.
        let mut block = vec![0_u8; N_BYTES];
        for place in (0..N_BYTES).step_by(1024) {
            block[place] = 1;
        }
        let during = current_memory_bytes().unwrap();
        assert_eq!(block.iter().map(|byte| usize::from(*byte)).sum::<usize>(), N_BYTES / 1024);
        assert!(during >= before + N_BYTES as u64 / 2, "{before} before, {during} with {N_BYTES} more");
        drop(block);
        if let Some(n_faults_before) = n_faults_before {
            // Whatever size pages have, a block that was not there before is more than one.
            let n_faults = n_page_faults().unwrap() - n_faults_before;
            assert!((2..=2 * N_BYTES as u64 / 4096).contains(&n_faults), "{n_faults} page faults");
        }
        if let Some(peak) = peak_memory_bytes() {
            // Not `>= during`: the kernel counts pages in batches.
            assert!(peak >= before + N_BYTES as u64 / 2, "peak {peak}, at one time {during}");
        }
    }
}
