//! The rows of a batch of sources and texts: which belong to the encoder, and which to the decoder.

use burn::tensor::{Int, Tensor, TensorData};
use tunesmith_ops::Segments;

/// A batch whose segments are by turns a source and the decoder's text for it. Both kinds of rows are computed together in one
/// tensor, so that what lies above a block sees one stream of rows as in any other model.
pub(crate) struct Pairs {
    pub(crate) sources: Segments,
    pub(crate) texts: Segments,
    /// Rows of the batch in the order sources, texts.
    order: Vec<i64>,
}

impl Pairs {
    pub(crate) fn of(segments: &Segments) -> Self {
        let ranges: Vec<_> = segments.ranges().collect();
        let every_second = |first: usize| ranges.iter().skip(first).step_by(2);
        let lengths =
            |first| Segments::new(&every_second(first).map(|range| range.len()).collect::<Vec<_>>());
        let rows =
            every_second(0).chain(every_second(1)).flat_map(|range| range.start as i64..range.end as i64);
        Self { sources: lengths(0), texts: lengths(1), order: rows.collect() }
    }

    /// The rows of sources and of texts of x [N,C].
    pub(crate) fn split(&self, x: Tensor<2>) -> [Tensor<2>; 2] {
        let (n_sources, n_texts) = (self.sources.n_tokens(), self.texts.n_tokens());
        let ordered = select(x, self.order.clone());
        [ordered.clone().narrow(0, 0, n_sources), ordered.narrow(0, n_sources, n_texts)]
    }

    /// The opposite of [`Self::split`].
    pub(crate) fn join(&self, rows: [Tensor<2>; 2]) -> Tensor<2> {
        let mut places = vec![0; self.order.len()];
        for (place, &row) in self.order.iter().enumerate() {
            if let Some(of_row) = places.get_mut(row as usize) {
                *of_row = place as i64;
            }
        }
        select(Tensor::cat(rows.into(), 0), places)
    }
}

fn select(x: Tensor<2>, rows: Vec<i64>) -> Tensor<2> {
    let n_rows = rows.len();
    let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [n_rows]), &x.device());
    x.select(0, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::read_back;

    #[test]
    fn rows_come_back_to_their_places() {
        let pairs = Pairs::of(&Segments::new(&[2, 1, 1, 3]));
        assert_eq!(pairs.sources, Segments::new(&[2, 1]));
        assert_eq!(pairs.texts, Segments::new(&[1, 3]));
        let device = tunesmith_ops::open_device("cpu").unwrap().inner();
        let values: Vec<f32> = (0..7).map(|i| i as f32).collect();
        let x = Tensor::<2>::from_data(TensorData::new(values.clone(), [7, 1]), &device);
        let [sources, texts] = pairs.split(x);
        assert_eq!(read_back(sources.clone(), "").unwrap(), [0.0, 1.0, 3.0]);
        assert_eq!(read_back(texts.clone(), "").unwrap(), [2.0, 4.0, 5.0, 6.0]);
        assert_eq!(read_back(pairs.join([sources, texts]), "").unwrap(), values);
    }
}
