//! Adam with moments of 8 bits, block by block (Dettmers et al. 2022), as bitsandbytes keeps them.
//!
//! A moment is a code c [n] of one byte for each value and a scale s for each block of [`BLOCK`] values, the largest
//! magnitude in the block. Value i is `book[c_i] · s`. The books of 256 numbers in [−1, 1] are "dynamic": seven decades, of
//! which each larger one is resolved twice as finely; with a sign for the mean of the gradients, without one for the mean of
//! their squares. A step is that of [`crate::optimizer::adam`] on the values that the codes stand for, from which the new
//! moments are taken for the parameter before they are rounded:
//!
//! ```text
//! m ← β₁ book[c]·s + (1−β₁)g;  v likewise with g²;  p ← p − lr/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + eps)
//! s ← max |m| over the block;  c ← the nearest number of the book to m/s
//! ```
//!
//! One thing is otherwise than in bitsandbytes: a square above 0 never becomes 0. Rounded down, it would be forgotten, and
//! the next step of its parameter up to √(1/(1−β₂)) times too large.

use std::sync::LazyLock;

use crate::Level;
use crate::optimizer::{Adam, adam};
use crate::parallel::run;

/// Values that share a scale.
pub const BLOCK: usize = 256;
/// Blocks that one task handles: as many values as in other operations.
const BLOCKS_PER_TASK: usize = 64;
const N_DECADES: i32 = 7;

/// A moment of n values.
#[derive(Debug)]
pub struct Moment<'a> {
    /// [n] a code each.
    pub codes: &'a mut [u8],
    /// [⌈n / 256⌉] the largest magnitude of each block.
    pub scales: &'a mut [f32],
}

/// The numbers that codes stand for, ascending.
struct Book {
    numbers: [f32; 256],
    /// Borders between them: the code of x is the number of borders below x.
    borders: [f32; 255],
    /// Of a number above 0, the smallest code.
    least: u8,
}

static WITH_SIGN: LazyLock<Book> = LazyLock::new(|| Book::new(true));
static WITHOUT_SIGN: LazyLock<Book> = LazyLock::new(|| Book::new(false));

/// The code of 0 for a mean of gradients, with which all values begin.
pub fn zero_mean() -> u8 {
    WITH_SIGN.code(0.0)
}

/// The code of 0 for a mean of squares.
pub fn zero_square() -> u8 {
    WITHOUT_SIGN.code(0.0)
}

/// One step of `step`, counted from 1, in place: parameters p [n] and the moments of their gradients g [n].
pub fn adam_8bit(
    level: Level,
    settings: Adam,
    lr: f64,
    step: u64,
    p: &mut [f32],
    g: &[f32],
    mean: Moment<'_>,
    square: Moment<'_>,
) {
    let (n, n_blocks) = (p.len(), p.len().div_ceil(BLOCK));
    let lengths = [g.len(), mean.codes.len(), square.codes.len()];
    assert_eq!(
        (lengths, mean.scales.len(), square.scales.len()),
        ([n; 3], n_blocks, n_blocks),
        "adam_8bit: lengths"
    );
    let chunk = BLOCKS_PER_TASK * BLOCK;
    let means = mean.codes.chunks_mut(chunk).zip(mean.scales.chunks_mut(BLOCKS_PER_TASK));
    let squares = square.codes.chunks_mut(chunk).zip(square.scales.chunks_mut(BLOCKS_PER_TASK));
    let tasks = p.chunks_mut(chunk).zip(g.chunks(chunk)).zip(means).zip(squares).collect();
    run(tasks, |(((p, g), (mean_codes, mean_scales)), (square_codes, square_scales))| {
        let (mut m, mut v) = ([0.0; BLOCK], [0.0; BLOCK]);
        let means = mean_codes.chunks_mut(BLOCK).zip(mean_scales);
        let squares = square_codes.chunks_mut(BLOCK).zip(square_scales);
        let blocks = p.chunks_mut(BLOCK).zip(g.chunks(BLOCK)).zip(means).zip(squares);
        for (((p, g), (mean_codes, mean_scale)), (square_codes, square_scale)) in blocks {
            let (m, v) = (&mut m[..p.len()], &mut v[..p.len()]);
            WITH_SIGN.unpack(mean_codes, *mean_scale, m);
            WITHOUT_SIGN.unpack(square_codes, *square_scale, v);
            adam(level, settings, lr, step, p, g, m, v);
            *mean_scale = WITH_SIGN.pack(m, mean_codes, 0);
            *square_scale = WITHOUT_SIGN.pack(v, square_codes, WITHOUT_SIGN.least);
        }
    });
}

