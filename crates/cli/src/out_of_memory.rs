//! What the user sees when memory runs out: how much was asked for in vain, and what takes less.

use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use tunesmith_platform::OutOfMemory as Lack;
use tunesmith_platform::gpu::Backend;

use crate::failure::Exit;
use crate::terminal::write_err;

/// What takes less memory, when the command in progress knows better than [`ANYTHING`].
static REMEDY: OnceLock<String> = OnceLock::new();
const ANYTHING: &str = "a smaller training.batch_size or tokenizer.max_length, architecture.gradient_checkpointing, LoRA \
                        instead of all weights, or architecture.backbone_dtype int4 take less";

/// From now on a lack of memory is told with this remedy.
pub(crate) fn set_remedy(remedy: String) {
    // A second one changes nothing: one command, one remedy.
    let _ = REMEDY.set(remedy);
}

/// Tells of a lack of memory and ends the process with [`Exit::Memory`].
///
/// Ending it is safe: files are written whole or not at all, and a training run resumes from its last checkpoint.
#[cold]
pub(crate) fn tell(lack: Lack) -> ! {
    static IS_TOLD: AtomicBool = AtomicBool::new(false);
    // Telling may need memory, too.
    if IS_TOLD.swap(true, Ordering::Relaxed) {
        process::abort();
    }
    let of = match lack.backend {
        Backend::Cpu => "the machine, or what limits this process,",
        Backend::Cuda => "the CUDA device",
        Backend::Mps => "the Metal device",
        Backend::Vulkan => "the Vulkan device",
    };
    let remedy = REMEDY.get().map_or(ANYTHING, String::as_str);
    match lack.wanted_bytes {
        Some(n_bytes) => write_err(format_args!(
            "error: OOM error: {of} has no memory left for another {:.1} MB. Finished checkpoints and exports are \
             intact.\nhint: {remedy}\n",
            n_bytes as f64 / 1e6
        )),
        None => write_err(format_args!(
            "error: OOM error: {of} has no memory left. Finished checkpoints and exports are intact.\nhint: {remedy}\n"
        )),
    }
    process::exit(i32::from(Exit::Memory.code()));
}
