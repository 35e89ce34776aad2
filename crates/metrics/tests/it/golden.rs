//! Against sacrebleu, rouge_score, NLTK and scikit-learn: `tests/golden/make_metrics.py`.

use serde::Deserialize;
use serde_json::Value;
use tunesmith_metrics::{
    Average, ClassMetric, ClassOutputs, ClassTask, Confusion, Link, RegressionMetric, Rouge, RougeKind,
    TextMetric, TextPrediction, Values, auc_per_output, corpus_bleu,
};

/// Sums are taken in another order than NumPy's; nothing else may differ.
const TOLERANCE: f64 = 1e-13;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/metrics.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn cases<T: for<'a> Deserialize<'a>>(section: &str, name: &str) -> Vec<T> {
    serde_json::from_value(golden()[section][name].clone()).unwrap()
}

#[track_caller]
fn assert_close(found: f64, expected: f64, what: &str) {
    let allowed = TOLERANCE * expected.abs().max(1.0);
    assert!((found - expected).abs() <= allowed, "{what}: {found} instead of {expected}");
}

#[derive(Deserialize)]
struct Fractions {
    rouge1: [f64; 3],
    rouge2: [f64; 3],
    #[serde(rename = "rougeL")]
    rouge_l: [f64; 3],
}

#[derive(Deserialize)]
struct TextCase {
    predicted: String,
    target: String,
    bleu: f64,
    plain: Fractions,
    stemmed: Fractions,
}

impl TextCase {
    fn pair(&self) -> TextPrediction<'_> {
        TextPrediction { predicted: &self.predicted, target: &self.target }
    }
}

#[test]
fn sentence_bleu_is_that_of_sacrebleu() {
    for case in cases::<TextCase>("text", "cases") {
        let found = TextMetric::Bleu.score(&[case.pair()]).unwrap();
        assert_close(found.aggregate, case.bleu, &format!("{:?}", case.pair()));
    }
}

#[test]
fn rouge_is_that_of_rouge_score() {
    for case in cases::<TextCase>("text", "cases") {
        for (use_stemmer, expected) in [(false, &case.plain), (true, &case.stemmed)] {
            for (kind, [precision, recall, f_measure]) in [
                (RougeKind::One, expected.rouge1),
                (RougeKind::Two, expected.rouge2),
                (RougeKind::L, expected.rouge_l),
            ] {
                let found = Rouge { kind, use_stemmer }.compare(&case.pair());
                let what = format!("{kind:?}, stemmed {use_stemmer}, {:?}", case.pair());
                assert_close(found.precision, precision, &what);
                assert_close(found.recall, recall, &what);
                assert_close(found.f_measure, f_measure, &what);
            }
        }
    }
}

#[derive(Deserialize)]
struct Corpus {
    cases: Vec<usize>,
    score: f64,
    precisions: [f64; 4],
    brevity_penalty: f64,
    predicted_length: usize,
    target_length: usize,
}

#[test]
fn corpus_bleu_is_that_of_sacrebleu() {
    let texts = cases::<TextCase>("text", "cases");
    for corpus in cases::<Corpus>("text", "corpora") {
        let pairs: Vec<_> = corpus.cases.iter().map(|idx| texts[*idx].pair()).collect();
        let found = corpus_bleu(&pairs).unwrap();
        assert_close(found.score, corpus.score, "score");
        assert_close(found.brevity_penalty, corpus.brevity_penalty, "brevity penalty");
        for (found, expected) in found.precisions.into_iter().zip(corpus.precisions) {
            assert_close(found, expected, "precision");
        }
        assert_eq!((found.n_predicted, found.n_target), (corpus.predicted_length, corpus.target_length));
    }
}

#[derive(Deserialize)]
struct ClassCase {
    logits: Vec<f64>,
    #[serde(default)]
    classes: usize,
    #[serde(default)]
    labels: usize,
    targets: Vec<usize>,
    auc: Option<f64>,
    log_loss: f64,
    accuracy: f64,
    subset_accuracy: f64,
    confusion: Value,
    per_class: Vec<[f64; 3]>,
    #[serde(rename = "macro")]
    macro_average: [f64; 3],
    #[serde(rename = "micro")]
    micro_average: [f64; 3],
}

