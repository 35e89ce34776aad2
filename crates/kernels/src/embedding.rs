//! y[n] = weight[ids[n]]; weight [V, C], y [N, C].  dweight[v] = Σ of dy[n] over the n with ids[n] = v.

use crate::Level;
use crate::linear::Weights;
use crate::parallel::{rows_per_task, run};
use crate::sum::add;

/// Fills y [N, C].
///
/// # Panics
/// When an id lies beyond the table.
pub fn forward(level: Level, weights: Weights, width: usize, ids: &[u32], y: &mut [f32]) {
    assert_eq!(y.len(), ids.len() * width, "embedding: length of y");
    if y.is_empty() {
        return;
    }
    let rows = rows_per_task(width);
    let tasks = ids.chunks(rows).zip(y.chunks_mut(rows * width)).collect();
    run(tasks, |(ids, y)| {
        for (id, y) in ids.iter().zip(y.chunks_exact_mut(width)) {
            weights.read_row(level, *id as usize, y);
        }
    });
}

/// Adds dy [N, C] to the rows of dweight [V, C], in the order of the tokens.
///
/// # Panics
/// When an id lies beyond the table.
pub fn add_gradient(level: Level, dy: &[f32], width: usize, ids: &[u32], d_weight: &mut [f32]) {
    assert_eq!(dy.len(), ids.len() * width, "embedding: length of dy");
    // One thread: N·C additions are nothing beside the matrix products around them.
    for (id, dy) in ids.iter().zip(dy.chunks_exact(width.max(1))) {
        add(level, dy, &mut d_weight[*id as usize * width..(*id as usize + 1) * width]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    #[test]
    fn rows_are_copied_and_their_gradients_added() {
        let (width, n_rows) = (37, 11);
        let weight = random(n_rows * width, 1);
        let ids: Vec<u32> = (0..1000).map(|n| (n * n % 11) as u32).collect();
        let mut y = vec![9.0; ids.len() * width];
        forward(Level::best(), Weights::trained(&weight), width, &ids, &mut y);
        for (id, y) in ids.iter().zip(y.chunks(width)) {
            assert_eq!(y, &weight[*id as usize * width..(*id as usize + 1) * width]);
        }
        for level in Level::available() {
            let mut d_weight = vec![0.0; weight.len()];
            add_gradient(level, &vec![1.0; y.len()], width, &ids, &mut d_weight);
            for row in 0..n_rows {
                let n_uses = ids.iter().filter(|id| **id as usize == row).count();
                assert!(d_weight[row * width..(row + 1) * width].iter().all(|d| *d == n_uses as f32));
            }
        }
        forward(Level::best(), Weights::trained(&weight), width, &[], &mut []);
    }
}
