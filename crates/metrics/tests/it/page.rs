//! The worked examples of `docs/metrics.md` give the numbers that the page says.

use tunesmith_metrics::{
    Average, ClassMetric, ClassOutputs, ClassTask, Confusion, ExactMatch, Link, RegressionMetric, Rouge,
    RougeKind, TextMetric, TextPrediction, Unjudged, Values, Verdict, corpus_bleu, judge_scores, perplexity,
};

/// Fails unless the page has a table row with this name and number, written with four decimals.
#[track_caller]
fn assert_on_page(name: &str, value: f64) {
    let page = include_str!("../../../../docs/metrics.md");
    let row = format!("| {name} | {value:.4} |");
    assert!(page.lines().any(|line| line.starts_with(&row)), "docs/metrics.md has no row {row}");
}

#[test]
fn texts() {
    let pairs = [
        TextPrediction { predicted: "The cat sat on the mat.", target: "The cat is on the mat." },
        TextPrediction { predicted: "3 + 4 = 7, so 7.", target: "#### 7" },
    ];
    let number = ExactMatch { final_number: true, ..ExactMatch::default() };
    for (name, metric) in [
        ("ExactMatch", TextMetric::ExactMatch(ExactMatch::default())),
        ("ExactMatch, final number", TextMetric::ExactMatch(number)),
        ("BLEU", TextMetric::Bleu),
        ("ROUGE-1", TextMetric::Rouge(Rouge { kind: RougeKind::One, use_stemmer: false })),
        ("ROUGE-2", TextMetric::Rouge(Rouge { kind: RougeKind::Two, use_stemmer: false })),
        ("ROUGE-L", TextMetric::Rouge(Rouge { kind: RougeKind::L, use_stemmer: false })),
    ] {
        assert_on_page(name, metric.score(&pairs).unwrap().aggregate);
    }
    assert_on_page("BLEU of the corpus", corpus_bleu(&pairs).unwrap().score);
}

#[test]
fn losses_and_verdicts() {
    assert_on_page("Perplexity", perplexity(&[Some(0.5), Some(2.0), None]).unwrap().aggregate);
    let answers = ["EXPLANATION: right\nSCORE: 0.9", "SCORE: 3/10", "I cannot say."];
    let scores: Vec<_> = answers.iter().map(|answer| Verdict::parse(answer).ok().map(|v| v.score)).collect();
    assert_on_page(
        "GPT, failed answers count 0",
        judge_scores(&scores, Unjudged::CountsZero).unwrap().aggregate,
    );
    assert_on_page(
        "GPT, failed answers left out",
        judge_scores(&scores, Unjudged::IsLeftOut).unwrap().aggregate,
    );
}

#[test]
fn classes() {
    let probabilities = [0.7, 0.2, 0.1, 0.1, 0.6, 0.3, 0.5, 0.3, 0.2, 0.2, 0.2, 0.6];
    let task = ClassTask::MultiClass { n_classes: 3 };
    let outputs = ClassOutputs::from_probabilities(task, &probabilities, &[0, 1, 1, 2]).unwrap();
    for metric in [
        ClassMetric::Accuracy,
        ClassMetric::Auc,
        ClassMetric::LogLoss,
        ClassMetric::Precision(Average::Macro),
        ClassMetric::Recall(Average::Macro),
        ClassMetric::F1(Average::Macro),
        ClassMetric::F1(Average::Micro),
    ] {
        assert_on_page(metric.name(), metric.score(&outputs).unwrap().aggregate);
    }
    let confusion = Confusion::new(&outputs.labels()).unwrap();
    assert_eq!(confusion.matrix(), [[1, 0, 0], [1, 1, 0], [0, 0, 1]]);

    let task = ClassTask::MultiLabel { n_labels: 2 };
    let outputs =
        ClassOutputs::from_logits(task, Link::Sigmoid, &[2.0, -1.0, 0.5, 1.0], &[1, 0, 0, 1]).unwrap();
    for (name, metric) in [
        ("Accuracy, two labels", ClassMetric::Accuracy),
        ("SubsetAccuracy, two labels", ClassMetric::SubsetAccuracy),
    ] {
        assert_on_page(name, metric.score(&outputs).unwrap().aggregate);
    }
}

#[test]
fn numbers() {
    let values = Values::new(1, &[2.5, 0.0, 2.0, 8.0], &[3.0, -0.5, 2.0, 7.0]).unwrap();
    for metric in [RegressionMetric::Mse, RegressionMetric::Mae, RegressionMetric::Rmse, RegressionMetric::R2]
    {
        assert_on_page(metric.name(), metric.score(&values).unwrap().aggregate);
    }
}
