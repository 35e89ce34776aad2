//! Operations by CPU kernels against the same operations composed of Burn's own, values and gradients.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "functions shared by tests are not themselves marked as tests"
)]

mod activation;
mod attention;
mod cache;
mod compare;
mod cross_entropy;
mod devices;
mod differences;
mod linear;
mod norm;
#[path = "../support/on_device.rs"]
mod on_device;
mod optimizer;
mod profile;
mod rotary;
mod scale;
mod seed;
mod threads;
mod weight;
