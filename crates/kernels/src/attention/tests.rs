use super::*;
use crate::testing::{random, same_for_any_number_of_threads, worst_difference};
use crate::{Compute, Level};

struct Case {
    heads: Heads,
    lengths: Vec<usize>,
}

fn case(n_heads: usize, n_kv_heads: usize, width: usize, window: Option<usize>, lengths: &[usize]) -> Case {
    let window = window.unwrap_or(usize::MAX);
    let heads = Heads { n_heads, n_kv_heads, width, scale: 1.3 / (width as f32).sqrt(), cap: None, window };
    Case { heads, lengths: lengths.to_vec() }
}

fn capped(case: Case, cap: f32) -> Case {
    Case { heads: Heads { cap: Some(cap), ..case.heads }, ..case }
}

impl Case {
    fn offsets(&self) -> Vec<usize> {
        let mut offsets = vec![0];
        offsets.extend(self.lengths.iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        }));
        offsets
    }

    /// q, k, v, dy
    fn data(&self) -> [Vec<f32>; 4] {
        let n: usize = self.lengths.iter().sum();
        let (n_queries, n_keys) = (n * self.heads.query_width(), n * self.heads.key_width());
        let scaled = |n, seed| random(n, seed).iter().map(|x| 2.0 * x).collect();
        [scaled(n_queries, 1), scaled(n_keys, 2), random(n_keys, 3), random(n_queries, 4)]
    }

    /// y, dq, dk, dv
    fn run(&self, level: Level, compute: Compute) -> [Vec<f32>; 4] {
        let [q, k, v, dy] = self.data();
        let offsets = self.offsets();
        let (mut y, mut log_sums) = (vec![9.0; q.len()], vec![9.0; q.len() / self.heads.width]);
        forward(level, compute, self.heads, &offsets, &q, &k, &v, &mut y, &mut log_sums);
        let (mut dq, mut dk, mut dv) = (vec![9.0; q.len()], vec![9.0; k.len()], vec![9.0; v.len()]);
        let gradients = Gradients { q: &mut dq, k: &mut dk, v: &mut dv };
        backward(level, compute, self.heads, &offsets, &q, &k, &v, &y, &log_sums, &dy, gradients);
        [y, dq, dk, dv]
    }

    /// The formulas of the module, one query after the other, in double precision.
    fn naive(&self) -> [Vec<f32>; 4] {
        let data = self.data().map(|values| values.into_iter().map(f64::from).collect::<Vec<f64>>());
        let [q, k, v, dy] = &data;
        let Heads { width, scale, cap, .. } = self.heads;
        let scale = f64::from(scale);
        let capped = |z: f64| cap.map(f64::from).map_or(z, |cap| cap * (z / cap).tanh());
        let slope = |capped: f64| cap.map(f64::from).map_or(1.0, |cap| 1.0 - (capped / cap).powi(2));
        let [mut y, mut dq] = [vec![0.0; q.len()], vec![0.0; q.len()]];
        let [mut dk, mut dv] = [vec![0.0; k.len()], vec![0.0; k.len()]];
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for segment in self.offsets().windows(2).map(|pair| pair[0]..pair[1]) {
            for t in segment.clone() {
                for h in 0..self.heads.n_heads {
                    let row = (t * self.heads.n_heads + h) * width..(t * self.heads.n_heads + h + 1) * width;
                    let key = |s: usize| {
                        let at = s * self.heads.key_width() + h / self.heads.group() * width;
                        at..at + width
                    };
                    let seen: Vec<usize> =
                        (segment.start..=t).filter(|s| t - s < self.heads.window).collect();
                    let scores: Vec<f64> =
                        seen.iter().map(|s| capped(scale * dot(&q[row.clone()], &k[key(*s)]))).collect();
                    let total: f64 = scores.iter().map(|z| z.exp()).sum();
                    let p: Vec<f64> = scores.iter().map(|z| z.exp() / total).collect();
                    for (s, p) in seen.iter().zip(&p) {
                        for d in 0..width {
                            y[row.start + d] += p * v[key(*s).start + d];
                            dv[key(*s).start + d] += p * dy[row.start + d];
                        }
                    }
                    let e = dot(&dy[row.clone()], &y[row.clone()]);
                    for ((s, p), score) in seen.iter().zip(&p).zip(&scores) {
                        let dz = slope(*score) * p * (dot(&dy[row.clone()], &v[key(*s)]) - e);
                        for d in 0..width {
                            dq[row.start + d] += scale * dz * k[key(*s).start + d];
                            dk[key(*s).start + d] += scale * dz * q[row.start + d];
                        }
                    }
                }
            }
        }
        [y, dq, dk, dv].map(|values| values.into_iter().map(|value| value as f32).collect())
    }
}

