use tunesmith_ops::{
    CrossEntropy, CrossEntropyOptions, Device, Tensor, TensorData, cross_entropy_from_hidden,
    cross_entropy_from_hidden_composed, cross_entropy_from_hidden_with,
    cross_entropy_from_hidden_with_composed,
};

use crate::compare::{Argument, Leaf, assert_same, frozen, random, run, tracked, worst_difference};

struct Case {
    labels: Vec<i64>,
    weights: Vec<f32>,
    width: usize,
    vocabulary: usize,
}

impl Case {
    fn new(labels: &[i64], width: usize, vocabulary: usize) -> Self {
        Self { labels: labels.to_vec(), weights: random(labels.len(), 7), width, vocabulary }
    }

    fn arguments(
        &self,
        make_hidden: fn(&[usize], u64) -> Argument,
        make_head: fn(&[usize], u64) -> Argument,
    ) -> [Argument; 2] {
        [make_hidden(&[self.labels.len(), self.width], 1), make_head(&[self.vocabulary, self.width], 2)]
    }

    /// Through all logits and Burn's own graph.
    fn plain(&self, l: &[Leaf], options: CrossEntropyOptions) -> Tensor<1> {
        let CrossEntropyOptions { cap, label_smoothing } = options;
        let logits = l[0].get::<2>().matmul(l[1].get::<2>().transpose());
        let logits = match cap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        };
        let largest = logits.clone().max_dim(1).detach();
        let log_sums = (logits.clone() - largest.clone()).exp().sum_dim(1).log() + largest;
        let device = Device::flex().autodiff();
        let labelled = self.labels.iter().enumerate().filter(|(_, label)| 0 <= **label);
        let mut wanted = vec![label_smoothing / self.vocabulary as f32; self.labels.len() * self.vocabulary];
        let mut weights = vec![0.0; self.labels.len()];
        for (row, label) in labelled {
            wanted[row * self.vocabulary + *label as usize] += 1.0 - label_smoothing;
            weights[row] = self.weights[row];
        }
        let wanted =
            Tensor::<2>::from_data(TensorData::new(wanted, [self.labels.len(), self.vocabulary]), &device);
        let weights = Tensor::<2>::from_data(TensorData::new(weights, [self.labels.len(), 1]), &device);
        ((log_sums - (logits * wanted).sum_dim(1)) * weights).sum()
    }
}

type Operation = fn(Tensor<2>, Tensor<2>, &[i64], &[f32]) -> CrossEntropy;

const OPERATIONS: [(&str, Operation); 2] = [
    ("cross entropy", cross_entropy_from_hidden),
    ("composed cross entropy", cross_entropy_from_hidden_composed),
];

#[test]
fn both_versions_match_the_definition() {
    let cases = [
        Case::new(&[0], 1, 1),
        Case::new(&[2, -100, 0, 4, -100], 7, 5),
        Case::new(&[-100, -100], 3, 4),
        Case::new(&[9, 1, -100, 33, 40, 40, 2], 16, 41),
        // More than one chunk of the vocabulary in the composed version.
        Case::new(&[9000, -100, 5], 4, 9001),
    ];
    for case in &cases {
        for (name, operation) in OPERATIONS {
            for (make_hidden, make_head) in [
                (tracked as fn(&[usize], u64) -> _, tracked as fn(&[usize], u64) -> _),
                (tracked, frozen),
                (frozen, tracked),
            ] {
                assert_same(
                    name,
                    1e-5,
                    &case.arguments(make_hidden, make_head),
                    |l| operation(l[0].get(), l[1].get(), &case.labels, &case.weights).weighted_sum,
                    |l| case.plain(l, CrossEntropyOptions::default()),
                );
            }
        }
    }
}

type OperationWith = fn(Tensor<2>, Tensor<2>, &[i64], &[f32], CrossEntropyOptions) -> CrossEntropy;

