//! Graphics processors: which there are, which of them computes, and why each other kind does not.
//!
//! Nothing of a vendor has to be installed: libraries of drivers are opened when the program runs, and their absence is
//! one of the answers.

mod choice;
mod cuda;
mod detection;
mod memory;
#[cfg(target_os = "macos")]
mod metal;
mod probe;
mod vulkan;

use std::fmt;

use serde::Serialize;

pub use choice::{Chosen, DeviceError, DeviceRequest};
pub use detection::{Detection, PassedOver, detect_gpu_backend, detect_platform};
pub use probe::{Absence, Probe, SystemProbe};

/// The processor's architecture, as far as it matters for what can be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// 64-bit ARM: Grace, Jetson, Apple Silicon, Graviton.
    Arm64,
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
    /// Another one.
    Other,
}

/// What can compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// NVIDIA's, through its driver.
    Cuda,
    /// Apple's Metal, which other programs call MPS after its library of kernels.
    Mps,
    /// Any graphics processor with a Vulkan driver.
    Vulkan,
    /// The processor itself.
    Cpu,
}

impl Backend {
    /// All that are graphics processors, in the order in which one is looked for.
    pub const GPUS: [Self; 3] = [Self::Cuda, Self::Mps, Self::Vulkan];

    /// Its name in settings and on the command line.
    pub fn device_name(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Mps => "metal",
            Self::Vulkan => "vulkan",
            Self::Cpu => "cpu",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arm64 => "arm64",
            Self::X86_64 => "x86_64",
            Self::Other => std::env::consts::ARCH,
        })
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cuda => "cuda",
            Self::Mps => "mps",
            Self::Vulkan => "vulkan",
            Self::Cpu => "cpu",
        })
    }
}

/// A graphics processor that a driver told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GpuDevice {
    /// Through which it can be used. One card may be there twice, as a CUDA and as a Vulkan device.
    pub backend: Backend,
    /// Its number among the devices of this backend.
    pub index: usize,
    /// The name its driver gives it.
    pub name: String,
    /// The driver and its version.
    pub driver: Option<String>,
    /// Memory that it computes in; with unified memory, what it may use of the machine's.
    pub memory_bytes: Option<u64>,
    /// CUDA's measure of what a device can do, such as 9.0.
    pub compute_capability: Option<(u32, u32)>,
    /// Whether it has no memory of its own.
    pub is_unified_memory: Option<bool>,
    /// What it is.
    pub kind: GpuKind,
}

/// What a graphics processor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuKind {
    /// A card with memory of its own.
    Discrete,
    /// A part of the processor's chip, or beside it on the same memory.
    Integrated,
    /// A part of a card that a virtual machine was given.
    Virtual,
    /// A program on the processor that only acts as one.
    Software,
    /// Something else.
    Other,
}

impl GpuDevice {
    /// Whether it is a program on the processor that only acts as a graphics processor.
    pub fn is_software(&self) -> bool {
        self.kind == GpuKind::Software
    }
}

impl fmt::Display for GpuDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {}", self.backend.device_name(), self.index, self.name)?;
        if let Some(driver) = &self.driver {
            write!(f, ", {driver}")?;
        }
        if let Some((major, minor)) = self.compute_capability {
            write!(f, ", compute capability {major}.{minor}")?;
        }
        if let Some(bytes) = self.memory_bytes {
            write!(f, ", {:.1} GB", bytes as f64 / 1e9)?;
        }
        if self.is_unified_memory == Some(true) {
            f.write_str(" of unified memory")?;
        }
        if self.is_software() {
            f.write_str(", a software renderer")?;
        }
        Ok(())
    }
}
