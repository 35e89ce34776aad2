use tunesmith_ops::{RotaryTable, rotary, rotary_composed};

use crate::compare::{assert_same, frozen, run, tracked};

#[test]
fn rotary_matches_its_composition() {
    let inv_freq: Vec<f32> = (0..6).map(|i| 10_000_f32.powf(-(i as f32) / 6.0)).collect();
    let table = RotaryTable::new(&inv_freq, 1.25, 50);
    // The whole of each head, or its first 12 elements.
    for (positions, head_width) in [(vec![0_u32], 12), (vec![49, 3, 0, 0, 17], 12), (vec![2, 49, 0], 20)] {
        assert_same(
            "rotary",
            2e-6,
            &[tracked(&[positions.len(), 3, head_width], 1)],
            |l| rotary(l[0].get(), &positions, &table),
            |l| rotary_composed(l[0].get(), &positions, &table),
        );
    }
}

#[test]
fn scores_depend_on_the_distance_only() {
    let table = RotaryTable::new(&[1.0, 0.1], 1.0, 100);
    let arguments = [frozen(&[1, 1, 4], 1), frozen(&[1, 1, 4], 2)];
    let score = |of_q: u32, of_k: u32| {
        run(&arguments, |l| rotary(l[0].get(), &[of_q], &table) * rotary(l[1].get(), &[of_k], &table)).0
    };
    let sum = |of_q, of_k| score(of_q, of_k).iter().sum::<f32>();
    assert!((sum(7, 3) - sum(94, 90)).abs() < 1e-5);
    assert!((sum(7, 3) - sum(3, 7)).abs() > 1e-3);
}

#[test]
#[should_panic(expected = "rotary: position 100 lies beyond the table's 100 positions")]
fn a_position_beyond_the_table_is_named() {
    let table = RotaryTable::new(&[1.0], 1.0, 100);
    run(&[frozen(&[1, 1, 2], 1)], |l| rotary(l[0].get(), &[100], &table));
}
