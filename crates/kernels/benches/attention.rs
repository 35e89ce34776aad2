//! Speed of attention, forward and backward, on all threads, with the heads of a small Llama (SmolLM2-135M: 9 query heads
//! on 3 of keys and values, 64 wide) and of a Llama of 1B (32 on 8): GFLOP/s of what causal attention needs, and the share of what this
//! machine reaches with multiply-adds that never leave the registers.
//!
//!     cargo bench --package tunesmith-kernels --bench attention
//!
//! The last line is the formula, query by query, on one thread. Measure on a machine where nothing else runs.

#![expect(clippy::print_stdout, reason = "a bench is a program for the terminal")]

mod common;

use std::hint::black_box;

use common::{best_secs, peak, values};
use tunesmith_kernels::attention::{Gradients, Heads, backward, forward};
use tunesmith_kernels::{Compute, Level};

fn main() {
    let level = Level::best();
    println!("{} on {} threads", level.name(), rayon::current_num_threads());
    let small = Heads { n_heads: 9, n_kv_heads: 3, width: 64, scale: 0.125, cap: None, window: usize::MAX };
    let larger = Heads { n_heads: 32, n_kv_heads: 8, ..small };
    println!(
        "{:12} {:14} {:6} {:>20} {:>20}",
        "heads", "segments", "", "forward GFLOP/s", "backward GFLOP/s"
    );
    for compute in [Compute::F32, Compute::Bf16] {
        let top = peak(level, compute);
        for (heads, n_segments, length) in
            [(small, 12, 170), (small, 4, 512), (small, 1, 4096), (larger, 4, 512)]
        {
            let offsets: Vec<usize> = (0..=n_segments).map(|i| i * length).collect();
            let n = n_segments * length;
            let (n_queries, n_keys) = (n * heads.n_heads * heads.width, n * heads.n_kv_heads * heads.width);
            let (q, k, v, dy) = (values(n_queries), values(n_keys), values(n_keys), values(n_queries));
            let (mut y, mut log_sums) = (values(n_queries), values(n * heads.n_heads));
            let (mut dq, mut dk, mut dv) = (values(n_queries), values(n_keys), values(n_keys));
            // A product of [T, D] and [D, T], of which the causal mask leaves half.
            let of_product =
                (n_segments * heads.n_heads * heads.width) as f64 * (length * (length + 1)) as f64;
            let forward_secs = best_secs(|| {
                forward(level, compute, heads, &offsets, &q, &k, &v, &mut y, &mut log_sums);
            });
            let backward_secs = best_secs(|| {
                let gradients = Gradients { q: &mut dq, k: &mut dk, v: &mut dv };
                backward(level, compute, heads, &offsets, &q, &k, &v, &y, &log_sums, &dy, gradients);
            });
            let show = |n_products: f64, secs: f64| {
                let rate = n_products * of_product / secs;
                format!("{:10.1} ({:4.1} %)", rate / 1e9, 100.0 * rate / top)
            };
            println!(
                "{:12} {:14} {:6} {:>20} {:>20}",
                format!("{}/{}×{}", heads.n_heads, heads.n_kv_heads, heads.width),
                format!("{n_segments}×{length}"),
                format!("{compute:?}"),
                show(2.0, forward_secs),
                show(5.0, backward_secs)
            );
        }
    }
    naive(small, 512);
}

/// One head of the forward pass, as the formula says it.
fn naive(heads: Heads, length: usize) {
    let width = heads.width;
    let (q, k, v) = (values(length * width), values(length * width), values(length * width));
    let mut y = vec![0.0; length * width];
    let secs = best_secs(|| {
        for t in 0..length {
            let q = &q[t * width..(t + 1) * width];
            let scores: Vec<f32> = k[..(t + 1) * width]
                .chunks(width)
                .map(|k| (heads.scale * q.iter().zip(k).map(|(q, k)| q * k).sum::<f32>()).exp())
                .collect();
            let sum: f32 = scores.iter().sum();
            let y = &mut y[t * width..(t + 1) * width];
            y.fill(0.0);
            for (score, v) in scores.iter().zip(v.chunks(width)) {
                y.iter_mut().zip(v).for_each(|(y, v)| *y += score / sum * v);
            }
        }
        black_box(&y);
    });
    let n_operations = 2.0 * width as f64 * (length * (length + 1)) as f64;
    println!(
        "naive forward of one head, {length} tokens, on one thread: {:.1} GFLOP/s",
        n_operations / secs / 1e9
    );
}
