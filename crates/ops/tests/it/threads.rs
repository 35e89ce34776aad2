//! The same bits for any number of threads, through a whole block with its gradients.

use tunesmith_ops::{
    Activation, AttentionOptions, Dropout, LowRank, RotaryTable, Segments, Tensor, attention,
    cross_entropy_from_hidden, gated, linear, linear_low_rank, rms_norm, rotary,
};

use crate::compare::{Leaf, run, tracked};

#[test]
fn threads_do_not_change_a_bit_of_a_block() {
    let (n, width, heads, kv_heads, inner, rank, vocabulary) = (150, 48, 6, 2, 100, 4, 300);
    let head_width = width / heads;
    let arguments = [
        tracked(&[n, width], 1),
        tracked(&[width], 2),
        tracked(&[width, width], 3),
        tracked(&[kv_heads * head_width, width], 4),
        tracked(&[inner, width], 5),
        tracked(&[width, inner], 6),
        tracked(&[rank, width], 7),
        tracked(&[width, rank], 8),
        tracked(&[vocabulary, width], 9),
    ];
    let segments = Segments::new(&[70, 1, 79]);
    let positions: Vec<u32> = segments.ranges().flat_map(|range| 0..range.len() as u32).collect();
    let table = RotaryTable::new(&[1.0, 0.5, 0.1, 0.01], 1.0, 100);
    let labels: Vec<i64> = (0..n as i64).map(|t| if t % 5 == 0 { -100 } else { t * 7 % 300 }).collect();
    let block = |l: &[Leaf]| -> Tensor<1> {
        let x = rms_norm(l[0].get(), l[1].get(), 1e-5);
        let dropout = Some(Dropout { probability: 0.1, key: 8 });
        let low_rank = LowRank { a: l[6].get(), b: l[7].get(), scale: 2.0, dropout };
        let q = linear_low_rank(x.clone(), l[2].get(), None, low_rank).reshape([n, heads, head_width]);
        let k = linear(x.clone(), l[3].get(), None).reshape([n, kv_heads, head_width]);
        let q = rotary(q, &positions, &table);
        let options = AttentionOptions::new(0.35, Some(40));
        let y = attention(q, rotary(k.clone(), &positions, &table), k, &segments, options);
        let x = y.reshape([n, width]) + x;
        let hidden =
            gated(linear(x.clone(), l[4].get(), None), linear(x.clone(), l[4].get(), None), Activation::Silu);
        let x = x + linear(hidden, l[5].get(), None);
        cross_entropy_from_hidden(x, l[8].get(), &labels, &vec![0.01; n]).weighted_sum
    };
    let bits = |n_threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        let (value, gradients) = pool.install(|| run(&arguments, block));
        let of = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
        (of(value), gradients.into_iter().map(|gradient| of(gradient.unwrap())).collect::<Vec<_>>())
    };
    let alone = bits(1);
    for n_threads in [2, 3] {
        assert!(alone == bits(n_threads), "{n_threads} threads give other bits than 1");
    }
}

/// Burn's own product, which operations composed of Burn's use.
#[test]
fn threads_do_not_change_a_bit_of_burns_products() {
    for (n, n_in, n_out) in [(1, 576, 1536), (3, 576, 576), (8, 300, 1000), (300, 576, 200), (70, 1000, 64)] {
        let arguments = [tracked(&[n, n_in], 1), tracked(&[n_out, n_in], 2)];
        let bits = |n_threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            let product = |l: &[Leaf]| tunesmith_ops::linear_composed(l[0].get(), l[1].get(), None);
            let (value, gradients) = pool.install(|| run(&arguments, product));
            let all = gradients.into_iter().flatten().flatten().chain(value);
            all.map(f32::to_bits).collect::<Vec<u32>>()
        };
        let alone = bits(1);
        assert!(alone == bits(2) && alone == bits(3), "{n}×{n_in}×{n_out}");
    }
}
