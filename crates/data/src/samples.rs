//! All conversations of a set as samples, made in parallel and kept on the disk for the next run.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;

use tunesmith_config::{ExperimentConfig, OnBadRow, Packing};
use tunesmith_formats::tokenizer::Tokenizer;

use crate::conversation::Conversation;
use crate::error::{DataError, Result};
use crate::preview_render::count;
use crate::sample::Assembler;
use crate::sample_cache;
use crate::token_sample::{SampleNotes, TokenSample};

/// Samples in the order of their conversations.
///
/// One for each conversation with something to learn, or one for each of its answers ([`Assembler::samples`]). With packing `wrapped`, and of texts without prompts, one for each conversation, or several
/// of at most `tokenizer.max_length` tokens with the same row, one after the other, for a long one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SampleSet {
    /// The samples.
    pub samples: Vec<TokenSample>,
}

/// What happened on the way from conversations to samples.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenizeReport {
    /// Whether the tokens of an earlier run were used.
    pub from_cache: bool,
    /// Conversations given.
    pub n_conversations: usize,
    /// Tokens of the samples kept.
    pub n_tokens: usize,
    /// Those of them that are learned.
    pub n_trained_tokens: usize,
    /// Samples kept that lost tokens because they are longer than `tokenizer.max_length`.
    pub n_cut: usize,
    /// Tokens they lost.
    pub n_cut_tokens: usize,
    /// Of those samples, the ones that lost part of an answer.
    pub n_answers_cut: usize,
    /// Conversations left out because no token of them is to be learned.
    pub n_fully_masked: usize,
    /// Of those, the ones that had tokens to learn before they were cut.
    pub n_masked_by_cutting: usize,
    /// Samples kept whose last answer does not end with a special token.
    pub n_without_end: usize,
    /// Samples kept with the beginning-of-text token twice.
    pub n_doubled_bos: usize,
    /// Tokens that the vocabulary cannot express.
    pub n_unknown: usize,
    /// Conversations that the chat template refuses, or of which it leaves something out.
    pub n_refused: usize,
    /// Conversations that became several samples.
    pub n_separated: usize,
    /// Samples that are too long and left out.
    pub n_too_long: usize,
    /// Samples kept without their oldest rounds.
    pub n_without_oldest: usize,
    /// Samples kept whose system text stands in the user's first message.
    pub n_folded_systems: usize,
    /// Samples kept in which messages in a row were joined.
    pub n_merged_roles: usize,
    /// Samples kept with an empty thought that the generation prompt asks for.
    pub n_empty_thoughts: usize,
    /// Samples kept with thoughts that are not learned.
    pub n_unread_thoughts: usize,
    /// Samples kept with an answer that the chat template writes in other words.
    pub n_rewritten: usize,
    /// Length of each conversation kept, in tokens before cutting, and how many of those were cut off.
    pub lengths: Vec<(usize, usize)>,
    /// What the user should know, in sentences.
    pub warnings: Vec<String>,
}

/// Turns `conversations` into samples, with the tokens of an earlier run when `cache_dir` has them for the same
/// conversations, tokenizer and settings.
///
/// # Errors
/// [`DataError::Sample`] when no conversation can become a sample, or one cannot and `dataset.on_bad_row` says that this is
/// an error; the first one (in their order) decides which. The cache never fails a run: one that cannot be read is made anew, one that cannot be written is a warning.
pub fn tokenize(
    config: &ExperimentConfig,
    tokenizer: &Tokenizer,
    conversations: &[Conversation],
    cache_dir: Option<&Path>,
) -> Result<(SampleSet, TokenizeReport)> {
    let assembler = Assembler::new(config, tokenizer)?;
    let key = sample_cache::key(&assembler, conversations);
    let cached = cache_dir.and_then(|dir| sample_cache::read(dir, &key, conversations.len()));
    let from_cache = cached.is_some();
    let mut cache_failure = None;
    let outcomes = match cached {
        Some(outcomes) => outcomes,
        None => {
            let outcomes = assemble_all(&assembler, conversations, config.environment.threads)?;
            cache_failure = cache_dir.and_then(|dir| sample_cache::write(dir, &key, &outcomes).err());
            outcomes
        }
    };
    let refusals = Refusals::of(&outcomes, conversations);
    if let Some((row, reason)) = refusals.first.clone()
        && (config.dataset.on_bad_row == OnBadRow::Error || refusals.n == conversations.len())
    {
        return Err(DataError::Sample { row, reason });
    }
    let is_wrapped = config.training.packing == Packing::Wrapped;
    let has_pieces = assembler.has_pieces();
    let mut report = TokenizeReport {
        from_cache,
        n_conversations: conversations.len(),
        n_refused: refusals.n,
        ..TokenizeReport::default()
    };
    let mut set = SampleSet::default();
    for (outcome, conversation) in outcomes.into_iter().zip(conversations) {
        let Ok(samples) = outcome else { continue };
        report.n_separated += usize::from(samples.len() > 1);
        // Nothing in the conversation is to be learned.
        report.n_fully_masked += usize::from(samples.is_empty());
        for (mut sample, notes) in samples {
            sample.values = conversation.values().to_vec();
            // In wrapped rows a sample without anything to learn is still context for the next one.
            let is_kept = if is_wrapped { !sample.ids.is_empty() } else { sample.teaches() };
            report.count(&sample, &notes, is_kept);
            match (is_kept, has_pieces) {
                (false, _) => {}
                (true, false) => set.samples.push(sample),
                (true, true) => set.samples.extend(pieces(sample, assembler.max_length())),
            }
        }
    }
    report.warnings = refusals.warnings();
    report.warnings.extend(warnings(&report, &assembler));
    report
        .warnings
        .extend(cache_failure.map(|error| format!("{error}; the next run will make the tokens again")));
    Ok((set, report))
}

