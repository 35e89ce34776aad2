//! Speed of the matrix products at the shapes of a small Llama (SmolLM2-135M, slices of 512 tokens): GFLOP/s of all
//! threads, and the share of what this machine reaches with multiply-adds that never leave the registers.
//!
//!     cargo bench --package tunesmith-kernels --bench products
//!
//! The last line is the product in three loops on one thread. Measure on a machine where nothing else runs.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a bench is a program for the terminal")]

mod common;

use std::hint::black_box;

use common::{best_secs, peak, values};
use tunesmith_kernels::product::{Matrix, MatrixMut, Output, Right, Term, Threads, product};
use tunesmith_kernels::weight::{Format, Weight};
use tunesmith_kernels::{Compute, Level};

const SHAPES: [(usize, usize, usize); 6] = [
    (512, 576, 192),
    (512, 576, 576),
    (512, 576, 1536),
    (512, 1536, 576),
    (2048, 576, 1536),
    (160, 576, 49152),
];
const FORMATS: [Format; 4] = [Format::F32, Format::Bf16, Format::Q8_0, Format::Q4_1];

fn main() {
    let level = Level::best();
    let peaks = [Compute::F32, Compute::Bf16].map(|compute| (compute, peak(level, compute)));
    println!("{} on {} threads", level.name(), rayon::current_num_threads());
    for (compute, peak) in peaks {
        println!("{compute:?}: at most {:.0} GFLOP/s", peak / 1e9);
    }
    println!("{:18} {:6} {:14} {:>9} {:>7}", "M×K×N", "weight", "product", "GFLOP/s", "share");
    for (m, k, n) in SHAPES {
        let n_flops = 2.0 * (m * k * n) as f64;
        let (x, dy, w) = (values(m * k), values(m * n), values(n * k));
        let (mut y, mut dx, mut dw) = (vec![0.0; m * n], vec![0.0; m * k], vec![0.0; n * k]);
        for (compute, top) in peaks {
            let rate = |run: &mut dyn FnMut()| n_flops / best_secs(run);
            let show = |format: &str, what: &str, rate: f64| {
                let shape = format!("{m}×{k}×{n}");
                println!("{shape:18} {format:6} {what:14} {:9.1} {:6.1} %", rate / 1e9, 100.0 * rate / top);
            };
            let run = |out: &mut [f32], n_columns: usize, term: Term| {
                let out = MatrixMut::new(out, term.left.dims()[0], n_columns);
                product(level, compute, out, Output::Overwrite, &[term], Threads::Pool);
            };
            for format in FORMATS {
                let weight = Weight::convert(level, &w, n, k, format).expect("rows are whole blocks");
                let name = format!("{format:?}");
                let term = Term { left: Matrix::new(&x, m, k), right: Right::Transposed(&weight) };
                show(&name, &format!("y {compute:?}"), rate(&mut || run(&mut y, n, term)));
                let term = Term { left: Matrix::new(&dy, m, n), right: Right::Weight(&weight) };
                show(&name, &format!("dx {compute:?}"), rate(&mut || run(&mut dx, k, term)));
            }
            let term = Term::new(Matrix::new(&dy, m, n).t(), Matrix::new(&x, m, k));
            show("-", &format!("dW {compute:?}"), rate(&mut || run(&mut dw, k, term)));
        }
    }
    let (m, k, n) = (64, 576, 192);
    let (x, w, mut y) = (values(m * k), values(k * n), vec![0.0; m * n]);
    let secs = best_secs(|| {
        for i in 0..m {
            for j in 0..n {
                y[i * n + j] = (0..k).map(|l| x[i * k + l] * w[l * n + j]).sum();
            }
        }
        black_box(&y);
    });
    println!("naive {m}×{k}×{n} on one thread: {:.1} GFLOP/s", 2.0 * (m * k * n) as f64 / secs / 1e9);
}
