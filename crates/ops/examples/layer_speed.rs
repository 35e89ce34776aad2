//! Speed of one transformer layer, forward and backward, with CPU kernels and composed of Burn's operations.
//!
//!     cargo run --profile quick -p tunesmith-ops --example layer_speed [n_repeats]
//!
//! The sizes are those of a 135-million-parameter Llama. Times are the best of the repeats: wall-clock time, and the
//! time all threads of the process spent computing, which other programs on the machine disturb less.

#![expect(clippy::print_stdout, reason = "the program's purpose")]

use std::time::Instant;

use tunesmith_ops::{
    Activation, AttentionOptions, ChosenDevice, CrossEntropy, Device, KvCache, LowRank, RotaryTable,
    Segments, Tensor, TensorData, attention, attention_cached, attention_composed, cross_entropy_from_hidden,
    cross_entropy_from_hidden_composed, describe, gated, gated_composed, linear, linear_composed,
    linear_low_rank, linear_low_rank_composed, rms_norm, rms_norm_composed, rotary, rotary_composed,
};

const N: usize = 2048;
const C: usize = 576;
const H: usize = 9;
const K: usize = 3;
const D: usize = 64;
const I: usize = 1536;
const R: usize = 16;
const V: usize = 49152;

/// One way to do everything.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    linear: fn(Tensor<2>, Tensor<2>, Option<Tensor<1>>) -> Tensor<2>,
    low_rank: fn(Tensor<2>, Tensor<2>, Option<Tensor<1>>, LowRank) -> Tensor<2>,
    norm: fn(Tensor<2>, Tensor<1>, f32) -> Tensor<2>,
    rotary: fn(Tensor<3>, &[u32], &RotaryTable) -> Tensor<3>,
    attention: fn(Tensor<3>, Tensor<3>, Tensor<3>, &Segments, AttentionOptions) -> Tensor<3>,
    gated: fn(Tensor<2>, Tensor<2>, Activation) -> Tensor<2>,
    cross_entropy: fn(Tensor<2>, Tensor<2>, &[i64], &[f32]) -> CrossEntropy,
}

const WAYS: [Way; 2] = [
    Way {
        name: "composed",
        linear: linear_composed,
        low_rank: linear_low_rank_composed,
        norm: rms_norm_composed,
        rotary: rotary_composed,
        attention: attention_composed,
        gated: gated_composed,
        cross_entropy: cross_entropy_from_hidden_composed,
    },
    Way {
        name: "kernels",
        linear,
        low_rank: linear_low_rank,
        norm: rms_norm,
        rotary,
        attention,
        gated,
        cross_entropy: cross_entropy_from_hidden,
    },
];

const OPTIONS: AttentionOptions =
    AttentionOptions { scale: 0.125, cap: None, window: None, compute: tunesmith_ops::Compute::F32 };

fn main() {
    let n_repeats = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(3);
    println!("{:?}, N {N}, C {C}, H {H}, K {K}, D {D}, I {I}, R {R}, V {V}", describe(ChosenDevice::CPU));
    println!("{:44} {:>9} {:>11} {:>11} {:>9} {:>10}", "", "", "wall ms", "computing", "GFLOP/s", "tokens/s");
    let bench = Bench { n_repeats };
    bench.operations();
    bench.layers();
    bench.loss();
    bench.decoding();
}

struct Bench {
    n_repeats: usize,
}

impl Bench {
    /// Prints the best time of `work`, of which a call does `gflop` for `n_tokens`.
    fn report(&self, name: &str, way: &str, gflop: f64, n_tokens: usize, mut work: impl FnMut()) {
        let mut best = (f64::INFINITY, f64::INFINITY);
        for _ in 0..self.n_repeats {
            let (start, computing) = (Instant::now(), computing_secs());
            work();
            best = (best.0.min(start.elapsed().as_secs_f64()), best.1.min(computing_secs() - computing));
        }
        let (wall, computing) = best;
        let (speed, tokens) = (gflop / wall, n_tokens as f64 / wall);
        let (wall_ms, computing_ms) = (1e3 * wall, 1e3 * computing);
        println!("{name:44} {way:>9} {wall_ms:>11.2} {computing_ms:>11.2} {speed:>9.1} {tokens:>10.0}");
    }

    fn operations(&self) {
        let (segments, positions) = rows(&[N]);
        let table = table();
        for (name, gflop, shapes, f) in operations(segments, positions, table) {
            for way in WAYS {
                let inputs: Vec<Tensor<1>> = shapes.iter().map(|shape| leaf(shape, true)).collect();
                self.report(name, way.name, gflop, N, || {
                    f(way, &inputs).sum().backward();
                });
            }
        }
    }

