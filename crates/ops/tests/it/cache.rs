use burn::tensor::DType;
use tunesmith_ops::{
    AttentionOptions, Device, KvCache, Segments, Tensor, TensorData, attention, attention_cached,
};

use crate::compare::{random, to_vec, worst_difference};

const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const WIDTH: usize = 8;

/// Queries, keys and values of some sequences, and their attention without a cache.
struct Sequences {
    lengths: Vec<usize>,
    q: Vec<Vec<f32>>,
    k: Vec<Vec<f32>>,
    v: Vec<Vec<f32>>,
    options: AttentionOptions,
    /// The kernels know single precision only; double precision takes the way of other devices.
    dtype: DType,
}

impl Sequences {
    fn new(lengths: &[usize], window: Option<usize>, dtype: DType) -> Self {
        let rows = |heads: usize, seed: u64| {
            lengths.iter().enumerate().map(|(i, n)| random(n * heads * WIDTH, seed + i as u64)).collect()
        };
        let options = AttentionOptions::new(0.4, window);
        Self {
            lengths: lengths.to_vec(),
            q: rows(HEADS, 10),
            k: rows(KV_HEADS, 20),
            v: rows(KV_HEADS, 30),
            options,
            dtype,
        }
    }

    fn whole(&self) -> Vec<Vec<f32>> {
        let segments = Segments::new(&self.lengths);
        let tensors = [(&self.q, HEADS), (&self.k, KV_HEADS), (&self.v, KV_HEADS)]
            .map(|(rows, heads)| self.tensor(rows.concat(), heads));
        let [q, k, v] = tensors;
        let y = to_vec(&attention(q, k, v, &segments, self.options));
        segments
            .ranges()
            .map(|range| y[range.start * HEADS * WIDTH..range.end * HEADS * WIDTH].to_vec())
            .collect()
    }

    fn tensor(&self, values: Vec<f32>, heads: usize) -> Tensor<3> {
        tensor(values, heads).cast(self.dtype)
    }

    /// One step with `n_new[i]` new tokens of sequence `alive[i]`, which has `known[i]`; the outputs per sequence.
    fn step(&self, cache: &mut KvCache, alive: &[usize], known: &[usize], n_new: &[usize]) -> Vec<Vec<f32>> {
        let gather = |rows: &[Vec<f32>], heads: usize| {
            let parts = alive.iter().zip(known).zip(n_new).map(|((sequence, known), n)| {
                rows[*sequence][known * heads * WIDTH..(known + n) * heads * WIDTH].to_vec()
            });
            self.tensor(parts.collect::<Vec<_>>().concat(), heads)
        };
        let (q, k, v) = (gather(&self.q, HEADS), gather(&self.k, KV_HEADS), gather(&self.v, KV_HEADS));
        let segments = Segments::new(n_new);
        let y = to_vec(&attention_cached(q, k, v, &segments, cache, 0, self.options));
        segments
            .ranges()
            .map(|range| y[range.start * HEADS * WIDTH..range.end * HEADS * WIDTH].to_vec())
            .collect()
    }
}

fn tensor(values: Vec<f32>, heads: usize) -> Tensor<3> {
    let n = values.len() / heads / WIDTH;
    Tensor::from_data(TensorData::new(values, [n, heads, WIDTH]), &Device::flex())
}

fn check(got: &[f32], want: &[f32]) {
    let worst = worst_difference(got, want);
    assert!(worst < 2e-6, "worst difference {worst:.2e}");
}

#[test]
fn step_by_step_equals_the_whole() {
    for (window, dtype) in
        [(None, DType::F32), (Some(5), DType::F32), (None, DType::F64), (Some(5), DType::F64)]
    {
        let sequences = Sequences::new(&[12, 20], window, dtype);
        let want = sequences.whole();
        let mut cache = KvCache::new(1, 2);
        // Prompts of different lengths together, then single tokens, then several at once.
        let mut known = vec![0, 0];
        for n_new in [vec![5, 9], vec![1, 1], vec![0, 1], vec![1, 0], vec![5, 9]] {
            let got = sequences.step(&mut cache, &[0, 1], &known, &n_new);
            for i in 0..2 {
                let rows = known[i] * HEADS * WIDTH..(known[i] + n_new[i]) * HEADS * WIDTH;
                check(&got[i], &want[i][rows]);
                known[i] += n_new[i];
            }
            assert_eq!(cache.lengths(), known);
        }
        assert_eq!(known, sequences.lengths);
    }
}

#[test]
fn finished_sequences_leave_and_tokens_can_be_taken_back() {
    for dtype in [DType::F32, DType::F64] {
        check_leaving(&Sequences::new(&[6, 7, 8], None, dtype));
    }
}

fn check_leaving(sequences: &Sequences) {
    let want = sequences.whole();
    let mut cache = KvCache::new(1, 3);
    sequences.step(&mut cache, &[0, 1, 2], &[0, 0, 0], &[4, 4, 4]);
    cache.keep(&[2, 0]);
    assert_eq!(cache.lengths(), [4, 4]);
    cache.truncate(0, 2);
    cache.truncate(1, 0);
    assert_eq!(cache.lengths(), [2, 0]);
    let got = sequences.step(&mut cache, &[2, 0], &[2, 0], &[6, 6]);
    check(&got[0], &want[2][2 * HEADS * WIDTH..]);
    check(&got[1], &want[0]);
    // A sequence given twice becomes two that grow apart.
    cache.keep(&[1, 1]);
    cache.truncate(0, 3);
    assert_eq!(cache.lengths(), [3, 6]);
}

#[test]
#[should_panic(expected = "attention_cached: layer 1 of a cache with 1 layers")]
fn a_layer_beyond_the_cache_is_named() {
    let mut cache = KvCache::new(1, 1);
    let (q, k) = (tensor(vec![0.0; HEADS * WIDTH], HEADS), tensor(vec![0.0; KV_HEADS * WIDTH], KV_HEADS));
    let options = AttentionOptions::new(1.0, None);
    attention_cached(q, k.clone(), k, &Segments::new(&[1]), &mut cache, 1, options);
}