/// What became of a conversation: samples, or why there are none.
pub(crate) type Outcome = std::result::Result<Vec<(TokenSample, SampleNotes)>, String>;

/// Conversations that cannot become samples.
#[derive(Debug, Default)]
struct Refusals {
    n: usize,
    first: Option<(usize, String)>,
    /// Each reason with the rows it was given for.
    reasons: BTreeMap<String, Vec<usize>>,
}

impl Refusals {
    fn of(outcomes: &[Outcome], conversations: &[Conversation]) -> Self {
        let mut refusals = Self::default();
        for (outcome, conversation) in outcomes.iter().zip(conversations) {
            if let Err(reason) = outcome {
                refusals.n += 1;
                refusals.first.get_or_insert_with(|| (conversation.row, reason.clone()));
                refusals.reasons.entry(reason.clone()).or_default().push(conversation.row);
            }
        }
        refusals
    }

    /// A sentence for each of the commonest reasons.
    fn warnings(&self) -> Vec<String> {
        const N_REASONS: usize = 5;
        const N_ROWS: usize = 5;

        let mut reasons: Vec<(&String, &Vec<usize>)> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, rows)| std::cmp::Reverse(rows.len()));
        let sentence = |(reason, rows): &(&String, &Vec<usize>)| {
            let shown: Vec<String> = rows.iter().take(N_ROWS).map(usize::to_string).collect();
            let more = if rows.len() > N_ROWS { ", …" } else { "" };
            let what = if rows.len() == 1 { "row" } else { "rows" };
            format!(
                "{} left out ({what} {}{more}): {reason}",
                count(rows.len(), "conversation"),
                shown.join(", ")
            )
        };
        let mut warnings: Vec<String> = reasons.iter().take(N_REASONS).map(sentence).collect();
        if reasons.len() > N_REASONS {
            let n: usize = reasons.iter().skip(N_REASONS).map(|(_, rows)| rows.len()).sum();
            warnings.push(format!("{} left out for other reasons", count(n, "conversation")));
        }
        warnings
    }
}

impl TokenizeReport {
    fn count(&mut self, sample: &TokenSample, notes: &SampleNotes, is_kept: bool) {
        if notes.is_too_long {
            self.n_too_long += 1;
            return;
        }
        if !is_kept {
            self.n_fully_masked += 1;
            self.n_masked_by_cutting += usize::from(notes.had_labels);
            return;
        }
        self.lengths.push((sample.ids.len() + sample.n_cut, sample.n_cut));
        self.n_tokens += sample.ids.len();
        self.n_trained_tokens += sample.trained.iter().filter(|trained| **trained).count();
        self.n_cut += usize::from(sample.n_cut > 0);
        self.n_cut_tokens += sample.n_cut;
        self.n_answers_cut += usize::from(notes.n_answer_cut > 0);
        self.n_without_end += usize::from(notes.lacks_end);
        self.n_doubled_bos += usize::from(notes.doubled_bos);
        self.n_unknown += notes.n_unknown;
        self.n_without_oldest += usize::from(notes.n_rounds_cut > 0);
        self.n_folded_systems += usize::from(notes.folds_system);
        self.n_merged_roles += usize::from(notes.merges_roles);
        self.n_empty_thoughts += usize::from(notes.has_empty_thought);
        self.n_unread_thoughts += usize::from(notes.has_unread_thought);
        self.n_rewritten += usize::from(notes.is_rewritten);
    }
}

