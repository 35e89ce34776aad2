//! Scores of a head against the classes, labels or numbers they should be: all metrics of the problem type at once.

use std::collections::BTreeMap;

use tunesmith_config::{ExperimentConfig, LabelForm, Metric, ProblemType};
use tunesmith_data::joined_labels;
use tunesmith_metrics::{
    Average, ClassCounts, ClassMetric, ClassOutputs, ClassTask, Confusion, Link, MetricError,
    RegressionMetric, Values,
};

use crate::error::TrainError;
use crate::predictions::{ConfusionTable, number_text};

/// Metrics, and what the table says of each sample.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// By name; without those that have no value for these samples.
    pub(crate) metrics: BTreeMap<String, f64>,
    pub(crate) columns: Vec<String>,
    /// One entry for each sample, of one cell for each column.
    pub(crate) cells: Vec<Vec<String>>,
    /// Of classes and labels: what was taken for what.
    pub(crate) confusion: Vec<ConfusionTable>,
}

/// Compares the scores of each sample with its values.
///
/// # Errors
/// When a score is not finite.
pub(crate) fn measure(
    config: &ExperimentConfig,
    scores: &[Vec<f32>],
    targets: &[&[f32]],
) -> Result<Measured, TrainError> {
    let flat: Vec<f64> = scores.iter().flatten().copied().map(f64::from).collect();
    let (metrics, confusion) = match config.problem_type {
        ProblemType::CausalRegressionModeling => (regression(config, &flat, targets)?, Vec::new()),
        _ => classification(config, &flat, targets)?,
    };
    let (columns, cells) = described(config, scores);
    Ok(Measured { metrics, columns, cells, confusion })
}

/// What a table says of the scores: names of columns, and for each sample a cell for each column. Classes and labels come
/// with their probabilities.
pub(crate) fn described(config: &ExperimentConfig, scores: &[Vec<f32>]) -> (Vec<String>, Vec<Vec<String>>) {
    let columns = config.dataset.answer_column.all();
    let Some(form) = config.label_form() else {
        let numbers = |scores: &Vec<f32>| scores.iter().map(|score| rounded(*score)).collect();
        return (names("prediction", columns), scores.iter().map(numbers).collect());
    };
    let labels = config.class_labels();
    let (predictions, probabilities) = match form {
        LabelForm::SingleLabel | LabelForm::LabelLists => {
            (vec!["prediction".to_owned()], each("probability", &labels))
        }
        LabelForm::LabelColumns => (each("prediction", columns), each("probability", columns)),
        // Of the second class; which one that is has to be said where it has a name.
        LabelForm::Binary if config.dataset.class_names.is_empty() => {
            (vec!["prediction".to_owned()], vec!["probability".to_owned()])
        }
        LabelForm::Binary => {
            (vec!["prediction".to_owned()], each("probability", labels.get(1..).unwrap_or_default()))
        }
    };
    let cells = scores.iter().map(|scores| class_cells(config, form, &labels, scores)).collect();
    (predictions.into_iter().chain(probabilities).collect(), cells)
}

fn regression(
    config: &ExperimentConfig,
    flat: &[f64],
    targets: &[&[f32]],
) -> Result<BTreeMap<String, f64>, TrainError> {
    let flat_targets: Vec<f64> = targets.iter().copied().flatten().copied().map(f64::from).collect();
    let values = Values::new(config.dataset.answer_column.all().len(), flat, &flat_targets)?;
    let metrics = [
        (Metric::Mse, RegressionMetric::Mse),
        (Metric::Mae, RegressionMetric::Mae),
        (Metric::R2, RegressionMetric::R2),
    ];
    let figures = metrics.into_iter().filter_map(|(metric, regression)| {
        let aggregate = regression.score(&values).ok()?.aggregate;
        Some((metric.as_str().to_owned(), aggregate))
    });
    Ok(figures.collect())
}

