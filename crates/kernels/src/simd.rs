//! Choosing the instruction set at run time.
//!
//! A kernel is written once, as a plain loop that the compiler turns into vector instructions, inside `simd_kernel!`.
//! The macro compiles that body once per [`Level`], each with the instructions of that level enabled, and picks one
//! by the level the caller passes.

use std::sync::OnceLock;

/// An instruction set that this CPU has.
///
/// A value can be had only through detection, so holding one proves that the CPU can run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What every CPU of the target has: SSE2 on x86-64, NEON on ARM64.
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// With dot products of bfloat16 pairs; everything else is as in `Avx512`.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
}

impl Level {
    /// The widest instruction set of this CPU.
    pub fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().copied().unwrap_or(Self(Kind::Baseline)))
    }

    /// All usable instruction sets, from narrowest to widest; tests run every kernel with each.
    pub fn available() -> Vec<Self> {
        #[cfg_attr(
            not(target_arch = "x86_64"),
            expect(unused_mut, reason = "only x86-64 has more than one level")
        )]
        let mut levels = vec![Self(Kind::Baseline)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                levels.push(Self(Kind::Avx2));
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512bw")
                {
                    levels.push(Self(Kind::Avx512));
                    if is_x86_feature_detected!("avx512bf16") {
                        levels.push(Self(Kind::Avx512Bf16));
                    }
                }
            }
        }
        levels
    }

    /// The name to show: `AVX-512 BF16`, `AVX-512`, `AVX2`, `SSE2`, `NEON` or `scalar`.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Bf16 => "AVX-512 BF16",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "AVX2",
            Kind::Baseline if cfg!(target_arch = "x86_64") => "SSE2",
            Kind::Baseline if cfg!(target_arch = "aarch64") => "NEON",
            Kind::Baseline => "scalar",
        }
    }

    pub(crate) fn kind(self) -> Kind {
        self.0
    }
}

/// What a kernel's body asks of its instruction set.
pub(crate) trait Isa {
    /// a·b + c, rounded once where the CPU can.
    fn mul_add(a: f32, b: f32, c: f32) -> f32;
}

/// An instruction set with fused multiply-add.
pub(crate) struct Fused;

impl Isa for Fused {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// An instruction set without it; asking for it would call a slow library function.
#[cfg(not(target_arch = "aarch64"))]
pub(crate) struct Plain;

#[cfg(not(target_arch = "aarch64"))]
impl Isa for Plain {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}

#[cfg(not(target_arch = "aarch64"))]
pub(crate) type Baseline = Plain;
#[cfg(target_arch = "aarch64")]
pub(crate) type Baseline = Fused;

/// Defines a function whose first argument is a [`Level`] and whose body is compiled once per level.
///
/// The body may name the type parameter given in angle brackets, which implements [`Isa`], and a length that is known
/// when it is compiled. Functions the body calls in
/// its loops must be `#[inline(always)]`, or they keep the baseline's instructions.
macro_rules! simd_kernel {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$isa:ident $(, const $n:ident: usize)?>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name $(<const $n: usize>)? (level: $crate::simd::Level, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body<$isa: $crate::simd::Isa $(, const $n: usize)?>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
            fn avx512 $(<const $n: usize>)? ($($arg: $ty),*) $(-> $ret)? {
                body::<$crate::simd::Fused $(, $n)?>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2 $(<const $n: usize>)? ($($arg: $ty),*) $(-> $ret)? {
                body::<$crate::simd::Fused $(, $n)?>($($arg),*)
            }

            match level.kind() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: a level of this kind exists only after detecting these instructions.
                $crate::simd::Kind::Avx512 | $crate::simd::Kind::Avx512Bf16 => unsafe { avx512 $(::<$n>)? ($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: a level of this kind exists only after detecting these instructions.
                $crate::simd::Kind::Avx2 => unsafe { avx2 $(::<$n>)? ($($arg),*) },
                $crate::simd::Kind::Baseline => body::<$crate::simd::Baseline $(, $n)?>($($arg),*),
            }
        }
    };
}
pub(crate) use simd_kernel;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_named() {
        let levels = Level::available();
        assert_eq!(levels.last().copied(), Some(Level::best()));
        let names: Vec<_> = levels.iter().map(|level| level.name()).collect();
        println!("levels: {names:?}");
        let mut distinct = names.clone();
        distinct.dedup();
        assert_eq!(names, distinct);
    }
}
