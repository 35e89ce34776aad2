//! Rows that go their own ways: which entries of a row are the largest, rows taken out and rows added back.

use burn::tensor::{IndexingUpdateOp, Tensor};

use crate::check::{read, require, upload, upload_rows};

/// softmax over the entries of each row of `scores` [N, E], in the same steps with and without a graph, so that a block that is
/// computed again gives the same bits.
pub fn row_softmax(scores: Tensor<2>) -> Tensor<2> {
    let largest = scores.clone().max_dim(1).detach();
    let weights = (scores - largest).exp();
    weights.clone() / weights.sum_dim(1)
}

/// For each row of `scores` [N, E] the columns of its `k` largest entries, the largest first and the earlier of two equal
/// ones, [N·k]. Waits for the device; no gradient goes through the choice.
pub fn largest_per_row(scores: &Tensor<2>, k: usize) -> Vec<u32> {
    let [n_rows, n_columns] = scores.dims();
    require(0 < k && k <= n_columns, "largest_per_row", || format!("{k} of {n_columns} columns"));
    let values = read(scores);
    let mut chosen = Vec::with_capacity(n_rows * k);
    let mut columns: Vec<u32> = Vec::with_capacity(n_columns);
    for row in values.chunks_exact(n_columns) {
        columns.clear();
        columns.extend(0..n_columns as u32);
        // Stable, so that equal entries stay in order.
        columns.sort_by(|a, b| row[*b as usize].total_cmp(&row[*a as usize]));
        chosen.extend(columns.iter().take(k));
    }
    chosen
}

/// 1 where a row chose a column, `k` in each row of `chosen` [N·k], else 0; [N, E] like `scores`.
pub fn chosen_columns(scores: &Tensor<2>, chosen: &[u32], k: usize) -> Tensor<2> {
    let [n_rows, n_columns] = scores.dims();
    let mut mask = vec![0.0; n_rows * n_columns];
    for (row, columns) in mask.chunks_exact_mut(n_columns.max(1)).zip(chosen.chunks_exact(k.max(1))) {
        columns.iter().for_each(|column| row[*column as usize] = 1.0);
    }
    upload(mask, [n_rows, n_columns], scores)
}

/// The rows `rows` of x [N, C].
pub fn select_rows(x: Tensor<2>, rows: &[u32]) -> Tensor<2> {
    let index = upload_rows(rows.iter().map(|row| *row as usize), &x.device());
    x.select(0, index)
}

/// x [N, C] with `values` [R, C] added to its rows `rows`, none of which comes twice.
pub fn add_to_rows(x: Tensor<2>, rows: &[u32], values: Tensor<2>) -> Tensor<2> {
    let index = upload_rows(rows.iter().map(|row| *row as usize), &x.device());
    x.select_assign(0, index, values, IndexingUpdateOp::Add)
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::open_device;

    #[test]
    fn rows_choose_add_and_come_back() {
        let device = open_device("cpu").unwrap();
        let scores = [[0.1, 0.7, 0.2], [0.4, 0.2, 0.4_f32]];
        let scores = Tensor::<2>::from_data(TensorData::from(scores), &device);
        let chosen = largest_per_row(&scores, 2);
        assert_eq!(chosen, [1, 2, 0, 2]);
        assert_eq!(read(&chosen_columns(&scores, &chosen, 2)), [0.0, 1.0, 1.0, 1.0, 0.0, 1.0]);
        let second = select_rows(scores.clone(), &[1]);
        assert_eq!(read(&add_to_rows(scores, &[0], second)), [0.5, 0.9, 0.6, 0.4, 0.2, 0.4]);
    }
}
