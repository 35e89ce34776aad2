//! What holds for any input: permutation, range, identity, and errors instead of panics.

use proptest::prelude::*;
use tunesmith_metrics::{
    Average, ClassMetric, ClassOutputs, ClassTask, Direction, ExactMatch, JudgeTemplate, Link, MetricError,
    RegressionMetric, Rouge, RougeKind, TextMetric, TextPrediction, Unjudged, Values, Verdict, corpus_bleu,
    judge_scores, means_by_category, mt_bench_template, perplexity, shipped_template,
};

fn text_metrics() -> Vec<TextMetric> {
    let mut metrics = vec![TextMetric::Bleu];
    for final_number in [false, true] {
        metrics.push(TextMetric::ExactMatch(ExactMatch { trimmed: true, ignore_case: true, final_number }));
    }
    for kind in [RougeKind::One, RougeKind::Two, RougeKind::L] {
        metrics.extend([false, true].map(|use_stemmer| TextMetric::Rouge(Rouge { kind, use_stemmer })));
    }
    metrics
}

const CLASS_METRICS: [ClassMetric; 10] = [
    ClassMetric::Accuracy,
    ClassMetric::SubsetAccuracy,
    ClassMetric::Auc,
    ClassMetric::LogLoss,
    ClassMetric::Precision(Average::Macro),
    ClassMetric::Precision(Average::Micro),
    ClassMetric::Recall(Average::Macro),
    ClassMetric::Recall(Average::Micro),
    ClassMetric::F1(Average::Macro),
    ClassMetric::F1(Average::Micro),
];
const REGRESSION_METRICS: [RegressionMetric; 4] =
    [RegressionMetric::Mse, RegressionMetric::Mae, RegressionMetric::Rmse, RegressionMetric::R2];

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-11 * a.abs().max(b.abs()).max(1.0)
}

/// Texts with words that repeat, and texts of anything.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["([a-c]|the|[0-9.,-]{1,4}|#### ?[0-9]|[ \n.,-]){0,12}", "\\PC{0,20}", any::<String>()]
}

