//! What a low-rank branch adds to a linear layer: time of the layer's passes with and without it, on all threads.
//!
//!     cargo bench --package tunesmith-kernels --bench low_rank
//!
//! The shapes are those of a small Llama (SmolLM2-135M, slices of 512 tokens); bfloat16 products over bfloat16 weights.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a bench is a program for the terminal")]

mod common;

use common::{best_secs, values};
use tunesmith_kernels::linear::{self, Weights};
use tunesmith_kernels::low_rank::{self, Branch, Gradients};
use tunesmith_kernels::skinny::Mask;
use tunesmith_kernels::weight::{Format, Weight};
use tunesmith_kernels::{Compute, Level};

fn main() {
    let level = Level::best();
    let compute = Compute::Bf16;
    println!(
        "{:14} {:>4} {:>7}  {:>22}  {:>22}",
        "N×I×O", "rank", "dropout", "forward ms, alone", "backward ms, alone"
    );
    for (n, n_in, n_out) in [(512, 576, 192), (512, 576, 576), (512, 576, 1536), (512, 1536, 576)] {
        let stored = Weight::convert(level, &values(n_out * n_in), n_out, n_in, Format::Bf16);
        let stored = stored.expect("every length fits");
        let weights = Weights::stored(&stored);
        let (x, dy) = (values(n * n_in), values(n * n_out));
        let (mut y, mut dx) = (values(n * n_out), values(n * n_in));
        let forward_alone = millis(|| linear::forward(level, compute, n, &x, weights, None, None, &mut y));
        let backward_alone =
            millis(|| linear::input_gradient(level, compute, n, weights, &dy, None, &mut dx));
        for (rank, dropout) in [(4, 0.0), (4, 0.05), (16, 0.0), (64, 0.0)] {
            let (a, b) = (values(rank * n_in), values(n_out * rank));
            let (mut h, mut da, mut db) = (values(n * rank), values(rank * n_in), values(n_out * rank));
            let mask = (0.0 < dropout).then_some(Mask { probability: dropout, key: 7 });
            let branch = Branch { a: &a, b: &b, rank, scale: 2.0, dropout: mask };
            let forward = millis(|| {
                low_rank::forward(level, compute, branch, n, &x, weights, None, &mut h, &mut y);
            });
            let backward = millis(|| {
                let gradients = Gradients { x: Some(&mut dx), a: Some(&mut da), b: Some(&mut db) };
                low_rank::backward(level, compute, branch, n, &x, weights, &h, &dy, gradients);
            });
            println!(
                "{:14} {rank:4} {dropout:7}  {forward:12.3}, {forward_alone:8.3}  {backward:12.3}, {backward_alone:8.3}",
                format!("{n}×{n_in}×{n_out}")
            );
        }
    }
}

/// The best time of several runs.
fn millis(run: impl FnMut()) -> f64 {
    1000.0 * best_secs(run)
}
