//! Buffers for results: memory whose old content nobody reads.
//!
//! A training step asks for gigabytes of buffers that kernels then write from end to end. Filling them with zeros first,
//! on one thread, costs a tenth of the step.

use std::arch::asm;

/// Numbers of which every bit pattern is a value.
pub trait Plain: Copy + private::Sealed {
    /// What buffers are filled with where mistakes are looked for.
    const CONSPICUOUS: Self;
}

impl Plain for f32 {
    const CONSPICUOUS: Self = f32::NAN;
}

impl Plain for u16 {
    /// A NaN of bfloat16.
    const CONSPICUOUS: Self = 0x7fff;
}

/// A vector of `n` numbers with any content, for a kernel that writes all of them. In builds with debug assertions, which
/// the tests are, they are NaN, so that an element that is read before it is written does not go unnoticed.
pub fn unfilled<T: Plain>(n: usize) -> Vec<T> {
    if cfg!(debug_assertions) {
        return vec![T::CONSPICUOUS; n];
    }
    let mut values: Vec<T> = Vec::with_capacity(n);
    // SAFETY: the allocation has room for `n` numbers. For all the compiler knows the empty assembly, which gets the
    // pointer, wrote them: so they have some value, and every bit pattern is one.
    unsafe {
        asm!("/* {0} */", in(reg) values.as_mut_ptr(), options(nostack, preserves_flags));
        values.set_len(n);
    }
    values
}

impl Plain for u32 {
    /// Two NaNs of bfloat16, and one of float32.
    const CONSPICUOUS: Self = 0x7fff_7fff;
}

/// The first `n` numbers of a buffer that is used again and again, with any content; it grows where it must.
pub(crate) fn first<T: Plain>(buffer: &mut Vec<T>, n: usize) -> &mut [T] {
    if buffer.len() < n {
        *buffer = unfilled(n);
    }
    &mut buffer[..n]
}

mod private {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for u16 {}
    impl Sealed for u32 {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_see_what_was_not_written() {
        assert!(unfilled::<f32>(5).iter().all(|value| value.is_nan()));
        assert_eq!(unfilled::<u16>(3).len(), 3);
        assert!(unfilled::<f32>(0).is_empty());
    }
}
