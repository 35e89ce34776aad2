//! What training will see: the exact tokens of a few samples, which of them are learned, and what stands out over
//! the whole set. [`crate::preview_render`] makes it readable; as JSON it is this module's data.

use std::path::PathBuf;

use serde::Serialize;
use tunesmith_config::{ExperimentConfig, LabelForm};
use tunesmith_formats::tokenizer::Tokenizer;

use crate::batch::{BatchOptions, plan_epoch};
use crate::conversation::{Conversation, Target};
use crate::error::{DataError, Result};
use crate::preview_render::count;
use crate::sample::Assembler;
use crate::samples::{SampleSet, TokenizeReport, tokenize, unknown_text};
use crate::token_sample::{SampleNotes, TokenSample};

/// Which samples to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreviewOptions {
    /// How many, from the first one on.
    pub n_samples: usize,
    /// Those of these rows instead, in this order, when there are any.
    pub rows: Vec<usize>,
    /// Where tokens of earlier runs are kept.
    pub cache_dir: Option<PathBuf>,
}

/// A few samples and a summary of all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preview {
    /// The samples asked for.
    pub samples: Vec<PreviewSample>,
    /// Counts over the whole set.
    pub statistics: Statistics,
    /// How the set fills micro-batches.
    pub packing: PackingSummary,
    /// What the reader decided and noticed, in sentences; empty until the caller has put them here.
    pub notes: Vec<String>,
    /// What the user should know before training, in sentences.
    pub warnings: Vec<String>,
}

/// One sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PreviewSample {
    /// Its row in the data.
    pub row: usize,
    /// Its tokens, in order.
    pub tokens: Vec<PreviewToken>,
    /// What is predicted from its last token; `None` where tokens are learned.
    pub target: Option<PreviewTarget>,
    /// How many of them are learned.
    pub n_trained: usize,
    /// Tokens of system texts and prompts that were cut off.
    pub n_prompt_cut: usize,
    /// Tokens of answers that were cut off.
    pub n_answer_cut: usize,
    /// What is wrong with it, in sentences.
    pub warnings: Vec<String>,
}

/// One token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PreviewToken {
    /// Its id.
    pub id: u32,
    /// Its text, readable: bytes that are no whole character as `<0xE2>`.
    pub text: String,
    /// Whether the model learns to produce it.
    pub trained: bool,
    /// Whether it is a special token.
    pub special: bool,
    /// The bytes it stands for; several tokens may make one character.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

/// A label, labels or numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PreviewTarget {
    /// As the data say it; of several columns each with its name.
    pub text: String,
    /// Index of the class, where there is one.
    pub class: Option<usize>,
    /// What the loss compares the model's scores with: the index, 0 or 1 for each label, or numbers.
    pub values: Vec<f32>,
}

/// Counts over all samples that are trained on. Lengths are in tokens, before cutting.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Statistics {
    /// Conversations given.
    pub n_conversations: usize,
    /// Samples that are trained on: one for each conversation, or one for each of its answers.
    pub n_samples: usize,
    /// Tokens of the samples, after cutting.
    pub n_tokens: usize,
    /// Those of them that are learned.
    pub n_trained_tokens: usize,
    /// Samples that were cut.
    pub n_cut: usize,
    /// Tokens that were cut off.
    pub n_cut_tokens: usize,
    /// `tokenizer.max_length`.
    pub max_length: usize,
    /// Length of the shortest sample.
    pub shortest: usize,
    /// Half of the samples are at most this long.
    pub median: usize,
    /// 90 % are at most this long.
    pub percentile_90: usize,
    /// 99 % are at most this long.
    pub percentile_99: usize,
    /// Length of the longest sample.
    pub longest: usize,
    /// Samples by length.
    pub histogram: Vec<HistogramBin>,
}

/// Samples of similar length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HistogramBin {
    /// Shortest length counted, in tokens.
    pub from: usize,
    /// Longest length counted, in tokens.
    pub to: usize,
    /// How many samples.
    pub n_samples: usize,
    /// How many of them were cut.
    pub n_cut: usize,
}

/// How the samples fill micro-batches in one epoch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PackingSummary {
    /// `training.packing`.
    pub packing: &'static str,
    /// `training.batch_size`.
    pub batch_size: usize,
    /// Micro-batches of an epoch.
    pub n_micro_batches: usize,
    /// Tokens in the smallest of them.
    pub fewest_tokens: usize,
    /// Tokens in the largest of them.
    pub most_tokens: usize,
    /// Tokens in all of them.
    pub n_tokens: usize,
    /// Share of the room in rows of `max_length` tokens that is filled; for packing into rows only.
    pub filled: Option<f64>,
}

