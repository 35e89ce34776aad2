use super::*;
use crate::bf16;
use crate::testing::{random, same_for_any_number_of_threads, worst_difference};
use crate::weight::Format;

const SHAPES: [(usize, usize, usize); 12] = [
    (1, 1, 1),
    (0, 3, 4),
    (3, 4, 0),
    (2, 0, 5),
    (13, 17, 31),
    (14, 64, 32),
    (15, 65, 33),
    (29, 321, 47),
    (7, 641, 9),
    (64, 700, 130),
    (100, 3, 300),
    (33, 1300, 1),
];

/// out[i, j] = start[i, j] + Σ over l of left[i, l]·right[l, j] in double precision, factors rounded if asked.
fn naive(
    start: &[f32],
    compute: Compute,
    left: &[f32],
    right: &[f32],
    (m, k, n): (usize, usize, usize),
) -> Vec<f32> {
    let value =
        |x: f32| f64::from(if compute == Compute::Bf16 { bf16::to_f32(bf16::from_f32(x)) } else { x });
    let mut out = start.to_vec();
    for i in 0..m {
        for j in 0..n {
            let sum: f64 = (0..k).map(|l| value(left[i * k + l]) * value(right[l * n + j])).sum();
            out[i * n + j] = (f64::from(out[i * n + j]) + sum) as f32;
        }
    }
    out
}

fn transposed(x: &[f32], n_rows: usize, n_columns: usize) -> Vec<f32> {
    (0..n_rows * n_columns).map(|i| x[i % n_rows * n_columns + i / n_rows]).collect()
}

#[test]
fn all_levels_orientations_and_shapes_match_the_naive_product() {
    let mut worst = 0.0_f32;
    for shape @ (m, k, n) in SHAPES {
        let (a, b) = (random(m * k, 1), random(k * n, 2));
        let (at, bt) = (transposed(&a, m, k), transposed(&b, k, n));
        let lefts = [Matrix::new(&a, m, k), Matrix::new(&at, k, m).t()];
        let rights = [Matrix::new(&b, k, n), Matrix::new(&bt, n, k).t()];
        for (compute, mode) in [Compute::F32, Compute::Bf16]
            .into_iter()
            .flat_map(|c| [Output::Overwrite, Output::Add].map(|mode| (c, mode)))
        {
            let start = if mode == Output::Add { random(m * n, 3) } else { vec![0.0; m * n] };
            let want = naive(&start, compute, &a, &b, shape);
            for (level, threads) in
                Level::available().into_iter().flat_map(|l| [Threads::One, Threads::Pool].map(|t| (l, t)))
            {
                for (left, right) in lefts.iter().flat_map(|l| rights.iter().map(move |r| (*l, *r))) {
                    let mut out = if mode == Output::Add { start.clone() } else { vec![f32::NAN; m * n] };
                    product(
                        level,
                        compute,
                        MatrixMut::new(&mut out, m, n),
                        mode,
                        &[Term::new(left, right)],
                        threads,
                    );
                    worst = worst.max(worst_difference(&out, &want));
                }
            }
        }
    }
    println!("worst difference {worst:.2e}");
    assert!(worst < 4e-5);
}

#[test]
fn strides_leave_what_is_between_the_rows_alone() {
    for level in Level::available() {
        let (a, b) = (random(20 * 50, 1), random(40 * 70, 2));
        let mut out = vec![7.0; 20 * 100];
        let (left, right) = (Matrix::with_stride(&a, 20, 40, 50), Matrix::with_stride(&b, 40, 33, 70));
        let target = MatrixMut::with_stride(&mut out, 20, 33, 100);
        product(level, Compute::F32, target, Output::Overwrite, &[Term::new(left, right)], Threads::Pool);
        for i in 0..20 {
            for j in 0..100 {
                let want: f32 = (0..40).map(|l| a[i * 50 + l] * b[l * 70 + j.min(69)]).sum();
                let want = if j < 33 { want } else { 7.0 };
                assert!((out[i * 100 + j] - want).abs() < 1e-4, "{}: ({i}, {j})", level.name());
            }
        }
    }
}