proptest! {
    #[test]
    fn text_metrics_stay_in_range_and_do_not_depend_on_the_order(
        texts in prop::collection::vec((text(), text()), 1..8)
    ) {
        let mut pairs: Vec<_> =
            texts.iter().map(|(predicted, target)| TextPrediction { predicted, target }).collect();
        let forward: Vec<_> = text_metrics().iter().map(|metric| metric.score(&pairs).unwrap()).collect();
        let corpus = corpus_bleu(&pairs).unwrap();
        pairs.reverse();
        for (metric, forward) in text_metrics().iter().zip(forward) {
            let most = if *metric == TextMetric::Bleu { 100.0 + 1e-12 } else { 1.0 };
            let mut backward = metric.score(&pairs).unwrap();
            backward.per_sample.reverse();
            prop_assert_eq!(&backward.per_sample, &forward.per_sample);
            prop_assert!(close(backward.aggregate, forward.aggregate));
            prop_assert!(forward.per_sample.iter().all(|score| (0.0..=most).contains(&score.unwrap())));
        }
        prop_assert_eq!(corpus_bleu(&pairs).unwrap(), corpus);
    }

    #[test]
    fn a_text_matches_itself(words in prop::collection::vec("[a-z]{1,6}", 2..40)) {
        let text = words.join(" ");
        for metric in text_metrics() {
            let best = if metric == TextMetric::Bleu { 100.0 } else { 1.0 };
            let found = metric.score(&[TextPrediction { predicted: &text, target: &text }]).unwrap();
            prop_assert!(close(found.aggregate, best), "{} gives {}", metric.name(), found.aggregate);
        }
    }

    #[test]
    fn class_metrics_do_not_depend_on_the_order_and_the_truth_is_perfect(
        samples in prop::collection::vec((prop::collection::vec(-9.0_f64..9.0, 3), 0_usize..3), 1..30)
    ) {
        let task = ClassTask::MultiClass { n_classes: 3 };
        let outputs = |samples: &[(Vec<f64>, usize)]| {
            let logits: Vec<f64> = samples.iter().flat_map(|(logits, _)| logits.clone()).collect();
            let targets: Vec<usize> = samples.iter().map(|(_, target)| *target).collect();
            ClassOutputs::from_logits(task, Link::Softmax, &logits, &targets).unwrap()
        };
        let forward = outputs(&samples);
        let mut truth = samples.clone();
        for (logits, target) in &mut truth {
            *logits = vec![0.0; 3];
            logits[*target] = 50.0;
        }
        let truth = outputs(&truth);
        let mut reversed = samples;
        reversed.reverse();
        let backward = outputs(&reversed);
        for metric in CLASS_METRICS {
            match (metric.score(&forward), metric.score(&backward)) {
                (Ok(a), Ok(b)) => {
                    prop_assert!(close(a.aggregate, b.aggregate));
                    let best = if metric.direction() == Direction::LowerIsBetter { 0.0 } else { 1.0 };
                    prop_assert!(close(metric.score(&truth).unwrap().aggregate, best), "{}", metric.name());
                    prop_assert!(metric == ClassMetric::LogLoss || (0.0..=1.0).contains(&a.aggregate));
                }
                (a, b) => {
                    prop_assert!(a.is_err() && b.is_err() && metric == ClassMetric::Auc);
                }
            }
        }
    }

    #[test]
    fn broken_numbers_are_errors_that_name_the_sample(
        n in 1_usize..20, at in any::<prop::sample::Index>(),
        value in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY)]
    ) {
        let at = at.index(n);
        let mut numbers = vec![0.5; n];
        numbers[at] = value;
        let names_it = |error| matches!(error, MetricError::NotFinite { sample, .. } if sample == at);
        let labels = vec![1; n];
        prop_assert!(names_it(
            ClassOutputs::from_logits(ClassTask::Binary, Link::Sigmoid, &numbers, &labels).unwrap_err()
        ));
        prop_assert!(names_it(Values::new(1, &numbers, &vec![0.5; n]).unwrap_err()));
        prop_assert!(names_it(Values::new(1, &vec![0.5; n], &numbers).unwrap_err()));
        let scores: Vec<_> = numbers.iter().copied().map(Some).collect();
        prop_assert!(names_it(judge_scores(&scores, Unjudged::IsLeftOut).unwrap_err()));
        if value.is_nan() {
            prop_assert!(names_it(perplexity(&scores).unwrap_err()));
        }
    }

    #[test]
    fn regression_metrics_do_not_depend_on_the_order_and_the_truth_is_perfect(
        pairs in prop::collection::vec((-9.0_f64..9.0, -9.0_f64..9.0), 2..30)
    ) {
        let values = |pairs: &[(f64, f64)]| {
            let (predicted, targets): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
            (Values::new(1, &predicted, &targets).unwrap(), Values::new(1, &targets, &targets).unwrap())
        };
        let (forward, truth) = values(&pairs);
        let mut reversed = pairs;
        reversed.reverse();
        let (backward, _) = values(&reversed);
        for metric in REGRESSION_METRICS {
            let aggregate = |values| metric.score(values).unwrap().aggregate;
            prop_assert!(close(aggregate(&forward), aggregate(&backward)));
            let best = if metric == RegressionMetric::R2 { 1.0 } else { 0.0 };
            prop_assert_eq!(aggregate(&truth), best);
            prop_assert!(metric == RegressionMetric::R2 || 0.0 <= aggregate(&forward));
        }
    }

    #[test]
    fn any_text_is_a_template_or_an_error_and_any_answer_too(text in any::<String>()) {
        if let Ok(template) = JudgeTemplate::parse(&text) {
            template.fill(|_| Some("{")).unwrap();
        }
        let _ = Verdict::parse(&text);
        let _ = Verdict::parse(&format!("{text} SCORE: {text}"));
    }
}

#[test]
fn nothing_is_an_error() {
    let no_classes =
        ClassOutputs::from_logits(ClassTask::MultiClass { n_classes: 0 }, Link::Softmax, &[], &[]).unwrap();
    let nothing = ClassOutputs::from_logits(ClassTask::Binary, Link::Sigmoid, &[], &[]).unwrap();
    for metric in CLASS_METRICS {
        let empty = Err(MetricError::Empty { metric: metric.name() });
        assert_eq!(metric.score(&nothing), empty);
        assert_eq!(metric.score(&no_classes), empty);
    }
    let nothing = Values::new(0, &[], &[]).unwrap();
    for metric in REGRESSION_METRICS {
        assert_eq!(metric.score(&nothing), Err(MetricError::Empty { metric: metric.name() }));
    }
    perplexity(&[]).unwrap_err();
    assert_eq!(perplexity(&[None]), Err(MetricError::NoneScored { metric: "Perplexity", n_samples: 1 }));
    judge_scores(&[], Unjudged::CountsZero).unwrap_err();
}

