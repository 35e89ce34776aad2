//! Opening the device that computes, and saying what it is.

use burn::tensor::DType;
use tunesmith_kernels::Level;
use tunesmith_platform::gpu::{Backend, Chosen, Detection, DeviceRequest, SystemProbe};

use crate::{Device, Format, OpsError, cpu};

/// The backends that this build contains.
pub const COMPILED_BACKENDS: &[Backend] = &[
    #[cfg(feature = "cuda")]
    Backend::Cuda,
    #[cfg(all(target_os = "macos", any(feature = "metal", feature = "wgpu")))]
    Backend::Mps,
    #[cfg(all(not(target_os = "macos"), any(feature = "vulkan", feature = "wgpu")))]
    Backend::Vulkan,
    Backend::Cpu,
];

/// What computes, for the user to read and for the run's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Short name, as [`open_device`] takes it.
    pub name: String,
    /// The widest instruction set that the processor's part of the work uses.
    pub instruction_set: String,
    /// Threads that compute.
    pub n_threads: usize,
}

/// Opens the device called `name`: `cpu`, `cuda`, `cuda:1`, `metal`, `vulkan`, … or `auto` for the best one of this machine
/// that this build can use.
///
/// The device is returned without autodiff; `device.autodiff()` or `tensor.autodiff()` adds it.
///
/// # Errors
/// When the name is unknown, or means a device that is not compiled in or not there. There is no silent fallback.
pub fn open_device(name: &str) -> Result<Device, OpsError> {
    open_device_preferring(name, None)
}

/// As [`open_device`]; of several graphics processors the one with number `preferred`, where `name` leaves that open.
///
/// # Errors
/// As [`open_device`], and when there is none with that number.
pub fn open_device_preferring(name: &str, preferred: Option<usize>) -> Result<Device, OpsError> {
    Ok(open_chosen(choose_device(name, preferred)?))
}

/// Which device `name` means on this machine, without opening it.
///
/// # Errors
/// As [`open_device_preferring`].
pub fn choose_device(name: &str, preferred: Option<usize>) -> Result<Chosen, OpsError> {
    let request: DeviceRequest = name.parse()?;
    // Drivers are asked only where the answer matters: that takes a while.
    let is_only_cpu = request == DeviceRequest::Auto && COMPILED_BACKENDS == [Backend::Cpu];
    if is_only_cpu || request == DeviceRequest::Of(Backend::Cpu, None) {
        return Ok(Chosen::CPU);
    }
    Ok(request.choose(&Detection::of(&SystemProbe, COMPILED_BACKENDS), preferred)?)
}

/// Opens a device that was chosen by [`choose_device`].
pub fn open_chosen(chosen: Chosen) -> Device {
    match chosen.backend {
        #[cfg(feature = "cuda")]
        Backend::Cuda => Device::cuda(chosen.index.unwrap_or(0)),
        #[cfg(feature = "metal")]
        Backend::Mps => Device::metal(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(all(feature = "wgpu", not(feature = "metal")))]
        Backend::Mps => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(feature = "wgpu")]
        Backend::Vulkan => wgpu::open(chosen),
        _ => Device::flex(),
    }
}

#[cfg(feature = "wgpu")]
mod wgpu {
    use burn::tensor::DeviceKind;
    use tunesmith_platform::gpu::{Chosen, GpuKind};

    use crate::Device;

    /// A software renderer goes the portable way: its compiler of SPIR-V crashes on what Burn gives it.
    pub(super) fn open(chosen: Chosen) -> Device {
        let kind = match chosen.kind {
            Some((GpuKind::Discrete, nth)) => DeviceKind::DiscreteGpu(nth),
            Some((GpuKind::Integrated, nth)) => DeviceKind::IntegratedGpu(nth),
            Some((GpuKind::Virtual, nth)) => DeviceKind::VirtualGpu(nth),
            Some((GpuKind::Software, _)) => return Device::wgpu(DeviceKind::Cpu),
            Some((GpuKind::Other, _)) | None => DeviceKind::DefaultDevice,
        };
        #[cfg(feature = "vulkan")]
        return Device::vulkan(kind);
        #[cfg(not(feature = "vulkan"))]
        return Device::wgpu(kind);
    }
}

/// Whether `device` is the CPU.
pub fn is_cpu(device: &Device) -> bool {
    cpu::is_flex(device.as_dispatch())
}

/// Whether `device` multiplies matrices of bfloat16: the CPU always, a graphics processor if it has such numbers.
pub fn multiplies_bf16(device: &Device) -> bool {
    is_cpu(device) || device.supports_dtype(DType::BF16)
}

/// The format in which `device` keeps a frozen matrix that was asked to be kept in `wanted`: `wanted` itself on the CPU;
/// elsewhere, unless that is float32, the first of bfloat16, float16 and float32 that the device has.
pub fn frozen_format(device: &Device, wanted: Format) -> Format {
    if is_cpu(device) || wanted == Format::F32 {
        return wanted;
    }
    let order = [(Format::Bf16, DType::BF16), (Format::F16, DType::F16)];
    let has = |(format, dtype)| device.supports_dtype(dtype).then_some(format);
    order.into_iter().find_map(has).unwrap_or(Format::F32)
}

/// What a chosen device is.
pub fn describe(chosen: Chosen) -> DeviceInfo {
    DeviceInfo {
        name: chosen.to_string(),
        instruction_set: Level::best().name().to_owned(),
        n_threads: rayon::current_num_threads(),
    }
}

/// Sets the number of computing threads of this process; 0 means one per core.
///
/// # Errors
/// When threads of another number are running already: the number can be set once, before the first computation.
pub fn set_threads(n_threads: usize) -> Result<(), OpsError> {
    let built = rayon::ThreadPoolBuilder::new()
        .num_threads(n_threads)
        .thread_name(|thread_idx| format!("compute-{thread_idx}"))
        .build_global();
    match built {
        Ok(()) => Ok(()),
        Err(_) if n_threads == 0 || rayon::current_num_threads() == n_threads => Ok(()),
        Err(error) => Err(OpsError::Threads { wanted: n_threads, reason: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_devices_are_refused_by_name() {
        assert!(open_device("auto").is_ok() || COMPILED_BACKENDS != [Backend::Cpu]);
        assert!(is_cpu(&open_device("cpu").unwrap()));
        let unknown = open_device("abacus").map(|_| ()).unwrap_err();
        assert_eq!(unknown.to_string(), "unknown device `abacus`");
        assert!(unknown.hint().is_some());
        let foreign = if cfg!(target_os = "macos") { "vulkan" } else { "metal" };
        let absent = open_device(foreign).map(|_| ()).unwrap_err();
        assert!(absent.to_string().contains("is not in this build of the program, which has:"), "{absent}");
        assert!(absent.to_string().ends_with("cpu") && absent.hint().is_some());
    }

    #[test]
    fn the_cpu_is_told_by_the_name_it_is_asked_for_by() {
        let info = describe(Chosen::CPU);
        assert_eq!(info.name, "cpu");
        assert!(is_cpu(&open_device(&info.name).unwrap()) && 0 < info.n_threads);
        for wanted in [Format::F32, Format::Bf16, Format::Q4_1] {
            assert_eq!(frozen_format(&Device::flex(), wanted), wanted);
        }
    }
}