impl Book {
    /// In each decade the middles of equal parts of (0.1, 1) of it, in the largest 64 with a sign or 128 without and in each
    /// smaller one half as many; besides 0 and 1.
    fn new(has_sign: bool) -> Self {
        let mut numbers = vec![0.0, 1.0];
        for decade in 0..N_DECADES {
            let n_parts = if has_sign { 1 << decade } else { 2 << decade };
            let scale = 10f64.powi(decade + 1 - N_DECADES);
            for part in 0..n_parts {
                let middle = 0.1 + 0.9 * (f64::from(part) + 0.5) / f64::from(n_parts);
                numbers.push(scale * middle);
                if has_sign {
                    numbers.push(-scale * middle);
                }
            }
        }
        numbers.sort_by(f64::total_cmp);
        let number = |idx: usize| numbers.get(idx).copied().unwrap_or(1.0);
        let mut book = Self {
            numbers: std::array::from_fn(|idx| number(idx) as f32),
            borders: std::array::from_fn(|idx| (0.5 * (number(idx) + number(idx + 1))) as f32),
            least: 0,
        };
        book.least = book.code(0.0) + 1;
        book
    }

    /// The code of the nearest number.
    fn code(&self, x: f32) -> u8 {
        // 255 borders at most are below.
        self.borders.partition_point(|border| *border < x) as u8
    }

    fn unpack(&self, codes: &[u8], scale: f32, values: &mut [f32]) {
        for (value, code) in values.iter_mut().zip(codes) {
            *value = self.numbers[usize::from(*code)] * scale;
        }
    }

    /// Fills the codes and gives the scale. Values above 0 get at least the code `least`.
    fn pack(&self, values: &[f32], codes: &mut [u8], least: u8) -> f32 {
        let scale = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let factor = if scale > 0.0 { scale.recip() } else { 0.0 };
        for (code, value) in codes.iter_mut().zip(values) {
            // A scale too small to be turned over: the quotient is not.
            let x = if factor.is_finite() { value * factor } else { value / scale };
            let nearest = self.code(x);
            *code = if *value > 0.0 { nearest.max(least) } else { nearest };
        }
        scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::Decay;
    use crate::testing::{random, same_for_any_number_of_threads};

    const SETTINGS: Adam = Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: Decay::Parameter(0.01) };

    struct Moments {
        codes: [Vec<u8>; 2],
        scales: [Vec<f32>; 2],
    }

    impl Moments {
        fn new(n: usize) -> Self {
            let scales = || vec![0.0; n.div_ceil(BLOCK)];
            Self { codes: [vec![zero_mean(); n], vec![zero_square(); n]], scales: [scales(), scales()] }
        }

        fn step(&mut self, lr: f64, step: u64, p: &mut [f32], g: &[f32]) {
            let ([mean, square], [mean_scales, square_scales]) = (&mut self.codes, &mut self.scales);
            let mean = Moment { codes: mean, scales: mean_scales };
            let square = Moment { codes: square, scales: square_scales };
            adam_8bit(Level::best(), SETTINGS, lr, step, p, g, mean, square);
        }
    }

    #[test]
    fn books_are_the_published_ones() {
        let (with, without) = (&WITH_SIGN.numbers, &WITHOUT_SIGN.numbers);
        for book in [with, without] {
            assert!(book.windows(2).all(|pair| pair[0] < pair[1]) && book[255] == 1.0);
        }
        // The least decade has one number with a sign, 0.55e-6, and two without; the largest 64 and 128.
        assert_eq!((with[127], with[128], with[126]), (0.0, 0.55e-6, -0.55e-6));
        assert!((with[0] + 0.992_968_75).abs() < 1e-7 && (with[254] - 0.992_968_75).abs() < 1e-7);
        assert_eq!((without[0], without[1], without[2]), (0.0, 0.325e-6, 0.775e-6));
        assert!((without[254] - 0.996_484_4).abs() < 1e-6, "{}", without[254]);
        assert_eq!((with[zero_mean() as usize], without[zero_square() as usize]), (0.0, 0.0));
    }

