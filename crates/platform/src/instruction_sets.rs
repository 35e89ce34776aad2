//! Vector extensions of the processor the program runs on.

/// Names of those that the processor and the system support, oldest first.
pub(crate) fn detect() -> Vec<String> {
    found().iter().filter(|(_, is_there)| *is_there).map(|(name, _)| (*name).to_owned()).collect()
}

/// The macro wants literals, so each name stands once here.
#[cfg(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! check {
    ($detected:ident: $($name:tt),+ $(,)?) => {
        vec![$( ($name, std::arch::$detected!($name)) ),+]
    };
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn found() -> Vec<(&'static str, bool)> {
    check!(is_x86_feature_detected:
        "sse2", "sse4.1", "sse4.2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512dq", "avx512bw", "avx512vl",
        "avx512vnni", "avx512bf16", "avx512fp16", "avxvnni")
}

#[cfg(target_arch = "aarch64")]
fn found() -> Vec<(&'static str, bool)> {
    check!(is_aarch64_feature_detected: "neon", "fp16", "dotprod", "bf16", "i8mm", "sve", "sve2")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn found() -> Vec<(&'static str, bool)> {
    Vec::new()
}