#[test]
fn one_class_has_a_loss_and_no_area() {
    let outputs = ClassOutputs::from_logits(ClassTask::Binary, Link::Sigmoid, &[0.0, 1.0], &[1, 1]).unwrap();
    let error = MetricError::OneClass { metric: "AUC", column: 0, label: 1 };
    assert_eq!(ClassMetric::Auc.score(&outputs), Err(error));
    assert!(0.0 < ClassMetric::LogLoss.score(&outputs).unwrap().aggregate);
}

#[test]
fn a_sure_and_wrong_answer_costs_what_the_clip_allows() {
    let sure = || ClassOutputs::from_probabilities(ClassTask::Binary, &[0.0], &[1]).unwrap();
    let loss = |outputs| ClassMetric::LogLoss.score(&outputs).unwrap().aggregate;
    assert_eq!(loss(sure()), -f64::EPSILON.ln());
    assert_eq!(loss(sure().with_clip(f64::from(f32::EPSILON))), -f64::from(f32::EPSILON).ln());
    assert!(loss(sure().with_clip(f64::NAN)).is_finite());
}

#[test]
fn labels_and_lengths_that_do_not_fit_are_named() {
    let task = ClassTask::MultiClass { n_classes: 2 };
    let of =
        |outputs: &[f64], targets: &[usize]| ClassOutputs::from_logits(task, Link::Softmax, outputs, targets);
    let unknown = MetricError::UnknownClass { sample: 1, what: "target", label: 2, n_classes: 2 };
    assert_eq!(of(&[0.0; 4], &[1, 2]), Err(unknown));
    assert_eq!(
        of(&[0.0; 3], &[1, 1]),
        Err(MetricError::LengthMismatch { what: "outputs", expected: 4, found: 3 })
    );
    let no_question =
        ClassOutputs::from_logits(ClassTask::MultiLabel { n_labels: 0 }, Link::Sigmoid, &[], &[1]);
    assert_eq!(no_question, Err(MetricError::LengthMismatch { what: "labels", expected: 0, found: 1 }));
    let improper = ClassOutputs::from_probabilities(ClassTask::Binary, &[0.5, 1.5], &[1, 0]);
    assert_eq!(improper, Err(MetricError::NotAProbability { sample: 1, value: 1.5 }));
}

#[test]
fn names_are_those_of_the_experiment_files_and_all_differ() {
    let mut names: Vec<&str> = CLASS_METRICS.iter().map(|metric| metric.name()).collect();
    names.extend(REGRESSION_METRICS.iter().map(|metric| metric.name()));
    names.extend([tunesmith_metrics::PERPLEXITY, tunesmith_metrics::JUDGE]);
    for metric in text_metrics() {
        if !names.contains(&metric.name()) {
            names.push(metric.name());
        }
    }
    for known in ["BLEU", "GPT", "Perplexity", "AUC", "Accuracy", "LogLoss", "MSE", "MAE"] {
        assert!(names.contains(&known), "{known}");
    }
    let n_names = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), n_names);
}

#[test]
fn shipped_templates_ask_for_what_is_there() {
    for name in ["general", "rag", "mt-bench", "mt-bench-reference"] {
        let template = JudgeTemplate::parse(shipped_template(name).unwrap()).unwrap();
        let columns: Vec<&str> = template.columns().collect();
        assert!(columns.contains(&"_PREDICTED_TEXT"), "{name}");
        assert_eq!(columns.contains(&"_TARGET_TEXT"), name != "mt-bench", "{name}");
        assert_eq!(columns.contains(&"context_truncated") && columns.contains(&"question"), name == "rag");
        assert!(template.fill(|_| Some("x")).unwrap().contains("SCORE:"), "{name}");
    }
    assert_eq!(shipped_template("other"), None);
    assert_eq!(mt_bench_template("math"), "mt-bench-reference");
    assert_eq!(mt_bench_template("writing"), "mt-bench");
}

#[test]
fn failed_requests_count_zero_or_nothing() {
    let scores = [Some(1.0), None, Some(0.5)];
    let zero = judge_scores(&scores, Unjudged::CountsZero).unwrap();
    assert_eq!((zero.aggregate, zero.per_sample[1]), (0.5, Some(0.0)));
    let left_out = judge_scores(&scores, Unjudged::IsLeftOut).unwrap();
    assert_eq!((left_out.aggregate, left_out.per_sample[1]), (0.75, None));
    judge_scores(&[None], Unjudged::IsLeftOut).unwrap_err();
    let means = means_by_category(["math", "math", "writing"].into_iter().zip(scores));
    assert_eq!(means.into_iter().collect::<Vec<_>>(), [("math", 1.0), ("writing", 0.5)]);
}
