//! Opening the device that computes, and saying what it is.

use burn::tensor::DType;
use tunesmith_kernels::Level;

use crate::{Device, OpsError, cpu};

/// Names that mean a device this build does not contain.
const KNOWN_ELSEWHERE: &[&str] = &["cuda", "gpu", "metal", "mps", "vulkan", "rocm", "wgpu", "webgpu"];

/// What computes, for the user to read and for the run's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Short name, as [`open_device`] takes it.
    pub name: String,
    /// The widest instruction set in use.
    pub instruction_set: String,
    /// The type of numbers stored and computed with.
    pub dtype: String,
    /// Threads that compute.
    pub n_threads: usize,
}

/// Opens the device called `name`: `cpu`, or `auto` for the best one of this build.
///
/// The device is returned without autodiff; `device.autodiff()` or `tensor.autodiff()` adds it.
///
/// # Errors
/// When the name is unknown or means a device that is not compiled in. There is no silent fallback.
pub fn open_device(name: &str) -> Result<Device, OpsError> {
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        "auto" | "cpu" => Ok(Device::flex()),
        other if KNOWN_ELSEWHERE.iter().any(|known| other.starts_with(known)) => {
            Err(OpsError::DeviceNotCompiledIn { name: name.to_owned() })
        }
        _ => Err(OpsError::UnknownDevice { name: name.to_owned(), known: "auto, cpu".to_owned() }),
    }
}

/// Whether `device` is the CPU, on which weights may be stored in other formats than float32.
pub fn is_cpu(device: &Device) -> bool {
    cpu::is_flex(device.as_dispatch())
}

/// What `device` is.
pub fn describe(device: &Device) -> DeviceInfo {
    let dtype = match burn::tensor::Tensor::<1>::zeros([1], device).dtype() {
        DType::F32 => "float32".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    DeviceInfo {
        name: "cpu".to_owned(),
        instruction_set: Level::best().name().to_owned(),
        dtype,
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
        assert!(open_device("auto").is_ok());
        assert!(open_device("cpu").is_ok());
        let absent = open_device("cuda:0").map(|_| ()).unwrap_err();
        assert!(matches!(absent, OpsError::DeviceNotCompiledIn { .. }));
        assert_eq!(absent.to_string(), "device `cuda:0` is not compiled into this program");
        assert!(absent.hint().is_some());
        let unknown = open_device("abacus").map(|_| ()).unwrap_err();
        assert_eq!(unknown.to_string(), "unknown device `abacus`; known names: auto, cpu");
    }

    #[test]
    fn the_cpu_computes_in_single_precision() {
        let info = describe(&Device::flex());
        assert_eq!(info.name, "cpu");
        assert_eq!(info.dtype, "float32");
        assert!(0 < info.n_threads);
    }
}
