//! The vectors of the catalogue of H2O LLM Studio's behaviour, by its sections.

use tunesmith_metrics::{
    ClassMetric, ClassOutputs, ClassTask, Labels, Link, MetricError, RegressionMetric, TextMetric,
    TextPrediction, Values, accuracy, parse_labels, parse_numbers, perplexity,
};

/// `n_digits` after the point are known.
#[track_caller]
fn assert_rounds_to(found: f64, expected: f64, n_digits: i32) {
    assert!((found - expected).abs() <= 0.5001 * 10_f64.powi(-n_digits), "{found} instead of {expected}");
}

fn some(values: &[f64]) -> Vec<Option<f64>> {
    values.iter().copied().map(Some).collect()
}

#[test]
fn gv_5_4_bleu() {
    for (predicted, target, expected, n_digits) in [
        ("Hello world", "Hello world", 100.0, 8),
        ("Hello universe", "Hello world", 50.0, 8),
        ("Python is awesome", "Python is great", 55.032_120_81, 8),
        ("Goodbye", "Hello world", 0.0, 15),
        ("Hello world", "", 0.0, 15),
        ("The cat sat on the mat", "The cat is on the mat", 37.991_784, 6),
        ("the the the", "the cat", 27.516_06, 5),
        ("A quick, brown fox.", "A quick brown fox jumps over.", 20.547_996, 6),
        ("Der Hund läuft schnell", "Der Hund rennt schnell weg", 27.534_766, 6),
        ("", "Hello world", 0.0, 15),
    ] {
        let found = TextMetric::Bleu.score(&[TextPrediction { predicted, target }]).unwrap();
        assert_rounds_to(found.aggregate, expected, n_digits);
    }
}

#[test]
fn gv_5_4_bleu_of_no_or_unpaired_texts_is_an_error() {
    assert_eq!(TextMetric::Bleu.score(&[]), Err(MetricError::Empty { metric: "BLEU" }));
    let error = TextPrediction::pairs(&["a", "b"], &["a"]).unwrap_err();
    assert_eq!(error, MetricError::LengthMismatch { what: "predictions", expected: 1, found: 2 });
}

#[test]
fn gv_11_3_perplexity() {
    let a = (2.407_605_96 + 0.958_020_09) / 2.0;
    let b = (1.551_444_71 + 1.815_188_80 + 1.741_311_30) / 3.0;
    let found = perplexity(&some(&[a, b])).unwrap();
    assert_rounds_to(found.per_sample[0].unwrap(), 5.380_670_67, 7);
    assert_rounds_to(found.per_sample[1].unwrap(), 5.488_463_10, 7);
    assert_rounds_to(found.aggregate, 5.434_566_882_9, 7);
}

#[test]
fn gv_5_7_accuracy() {
    let labels =
        |task, predicted: &[usize], targets: &[usize]| Labels::new(task, predicted, targets).unwrap();
    let binary = labels(ClassTask::Binary, &[1, 0, 1, 0], &[1, 1, 0, 0]);
    assert_eq!(accuracy(&binary).unwrap().per_sample, some(&[1.0, 0.0, 0.0, 1.0]));
    let classes = labels(ClassTask::MultiClass { n_classes: 5 }, &[0, 1, 2, 2, 4], &[0, 1, 2, 3, 3]);
    assert_eq!(accuracy(&classes).unwrap().per_sample, some(&[1.0, 1.0, 1.0, 0.0, 0.0]));
}

const TWO_CLASSES: ClassTask = ClassTask::MultiClass { n_classes: 2 };
const THREE_CLASSES: ClassTask = ClassTask::MultiClass { n_classes: 3 };
const FOUR_BY_TWO: [f64; 8] = [0.1, 0.9, 0.8, 0.2, 0.3, 0.7, 0.9, 0.1];
const FOUR_BY_THREE: [f64; 12] = [0.1, 0.8, 0.1, 0.7, 0.2, 0.1, 0.1, 0.1, 0.8, 0.3, 0.3, 0.4];

