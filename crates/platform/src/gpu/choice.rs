//! From what the user asks for to a device of this machine. There is no silent fallback: what cannot be had is an error
//! that says why and what to do.

use std::fmt;
use std::str::FromStr;

use super::{Backend, Detection, GpuKind};

/// A device as settings name it: `auto`, `cpu`, `cuda`, `cuda:1`, `metal` (or `mps`), `vulkan`, `vulkan:0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceRequest {
    /// The best that there is.
    Auto,
    /// Of this backend, and with this number; without a number the first that is no software renderer, if there is one.
    Of(Backend, Option<usize>),
}

/// A device that is there and that this program can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Through which it is used.
    pub backend: Backend,
    /// Its number among the backend's devices; `None` for the CPU.
    pub index: Option<usize>,
    /// What it is, and its number among the backend's devices that are the same; `None` for the CPU.
    pub kind: Option<(GpuKind, usize)>,
    /// Its memory, unless it computes in the machine's.
    pub own_memory_bytes: Option<u64>,
}

/// Why a device cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceError {
    /// The name means nothing.
    Unknown {
        /// As given.
        name: String,
    },
    /// The program was built without its backend.
    NotCompiledIn {
        /// As given.
        name: String,
        /// The backends there are.
        compiled: Vec<Backend>,
    },
    /// There is no device of its backend.
    Absent {
        /// As given.
        name: String,
        /// Why there is none.
        reason: String,
        /// The backend.
        backend: Backend,
    },
    /// The backend has devices, but not this one.
    NoSuchIndex {
        /// As given.
        name: String,
        /// The devices there are.
        devices: Vec<String>,
    },
}

impl DeviceRequest {
    /// The device that is meant on this machine. Where the request leaves the number open, `preferred` is it.
    ///
    /// # Errors
    /// When there is none, or this program cannot use it.
    pub fn choose(self, detection: &Detection, preferred: Option<usize>) -> Result<Chosen, DeviceError> {
        let (backend, wanted) = match self {
            Self::Auto => (detection.backend, None),
            Self::Of(backend, index) => (backend, index),
        };
        if backend == Backend::Cpu {
            return Ok(Chosen::CPU);
        }
        let name = self.to_string();
        if !detection.compiled.contains(&backend) {
            return Err(DeviceError::NotCompiledIn { name, compiled: detection.compiled.clone() });
        }
        let devices: Vec<_> = detection.devices_of(backend).collect();
        let best = devices.iter().find(|device| !device.is_software()).or(devices.first());
        let Some(best) = best else {
            let reason = detection.reason_against_backend(backend).unwrap_or("there is none").to_owned();
            return Err(DeviceError::Absent { name, reason, backend });
        };
        let index = wanted.or(preferred).unwrap_or(best.index);
        let Some(device) = devices.iter().find(|device| device.index == index) else {
            let name = Self::Of(backend, Some(index)).to_string();
            let devices = devices.iter().map(ToString::to_string).collect();
            return Err(DeviceError::NoSuchIndex { name, devices });
        };
        let n_before =
            devices.iter().filter(|other| other.kind == device.kind && other.index < index).count();
        let shares_memory = device.is_unified_memory == Some(true) || device.is_software();
        Ok(Chosen {
            backend,
            index: Some(index),
            kind: Some((device.kind, n_before)),
            own_memory_bytes: device.memory_bytes.filter(|_| !shares_memory),
        })
    }
}

impl Chosen {
    /// The processor itself.
    pub const CPU: Self = Self { backend: Backend::Cpu, index: None, kind: None, own_memory_bytes: None };
}

impl FromStr for DeviceRequest {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown { name: text.to_owned() };
        let lower = text.trim().to_ascii_lowercase();
        let (kind, index) = match lower.split_once(':') {
            Some((kind, index)) => (kind, Some(index.parse().map_err(|_| unknown())?)),
            None => (lower.as_str(), None),
        };
        match (kind, index) {
            ("auto", None) => Ok(Self::Auto),
            ("cpu", None) => Ok(Self::Of(Backend::Cpu, None)),
            ("cuda", index) => Ok(Self::Of(Backend::Cuda, index)),
            ("metal" | "mps", None | Some(0)) => Ok(Self::Of(Backend::Mps, index)),
            ("vulkan", index) => Ok(Self::Of(Backend::Vulkan, index)),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Of(backend, None) => f.write_str(backend.device_name()),
            Self::Of(backend, Some(index)) => write!(f, "{}:{index}", backend.device_name()),
        }
    }
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        DeviceRequest::Of(self.backend, self.index).fmt(f)
    }
}

