//! Rotary position embedding in the half-split layout: with cos, sin of token n's position, the pair
//! (x[i], x[i + T/2]) of every head becomes (x[i]·cos[i] − x[i + T/2]·sin[i], x[i + T/2]·cos[i] + x[i]·sin[i]).
//! The first T ≤ D elements of a head are turned; the others stay.
//!
//! The map is linear; its transpose, which the gradient needs, is the same with −sin.

use crate::Level;
use crate::parallel::{rows_per_task, run};
use crate::simd::simd_kernel;

/// Cosines and sines by position: two [n_positions, T/2] matrices.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    /// cos θ
    pub cos: &'a [f32],
    /// sin θ
    pub sin: &'a [f32],
    /// T/2
    pub half_width: usize,
}

/// Which way to turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// By θ: the forward pass.
    Forward,
    /// By −θ: the backward pass.
    Backward,
}

/// Turns all heads in x [N, H, D], in place; `positions[n]` selects token n's row of the table.
///
/// # Panics
/// When the lengths do not fit, the table is wider than a head, or a position lies beyond the table.
pub fn turn(
    level: Level,
    x: &mut [f32],
    [n_heads, head_width]: [usize; 2],
    positions: &[u32],
    table: Table,
    direction: Direction,
) {
    let width = n_heads * head_width;
    assert!(2 * table.half_width <= head_width, "rotary: a table wider than a head");
    assert_eq!(x.len(), positions.len() * width, "rotary: length of x");
    assert_eq!(table.cos.len(), table.sin.len(), "rotary: lengths of the table");
    if x.is_empty() {
        return;
    }
    let sign = if direction == Direction::Forward { 1.0 } else { -1.0 };
    let rows = rows_per_task(width);
    let tasks = x.chunks_mut(rows * width).zip(positions.chunks(rows)).collect();
    run(tasks, |(x, positions)| turn_rows(level, x, width, head_width, positions, table, sign));
}

simd_kernel! {
    fn turn_rows<S>(x: &mut [f32], width: usize, head_width: usize, positions: &[u32], table: Table, sign: f32) {
        let half = table.half_width;
        for (x, position) in x.chunks_exact_mut(width).zip(positions) {
            let row = *position as usize * half..(*position as usize + 1) * half;
            let (cos, sin) = (&table.cos[row.clone()], &table.sin[row]);
            for head in x.chunks_exact_mut(head_width) {
                let (low, high) = head.split_at_mut(half);
                for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                    let (a, b, sin) = (*low, *high, *sin * sign);
                    *low = S::mul_add(a, *cos, -(b * sin));
                    *high = S::mul_add(b, *cos, a * sin);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, same_for_any_number_of_threads, worst_difference};

    fn table(n_positions: usize, half_width: usize) -> (Vec<f32>, Vec<f32>) {
        let angles = (0..n_positions * half_width)
            .map(|i| (i / half_width) as f32 / (1.0 + (i % half_width.max(1)) as f32));
        (angles.clone().map(f32::cos).collect(), angles.map(f32::sin).collect())
    }

    #[test]
    fn every_level_turns_by_the_angle_and_back() {
        let mut worst = 0.0_f32;
        // The rest of a head stays as it is.
        for (n_tokens, n_heads, half_width, rest) in
            [(0, 2, 4, 0), (1, 1, 1, 0), (3, 2, 5, 0), (70, 3, 32, 0), (5, 2, 3, 7), (70, 3, 12, 8)]
        {
            let (cos, sin) = table(9, half_width);
            let positions: Vec<u32> = (0..n_tokens).map(|n| (n * 5 % 9) as u32).collect();
            let width = 2 * half_width + rest;
            let x = random(n_tokens * n_heads * width, 1);
            let mut want = x.clone();
            for n in 0..n_tokens {
                for h in 0..n_heads {
                    for i in 0..half_width {
                        let (low, high) =
                            ((n * n_heads + h) * width + i, (n * n_heads + h) * width + half_width + i);
                        let angle = positions[n] as usize * half_width + i;
                        want[low] = x[low] * cos[angle] - x[high] * sin[angle];
                        want[high] = x[high] * cos[angle] + x[low] * sin[angle];
                    }
                }
            }
            for level in Level::available() {
                let table = Table { cos: &cos, sin: &sin, half_width };
                let mut got = x.clone();
                turn(level, &mut got, [n_heads, width], &positions, table, Direction::Forward);
                worst = worst.max(worst_difference(&got, &want));
                turn(level, &mut got, [n_heads, width], &positions, table, Direction::Backward);
                worst = worst.max(worst_difference(&got, &x));
            }
        }
        println!("rotary: worst difference {worst:.2e}");
        assert!(worst < 1e-6);
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (cos, sin) = table(600, 16);
        let positions: Vec<u32> = (0..600).collect();
        let x = random(600 * 3 * 32, 1);
        same_for_any_number_of_threads(|| {
            let mut y = x.clone();
            let table = Table { cos: &cos, sin: &sin, half_width: 16 };
            turn(Level::best(), &mut y, [3, 32], &positions, table, Direction::Forward);
            vec![y]
        });
    }
}