/// Sentences for what the counts say.
fn warnings(report: &TokenizeReport, assembler: &Assembler) -> Vec<String> {
    let max_length = assembler.max_length();
    let mut out = Vec::new();
    let mut warn = |n: usize, text: String| {
        if n > 0 {
            out.push(text);
        }
    };
    let of = |n: usize| share(n, report.lengths.len());
    let dropped = report.n_fully_masked;
    warn(
        dropped,
        format!(
            "{} left out because nothing in them is learned{}",
            share(dropped, report.n_conversations),
            match report.n_masked_by_cutting {
                0 => String::new(),
                n if n == dropped => format!(": labels empty after cutting to {max_length} tokens"),
                n => format!(", {n} of them: labels empty after cutting to {max_length} tokens"),
            }
        ),
    );
    warn(
        report.n_cut,
        format!(
            "{} longer than tokenizer.max_length ({max_length}) and cut, {} in all",
            of(report.n_cut),
            count(report.n_cut_tokens, "token")
        ),
    );
    warn(report.n_answers_cut, format!("{} lost part of an answer to the cut", of(report.n_answers_cut)));
    warn(
        report.n_without_end,
        format!(
            "{} do not end with a special token: the model does not learn there when to stop",
            of(report.n_without_end)
        ),
    );
    warn(
        report.n_doubled_bos,
        format!("{} begin with the beginning-of-text token twice", of(report.n_doubled_bos)),
    );
    warn(report.n_unknown, unknown_text(report.n_unknown));
    warn(
        report.n_too_long,
        format!(
            "{} left out because they are longer than tokenizer.max_length ({max_length})",
            count(report.n_too_long, "sample")
        ),
    );
    warn(
        report.n_without_oldest,
        format!(
            "{} lost their oldest rounds to the cut; the answers in them are not learned",
            of(report.n_without_oldest)
        ),
    );
    warn(
        report.n_separated,
        format!(
            "{} became several samples, one an answer, so that each answer is learned in the context in which it will \
             be generated: the chat template writes earlier answers differently once later ones follow",
            count(report.n_separated, "conversation")
        ),
    );
    warn(
        report.n_folded_systems,
        format!(
            "{} have their system text in front of the user's first message: the chat template has no place for it",
            of(report.n_folded_systems)
        ),
    );
    warn(
        report.n_merged_roles,
        format!(
            "{} have messages in a row that were joined by an empty line: the chat template wants user and assistant in \
             turn",
            of(report.n_merged_roles)
        ),
    );
    warn(
        report.n_empty_thoughts,
        format!(
            "{} close the thought at once that the chat template opens in front of each answer: their answers have none",
            of(report.n_empty_thoughts)
        ),
    );
    warn(
        report.n_unread_thoughts,
        format!(
            "{} have thoughts that are not learned: the text format has no place for them",
            of(report.n_unread_thoughts)
        ),
    );
    warn(
        report.n_rewritten,
        format!(
            "{} have an answer that the chat template writes in other words than the data",
            of(report.n_rewritten)
        ),
    );
    out.extend(assembler.format_notes());
    out
}

/// What a number of unknown tokens means.
pub(crate) fn unknown_text(n_unknown: usize) -> String {
    match n_unknown {
        1 => "1 token stands for something the vocabulary lacks".to_owned(),
        n => format!("{n} tokens stand for something the vocabulary lacks"),
    }
}

/// "3 of 10 samples", or "all 10 samples".
fn share(n: usize, total: usize) -> String {
    match (n, total) {
        (1, 1) => "the only sample".to_owned(),
        (n, total) if n == total => format!("all {total} samples"),
        (n, total) => format!("{n} of {total} samples"),
    }
}

/// Cuts a sample into pieces of at most `max_length` tokens, in order: nothing is lost, and each still fits a model
/// that it is evaluated with on its own.
fn pieces(sample: TokenSample, max_length: usize) -> Vec<TokenSample> {
    let max_length = max_length.max(1);
    if sample.ids.len() <= max_length {
        return vec![sample];
    }
    let parts = sample.ids.chunks(max_length).zip(sample.trained.chunks(max_length));
    parts
        .map(|(ids, trained)| TokenSample { ids: ids.to_vec(), trained: trained.to_vec(), ..sample.clone() })
        .collect()
}

/// Splits the conversations among threads; the order of the results does not depend on their number.
fn assemble_all(
    assembler: &Assembler,
    conversations: &[Conversation],
    n_threads: usize,
) -> Result<Vec<Outcome>> {
    let n_available = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let n_threads = if n_threads == 0 { n_available } else { n_threads };
    let chunk = conversations.len().div_ceil(n_threads.max(1)).max(MIN_PER_THREAD);
    let assemble = |part: &[Conversation]| -> Result<Vec<Outcome>> {
        part.iter().map(|conversation| outcome(assembler.samples(conversation))).collect()
    };
    let parts: Vec<&[Conversation]> = conversations.chunks(chunk).collect();
    let Some((first, others)) = parts.split_first() else { return Ok(Vec::new()) };
    thread::scope(|scope| {
        let assemble = &assemble;
        let running: Vec<_> = others.iter().map(|part| scope.spawn(move || assemble(part))).collect();
        let mut samples = assemble(first)?;
        for thread in running {
            match thread.join() {
                Ok(part) => samples.extend(part?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(samples)
    })
}

/// A refusal concerns one conversation; any other error concerns all.
fn outcome(samples: Result<Vec<(TokenSample, SampleNotes)>>) -> Result<Outcome> {
    match samples {
        Ok(samples) => Ok(Ok(samples)),
        Err(DataError::Sample { reason, .. }) => Ok(Err(reason)),
        Err(error) => Err(error),
    }
}

/// Below this many conversations a thread of its own does not pay.
const MIN_PER_THREAD: usize = 64;

#[cfg(test)]
#[path = "samples_tests.rs"]
mod tests;