#[test]
fn gv_5_7_auc() {
    let auc = |outputs: ClassOutputs| ClassMetric::Auc.score(&outputs).unwrap().aggregate;
    let classes = |task, logits: &[f64], targets: &[usize]| {
        auc(ClassOutputs::from_logits(task, Link::Softmax, logits, targets).unwrap())
    };
    let labels = |task, scores: &[f64], targets: &[usize]| {
        auc(ClassOutputs::from_logits(task, Link::Sigmoid, scores, targets).unwrap())
    };
    assert_eq!(classes(TWO_CLASSES, &FOUR_BY_TWO, &[1, 0, 1, 0]), 1.0);
    assert_eq!(classes(THREE_CLASSES, &FOUR_BY_THREE, &[1, 0, 2, 2]), 1.0);
    assert_rounds_to(labels(ClassTask::Binary, &[0.9, 0.8, 0.7, 0.1, 0.4], &[1, 0, 1, 0, 1]), 0.666_666_7, 7);
    let two_labels = ClassTask::MultiLabel { n_labels: 2 };
    let scores = [0.9, 0.2, 0.1, 0.6, 0.4, 0.7, 0.5, 0.9];
    assert_eq!(labels(two_labels, &scores, &[1, 0, 0, 1, 1, 1, 0, 0]), 0.625);
}

#[test]
fn gv_5_7_log_loss() {
    let loss = |outputs: ClassOutputs| ClassMetric::LogLoss.score(&outputs).unwrap();
    let logits = |task, logits: &[f64], targets: &[usize]| {
        loss(ClassOutputs::from_logits(task, Link::Softmax, logits, targets).unwrap()).aggregate
    };
    let given = |task, probabilities: &[f64], targets: &[usize]| {
        loss(ClassOutputs::from_probabilities(task, probabilities, targets).unwrap()).aggregate
    };
    assert_rounds_to(logits(TWO_CLASSES, &FOUR_BY_TWO, &[1, 0, 1, 0]), 0.423_176_133_7, 10);
    assert_rounds_to(logits(THREE_CLASSES, &FOUR_BY_THREE, &[1, 0, 2, 2]), 0.795_117_897_7, 10);
    let three_labels = ClassTask::MultiLabel { n_labels: 3 };
    let targets = [1, 0, 1, 0, 1, 0, 1, 1, 0, 0, 0, 1];
    assert_rounds_to(given(three_labels, &FOUR_BY_THREE, &targets), 1.414_802_337_4, 10);
    for (column, expected) in [1.541_454_48, 1.469_533_97, 1.233_418_56].into_iter().enumerate() {
        let take = |values: &[f64]| values.iter().skip(column).step_by(3).copied().collect::<Vec<_>>();
        let targets: Vec<usize> = targets.iter().skip(column).step_by(3).copied().collect();
        assert_rounds_to(given(ClassTask::Binary, &take(&FOUR_BY_THREE), &targets), expected, 8);
    }
    assert_rounds_to(given(TWO_CLASSES, &[0.1, 0.9, 0.8, 0.2], &[1, 0]), 0.164_252_033_5, 10);
    assert_rounds_to(given(TWO_CLASSES, &[1e-4, 0.9999, 0.9999, 1e-4], &[1, 0]), 0.000_100_005_00, 11);
    assert_rounds_to(given(ClassTask::Binary, &[0.9, 0.2, 0.6], &[1, 0, 1]), 0.279_776_563_6, 10);
}

#[test]
fn gv_5_7_regression() {
    let of = |metric: RegressionMetric, width, predicted: &[f64], targets: &[f64]| {
        metric.score(&Values::new(width, predicted, targets).unwrap()).unwrap().per_sample
    };
    let (predicted, targets) = ([1.0, 2.0, 3.0, 4.0], [2.0; 4]);
    assert_eq!(of(RegressionMetric::Mse, 1, &predicted, &targets), some(&[1.0, 0.0, 1.0, 4.0]));
    assert_eq!(of(RegressionMetric::Mae, 1, &predicted, &targets), some(&[1.0, 0.0, 1.0, 2.0]));
    let rows = ["2.0,3.0", "3.0,3.0"].into_iter().enumerate();
    let targets: Vec<f64> = rows.flat_map(|(idx, text)| parse_numbers(idx, text).unwrap()).collect();
    assert_eq!(of(RegressionMetric::Mse, 2, &predicted, &targets), some(&[1.0, 0.5]));
    assert_eq!(of(RegressionMetric::Mae, 2, &predicted, &targets), some(&[1.0, 0.5]));
}

#[test]
fn gv_5_6_labels_are_read_from_joined_text() {
    assert_eq!(parse_labels(0, "1, 0,2").unwrap(), [1, 0, 2]);
    for text in ["", "1,", "1.5", "-1", "a"] {
        assert!(matches!(parse_labels(7, text), Err(MetricError::NotANumber { sample: 7, .. })), "{text:?}");
    }
    assert!(matches!(parse_numbers(3, "1,nan"), Err(MetricError::NotANumber { sample: 3, .. })));
}
