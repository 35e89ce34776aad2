//! `prediction`: validation metric and text generation.

use super::{CLASSIFICATION, CLASSIFICATION_AND_REGRESSION, PRETRAINING, REGRESSION};
use crate::choices::{JudgeFailures, Metric, ProblemType};
use crate::declare::fields;
use crate::field::{facets, is};

/// The metrics of generated texts, and of each problem type.
const TEXT_METRICS: &[&str] = &["Perplexity", "BLEU", "ROUGE-L", "ExactMatch", "FinalNumber", "GPT"];
const METRICS: &[(ProblemType, &[&str])] = &[
    (ProblemType::CausalLanguageModeling, TEXT_METRICS),
    (ProblemType::ContinuedPretraining, &["Perplexity"]),
    (ProblemType::SequenceToSequenceModeling, TEXT_METRICS),
    (ProblemType::DpoModeling, TEXT_METRICS),
    (ProblemType::CausalClassificationModeling, &["AUC", "Accuracy", "LogLoss", "F1-macro", "F1-micro"]),
    (ProblemType::CausalRegressionModeling, &["MSE", "MAE", "R2"]),
];

fields! {
    /// Validation metric and text generation.
    pub struct Prediction in "prediction" {
        /// Number the validation is judged by, and by which the best checkpoint is chosen. Perplexity, classes and
        /// numbers need no generated text; BLEU, ROUGE-L, ExactMatch (the whole answer) and FinalNumber (the last
        /// number of an answer, as in sums) compare one with the expected answer. GPT has another model grade the answers:
        /// the server that OPENAI_API_KEY or OPENAI_API_BASE name; where neither is set, Perplexity takes its place, with
        /// a warning.
        metric: Metric = Metric::Gpt
            => facets().choices_for(METRICS).default_for(&[
                (CLASSIFICATION, "AUC"),
                (REGRESSION, "MSE"),
                (PRETRAINING, "Perplexity"),
            ]);
        /// Model that grades answers when the metric is GPT.
        metric_gpt_model: String = "gpt-3.5-turbo-0301".to_owned()
            => facets().when(&[is("metric", "GPT")]).not_for(CLASSIFICATION_AND_REGRESSION).suggest(&[
                "gpt-3.5-turbo-0301",
                "gpt-3.5-turbo-0613",
                "gpt-4-0314",
                "gpt-4-0613",
                "gpt-4-1106-preview",
            ]);
        /// Instructions the grading model gets when the metric is GPT: `general`, `rag` or `mt-bench`, or the name of a
        /// file NAME.txt in the folder `prompts` beside the run's working folder (TUNESMITH_PROMPTS names another).
        metric_gpt_template: String = "general".to_owned()
            => facets().when(&[is("metric", "GPT")]).not_for(CLASSIFICATION_AND_REGRESSION)
                .suggest(&["general", "rag", "mt-bench"]);
        /// What an answer counts that the grading model did not grade: `left_out` of the mean, or `zero`, as in H2O LLM Studio.
        metric_gpt_failures: JudgeFailures = JudgeFailures::LeftOut
            => facets().when(&[is("metric", "GPT")]).not_for(CLASSIFICATION_AND_REGRESSION);
        /// Fewest tokens of a generated answer.
        min_length_inference: usize = 2
            => facets().at_least(0.0).slider(0.0, 1024.0, 1.0).not_for(CLASSIFICATION_AND_REGRESSION);
        /// Most tokens of a generated answer.
        max_length_inference: usize = 256
            => facets().at_least(1.0).slider(1.0, 4096.0, 1.0).not_for(CLASSIFICATION_AND_REGRESSION);
        /// Seconds after which generation of a batch stops. 0: no limit.
        max_time: f64 = 0.0
            => facets().at_least(0.0).slider(0.0, 600.0, 1.0).not_for(CLASSIFICATION_AND_REGRESSION);
        /// Samples in one evaluation or generation batch. 0: as many as in training.
        batch_size_inference: usize = 0 => facets().at_least(0.0).slider(0.0, 512.0, 1.0);
        /// Draws the next token by its probability instead of always taking the most likely one.
        do_sample: bool = false => facets().not_for(CLASSIFICATION_AND_REGRESSION);
        /// Number of texts that are followed side by side before the likeliest one is taken (beam search); 1 follows a
        /// single text. Only without `do_sample`.
        num_beams: usize = 1
            => facets().at_least(1.0).slider(1.0, 4.0, 1.0).not_for(CLASSIFICATION_AND_REGRESSION);
        /// Evenness of the draw when `do_sample` is on: below 1 likely tokens get likelier, above 1 the choice
        /// gets wilder.
        temperature: f64 = 0.0
            => facets().at_least(0.0).slider(0.0, 10.0, 0.05).not_for(CLASSIFICATION_AND_REGRESSION);
        /// Makes tokens that already occurred less likely. 1 switches it off.
        repetition_penalty: f64 = 1.0
            => facets().above(0.0).slider(1.0, 10.0, 0.025).not_for(CLASSIFICATION_AND_REGRESSION);
        /// Texts that end an answer, separated by commas, besides the marker texts and the end-of-text token.
        stop_tokens: String = String::new() => facets().not_for(CLASSIFICATION_AND_REGRESSION);
        /// Draws only among this many most likely tokens when `do_sample` is on. 0: among all.
        top_k: usize = 0 => facets().at_least(0.0).slider(0.0, 100.0, 1.0).not_for(CLASSIFICATION_AND_REGRESSION);
        /// Draws only among the most likely tokens that together reach this probability when `do_sample` is on.
        /// 1: among all.
        top_p: f64 = 1.0
            => facets().above_to(0.0, 1.0).slider(0.5, 1.0, 0.05).not_for(CLASSIFICATION_AND_REGRESSION);
        /// Draws only among tokens at least so probable as the most likely one times this when `do_sample` is on, after
        /// the other limits. 0: among all.
        min_p: f64 = 0.0
            => facets().within(0.0, 1.0).slider(0.0, 0.5, 0.01).not_for(CLASSIFICATION_AND_REGRESSION);
        /// Earlier messages that a chat with the model keeps in view.
        num_history: usize = 4 => facets().at_least(1.0).slider(1.0, 50.0, 1.0).hidden();
    }
}
