//! Dropout with a mask that is a pure function of (key, element index): y[i] = x[i] · mask[i] / (1 − p).
//!
//! The backward pass is the same function on the gradient.

use crate::Level;
use crate::parallel::{elements_per_task, run};
use crate::simd::simd_kernel;

/// y = dropout(x), elementwise; element i of the slices is element `first_index + i` of the mask.
pub fn forward(level: Level, x: &[f32], probability: f32, key: u64, first_index: u64, y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "dropout: lengths of x and y");
    let chunk = elements_per_task();
    let tasks = x.chunks(chunk).zip(y.chunks_mut(chunk)).enumerate().collect();
    run(tasks, |(task_idx, (x, y))| {
        let start = first_index + (task_idx * chunk) as u64;
        mask(level, x, y, start, key, probability);
    });
}

/// 32 random-looking bits for element `index` under `key`.
#[inline(always)]
pub fn random_bits(index: u64, key: u64) -> u32 {
    keyed_bits(index as u32, high_word(index, key), key as u32)
}

simd_kernel! {
    /// As [`forward`], on the calling thread.
    pub(crate) fn mask<S>(x: &[f32], y: &mut [f32], start: u64, key: u64, probability: f32) {
        // Bits at or above the threshold keep their element; a probability of 1 keeps none because of the factor.
        let threshold = (f64::from(probability) * 4_294_967_296.0).min(4_294_967_295.0) as u32;
        let factor = if probability < 1.0 { 1.0 / (1.0 - probability) } else { 0.0 };
        // One task has far fewer than 2³² elements: its indices have at most two high words. Element by element only
        // around such a change, so that the common loop works on 32-bit lanes.
        let one_high_word = (start >> 32) == ((start + x.len() as u64) >> 32);
        let high = high_word(start, key);
        for (i, (x, y)) in x.iter().zip(y.iter_mut()).enumerate() {
            let high = if one_high_word { high } else { high_word(start + i as u64, key) };
            let bits = keyed_bits((start as u32).wrapping_add(i as u32), high, key as u32);
            *y = if threshold <= bits { *x * factor } else { 0.0 };
        }
    }
}

/// The part of (index, key) that is constant over 2³² neighbouring elements.
#[inline(always)]
fn high_word(index: u64, key: u64) -> u32 {
    mix((key >> 32) as u32 ^ 0x9e37_79b9).wrapping_add((index >> 32) as u32)
}

/// Two rounds of a 32-bit mixer, keyed before each.
#[inline(always)]
fn keyed_bits(low_index: u32, high: u32, low_key: u32) -> u32 {
    mix(mix(low_index.wrapping_add(mix(low_key))).wrapping_add(high))
}

/// A bijection of 32 bits with low bias (the `lowbias32` constants found by C. Wellons' search).
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, same_for_any_number_of_threads};

    #[test]
    fn every_level_makes_the_same_mask() {
        for (n, start) in [(0, 0), (1, 5), (77, 0), (40_000, 3), (100, (1 << 32) - 50)] {
            let x = random(n, 1);
            let naive: Vec<f32> = (0..n)
                .map(|i| {
                    let kept = (f64::from(0.3_f32) * 4_294_967_296.0) as u64
                        <= u64::from(random_bits(start + i as u64, 9));
                    if kept { x[i] * (1.0 / (1.0 - 0.3_f32)) } else { 0.0 }
                })
                .collect();
            for level in Level::available() {
                let mut y = vec![7.0; n];
                forward(level, &x, 0.3, 9, start, &mut y);
                assert_eq!(y, naive, "{}", level.name());
            }
        }
    }

    #[test]
    fn a_part_of_the_elements_gets_its_part_of_the_mask() {
        let x = vec![1.0; 1000];
        let (mut whole, mut part) = (vec![0.0; 1000], vec![0.0; 300]);
        forward(Level::best(), &x, 0.5, 3, 0, &mut whole);
        forward(Level::best(), &x[400..700], 0.5, 3, 400, &mut part);
        assert_eq!(whole[400..700], part);
    }

    #[test]
    fn kept_shares_are_right_and_masks_are_independent() {
        let n = 100_000;
        let x = vec![1.0; n];
        let kept = |probability: f32, key: u64| {
            let mut y = vec![0.0; n];
            forward(Level::best(), &x, probability, key, 0, &mut y);
            y.iter().map(|y| *y != 0.0).collect::<Vec<bool>>()
        };
        let share = |mask: &[bool]| mask.iter().filter(|kept| **kept).count() as f64 / n as f64;
        for probability in [0.0, 0.05, 0.5, 0.9, 1.0] {
            let got = share(&kept(probability, 1));
            // Five standard deviations of the largest are 0.008.
            assert!((got - (1.0 - f64::from(probability))).abs() < 0.008, "p {probability}: kept {got}");
        }
        for (first, second) in [(1, 2), (1, 1 << 32), (7, 7 + (1 << 40))] {
            let (first, second) = (kept(0.5, first), kept(0.5, second));
            let equal: Vec<bool> = first.iter().zip(&second).map(|(a, b)| a == b).collect();
            assert!((share(&equal) - 0.5).abs() < 0.008);
        }
        // Neighbours are independent, too.
        let mask = kept(0.5, 11);
        for distance in [1, 2, 8, 64, 576] {
            let equal: Vec<bool> = mask.iter().zip(&mask[distance..]).map(|(a, b)| a == b).collect();
            let got = equal.iter().filter(|equal| **equal).count() as f64 / equal.len() as f64;
            assert!((got - 0.5).abs() < 0.008, "distance {distance}: {got}");
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let x = random(100_000, 2);
        same_for_any_number_of_threads(|| {
            let mut y = vec![0.0; x.len()];
            forward(Level::best(), &x, 0.1, 3, 17, &mut y);
            vec![y]
        });
    }
}
