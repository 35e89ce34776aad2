//! CPU arithmetic on plain slices, forward and backward; no tensor type, no policy.
//!
//! Every function takes its output as a slice and the instruction set to use as a [`Level`]. Work is spread over the
//! calling thread's rayon pool in pieces of fixed size that write disjoint outputs, and every sum is taken in a fixed
//! order, so that results do not depend on the number of threads, bit for bit.
//!
//! Matrices are row-major and contiguous unless a stride is given. Symbols: N tokens, C width, H query heads,
//! K key/value heads, D head width, V vocabulary, R low rank, I/O in/out features.

#![expect(
    unsafe_code,
    reason = "vector instructions chosen at run time, matrix products on pointers, strided outputs shared by threads"
)]

pub mod activation;
pub mod attention;
pub mod bf16;
pub mod buffer;
pub mod cached_attention;
pub mod cross_entropy;
mod disjoint;
pub mod dropout;
pub mod embedding;
mod lanes;
pub mod layer_norm;
pub mod linear;
pub mod low_rank;
mod math;
pub mod optimizer;
pub mod optimizer_8bit;
mod parallel;
pub mod product;
pub mod rms_norm;
pub mod roofline;
pub mod rotary;
pub mod scale;
pub mod simd;
pub mod skinny;
pub mod sum;
#[cfg(test)]
mod testing;
pub mod weight;

pub use product::Compute;
pub use simd::Level;