impl Preview {
    /// Turns all `conversations` into tokens and keeps the samples that `options` asks for in full.
    ///
    /// # Errors
    /// As [`tokenize`]; [`DataError::Setting`] when a row asked for is not there.
    pub fn build(
        config: &ExperimentConfig,
        tokenizer: &Tokenizer,
        conversations: &[Conversation],
        options: &PreviewOptions,
    ) -> Result<Self> {
        let assembler = Assembler::new(config, tokenizer)?;
        let (set, report) = tokenize(config, tokenizer, conversations, options.cache_dir.as_deref())?;
        let chosen: Vec<&Conversation> = match options.rows.as_slice() {
            [] => conversations.iter().take(options.n_samples).collect(),
            rows => rows.iter().map(|row| find(conversations, *row)).collect::<Result<_>>()?,
        };
        let mut samples = Vec::new();
        for conversation in chosen {
            match assembler.samples(conversation) {
                Ok(all) => {
                    samples.extend(all.into_iter().map(|(sample, notes)| PreviewSample {
                        target: PreviewTarget::new(conversation, config),
                        ..shown(sample, &notes, &assembler)
                    }));
                }
                Err(DataError::Sample { row, reason }) => samples.push(PreviewSample::refused(row, reason)),
                Err(error) => return Err(error),
            }
        }
        Ok(Self {
            samples,
            statistics: Statistics::of(&report, assembler.max_length()),
            packing: PackingSummary::of(&set, config),
            notes: Vec::new(),
            warnings: warnings(&set, report, &assembler),
        })
    }

