//! How much memory is left on the device that computes.

use super::{Backend, Chosen};
use crate::available_memory_bytes;

impl Chosen {
    /// Bytes that can be taken now: of a card's own memory what other programs leave, as far as its driver tells, else all
    /// of it; of a device on the machine's memory what the machine has left. `None` where the system does not tell.
    pub fn free_memory_bytes(&self) -> Option<u64> {
        match self.own_memory_bytes {
            Some(all) if self.backend == Backend::Cuda => {
                Some(free_on_cuda(self.index.unwrap_or(0)).unwrap_or(all))
            }
            Some(all) => Some(all),
            None => available_memory_bytes(),
        }
    }
}

fn free_on_cuda(index: usize) -> Option<u64> {
    let library = nvml_wrapper::Nvml::init().ok()?;
    let device = library.device_by_index(u32::try_from(index).ok()?).ok()?;
    Some(device.memory_info().ok()?.free)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::GpuKind;

    #[test]
    fn a_card_has_its_own_and_all_else_shares_the_machines() {
        let card = Chosen {
            backend: Backend::Vulkan,
            index: Some(0),
            kind: Some((GpuKind::Discrete, 0)),
            own_memory_bytes: Some(8_000_000_000),
        };
        assert_eq!(card.free_memory_bytes(), Some(8_000_000_000));
        assert_eq!(Chosen::CPU.free_memory_bytes().is_some(), available_memory_bytes().is_some());
    }
}