const OPERATIONS_WITH: [(&str, OperationWith); 2] = [
    ("cross entropy with options", cross_entropy_from_hidden_with),
    ("composed cross entropy with options", cross_entropy_from_hidden_with_composed),
];

#[test]
fn capped_logits_and_smoothed_labels_match_the_definition() {
    let cases = [
        Case::new(&[2, -100, 0, 4, -100], 7, 5),
        Case::new(&[9, 1, -100, 33, 40, 40, 2], 16, 41),
        Case::new(&[9000, -100, 5], 4, 9001),
    ];
    let options = [(Some(0.7), 0.0), (Some(30.0), 0.0), (None, 0.1), (None, 0.9), (Some(0.7), 0.2)];
    for (case, (cap, label_smoothing)) in cases.iter().flat_map(|case| options.map(|it| (case, it))) {
        let options = CrossEntropyOptions { cap, label_smoothing };
        for (name, operation) in OPERATIONS_WITH {
            assert_same(
                name,
                1e-5,
                &case.arguments(tracked, tracked),
                |l| operation(l[0].get(), l[1].get(), &case.labels, &case.weights, options).weighted_sum,
                |l| case.plain(l, options),
            );
        }
    }
}

/// Made with torch 2.15: `F.cross_entropy(logits, labels, reduction="none", label_smoothing=0.1)` of the logits
/// [[0.5, −1, 2], [0, 0.25, −3]] and labels 0 and 1, and the gradients of the sum.
#[test]
fn smoothed_labels_are_those_of_torch() {
    let losses = [1.741_311_3, 0.714_169_86];
    let gradients = [-0.758_042_93, 0.005_779_237, 0.752_263_67, 0.395_150_1, -0.383_149_68, -0.012_000_401];
    for (name, operation) in OPERATIONS_WITH {
        let identity = vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        let identity = Argument { shape: vec![3, 3], tracked: false, values: identity };
        let logits = vec![0.5, -1.0, 2.0, 0.0, 0.25, -3.0];
        let logits = Argument { shape: vec![2, 3], tracked: true, values: logits };
        let (_, found) = run(&[logits, identity], |l| {
            let options = CrossEntropyOptions { cap: None, label_smoothing: 0.1 };
            let result = operation(l[0].get(), l[1].get(), &[0, 1], &[1.0, 1.0], options);
            assert!(worst_difference(&result.per_token, &losses) < 1e-6, "{name}: {:?}", result.per_token);
            result.weighted_sum
        });
        // The sum itself was multiplied with a random number.
        let factor = random(1, 99)[0];
        let expected = gradients.map(|gradient| gradient * factor);
        assert!(worst_difference(found[0].as_ref().unwrap(), &expected) < 1e-6, "{name}: {found:?}");
    }
}

#[test]
fn losses_of_single_tokens_are_unweighted_and_zero_without_label() {
    let case = Case::new(&[2, -100, 0, 4], 7, 5);
    for (_, operation) in OPERATIONS {
        let (sum, _) = run(&case.arguments(frozen, frozen), |l| {
            let result = operation(l[0].get(), l[1].get(), &case.labels, &case.weights);
            assert_eq!(result.per_token[1], 0.0);
            assert!(result.per_token.iter().all(|loss| 0.0 <= *loss));
            let sum: f32 =
                result.per_token.iter().zip(&case.weights).map(|(loss, weight)| loss * weight).sum();
            assert!(!result.weighted_sum.is_tracked());
            result.weighted_sum - sum
        });
        assert!(worst_difference(&sum, &[0.0]) < 1e-5);
    }
}

#[test]
#[should_panic(expected = "label 5 lies beyond the vocabulary of 5")]
fn a_label_beyond_the_vocabulary_is_named() {
    let case = Case::new(&[5], 2, 5);
    run(&case.arguments(frozen, frozen), |l| {
        cross_entropy_from_hidden(l[0].get(), l[1].get(), &case.labels, &case.weights).weighted_sum
    });
}
