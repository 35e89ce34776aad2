use tunesmith_ops::{AttentionOptions, Segments, attention, attention_composed};

use crate::compare::{assert_same, frozen, run, tracked};

#[test]
fn attention_matches_its_composition() {
    /// Heads, key/value heads, head width, window, segments.
    type Case = (usize, usize, usize, Option<usize>, &'static [usize]);
    let cases: [Case; 7] = [
        (1, 1, 1, None, &[1]),
        (2, 2, 8, None, &[5]),
        (6, 2, 12, None, &[1, 9, 1, 70]),
        (4, 1, 16, Some(1), &[6, 3]),
        (4, 4, 8, Some(4), &[1, 33]),
        (9, 3, 8, Some(50), &[130, 2]),
        (2, 1, 4, None, &[600]),
    ];
    for (n_heads, n_kv_heads, width, window, lengths) in cases {
        let segments = Segments::new(lengths);
        let n = segments.n_tokens();
        for cap in [None, Some(0.5)] {
            let options =
                AttentionOptions { cap, ..AttentionOptions::new(1.0 / (width as f32).sqrt(), window) };
            assert_same(
                &format!(
                    "attention {n_heads}/{n_kv_heads} heads, window {window:?}, cap {cap:?}, segments {lengths:?}"
                ),
                1e-5,
                &[
                    tracked(&[n, n_heads, width], 1),
                    tracked(&[n, n_kv_heads, width], 2),
                    tracked(&[n, n_kv_heads, width], 3),
                ],
                |l| attention(l[0].get(), l[1].get(), l[2].get(), &segments, options),
                |l| attention_composed(l[0].get(), l[1].get(), l[2].get(), &segments, options),
            );
        }
    }
}

#[test]
fn no_token_gives_no_output() {
    let segments = Segments::new(&[]);
    let arguments = [frozen(&[0, 2, 4], 1), frozen(&[0, 1, 4], 2), frozen(&[0, 1, 4], 3)];
    let options = AttentionOptions::new(1.0, None);
    let (y, _) = run(&arguments, |l| attention(l[0].get(), l[1].get(), l[2].get(), &segments, options));
    assert!(y.is_empty());
}

#[test]
fn the_future_and_the_neighbours_are_invisible() {
    let segments = Segments::new(&[4, 3]);
    let options = AttentionOptions::new(1.0, None);
    let mut arguments = [frozen(&[7, 2, 4], 1), frozen(&[7, 2, 4], 2), frozen(&[7, 2, 4], 3)];
    let attend = |arguments: &[_]| {
        run(arguments, |l| attention(l[0].get(), l[1].get(), l[2].get(), &segments, options)).0
    };
    let before = attend(&arguments);
    // Token 3 is the last of the first segment: only its own output may change.
    for argument in &mut arguments[1..] {
        argument.values[3 * 8..4 * 8].fill(7.0);
    }
    let after = attend(&arguments);
    for token in 0..7 {
        let same = before[token * 8..(token + 1) * 8] == after[token * 8..(token + 1) * 8];
        assert_eq!(same, token != 3, "token {token}");
    }
}

#[test]
#[should_panic(expected = "attention: number of tokens in the segments is 4, expected 3")]
fn segments_that_do_not_cover_the_tokens_are_named() {
    let arguments = [frozen(&[3, 2, 4], 1), frozen(&[3, 1, 4], 2), frozen(&[3, 1, 4], 3)];
    let options = AttentionOptions::new(1.0, None);
    run(&arguments, |l| attention(l[0].get(), l[1].get(), l[2].get(), &Segments::new(&[4]), options));
}