    /// Everything as JSON, for other programs.
    pub fn to_json(&self) -> String {
        // Only numbers, texts and lists: this cannot fail.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

/// A sample as it is shown. A book is not looked at whole; it is trained on in such pieces.
fn shown(mut sample: TokenSample, notes: &SampleNotes, assembler: &Assembler) -> PreviewSample {
    let n_more = if assembler.has_pieces() { sample.shorten(assembler.max_length()) } else { 0 };
    let mut shown = PreviewSample::new(&sample, notes, assembler);
    if n_more > 0 {
        shown.warnings.push(format!("it goes on for {}", count(n_more, "token")));
    }
    shown
}

impl PreviewSample {
    /// A conversation that cannot become a sample.
    fn refused(row: usize, reason: String) -> Self {
        let warnings = vec![format!("left out: {reason}")];
        Self {
            row,
            tokens: Vec::new(),
            n_trained: 0,
            n_prompt_cut: 0,
            n_answer_cut: 0,
            target: None,
            warnings,
        }
    }

    fn new(sample: &TokenSample, notes: &SampleNotes, assembler: &Assembler) -> Self {
        let tokenizer = assembler.tokenizer();
        let tokens = sample.ids.iter().zip(&sample.trained).map(|(id, trained)| PreviewToken {
            id: *id,
            text: tokenizer.token_text(*id),
            trained: *trained,
            special: tokenizer.is_special(*id),
            bytes: tokenizer.token_bytes(*id),
        });
        let max_length = assembler.max_length();
        let teaches_nothing = sample.n_labels() == 0 && !predicts(sample);
        let checks = [
            (notes.is_too_long, format!("longer than {max_length} tokens: left out")),
            (
                teaches_nothing && notes.had_labels && !notes.is_too_long,
                format!("labels empty after cutting to {max_length} tokens: left out"),
            ),
            (teaches_nothing && !notes.had_labels, "nothing in it is learned: left out".to_owned()),
            (
                notes.n_answer_cut > 0,
                format!("an answer lost {} to the cut", count(notes.n_answer_cut, "token")),
            ),
            (
                notes.n_prompt_cut > 0,
                format!("the prompt lost {} to the cut", count(notes.n_prompt_cut, "token")),
            ),
            (notes.lacks_end, "the answer does not end with a special token".to_owned()),
            (notes.doubled_bos, "it begins with the beginning-of-text token twice".to_owned()),
            (notes.n_unknown > 0, unknown_text(notes.n_unknown)),
            (notes.n_rounds_cut > 0, format!("it lost its {} oldest rounds to the cut", notes.n_rounds_cut)),
            (
                notes.is_one_of_several,
                "one of several samples of its conversation: each answer in its own context".to_owned(),
            ),
            (notes.folds_system, "the system text stands in front of the user's first message".to_owned()),
            (notes.merges_roles, "messages in a row were joined by an empty line".to_owned()),
            (
                notes.has_empty_thought,
                "an answer closes the thought that is opened in front of it at once".to_owned(),
            ),
            (
                notes.has_unread_thought,
                "a thought has no place in the text format and is not learned".to_owned(),
            ),
            (
                notes.is_rewritten,
                "the chat template writes an answer in other words than the data".to_owned(),
            ),
        ];
        Self {
            row: sample.row,
            tokens: tokens.collect(),
            target: None,
            n_trained: sample.trained.iter().filter(|trained| **trained).count(),
            n_prompt_cut: notes.n_prompt_cut,
            n_answer_cut: notes.n_answer_cut,
            warnings: checks.into_iter().filter_map(|(applies, text)| applies.then_some(text)).collect(),
        }
    }
}

impl PreviewTarget {
    fn new(conversation: &Conversation, config: &ExperimentConfig) -> Option<Self> {
        let Target::Values(values) = conversation.target() else { return None };
        let answer = conversation.rounds.last().map_or("", |round| &round.answer);
        let columns = config.dataset.answer_column.all();
        let text = match columns {
            [_] => answer.to_owned(),
            names => {
                let named =
                    names.iter().zip(answer.split(',')).map(|(name, value)| format!("{name}: {value}"));
                named.collect::<Vec<_>>().join(", ")
            }
        };
        let is_class = matches!(config.label_form(), Some(LabelForm::SingleLabel | LabelForm::Binary));
        let class = values.first().filter(|_| is_class).map(|class| *class as usize);
        Some(Self { text, class, values: values.clone() })
    }
}

/// Whether something besides tokens is learned from its last token.
fn predicts(sample: &TokenSample) -> bool {
    !sample.values.is_empty() && sample.n_contrast == 0 && !sample.ids.is_empty()
}

impl Statistics {
    fn of(report: &TokenizeReport, max_length: usize) -> Self {
        let mut lengths: Vec<(usize, bool)> =
            report.lengths.iter().map(|(length, n_cut)| (*length, *n_cut > 0)).collect();
        lengths.sort_unstable();
        // The smallest length that at least this share of the samples does not exceed.
        let quantile = |percent: usize| {
            let rank = (lengths.len() * percent).div_ceil(100).max(1);
            lengths.get(rank - 1).map_or(0, |(length, _)| *length)
        };
        Self {
            n_conversations: report.n_conversations,
            n_samples: lengths.len(),
            n_tokens: report.n_tokens,
            n_trained_tokens: report.n_trained_tokens,
            n_cut: report.n_cut,
            n_cut_tokens: report.n_cut_tokens,
            max_length,
            shortest: lengths.first().map_or(0, |(length, _)| *length),
            median: quantile(50),
            percentile_90: quantile(90),
            percentile_99: quantile(99),
            longest: quantile(100),
            histogram: histogram(&lengths),
        }
    }
}

impl PackingSummary {
    fn of(set: &SampleSet, config: &ExperimentConfig) -> Self {
        let training = &config.training;
        let options = BatchOptions::of(config, u64::try_from(config.environment.seed).unwrap_or(0), 0);
        let plan = plan_epoch(set, &options);
        let sizes: Vec<(usize, usize)> = (0..plan.n_micro_batches()).map(|idx| plan.size(idx)).collect();
        let n_tokens = sizes.iter().map(|(n_tokens, _)| n_tokens).sum::<usize>();
        let room = sizes.iter().map(|(_, n_rows)| n_rows).sum::<usize>() * options.max_length;
        let in_rows = training.packing != tunesmith_config::Packing::Samples;
        Self {
            packing: training.packing.as_str(),
            batch_size: training.batch_size,
            n_micro_batches: sizes.len(),
            fewest_tokens: sizes.iter().map(|(n_tokens, _)| *n_tokens).min().unwrap_or(0),
            most_tokens: sizes.iter().map(|(n_tokens, _)| *n_tokens).max().unwrap_or(0),
            n_tokens,
            filled: (in_rows && room > 0).then(|| n_tokens as f64 / room as f64),
        }
    }
}

fn find(conversations: &[Conversation], row: usize) -> Result<&Conversation> {
    conversations.iter().find(|conversation| conversation.row == row).ok_or_else(|| DataError::Setting {
        field: "row",
        reason: format!("no sample ends with row {row} (rows are counted from 0)"),
    })
}

fn warnings(set: &SampleSet, report: TokenizeReport, assembler: &Assembler) -> Vec<String> {
    let mut out = Vec::new();
    let has_labels = |sample: &TokenSample| sample.trained.contains(&true) || predicts(sample);
    if !set.samples.iter().any(has_labels) {
        out.push("there is nothing to train on: no sample has a token to learn".to_owned());
    }
    let n_kept = report.lengths.len();
    if report.n_without_end == n_kept && n_kept > 0 {
        out.push(
            "no answer ends with an end-of-text token, so the model will not learn when to stop; with markers, set \
             dataset.add_eos_token_to_answer"
                .to_owned(),
        );
    }
    if assembler.fixes_the_date() {
        out.push(
            "the chat template writes today's date: training uses 26 Jul 2024 instead, so that a resumed run sees \
             the same tokens"
                .to_owned(),
        );
    }
    out.extend(report.warnings);
    out
}

/// At most 16 bins of equal width, a power of two, from the one of the shortest sample to the one of the longest.
fn histogram(sorted: &[(usize, bool)]) -> Vec<HistogramBin> {
    const MAX_BINS: usize = 16;
    let (Some((shortest, _)), Some((longest, _))) = (sorted.first(), sorted.last()) else {
        return Vec::new();
    };
    let mut width = 1;
    while longest / width - shortest / width >= MAX_BINS {
        width *= 2;
    }
    let first = shortest / width;
    let n_bins = longest / width - first + 1;
    let mut bins: Vec<HistogramBin> = (first..first + n_bins)
        .map(|bin| HistogramBin { from: bin * width, to: (bin + 1) * width - 1, n_samples: 0, n_cut: 0 })
        .collect();
    for (length, is_cut) in sorted {
        if let Some(bin) = bins.get_mut(length / width - first) {
            bin.n_samples += 1;
            bin.n_cut += usize::from(*is_cut);
        }
    }
    bins
}

#[cfg(test)]
#[path = "preview_tests.rs"]
mod tests;
