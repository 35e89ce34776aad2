//! The program's memory allocator: mimalloc, told to keep what it once got from the system.
//!
//! A training step allocates every activation and frees it before the next step. glibc maps and unmaps each of these
//! blocks, so every step pays for fresh pages again: the system zeroes them one by one, which on a virtual machine takes
//! longer than the arithmetic that fills them. mimalloc serves blocks up to 2 GiB from arenas; without purging a step
//! finds the pages of the step before. What the process holds then stays at its peak, which a training process reaches
//! again every step. A server's peak is no measure of what it needs next: `give_back` lets it return what it frees.
//!
//! A block that cannot be had ends the process with a message: what a run needs next is what it needs, so there is nothing
//! else to try.
//!
//! Options must be known before the first arena is made, and the first allocation comes before `main`. Environment
//! variables would have to be set by whoever starts the program, so the first allocation sets them.

#![expect(unsafe_code, reason = "a global allocator is an unsafe trait, and the options are C functions")]

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_long;
use std::sync::atomic::{AtomicBool, Ordering};

use libmimalloc_sys::{_mi_option_last, mi_option_set, mi_option_t};
use mimalloc::MiMalloc;
use tunesmith_platform::gpu::Backend;

use crate::out_of_memory;

/// Milliseconds after which freed memory goes back to the system; negative: never. The number is the option's place in
/// `mi_option_e` of mimalloc.h, which the Rust bindings do not name.
const PURGE_DELAY: mi_option_t = 15;

// Another length of that list is another list: look up the place above again.
const _: () = assert!(_mi_option_last == 47);

/// mimalloc's own delay, which a program that waits most of its time can afford.
const SOON: c_long = 10;

/// From now on, memory that is freed goes back to the system. To be called before other threads are started.
pub(crate) fn give_back() {
    // SAFETY: the place is within the list (compared above) and takes any number; no other thread sets options.
    unsafe { mi_option_set(PURGE_DELAY, SOON) };
}

/// mimalloc with this program's options.
pub(crate) struct Allocator {
    is_configured: AtomicBool,
}

impl Allocator {
    /// An allocator that configures itself when it is first asked for memory.
    pub(crate) const fn new() -> Self {
        Self { is_configured: AtomicBool::new(false) }
    }

    #[inline(always)]
    fn configured(&self) -> MiMalloc {
        if !self.is_configured.load(Ordering::Relaxed) {
            self.configure();
        }
        MiMalloc
    }

    #[cold]
    fn configure(&self) {
        // SAFETY: the place is within the list (compared above) and takes any number. Setting options is not meant for
        // several threads at a time, but the first allocation is made by the runtime before any thread is started.
        unsafe { mi_option_set(PURGE_DELAY, -1) };
        self.is_configured.store(true, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed on as it came to an allocator that keeps the trait's promises.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as promised by the caller.
        unsafe { had(self.configured().alloc(layout), layout.size()) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as promised by the caller.
        unsafe { had(self.configured().alloc_zeroed(layout), layout.size()) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller; there is no block before the first allocation.
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as promised by the caller.
        unsafe { had(MiMalloc.realloc(block, layout, new_size), new_size) }
    }
}

/// The block, if there is one.
#[inline(always)]
fn had(block: *mut u8, n_bytes: usize) -> *mut u8 {
    if block.is_null() {
        out_of_memory::tell(out_of_memory::Lack {
            backend: Backend::Cpu,
            wanted_bytes: Some(n_bytes as u64),
        });
    }
    block
}
