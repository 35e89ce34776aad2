//! Asking the system. What it says can be replaced, so that machines which are not at hand can be tested.

use std::fmt;

use super::{Architecture, GpuDevice, cuda, vulkan};

/// Where facts about graphics processors come from.
pub trait Probe {
    /// The processor's architecture.
    fn architecture(&self) -> Architecture;

    /// The operating system, as Rust names it.
    fn os(&self) -> &str;

    /// Devices that NVIDIA's driver tells of, at least one.
    ///
    /// # Errors
    /// Why there is none.
    fn cuda(&self) -> Result<Vec<GpuDevice>, Absence>;

    /// Devices of Apple's Metal, at least one.
    ///
    /// # Errors
    /// Why there is none.
    fn metal(&self) -> Result<Vec<GpuDevice>, Absence>;

    /// Devices that Vulkan drivers tell of, at least one.
    ///
    /// # Errors
    /// Why there is none.
    fn vulkan(&self) -> Result<Vec<GpuDevice>, Absence>;
}

/// Why a backend has no device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absence {
    /// It exists on another system only.
    OtherSystem {
        /// That system.
        needs: &'static str,
    },
    /// A library of the driver cannot be opened.
    NoLibrary {
        /// Its file name.
        library: String,
    },
    /// The driver is there and does not work.
    BrokenDriver {
        /// What it was asked.
        call: &'static str,
        /// What it said.
        reason: String,
    },
    /// The driver works and has no device.
    NoDevice,
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherSystem { needs } => write!(f, "exists on {needs} only"),
            Self::NoLibrary { library } => write!(f, "{library} not found"),
            Self::BrokenDriver { call, reason } => write!(f, "the driver does not work: {call}: {reason}"),
            Self::NoDevice => write!(f, "the driver has no device"),
        }
    }
}

/// This machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemProbe;

impl Probe for SystemProbe {
    fn architecture(&self) -> Architecture {
        match std::env::consts::ARCH {
            "aarch64" => Architecture::Arm64,
            "x86_64" => Architecture::X86_64,
            _ => Architecture::Other,
        }
    }

    fn os(&self) -> &str {
        std::env::consts::OS
    }

    fn cuda(&self) -> Result<Vec<GpuDevice>, Absence> {
        cuda::devices()
    }

    #[cfg(target_os = "macos")]
    fn metal(&self) -> Result<Vec<GpuDevice>, Absence> {
        super::metal::devices()
    }

    #[cfg(not(target_os = "macos"))]
    fn metal(&self) -> Result<Vec<GpuDevice>, Absence> {
        Err(Absence::OtherSystem { needs: "macOS" })
    }

    fn vulkan(&self) -> Result<Vec<GpuDevice>, Absence> {
        vulkan::devices()
    }
}