impl DeviceError {
    /// What the user can do.
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown { .. } => {
                "use `auto`, `cpu`, `cuda`, `cuda:1`, `metal`, `vulkan` or `vulkan:1`".to_owned()
            }
            Self::NotCompiledIn { .. } => {
                "use `auto` for the best device of this program, or a build with that backend".to_owned()
            }
            Self::Absent { backend: Backend::Cuda, .. } => {
                "install NVIDIA's driver (in a container: start it with the card), or use `auto` or `cpu`"
                    .to_owned()
            }
            Self::Absent { backend: Backend::Vulkan, .. } => {
                "install a Vulkan driver (Debian: mesa-vulkan-drivers), or use `auto` or `cpu`".to_owned()
            }
            Self::Absent { .. } => "use `auto` or `cpu`".to_owned(),
            Self::NoSuchIndex { devices, .. } => format!("there is: {}", devices.join("; ")),
        }
    }
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name } => write!(f, "unknown device `{name}`"),
            Self::NotCompiledIn { name, compiled } => {
                let compiled: Vec<_> = compiled.iter().map(|backend| backend.device_name()).collect();
                write!(
                    f,
                    "device `{name}` is not in this build of the program, which has: {}",
                    compiled.join(", ")
                )
            }
            Self::Absent { name, reason, .. } => write!(f, "device `{name}` is not there: {reason}"),
            Self::NoSuchIndex { name, .. } => write!(f, "there is no device `{name}`"),
        }
    }
}

impl std::error::Error for DeviceError {}

#[cfg(test)]
mod tests {
    use super::super::Architecture;
    use super::super::detection::tests::{ALL, Fake, bare, nvidia};
    use super::*;

    fn two_cards() -> Detection {
        let card = |index| nvidia(index, "NVIDIA A100-SXM4-80GB", (8, 0), 85_000_000_000, false);
        Detection::of(&Fake { cuda: Ok(vec![card(0), card(1)]), ..bare(Architecture::X86_64) }, &ALL)
    }

    #[test]
    fn names_are_read_and_written_alike() {
        for (text, request) in [
            ("auto", DeviceRequest::Auto),
            ("cpu", DeviceRequest::Of(Backend::Cpu, None)),
            ("cuda", DeviceRequest::Of(Backend::Cuda, None)),
            ("cuda:1", DeviceRequest::Of(Backend::Cuda, Some(1))),
            ("metal", DeviceRequest::Of(Backend::Mps, None)),
            ("vulkan:2", DeviceRequest::Of(Backend::Vulkan, Some(2))),
        ] {
            assert_eq!(text.parse(), Ok(request));
            assert_eq!(request.to_string(), text);
        }
        assert_eq!("MPS".parse(), Ok(DeviceRequest::Of(Backend::Mps, None)));
        for text in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:1", "metal:1", "auto:0"] {
            let error = text.parse::<DeviceRequest>().unwrap_err();
            assert_eq!(error, DeviceError::Unknown { name: text.to_owned() });
            assert!(error.hint().contains("`cuda:1`"));
        }
    }

    #[test]
    fn one_of_two_cards_is_chosen_by_number() {
        let detection = two_cards();
        for (text, index) in [("auto", 0), ("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)] {
            let chosen = text.parse::<DeviceRequest>().unwrap().choose(&detection, None).unwrap();
            assert_eq!((chosen.backend, chosen.index), (Backend::Cuda, Some(index)));
            assert_eq!(chosen.kind, Some((GpuKind::Discrete, index)));
            assert_eq!(chosen.own_memory_bytes, Some(85_000_000_000));
        }
        let chosen = DeviceRequest::Auto.choose(&detection, Some(1)).unwrap();
        assert_eq!(chosen.to_string(), "cuda:1");
        let refused = "cuda:2".parse::<DeviceRequest>().unwrap().choose(&detection, None).unwrap_err();
        assert_eq!(refused.to_string(), "there is no device `cuda:2`");
        assert!(
            refused
                .hint()
                .contains("cuda:1 NVIDIA A100-SXM4-80GB, CUDA 13.0, compute capability 8.0, 85.0 GB")
        );
    }

    #[test]
    fn absent_devices_are_refused_with_reason_and_remedy() {
        let detection = Detection::of(&bare(Architecture::X86_64), &ALL);
        let choose = |text: &str| text.parse::<DeviceRequest>().unwrap().choose(&detection, None);
        let refused = choose("cuda").unwrap_err();
        assert_eq!(refused.to_string(), "device `cuda` is not there: libcuda.so.1 not found");
        assert!(refused.hint().contains("NVIDIA's driver"));
        let refused = choose("metal").unwrap_err();
        assert_eq!(refused.to_string(), "device `metal` is not there: exists on macOS only");
        let refused = choose("vulkan").unwrap_err();
        assert!(refused.hint().contains("mesa-vulkan-drivers"));
        assert_eq!(choose("cpu"), Ok(Chosen::CPU));
        assert_eq!(choose("auto"), Ok(Chosen::CPU));
    }
}