    fn layers(&self) {
        let projections = (2 * C * C + 2 * K * D * C + 3 * C * I) as f64 * N as f64 * 2e-9;
        for (label, lengths) in [("one segment", vec![N]), ("8 segments", vec![N / 8; 8])] {
            // Scores and sums of the visible pairs, forward; half as much again, and both gradients, backward.
            let pairs: usize = lengths.iter().map(|n| n * (n + 1) / 2).sum();
            let attention = pairs as f64 * (H * D) as f64 * 4e-9 * 3.5;
            let (segments, positions) = rows(&lengths);
            for (kind, low_rank) in [("all weights trained", false), ("frozen with LoRA", true)] {
                let weights = Weights::new(low_rank);
                let gflop = attention + projections * if low_rank { 2.0 } else { 3.0 };
                for way in WAYS {
                    let name = format!("layer, {label}, {kind}");
                    let x = leaf(&[N * C], true);
                    self.report(&name, way.name, gflop, N, || {
                        let x = x.clone().reshape([N, C]);
                        weights.layer(way, x, &segments, &positions).sum().backward();
                    });
                }
            }
        }
    }

    fn loss(&self) {
        let n = 512;
        let labels: Vec<i64> = (0..n as i64).map(|t| t * 97 % V as i64).collect();
        let weights = vec![1.0 / n as f32; n];
        let gflop = (n * V * C) as f64 * 2e-9;
        let (hidden, head) = (leaf(&[n * C], true), leaf(&[V * C], false));
        for way in WAYS {
            self.report("cross-entropy with gradient, 512 tokens", way.name, 2.0 * gflop, n, || {
                let (hidden, head) = (hidden.clone().reshape([n, C]), head.clone().reshape([V, C]));
                (way.cross_entropy)(hidden, head, &labels, &weights).weighted_sum.backward();
            });
        }
        for way in WAYS {
            self.report("cross-entropy alone, 512 tokens", way.name, gflop, n, || {
                let (hidden, head) =
                    (hidden.clone().inner().reshape([n, C]), head.clone().inner().reshape([V, C]));
                (way.cross_entropy)(hidden, head, &labels, &weights);
            });
        }
    }

    fn decoding(&self) {
        for n in [1, 4, 8] {
            for (n_out, label) in [(I, "1536×576"), (V, "49152×576")] {
                let (x, weight) = (leaf(&[n * C], false).inner(), leaf(&[n_out * C], false).inner());
                let (x, weight) = (x.reshape([n, C]), weight.reshape([n_out, C]));
                for way in WAYS {
                    let name = format!("linear {label}, {n} token(s), 100 times");
                    self.report(&name, way.name, (200 * n * C * n_out) as f64 * 1e-9, 100 * n, || {
                        for _ in 0..100 {
                            (way.linear)(x.clone(), weight.clone(), None);
                        }
                    });
                }
            }
        }
        let device = Device::flex();
        let tensor = |n: usize, heads: usize| leaf(&[n * heads * D], false).inner().reshape([n, heads, D]);
        let mut cache = KvCache::new(1, 1);
        attention_cached(
            tensor(N, H),
            tensor(N, K),
            tensor(N, K),
            &Segments::new(&[N]),
            &mut cache,
            0,
            OPTIONS,
        );
        let (q, k) = (tensor(1, H).to_device(&device), tensor(1, K));
        self.report(
            "cached attention, 1 token over 2048, 100 times",
            "kernels",
            (100 * N * H * D * 4) as f64 * 1e-9,
            100,
            || {
                for _ in 0..100 {
                    attention_cached(
                        q.clone(),
                        k.clone(),
                        k.clone(),
                        &Segments::new(&[1]),
                        &mut cache,
                        0,
                        OPTIONS,
                    );
                }
            },
        );
    }
}

