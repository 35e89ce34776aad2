//! Which backend computes, what was found, and why each other one was passed over.

use serde::Serialize;

use super::{Architecture, Backend, GpuDevice, Probe};

/// The processor's architecture.
pub fn detect_platform(probe: &dyn Probe) -> Architecture {
    probe.architecture()
}

/// The backend that `auto` means: CUDA, then Metal, then Vulkan on a real graphics processor, then the CPU, of those in
/// `compiled`.
pub fn detect_gpu_backend(probe: &dyn Probe, compiled: &[Backend]) -> Backend {
    Detection::of(probe, compiled).backend
}

/// All that was found out about what can compute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Detection {
    /// The processor's architecture.
    pub platform: Architecture,
    /// What `auto` means here.
    pub backend: Backend,
    /// Every graphics processor that any driver told of, whether this program can use it or not.
    pub devices: Vec<GpuDevice>,
    /// Every backend for graphics processors but the chosen one.
    pub passed_over: Vec<PassedOver>,
    /// The backends that this program was built with.
    pub compiled: Vec<Backend>,
}

/// A backend that `auto` does not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassedOver {
    /// Which.
    pub backend: Backend,
    /// Why not.
    pub reason: String,
}

impl Detection {
    /// Asks for all backends. `compiled` are those that the program was built with.
    pub fn of(probe: &dyn Probe, compiled: &[Backend]) -> Self {
        let mut detection = Self {
            platform: probe.architecture(),
            backend: Backend::Cpu,
            devices: Vec::new(),
            passed_over: Vec::new(),
            compiled: compiled.to_vec(),
        };
        for backend in Backend::GPUS {
            let found = match backend {
                Backend::Cuda => probe.cuda(),
                Backend::Mps => probe.metal(),
                Backend::Vulkan | Backend::Cpu => probe.vulkan(),
            };
            let is_compiled = compiled.contains(&backend);
            let reason = match found {
                Ok(devices) => {
                    let reason = detection.reason_against(&devices, is_compiled);
                    detection.devices.extend(devices);
                    reason
                }
                // The driver is the lesser obstacle: with one the program still could not use it.
                Err(absence) if !is_compiled => Some(format!("{}; {absence}", Self::NOT_COMPILED)),
                Err(absence) => Some(absence.to_string()),
            };
            match reason {
                Some(reason) => detection.passed_over.push(PassedOver { backend, reason }),
                None => detection.backend = backend,
            }
        }
        detection
    }

    /// The devices of one backend.
    pub fn devices_of(&self, backend: Backend) -> impl Iterator<Item = &GpuDevice> {
        self.devices.iter().filter(move |device| device.backend == backend)
    }

    /// Why `backend` was passed over, if it was.
    pub fn reason_against_backend(&self, backend: Backend) -> Option<&str> {
        self.passed_over.iter().find(|passed| passed.backend == backend).map(|passed| passed.reason.as_str())
    }

    /// What stands for a backend that is not in this program.
    const NOT_COMPILED: &str = "not in this build of the program";