#[test]
fn stored_weights_count_as_the_values_they_hold() {
    for format in [Format::F32, Format::Bf16, Format::F16, Format::Q8_0, Format::Q4_0, Format::Q4_1] {
        // Rows and columns are multiples of a block, so that the weight can stand on either side.
        let (m, o, i) = (17, 96, 352);
        let weight = Weight::convert(Level::best(), &random(o * i, 5), o, i, format).unwrap();
        let values = weight.to_vec(Level::best());
        let (x, dy) = (random(m * i, 6), random(m * o, 7));
        for level in Level::available() {
            for compute in [Compute::F32, Compute::Bf16] {
                let run = |n, left, right| {
                    let mut out = vec![0.0; m * n];
                    let target = MatrixMut::new(&mut out, m, n);
                    product(
                        level,
                        compute,
                        target,
                        Output::Overwrite,
                        &[Term { left, right }],
                        Threads::Pool,
                    );
                    out
                };
                let (left, matrix) = (Matrix::new(&x, m, i), Matrix::new(&values, o, i));
                assert_eq!(run(o, left, Right::Transposed(&weight)), run(o, left, Right::Matrix(matrix.t())));
                let left = Matrix::new(&dy, m, o);
                assert_eq!(run(i, left, Right::Weight(&weight)), run(i, left, Right::Matrix(matrix)));
            }
        }
    }
}

#[test]
fn terms_add_up_and_a_row_does_not_depend_on_its_neighbours() {
    let (m, k, r, n) = (40, 90, 5, 70);
    let (a, b, h, w) = (random(m * k, 1), random(k * n, 2), random(m * r, 3), random(r * n, 4));
    let part = |level, compute, rows: Range<usize>| {
        let mut out = vec![0.0; rows.len() * n];
        let terms = [
            Term::new(Matrix::new(&a[rows.start * k..], rows.len(), k), Matrix::new(&b, k, n)),
            Term::new(Matrix::new(&h[rows.start * r..], rows.len(), r), Matrix::new(&w, r, n)),
        ];
        product(
            level,
            compute,
            MatrixMut::new(&mut out, rows.len(), n),
            Output::Overwrite,
            &terms,
            Threads::Pool,
        );
        out
    };
    for level in Level::available() {
        for compute in [Compute::F32, Compute::Bf16] {
            let whole = part(level, compute, 0..m);
            let first = naive(&vec![0.0; m * n], compute, &a, &b, (m, k, n));
            let want = naive(&first, compute, &h, &w, (m, r, n));
            assert!(worst_difference(&whole, &want) < 1e-5);
            for row in [0, 7, 39] {
                assert_eq!(part(level, compute, row..row + 1), whole[row * n..(row + 1) * n]);
            }
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let (a, b) = (random(100 * 700, 1), random(700 * 330, 2));
    same_for_any_number_of_threads(|| {
        [Compute::F32, Compute::Bf16]
            .map(|compute| {
                let mut out = vec![0.0; 100 * 330];
                let term = Term::new(Matrix::new(&a, 100, 700), Matrix::new(&b, 700, 330));
                let target = MatrixMut::new(&mut out, 100, 330);
                product(Level::best(), compute, target, Output::Overwrite, &[term], Threads::Pool);
                out
            })
            .to_vec()
    });
}

#[test]
fn transposes_are_exact() {
    for level in Level::available() {
        for (n_lines, n_across) in [(0, 4), (1, 1), (16, 16), (33, 50), (64, 15)] {
            let source = random(n_lines * 60, 1);
            let mut out = vec![0.0; n_across * n_lines];
            panel::transpose(level, &source, 60, n_lines, n_across, &mut out, n_lines);
            for (i, j) in (0..n_lines).flat_map(|i| (0..n_across).map(move |j| (i, j))) {
                assert_eq!(out[j * n_lines + i], source[i * 60 + j]);
            }
        }
    }
}

#[test]
fn strips_cover_all_columns_once() {
    for (n_columns, n_threads) in [(1, 1), (31, 2), (192, 2), (576, 2), (1536, 3), (49152, 64)] {
        let strips = strips(n_columns, n_threads);
        assert_eq!(strips.first().map(|s| s.start), Some(0));
        assert_eq!(strips.last().map(|s| s.end), Some(n_columns));
        assert!(strips.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert!(strips.iter().all(|s| s.start % STRIP_UNIT == 0));
    }
}