type Operation = (&'static str, f64, Vec<Vec<usize>>, Box<dyn Fn(Way, &[Tensor<1>]) -> Tensor<1>>);

/// Single operations with the shapes of their inputs.
fn operations(segments: Segments, positions: Vec<u32>, table: RotaryTable) -> Vec<Operation> {
    let flat = |y: Tensor<2>| -> Tensor<1> { y.reshape([-1]) };
    vec![
        (
            "rms_norm",
            0.0,
            vec![vec![N * C], vec![C]],
            Box::new(move |way, l| flat((way.norm)(l[0].clone().reshape([N, C]), l[1].clone(), 1e-5))),
        ),
        (
            "rotary of the queries",
            0.0,
            vec![vec![N * H * D]],
            Box::new(move |way, l| {
                (way.rotary)(l[0].clone().reshape([N, H, D]), &positions, &table).reshape([-1])
            }),
        ),
        (
            "attention",
            (N * (N + 1) / 2 * H * D) as f64 * 4e-9 * 3.5,
            vec![vec![N * H * D], vec![N * K * D], vec![N * K * D]],
            Box::new(move |way, l| {
                let (q, k) = (l[0].clone().reshape([N, H, D]), l[1].clone().reshape([N, K, D]));
                (way.attention)(q, k, l[2].clone().reshape([N, K, D]), &segments, OPTIONS).reshape([-1])
            }),
        ),
        (
            "gated",
            0.0,
            vec![vec![N * I], vec![N * I]],
            Box::new(move |way, l| {
                flat((way.gated)(
                    l[0].clone().reshape([N, I]),
                    l[1].clone().reshape([N, I]),
                    Activation::Silu,
                ))
            }),
        ),
        (
            "linear 1536×576",
            (N * C * I) as f64 * 6e-9,
            vec![vec![N * C], vec![I * C]],
            Box::new(move |way, l| {
                flat((way.linear)(l[0].clone().reshape([N, C]), l[1].clone().reshape([I, C]), None))
            }),
        ),
    ]
}

/// The weights of one layer.
struct Weights {
    norms: [Tensor<1>; 2],
    /// q, k, v, o, gate, up, down
    projections: [Projection; 7],
}

struct Projection {
    weight: Tensor<1>,
    shape: [usize; 2],
    /// A and B
    low_rank: Option<[Tensor<1>; 2]>,
}

impl Weights {
    fn new(low_rank: bool) -> Self {
        let shapes = [[C, C], [K * D, C], [K * D, C], [C, C], [I, C], [I, C], [C, I]];
        let projections = shapes.map(|shape| Projection {
            weight: leaf(&[shape[0] * shape[1]], !low_rank),
            shape,
            low_rank: low_rank.then(|| [leaf(&[R * shape[1]], true), leaf(&[shape[0] * R], true)]),
        });
        Self { norms: [leaf(&[C], !low_rank), leaf(&[C], !low_rank)], projections }
    }

    fn project(&self, way: Way, idx: usize, x: Tensor<2>) -> Tensor<2> {
        let Projection { weight, shape, low_rank } = &self.projections[idx];
        let weight = weight.clone().reshape(*shape);
        match low_rank {
            None => (way.linear)(x, weight, None),
            Some([a, b]) => {
                let (a, b) = (a.clone().reshape([R, shape[1]]), b.clone().reshape([shape[0], R]));
                (way.low_rank)(x, weight, None, LowRank { a, b, scale: 2.0, dropout: None })
            }
        }
    }

    fn layer(&self, way: Way, x: Tensor<2>, segments: &Segments, positions: &[u32]) -> Tensor<2> {
        let table = table();
        let normed = (way.norm)(x.clone(), self.norms[0].clone(), 1e-5);
        let q = self.project(way, 0, normed.clone()).reshape([N, H, D]);
        let k = self.project(way, 1, normed.clone()).reshape([N, K, D]);
        let v = self.project(way, 2, normed).reshape([N, K, D]);
        let q = (way.rotary)(q, positions, &table);
        let k = (way.rotary)(k, positions, &table);
        let y = (way.attention)(q, k, v, segments, OPTIONS).reshape([N, C]);
        let x = x + self.project(way, 3, y);
        let normed = (way.norm)(x.clone(), self.norms[1].clone(), 1e-5);
        let (gate, up) = (self.project(way, 4, normed.clone()), self.project(way, 5, normed));
        x + self.project(way, 6, (way.gated)(gate, up, Activation::Silu))
    }
}

fn table() -> RotaryTable {
    let inv_freq: Vec<f32> = (0..D / 2).map(|i| 10_000_f32.powf(-2.0 * i as f32 / D as f32)).collect();
    RotaryTable::new(&inv_freq, 1.0, N)
}

fn rows(lengths: &[usize]) -> (Segments, Vec<u32>) {
    let segments = Segments::new(lengths);
    let positions = segments.ranges().flat_map(|range| 0..range.len() as u32).collect();
    (segments, positions)
}

/// Small pseudo-random values, as many as the given shape has.
fn leaf(shape: &[usize], tracked: bool) -> Tensor<1> {
    let n: usize = shape.iter().product();
    let values: Vec<f32> =
        (0..n).map(|i| ((i as u32).wrapping_mul(0x9e37_79b9) as f32 / 2_147_483_648.0 - 1.0) * 0.1).collect();
    Tensor::from_data(TensorData::new(values, [n]), &Device::flex().autodiff()).set_require_grad(tracked)
}

/// Seconds that all threads of this process have computed, where the system tells (Linux); else 0.
fn computing_secs() -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let nanos = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    nanos.sum::<f64>() * 1e-9
}
