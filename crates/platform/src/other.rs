//! Systems other than Linux, through `sysinfo`.

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

pub(crate) fn processor() -> Option<String> {
    let mut system = System::new();
    system.refresh_cpu_all();
    let name = system.cpus().first()?.brand().trim().to_owned();
    (!name.is_empty()).then_some(name)
}

pub(crate) fn n_cores() -> Option<usize> {
    System::physical_core_count()
}

pub(crate) fn total_memory_bytes() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory();
    Some(system.total_memory()).filter(|bytes| *bytes > 0)
}

pub(crate) fn available_memory_bytes() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory();
    Some(system.available_memory()).filter(|bytes| *bytes > 0)
}

pub(crate) fn current_memory_bytes() -> Option<u64> {
    let id = sysinfo::get_current_pid().ok()?;
    let mut system = System::new();
    let only_memory = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[id]), false, only_memory);
    system.process(id).map(sysinfo::Process::memory)
}

#[cfg(target_os = "macos")]
pub(crate) fn peak_memory_bytes() -> Option<u64> {
    use nix::sys::resource::{UsageWho, getrusage};
    // This system counts bytes, others kibibytes.
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    u64::try_from(usage.max_rss()).ok()
}

#[cfg(not(target_os = "macos"))]
pub(crate) fn peak_memory_bytes() -> Option<u64> {
    None
}

#[cfg(target_os = "macos")]
pub(crate) fn n_page_faults() -> Option<u64> {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    u64::try_from(usage.minor_page_faults()).ok()
}

#[cfg(not(target_os = "macos"))]
pub(crate) fn n_page_faults() -> Option<u64> {
    None
}

/// Not asked for here.
pub(crate) fn cpu_ticks() -> Option<(u64, u64)> {
    None
}