fn classification(
    config: &ExperimentConfig,
    flat: &[f64],
    targets: &[&[f32]],
) -> Result<(BTreeMap<String, f64>, Vec<ConfusionTable>), TrainError> {
    let n_labels = config.class_labels().len();
    let (task, link) = match config.label_form() {
        Some(LabelForm::SingleLabel) => (ClassTask::MultiClass { n_classes: n_labels }, Link::Softmax),
        Some(LabelForm::LabelColumns | LabelForm::LabelLists) => {
            (ClassTask::MultiLabel { n_labels }, Link::Sigmoid)
        }
        Some(LabelForm::Binary) | None => (ClassTask::Binary, Link::Sigmoid),
    };
    let classes: Vec<usize> = targets.iter().copied().flatten().map(|value| *value as usize).collect();
    let outputs = ClassOutputs::from_logits(task, link, flat, &classes)?;
    let metrics = [
        (Metric::Auc, ClassMetric::Auc),
        (Metric::Accuracy, ClassMetric::Accuracy),
        (Metric::LogLoss, ClassMetric::LogLoss),
        (Metric::F1Macro, ClassMetric::F1(Average::Macro)),
        (Metric::F1Micro, ClassMetric::F1(Average::Micro)),
    ];
    let mut figures = BTreeMap::new();
    for (metric, class_metric) in metrics {
        match class_metric.score(&outputs) {
            Ok(scores) => {
                figures.insert(metric.as_str().to_owned(), scores.aggregate);
            }
            // There is no curve over samples that are all alike.
            Err(MetricError::OneClass { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((figures, confusion(config, &Confusion::new(&outputs.labels())?)))
}

/// One table of all classes, or one of no and yes for each of several labels.
fn confusion(config: &ExperimentConfig, found: &Confusion) -> Vec<ConfusionTable> {
    let labels = config.class_labels();
    if found.matrix().is_empty() {
        let of_label = |counts: &ClassCounts| {
            vec![
                vec![counts.true_negatives, counts.false_positives],
                vec![counts.false_negatives, counts.true_positives],
            ]
        };
        let tables = labels.into_iter().zip(found.counts().iter().map(of_label));
        let no_and_yes = || vec!["0".to_owned(), "1".to_owned()];
        return tables
            .map(|(column, counts)| ConfusionTable { column, labels: no_and_yes(), counts })
            .collect();
    }
    let column = config.dataset.answer_column.first().to_owned();
    vec![ConfusionTable { column, labels, counts: found.matrix().to_vec() }]
}

/// What is predicted of a sample, and with which probabilities.
fn class_cells(config: &ExperimentConfig, form: LabelForm, labels: &[String], scores: &[f32]) -> Vec<String> {
    let label = |class: usize| labels.get(class).cloned().unwrap_or_else(|| class.to_string());
    if form == LabelForm::SingleLabel {
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f64> = scores.iter().map(|score| f64::from(score - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        let predicted = scores.iter().position(|score| *score == largest).unwrap_or_default();
        let probabilities = weights.iter().map(|weight| rounded((weight / total) as f32));
        return std::iter::once(label(predicted)).chain(probabilities).collect();
    }
    let probabilities: Vec<f64> =
        scores.iter().map(|score| 1.0 / (1.0 + (-f64::from(*score)).exp())).collect();
    let is_likely = |probability: &f64| *probability > 0.5;
    let predicted: Vec<String> = match form {
        LabelForm::LabelLists => {
            let flags: Vec<bool> = probabilities.iter().map(is_likely).collect();
            vec![joined_labels(labels, &flags, &config.dataset.label_separator)]
        }
        LabelForm::Binary => probabilities.iter().map(|p| label(usize::from(is_likely(p)))).collect(),
        _ => probabilities.iter().map(|p| u8::from(is_likely(p)).to_string()).collect(),
    };
    predicted.into_iter().chain(probabilities.into_iter().map(|p| rounded(p as f32))).collect()
}

/// One `what_part` for each part.
fn each(what: &str, parts: &[String]) -> Vec<String> {
    parts.iter().map(|part| format!("{what}_{part}")).collect()
}

/// `what`, or one `what_part` for each of several parts.
fn names(what: &str, parts: &[String]) -> Vec<String> {
    match parts {
        [_] => vec![what.to_owned()],
        parts => each(what, parts),
    }
}

/// To the last digit that a float32 has.
fn rounded(number: f32) -> String {
    if number.is_finite() { number.to_string() } else { number_text(f64::from(number)) }
}

#[cfg(test)]
mod tests {
    use tunesmith_config::LossFunction;

    use super::*;

    #[test]
    fn classes_are_the_largest_scores() {
        let mut config = ExperimentConfig::for_problem_type(ProblemType::CausalClassificationModeling);
        config.training.loss_function = LossFunction::CrossEntropyLoss;
        config.dataset.num_classes = 3;
        let scores = [vec![0.1, 0.8, 0.1], vec![0.7, 0.2, 0.1], vec![0.1, 0.1, 0.8], vec![0.3, 0.3, 0.4]];
        let targets = [[1.0], [0.0], [2.0], [2.0]];
        let targets: Vec<&[f32]> = targets.iter().map(|target| target.as_slice()).collect();
        let measured = measure(&config, &scores, &targets).unwrap();
        // The published figure of these scores.
        assert!((measured.metrics["LogLoss"] - 0.795_117_897_7).abs() < 1e-6, "{measured:?}");
        assert_eq!(measured.metrics["Accuracy"], 1.0);
        assert_eq!(measured.columns, ["prediction", "probability_0", "probability_1", "probability_2"]);
        assert_eq!(measured.cells[3][0], "2");
        assert_eq!(measured.confusion[0].counts, [[1, 0, 0], [0, 1, 0], [0, 0, 2]]);
    }

    #[test]
    fn a_metric_without_a_value_is_left_out() {
        let config = ExperimentConfig::for_problem_type(ProblemType::CausalClassificationModeling);
        let targets: [&[f32]; 2] = [&[1.0], &[1.0]];
        let measured = measure(&config, &[vec![2.0], vec![-1.0]], &targets).unwrap();
        assert!(!measured.metrics.contains_key("AUC") && measured.metrics["Accuracy"] == 0.5);
        assert_eq!(measured.columns, ["prediction", "probability"]);
        assert_eq!(measured.cells[1][0], "0");
    }

    #[test]
    fn labels_have_a_table_of_no_and_yes_each() {
        let mut config = ExperimentConfig::for_problem_type(ProblemType::CausalClassificationModeling);
        config.dataset.answer_column = vec!["x".to_owned(), "y".to_owned()].into();
        let targets: [&[f32]; 3] = [&[1.0, 0.0], &[0.0, 0.0], &[1.0, 1.0]];
        let scores = [vec![2.0, -1.0], vec![3.0, -1.0], vec![-2.0, 1.0]];
        let confusion = measure(&config, &scores, &targets).unwrap().confusion;
        assert_eq!((confusion[0].column.as_str(), confusion[1].column.as_str()), ("x", "y"));
        assert_eq!(confusion[0].counts, [[0, 1], [1, 1]]);
        assert_eq!(confusion[1].counts, [[2, 0], [0, 1]]);
    }

    /// A classification with these names of classes.
    fn named(loss: LossFunction, num_classes: usize, names: &[&str]) -> ExperimentConfig {
        let mut config = ExperimentConfig::for_problem_type(ProblemType::CausalClassificationModeling);
        config.training.loss_function = loss;
        config.dataset.num_classes = num_classes;
        config.dataset.class_names = names.iter().map(|name| (*name).to_owned()).collect();
        config
    }

    #[test]
    fn classes_are_predicted_by_their_names() {
        let config = named(LossFunction::CrossEntropyLoss, 2, &["ham", "spam"]);
        let targets: [&[f32]; 2] = [&[1.0], &[0.0]];
        let measured = measure(&config, &[vec![0.0, 3.0], vec![0.0, 1.0]], &targets).unwrap();
        assert_eq!(measured.columns, ["prediction", "probability_ham", "probability_spam"]);
        assert_eq!([&measured.cells[0][0], &measured.cells[1][0]], ["spam", "spam"]);
        assert_eq!(measured.confusion[0].labels, ["ham", "spam"]);
        assert_eq!(measured.confusion[0].counts, [[0, 1], [0, 1]]);

        let config = named(LossFunction::BinaryCrossEntropyLoss, 1, &["ham", "spam"]);
        let measured = measure(&config, &[vec![2.0], vec![-1.0]], &targets).unwrap();
        assert_eq!(measured.columns, ["prediction", "probability_spam"]);
        assert_eq!([&measured.cells[0][0], &measured.cells[1][0]], ["spam", "ham"]);
        assert_eq!(
            (&measured.confusion[0].labels[1], measured.metrics["Accuracy"]),
            (&"spam".to_owned(), 1.0)
        );
    }

    #[test]
    fn labels_of_one_column_are_predicted_as_its_cells_are_written() {
        let mut config = named(LossFunction::BinaryCrossEntropyLoss, 3, &["a", "b", "c"]);
        let targets: [&[f32]; 2] = [&[1.0, 0.0, 1.0], &[0.0, 0.0, 0.0]];
        let scores = [vec![2.0, -1.0, 1.0], vec![-3.0, -1.0, -2.0]];
        let measured = measure(&config, &scores, &targets).unwrap();
        assert_eq!(measured.columns, ["prediction", "probability_a", "probability_b", "probability_c"]);
        assert_eq!([&measured.cells[0][0], &measured.cells[1][0]], ["[\"a\",\"c\"]", "[]"]);
        assert_eq!((measured.confusion.len(), measured.confusion[2].column.as_str()), (3, "c"));
        assert_eq!(measured.confusion[2].counts, [[1, 0], [0, 1]]);
        assert_eq!(measured.metrics["F1-micro"], 1.0);
        config.dataset.label_separator = "|".to_owned();
        assert_eq!(measure(&config, &scores, &targets).unwrap().cells[0][0], "a|c");
    }

    #[test]
    fn numbers_have_a_column_each() {
        let mut config = ExperimentConfig::for_problem_type(ProblemType::CausalRegressionModeling);
        config.dataset.answer_column = vec!["x".to_owned(), "y".to_owned()].into();
        let targets: [&[f32]; 2] = [&[2.0, 3.0], &[3.0, 3.0]];
        let measured = measure(&config, &[vec![1.0, 2.0], vec![3.0, 4.0]], &targets).unwrap();
        assert_eq!((measured.metrics["MSE"], measured.metrics["MAE"]), (0.75, 0.75));
        assert_eq!(measured.columns, ["prediction_x", "prediction_y"]);
    }
}