fn check_classes(kind: &str, link: Link, task: impl Fn(&ClassCase) -> ClassTask) {
    for (idx, case) in cases::<ClassCase>("classification", kind).into_iter().enumerate() {
        let outputs = ClassOutputs::from_logits(task(&case), link, &case.logits, &case.targets).unwrap();
        let score = |metric: ClassMetric| metric.score(&outputs).map(|scores| scores.aggregate);
        let close = |metric: ClassMetric, expected| {
            assert_close(score(metric).unwrap(), expected, &format!("{kind} {idx} {}", metric.name()));
        };
        close(ClassMetric::Accuracy, case.accuracy);
        close(ClassMetric::SubsetAccuracy, case.subset_accuracy);
        close(ClassMetric::LogLoss, case.log_loss);
        match case.auc {
            Some(auc) => close(ClassMetric::Auc, auc),
            None => {
                score(ClassMetric::Auc).unwrap_err();
                assert!(auc_per_output(&outputs).unwrap().contains(&None));
            }
        }
        for (average, [precision, recall, f1]) in
            [(Average::Macro, case.macro_average), (Average::Micro, case.micro_average)]
        {
            close(ClassMetric::Precision(average), precision);
            close(ClassMetric::Recall(average), recall);
            close(ClassMetric::F1(average), f1);
        }
        let confusion = Confusion::new(&outputs.labels()).unwrap();
        if let ClassTask::MultiLabel { .. } = task(&case) {
            let tables: Vec<_> = confusion
                .counts()
                .iter()
                .map(|c| [[c.true_negatives, c.false_positives], [c.false_negatives, c.true_positives]])
                .collect();
            assert_eq!(serde_json::to_value(tables).unwrap(), case.confusion);
        } else {
            assert_eq!(serde_json::to_value(confusion.matrix()).unwrap(), case.confusion);
        }
        for (counts, [precision, recall, f1]) in confusion.counts().iter().zip(case.per_class) {
            let scores = counts.scores();
            assert_close(scores.precision, precision, "precision");
            assert_close(scores.recall, recall, "recall");
            assert_close(scores.f1, f1, "F1");
        }
    }
}

#[test]
fn binary_metrics_are_those_of_scikit_learn() {
    check_classes("binary", Link::Sigmoid, |_| ClassTask::Binary);
}

#[test]
fn multi_class_metrics_are_those_of_scikit_learn() {
    check_classes("multi_class", Link::Softmax, |case| ClassTask::MultiClass { n_classes: case.classes });
}

#[test]
fn multi_label_metrics_are_those_of_scikit_learn() {
    check_classes("multi_label", Link::Sigmoid, |case| ClassTask::MultiLabel { n_labels: case.labels });
}

#[derive(Deserialize)]
struct RegressionCase {
    width: usize,
    predicted: Vec<f64>,
    targets: Vec<f64>,
    mse: f64,
    mae: f64,
    rmse: f64,
    r2: Option<f64>,
}

#[test]
fn regression_metrics_are_those_of_scikit_learn() {
    let cases: Vec<RegressionCase> = serde_json::from_value(golden()["regression"].clone()).unwrap();
    for case in cases {
        let values = Values::new(case.width, &case.predicted, &case.targets).unwrap();
        let close = |metric: RegressionMetric, expected| {
            assert_close(metric.score(&values).unwrap().aggregate, expected, metric.name());
        };
        close(RegressionMetric::Mse, case.mse);
        close(RegressionMetric::Mae, case.mae);
        close(RegressionMetric::Rmse, case.rmse);
        match case.r2 {
            Some(r2) => close(RegressionMetric::R2, r2),
            None => assert!(RegressionMetric::R2.score(&values).is_err()),
        }
    }
}