    fn reason_against(&self, devices: &[GpuDevice], is_compiled: bool) -> Option<String> {
        let first = devices.first().map_or("", |device| device.name.as_str());
        if !is_compiled {
            return Some(format!("{}, though there is a device: {first}", Self::NOT_COMPILED));
        }
        if self.backend != Backend::Cpu {
            return Some(format!("{} comes before it", self.backend));
        }
        if devices.iter().all(|device| device.is_software()) {
            return Some(format!("its device is a software renderer: {first}"));
        }
        None
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{Absence, DeviceError, DeviceRequest, GpuKind};
    use super::*;

    /// A machine that is not at hand.
    pub(in super::super) struct Fake {
        pub(in super::super) architecture: Architecture,
        pub(in super::super) os: &'static str,
        pub(in super::super) cuda: Result<Vec<GpuDevice>, Absence>,
        pub(in super::super) metal: Result<Vec<GpuDevice>, Absence>,
        pub(in super::super) vulkan: Result<Vec<GpuDevice>, Absence>,
    }

    impl Probe for Fake {
        fn architecture(&self) -> Architecture {
            self.architecture
        }
        fn os(&self) -> &str {
            self.os
        }
        fn cuda(&self) -> Result<Vec<GpuDevice>, Absence> {
            self.cuda.clone()
        }
        fn metal(&self) -> Result<Vec<GpuDevice>, Absence> {
            self.metal.clone()
        }
        fn vulkan(&self) -> Result<Vec<GpuDevice>, Absence> {
            self.vulkan.clone()
        }
    }

    pub(in super::super) const ALL: [Backend; 4] =
        [Backend::Cuda, Backend::Mps, Backend::Vulkan, Backend::Cpu];

    fn no_library(library: &str) -> Result<Vec<GpuDevice>, Absence> {
        Err(Absence::NoLibrary { library: library.to_owned() })
    }

    /// A Linux machine without any driver.
    pub(in super::super) fn bare(architecture: Architecture) -> Fake {
        Fake {
            architecture,
            os: "linux",
            cuda: no_library("libcuda.so.1"),
            metal: Err(Absence::OtherSystem { needs: "macOS" }),
            vulkan: no_library("libvulkan.so.1"),
        }
    }

    fn gpu(backend: Backend, index: usize, name: &str) -> GpuDevice {
        GpuDevice {
            backend,
            index,
            name: name.to_owned(),
            driver: None,
            memory_bytes: None,
            compute_capability: None,
            is_unified_memory: None,
            kind: GpuKind::Discrete,
        }
    }

    pub(in super::super) fn nvidia(
        index: usize,
        name: &str,
        capability: (u32, u32),
        n_bytes: u64,
        is_unified: bool,
    ) -> GpuDevice {
        GpuDevice {
            driver: Some("CUDA 13.0".to_owned()),
            memory_bytes: Some(n_bytes),
            compute_capability: Some(capability),
            is_unified_memory: Some(is_unified),
            kind: if is_unified { GpuKind::Integrated } else { GpuKind::Discrete },
            ..gpu(Backend::Cuda, index, name)
        }
    }

    fn reasons(detection: &Detection) -> Vec<(Backend, &str)> {
        detection.passed_over.iter().map(|passed| (passed.backend, passed.reason.as_str())).collect()
    }

    #[test]
    fn arm64_cuda_machines_take_cuda() {
        let machines = [
            nvidia(0, "NVIDIA GH200 480GB", (9, 0), 96_000_000_000, false),
            nvidia(0, "Orin", (8, 7), 64_000_000_000, true),
            nvidia(0, "NVIDIA GB10", (12, 1), 128_000_000_000, true),
        ];
        for device in machines {
            let probe = Fake {
                cuda: Ok(vec![device.clone()]),
                vulkan: Ok(vec![gpu(Backend::Vulkan, 0, &device.name)]),
                ..bare(Architecture::Arm64)
            };
            let detection = Detection::of(&probe, &ALL);
            assert_eq!((detect_platform(&probe), detection.backend), (Architecture::Arm64, Backend::Cuda));
            assert_eq!(
                reasons(&detection),
                [(Backend::Mps, "exists on macOS only"), (Backend::Vulkan, "cuda comes before it")]
            );
            assert_eq!(detection.devices_of(Backend::Cuda).collect::<Vec<_>>(), [&device]);
            assert_eq!(detect_gpu_backend(&probe, &ALL), Backend::Cuda);
        }
    }

    #[test]
    fn apple_silicon_takes_metal() {
        let device = GpuDevice { is_unified_memory: Some(true), ..gpu(Backend::Mps, 0, "Apple M4 Max") };
        let probe = Fake {
            os: "macos",
            cuda: Err(Absence::OtherSystem { needs: "Linux and Windows" }),
            metal: Ok(vec![device]),
            vulkan: no_library("libvulkan.1.dylib"),
            ..bare(Architecture::Arm64)
        };
        let detection = Detection::of(&probe, &ALL);
        assert_eq!((detection.platform, detection.backend), (Architecture::Arm64, Backend::Mps));
        assert_eq!(detection.backend.to_string(), "mps");
        assert_eq!(detection.reason_against_backend(Backend::Vulkan), Some("libvulkan.1.dylib not found"));
    }

    #[test]
    fn machines_without_a_usable_driver_take_the_cpu_and_say_why() {
        let probe = bare(Architecture::X86_64);
        let detection = Detection::of(&probe, &ALL);
        assert_eq!((detection.platform, detection.backend), (Architecture::X86_64, Backend::Cpu));
        assert_eq!(
            reasons(&detection),
            [
                (Backend::Cuda, "libcuda.so.1 not found"),
                (Backend::Mps, "exists on macOS only"),
                (Backend::Vulkan, "libvulkan.so.1 not found"),
            ]
        );
        // A container that was given the card but not the driver, and a driver of another version than the kernel's part.
        for (absence, said) in [
            (Absence::NoDevice, "the driver has no device"),
            (
                Absence::BrokenDriver {
                    call: "cuInit",
                    reason: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH".to_owned(),
                },
                "the driver does not work: cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
            ),
        ] {
            let probe = Fake { cuda: Err(absence), ..bare(Architecture::Arm64) };
            let detection = Detection::of(&probe, &ALL);
            assert_eq!(detection.backend, Backend::Cpu);
            assert_eq!(detection.reason_against_backend(Backend::Cuda), Some(said));
        }
    }

    #[test]
    fn software_renderers_compute_only_when_asked_for() {
        let renderer = GpuDevice { kind: GpuKind::Software, ..gpu(Backend::Vulkan, 0, "llvmpipe (LLVM 19)") };
        let probe = Fake { vulkan: Ok(vec![renderer]), ..bare(Architecture::X86_64) };
        let detection = Detection::of(&probe, &ALL);
        assert_eq!(detection.backend, Backend::Cpu);
        let reason = detection.reason_against_backend(Backend::Vulkan).unwrap();
        assert_eq!(reason, "its device is a software renderer: llvmpipe (LLVM 19)");
        let chosen = "vulkan".parse::<DeviceRequest>().unwrap().choose(&detection, None).unwrap();
        assert_eq!((chosen.backend, chosen.index), (Backend::Vulkan, Some(0)));
    }

    #[test]
    fn a_real_card_beside_a_renderer_is_taken() {
        let renderer = GpuDevice { kind: GpuKind::Software, ..gpu(Backend::Vulkan, 0, "llvmpipe (LLVM 19)") };
        let card = gpu(Backend::Vulkan, 1, "AMD Radeon RX 7900 XTX");
        let probe = Fake { vulkan: Ok(vec![renderer, card]), ..bare(Architecture::X86_64) };
        let detection = Detection::of(&probe, &ALL);
        assert_eq!(detection.backend, Backend::Vulkan);
        let chosen = DeviceRequest::Auto.choose(&detection, None).unwrap();
        assert_eq!((chosen.backend, chosen.index), (Backend::Vulkan, Some(1)));
        assert_eq!(chosen.kind, Some((GpuKind::Discrete, 0)), "the first of its kind");
    }

    #[test]
    fn devices_that_this_build_cannot_use_are_named() {
        let card = nvidia(0, "NVIDIA GeForce RTX 4090", (8, 9), 24_000_000_000, false);
        let probe = Fake { cuda: Ok(vec![card]), ..bare(Architecture::X86_64) };
        let detection = Detection::of(&probe, &[Backend::Cpu]);
        assert_eq!(detection.backend, Backend::Cpu);
        assert_eq!(
            detection.reason_against_backend(Backend::Cuda),
            Some("not in this build of the program, though there is a device: NVIDIA GeForce RTX 4090")
        );
        assert_eq!(
            detection.reason_against_backend(Backend::Vulkan),
            Some("not in this build of the program; libvulkan.so.1 not found")
        );
        let refused = "cuda".parse::<DeviceRequest>().unwrap().choose(&detection, None).unwrap_err();
        assert!(matches!(refused, DeviceError::NotCompiledIn { .. }), "{refused}");
    }

    #[test]
    fn this_machine_can_be_asked() {
        let detection = Detection::of(&super::super::SystemProbe, &ALL);
        println!("{detection:?}");
        for device in &detection.devices {
            println!("{device}");
            assert!(!device.name.is_empty());
        }
        // A backend is chosen or passed over with a reason, never neither.
        let n_gpu_backends = usize::from(detection.backend != Backend::Cpu) + detection.passed_over.len();
        assert_eq!(n_gpu_backends, Backend::GPUS.len());
        let json = serde_json::to_value(&detection).unwrap();
        assert!(json["platform"] == "x86_64" || json["platform"] == "arm64" || json["platform"] == "other");
    }
}
