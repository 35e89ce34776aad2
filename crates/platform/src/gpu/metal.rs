//! Apple's Metal.

use objc2_metal::{MTLCopyAllDevices, MTLDevice};

use super::{Absence, Backend, GpuDevice, GpuKind};

/// All devices, at least one.
pub(super) fn devices() -> Result<Vec<GpuDevice>, Absence> {
    let devices: Vec<_> = MTLCopyAllDevices()
        .to_vec()
        .into_iter()
        .enumerate()
        .map(|(index, device)| GpuDevice {
            backend: Backend::Mps,
            index,
            name: device.name().to_string(),
            driver: None,
            memory_bytes: Some(device.recommendedMaxWorkingSetSize()).filter(|bytes| 0 < *bytes),
            compute_capability: None,
            is_unified_memory: Some(device.hasUnifiedMemory()),
            kind: if device.hasUnifiedMemory() { GpuKind::Integrated } else { GpuKind::Discrete },
        })
        .collect();
    if devices.is_empty() { Err(Absence::NoDevice) } else { Ok(devices) }
}