    #[test]
    fn codes_are_those_of_the_nearest_numbers() {
        for book in [&*WITH_SIGN, &*WITHOUT_SIGN] {
            for (code, number) in book.numbers.iter().enumerate() {
                assert_eq!(usize::from(book.code(*number)), code);
            }
            for x in random(2000, 3).into_iter().chain([2.0, -2.0, 1e-9]) {
                let distance = |code: u8| (book.numbers[usize::from(code)] - x).abs();
                let nearest = (0..=255u8).map(distance).fold(f32::INFINITY, f32::min);
                assert!(distance(book.code(x)) <= nearest * 1.000_01, "{x}");
            }
        }
        let mut codes = [0; 3];
        assert_eq!(WITHOUT_SIGN.pack(&[1e-30, 0.0, 5.0], &mut codes, 1), 5.0);
        assert_eq!(codes, [1, 0, 255]);
    }

    #[test]
    fn the_first_step_is_that_of_32_bits() {
        for n in [0, 1, 255, 257, 20_000] {
            let (start, g) = (random(n, 1), random(n, 2));
            let (mut p, mut expected) = (start.clone(), start);
            Moments::new(n).step(0.1, 1, &mut p, &g);
            let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
            adam(Level::best(), SETTINGS, 0.1, 1, &mut expected, &g, &mut m, &mut v);
            assert_eq!(p, expected, "{n} values");
        }
    }

    /// Noisy gradients of a quadratic whose curvature spans three decades within each block.
    #[test]
    fn a_trajectory_stays_near_that_of_32_bits() {
        let n = 4096;
        let target = random(n, 5);
        let curvature: Vec<f32> = (0..n).map(|i| 10f32.powi(-((i % 4) as i32))).collect();
        let loss = |p: &[f32]| -> f64 {
            p.iter().zip(&target).zip(&curvature).map(|((p, t), c)| f64::from(c * (p - t) * (p - t))).sum()
        };
        let (mut p, mut q) = (vec![0.0; n], vec![0.0; n]);
        let mut moments = Moments::new(n);
        let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
        let first = loss(&p);
        let mut worst = 0.0f64;
        for step in 1..=200u64 {
            let noise = random(n, 100 + step);
            let gradient = |p: &[f32]| -> Vec<f32> {
                (0..n).map(|i| curvature[i] * (2.0 * (p[i] - target[i]) + 0.2 * noise[i])).collect()
            };
            let (g, h) = (gradient(&p), gradient(&q));
            moments.step(0.01, step, &mut p, &g);
            adam(Level::best(), SETTINGS, 0.01, step, &mut q, &h, &mut m, &mut v);
            worst = worst.max((loss(&p) - loss(&q)).abs() / first);
        }
        let distance: f64 = p.iter().zip(&q).map(|(p, q)| f64::from(p - q).powi(2)).sum::<f64>().sqrt();
        let length: f64 = q.iter().map(|q| f64::from(*q).powi(2)).sum::<f64>().sqrt();
        println!(
            "loss {first:.1} to {:.3} (32 bits: {:.3}), apart by {:.2e} of their length, losses by {worst:.2e}",
            loss(&p),
            loss(&q),
            distance / length
        );
        assert!(loss(&q) < 0.01 * first && worst < 0.01 && distance / length < 0.05);
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (start, g) = (random(50_001, 1), random(50_001, 2));
        same_for_any_number_of_threads(|| {
            let (mut p, mut moments) = (start.clone(), Moments::new(start.len()));
            for step in 1..4 {
                moments.step(0.1, step, &mut p, &g);
            }
            let codes = moments.codes.iter().flatten().map(|code| f32::from(*code)).collect();
            vec![p, moments.scales.concat(), codes]
        });
    }
}
