//! What a run is judged by: the metric that chooses its best checkpoint.

use tunesmith_config::{ExperimentConfig, Metric};

/// A metric as a judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judge {
    /// The metric in use, which is another than the configured one where nobody is there to grade.
    pub metric: Metric,
    /// Its name in events and tables.
    pub name: &'static str,
    /// Whether a larger value is a better one.
    pub higher_is_better: bool,
    /// Whether it looks at generated texts.
    pub needs_text: bool,
    /// The column of the table of predictions that tells good from bad samples.
    pub sort_column: &'static str,
}

/// What runs of a configuration are judged by; `has_model` says whether there is a model that grades answers, whose place
/// Perplexity takes otherwise. The configuration has been checked, so the metric fits its problem type.
pub fn judged_by(config: &ExperimentConfig, has_model: bool) -> Judge {
    let metric = match config.prediction.metric {
        Metric::Gpt if !has_model => Metric::Perplexity,
        metric => metric,
    };
    let needs_text = matches!(
        metric,
        Metric::Bleu | Metric::RougeL | Metric::ExactMatch | Metric::FinalNumber | Metric::Gpt
    );
    let higher_is_better = needs_text
        || matches!(metric, Metric::Auc | Metric::Accuracy | Metric::F1Macro | Metric::F1Micro | Metric::R2);
    let name = metric.as_str();
    let sort_column = match metric {
        Metric::Perplexity => "perplexity",
        _ if needs_text => name,
        _ => "loss",
    };
    Judge { metric, name, higher_is_better, needs_text, sort_column }
}

impl Judge {
    /// Whether `value` is better than the best so far.
    pub fn is_better(&self, value: f64, best: Option<f64>) -> bool {
        match best {
            None => true,
            Some(best) if self.higher_is_better => value > best,
            Some(best) => value < best,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(metric: Metric) -> Judge {
        let mut config = ExperimentConfig::default();
        config.prediction.metric = metric;
        judged_by(&config, true)
    }

    #[test]
    fn directions() {
        for metric in Metric::ALL {
            let is_loss = matches!(metric, Metric::Perplexity | Metric::LogLoss | Metric::Mse | Metric::Mae);
            assert_eq!(judge(*metric).higher_is_better, !is_loss, "{metric}");
        }
        assert!(
            judge(Metric::Auc).is_better(0.6, Some(0.5)) && !judge(Metric::Auc).is_better(0.5, Some(0.5))
        );
        assert!(judge(Metric::Mse).is_better(0.4, Some(0.5)) && judge(Metric::Mse).is_better(9.0, None));
    }

    #[test]
    fn gv_11_2_a_judge_that_is_not_there_is_replaced() {
        let config = ExperimentConfig::default();
        assert_eq!(judged_by(&config, false), judge(Metric::Perplexity));
        assert_eq!((judge(Metric::Gpt).name, judge(Metric::Gpt).sort_column), ("GPT", "GPT"));
        assert_eq!(judge(Metric::Bleu).sort_column, "BLEU");
    }
}