#[test]
fn every_level_matches_the_formula() {
    let cases = [
        case(1, 1, 1, None, &[1]),
        case(1, 1, 4, None, &[]),
        case(2, 1, 8, None, &[0, 3, 0]),
        case(3, 3, 5, None, &[1, 7, 1, 64, 65]),
        case(9, 3, 16, None, &[70, 1, 130]),
        case(8, 2, 12, Some(1), &[9, 4]),
        case(4, 2, 8, Some(5), &[1, 40, 100]),
        case(16, 1, 8, Some(33), &[90]),
        // Several blocks and stretches of keys, with and without a window that skips some.
        case(2, 1, 8, None, &[1100, 3]),
        case(2, 2, 4, Some(300), &[1200]),
        case(1, 1, 8, Some(700), &[1600]),
        capped(case(9, 3, 16, None, &[70, 1, 130]), 2.0),
        capped(case(4, 2, 8, Some(5), &[1, 40, 300]), 50.0),
        capped(case(3, 3, 5, None, &[1, 7, 1, 64, 65]), 0.5),
    ];
    let mut worst = 0.0_f32;
    for case in cases {
        let want = case.naive();
        for level in Level::available() {
            for (name, (got, want)) in
                ["y", "dq", "dk", "dv"].iter().zip(case.run(level, Compute::F32).iter().zip(&want))
            {
                let difference = worst_difference(got, want);
                assert!(
                    difference < 2e-5,
                    "{}: {name} of {:?} {:?}: {difference:.2e}",
                    level.name(),
                    case.heads,
                    case.lengths
                );
                worst = worst.max(difference);
            }
        }
    }
    println!("attention: worst difference {worst:.2e}");
}

#[test]
fn rounded_factors_stay_near_the_formula() {
    // Odd widths, and windows that begin within a pair of keys: what a step of two values could get wrong.
    let cases = [
        case(3, 3, 5, None, &[1, 7, 1, 64, 65]),
        case(9, 3, 16, None, &[70, 1, 131]),
        case(4, 2, 7, Some(5), &[1, 41, 100]),
        case(2, 1, 8, Some(300), &[1201]),
        capped(case(4, 2, 7, None, &[1, 41, 100]), 2.0),
    ];
    for case in cases {
        let want = case.naive();
        for level in Level::available() {
            for (name, (got, want)) in
                ["y", "dq", "dk", "dv"].iter().zip(case.run(level, Compute::Bf16).iter().zip(&want))
            {
                let size = want.iter().fold(0.0_f32, |size, value| size.max(value.abs()));
                let difference = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / size;
                println!("{}: {name} of {:?}: {difference:.1e}", level.name(), case.heads);
                // Each factor is rounded by up to 2⁻⁹, and probabilities shift by as much as the scores do.
                assert!(difference < 1e-2, "{}: {name} of {:?}: {difference:.1e}", level.name(), case.heads);
            }
        }
    }
}

#[test]
fn packed_segments_give_what_they_give_alone() {
    let packed = case(4, 2, 16, None, &[37, 1, 80]);
    let together = packed.run(Level::best(), Compute::F32);
    let offsets = packed.offsets();
    let [q, k, v, _] = packed.data();
    let (queries, keys) = (packed.heads.query_width(), packed.heads.key_width());
    for (start, end) in offsets.windows(2).map(|pair| (pair[0], pair[1])) {
        let n = end - start;
        let (mut y, mut log_sums) = (vec![0.0; n * queries], vec![0.0; n * packed.heads.n_heads]);
        let (q, k, v) =
            (&q[start * queries..end * queries], &k[start * keys..end * keys], &v[start * keys..end * keys]);
        forward(Level::best(), Compute::F32, packed.heads, &[0, n], q, k, v, &mut y, &mut log_sums);
        assert_eq!(y, together[0][start * queries..end * queries]);
    }
}

#[test]
fn large_scores_do_not_overflow() {
    let heads = Heads { n_heads: 1, n_kv_heads: 1, width: 1, scale: 1.0, cap: None, window: usize::MAX };
    let (q, k, v) = (vec![100.0; 3], vec![-50.0, 50.0, 49.9], vec![1.0, 2.0, 3.0]);
    let (mut y, mut log_sums) = (vec![0.0; 3], vec![0.0; 3]);
    forward(Level::best(), Compute::F32, heads, &[0, 3], &q, &k, &v, &mut y, &mut log_sums);
    assert_eq!(y[..2], [1.0, 2.0]);
    assert!((y[2] - 2.0000454).abs() < 1e-5, "{}", y[2]);
}

#[test]
fn threads_do_not_change_a_bit() {
    for case in [
        case(6, 2, 16, None, &[600, 40, 1, 90]),
        case(2, 1, 8, Some(100), &[700]),
        capped(case(6, 2, 16, None, &[300, 90]), 3.0),
    ] {
        for compute in [Compute::F32, Compute::Bf16] {
            same_for_any_number_of_threads(|| case.run(Level::best(), compute).to_vec());
        }
    }
}
