//! From a conversation to token ids with a mask of the ones to learn.
//!
//! With marker texts (H2O LLM Studio's assembly) each part is text of its own:
//!
//! ```text
//! [system start + system (+ EOS)] [prompt start + prompt (+ EOS) + answer separator] [answer (+ EOS)]
//! ```
//!
//! System text only in front of the first prompt. Parts are encoded separately, a system text and an answer keep
//! their first `max_length` tokens, a prompt its last, and the whole keeps its last. With a chat template
//! (`sample_template.rs`) the parts are what the template writes up to and including each answer; they are
//! encoded separately, too, because generation starts from exactly such a prompt.
//!
//! For a model with an encoder the parts before the last answer are its source, and the answer is the decoder's text:
//!
//! ```text
//! [all parts before the last answer, their last `max_length` tokens] | [start token] [answer (+ EOS)]
//! ```
//!
//! Texts without a prompt (continued pre-training) are their tokens between those that say where a text begins, if the
//! model's tokenizer puts one there, and ends:
//!
//! ```text
//! [beginning of text] [text] [EOS]
//! ```
//!
//! With packing `wrapped`, and of such texts, nothing is cut: rows of `max_length` tokens are cut out of the stream of samples later.
//!
//! No token is added by the tokenizer itself, so a beginning-of-text token is there only if a template writes it.

use tunesmith_config::{ExperimentConfig, Packing, ProblemType, TextFormat};
use tunesmith_formats::chat_template::{ChatMessage, ChatTemplate};
use tunesmith_formats::tokenizer::Tokenizer;

use crate::conversation::{Conversation, Round, Target};
use crate::error::{DataError, Result};
use crate::escapes::unescape;
use crate::sample_template::{Turns, turns};
use crate::token_sample::{SampleNotes, TokenSample};

/// What `strftime_now` in a chat template calls now while training data are made: noon of 26 July 2024, UTC, the
/// date that published templates use where there is no clock. With the real one a run resumed tomorrow would
/// train on other tokens.
pub const TRAINING_CLOCK_UNIX_SECS: u64 = 1_721_995_200;

/// Everything that decides how conversations become tokens. Its `Debug` text is part of the token cache's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AssemblyOptions {
    format: TextFormat,
    system_start: String,
    prompt_start: String,
    answer_separator: String,
    eos_after_system: bool,
    eos_after_prompt: bool,
    eos_after_answer: bool,
    mask_prompt: bool,
    only_last_answer: bool,
    /// What stands before a text that has no prompt.
    text_start: Option<u32>,
    /// Prompts are the source of an encoder.
    has_encoder: bool,
    /// Tokens a sample and each of its parts may have.
    limit: usize,
}

/// Turns conversations into samples and prompts.
#[derive(Debug, Clone)]
pub struct Assembler {
    options: AssemblyOptions,
    max_length: usize,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    stop_texts: Vec<String>,
}

impl Assembler {
    /// Takes the settings of `dataset`, `tokenizer` and `prediction.stop_tokens`.
    ///
    /// # Errors
    /// [`DataError::Setting`] when the tokenizer has no usable chat template but one is asked for, or
    /// `tokenizer.tokenizer_kwargs` cannot be met.
    pub fn new(config: &ExperimentConfig, tokenizer: &Tokenizer) -> Result<Self> {
        let dataset = &config.dataset;
        let max_length = config.tokenizer.max_length;
        let has_texts = config.problem_type == ProblemType::ContinuedPretraining;
        let marker = |text: &str| if has_texts { String::new() } else { unescape(text) };
        let options = AssemblyOptions {
            format: if has_texts { TextFormat::Markers } else { dataset.text_format },
            system_start: marker(&dataset.text_system_start),
            prompt_start: marker(&dataset.text_prompt_start),
            answer_separator: marker(&dataset.text_answer_separator),
            eos_after_system: dataset.add_eos_token_to_system && !has_texts,
            eos_after_prompt: dataset.add_eos_token_to_prompt && !has_texts,
            eos_after_answer: dataset.add_eos_token_to_answer,
            mask_prompt: dataset.mask_prompt_labels,
            only_last_answer: dataset.only_last_answer,
            has_encoder: config.problem_type == ProblemType::SequenceToSequenceModeling,
            text_start: tokenizer.start_id().filter(|_| has_texts),
            limit: if has_texts || config.training.packing == Packing::Wrapped {
                usize::MAX
            } else {
                max_length
            },
        };
        let template = match options.format {
            TextFormat::Markers => None,
            TextFormat::ChatTemplate => {
                Some(usable_template(tokenizer)?.with_clock(TRAINING_CLOCK_UNIX_SECS))
            }
        };
        let stop_texts = stop_texts(&config.prediction.stop_tokens, &options);
        Ok(Self {
            options,
            max_length,
            tokenizer: training_tokenizer(config, tokenizer)?,
            template,
            stop_texts,
        })
    }

    /// The tokens of `conversation`, cut to `max_length` unless samples are wrapped, with their mask.
    ///
    /// # Errors
    /// [`DataError::Sample`] when the chat template refuses the conversation or its answer cannot be told from
    /// the rest, [`DataError::Tokenizer`] when encoding fails.
    pub fn sample(&self, conversation: &Conversation) -> Result<TokenSample> {
        self.sample_with_notes(conversation).map(|(sample, _)| sample)
    }

    /// As [`Assembler::sample`], with what is worth knowing about it.
    ///
    /// # Errors
    /// As [`Assembler::sample`].
    pub fn sample_with_notes(&self, conversation: &Conversation) -> Result<(TokenSample, SampleNotes)> {
        match conversation.target() {
            Target::Answer if self.options.has_encoder => self.with_source(conversation),
            Target::Answer => self.answered(conversation, self.options.only_last_answer),
            Target::Text { starts, ends } => self.text(conversation, *starts, *ends),
            Target::Values(values) => self.valued(conversation, values),
            Target::Preference { .. } | Target::Judged { .. } => self.compared(conversation),
        }
    }

    /// A text, all of which is learned.
    fn text(
        &self,
        conversation: &Conversation,
        starts: bool,
        ends: bool,
    ) -> Result<(TokenSample, SampleNotes)> {
        let text = conversation.rounds.last().map_or("", |round| &round.answer);
        let mut ids = Vec::new();
        if !text.trim().is_empty() {
            ids.extend(self.options.text_start.filter(|_| starts));
            ids.extend(self.tokenizer.encode(text)?);
            ids.extend((ends && self.options.eos_after_answer).then(|| self.tokenizer.eos_id()));
        }
        let notes = SampleNotes {
            had_labels: ids.len() > 1,
            n_unknown: self.n_unknown(&ids),
            ..SampleNotes::default()
        };
        let trained = vec![true; ids.len()];
        Ok((TokenSample { row: conversation.row, ids, trained, ..TokenSample::default() }, notes))
    }

    /// All that stands before the last answer as a source, then the answer, which is learned, after the start token. That is
    /// the padding token in all models of this kind.
    fn with_source(&self, conversation: &Conversation) -> Result<(TokenSample, SampleNotes)> {
        let (mut ids, answer, mut notes) = self.before_answer(conversation)?;
        let answer = answer.keep_first(self.options.limit);
        if ids.is_empty() {
            // An encoder reads something; answers to no prompt are generated from the same.
            ids.push(self.tokenizer.eos_id());
        }
        let n_source = ids.len();
        notes.n_answer_cut = answer.n_cut;
        notes.had_labels = !answer.ids.is_empty();
        notes.lacks_end = self.end_of(&answer.ids).is_none();
        ids.push(self.tokenizer.pad_id());
        let mut trained = vec![false; ids.len()];
        ids.extend(answer.ids);
        trained.resize(ids.len(), true);
        notes.n_unknown = self.n_unknown(&ids);
        let n_cut = notes.n_prompt_cut + notes.n_answer_cut;
        Ok((
            TokenSample { row: conversation.row, ids, trained, n_cut, n_source, ..TokenSample::default() },
            notes,
        ))
    }

    /// All that stands before the answer, of which nothing is learned but the values at its end.
    fn valued(&self, conversation: &Conversation, values: &[f32]) -> Result<(TokenSample, SampleNotes)> {
        let (ids, _, mut notes) = self.before_answer(conversation)?;
        notes.n_unknown = self.n_unknown(&ids);
        notes.had_labels = true;
        let (trained, n_cut) = (vec![false; ids.len()], notes.n_prompt_cut);
        let row = conversation.row;
        Ok((
            TokenSample { row, ids, trained, n_cut, values: values.to_vec(), ..TokenSample::default() },
            notes,
        ))
    }

    /// The last tokens of all that stands before the last answer, that answer, and how much of the former was cut.
    fn before_answer(&self, conversation: &Conversation) -> Result<(Vec<u32>, Part, SampleNotes)> {
        let (mut parts, mut notes) = self.parts(conversation)?;
        let answer = parts.pop().unwrap_or_else(|| Part::new(true, Vec::new()));
        let start = Part::new(false, Vec::new());
        let before = parts.into_iter().fold(start, Part::followed_by).keep_last(self.options.limit);
        notes.n_prompt_cut = before.n_cut;
        Ok((before.ids, answer, notes))
    }

    /// Both answers that are compared, each after all that stands before it; only the last answers are.
    fn compared(&self, conversation: &Conversation) -> Result<(TokenSample, SampleNotes)> {
        let (mut sample, mut notes) = self.answered(conversation, true)?;
        let Some(contrast) = conversation.contrast() else { return Ok((sample, notes)) };
        let (contrast, other) = self.answered(&contrast, true)?;
        sample.n_contrast = contrast.ids.len();
        sample.ids.extend(contrast.ids);
        sample.trained.extend(contrast.trained);
        sample.n_cut += contrast.n_cut;
        notes.n_prompt_cut += other.n_prompt_cut;
        notes.n_answer_cut += other.n_answer_cut;
        notes.n_unknown += other.n_unknown;
        notes.lacks_end |= other.lacks_end;
        notes.had_labels &= other.had_labels;
        Ok((sample, notes))
    }

    fn answered(
        &self,
        conversation: &Conversation,
        only_last_answer: bool,
    ) -> Result<(TokenSample, SampleNotes)> {
        let (parts, mut notes) = self.parts(conversation)?;
        let last_idx = parts.len().saturating_sub(1);
        let mut ids = Vec::new();
        let mut trained = Vec::new();
        let mut is_answer = Vec::new();
        for (part_idx, part) in parts.iter().enumerate() {
            ids.extend_from_slice(&part.ids);
            let learn = match part.is_answer {
                true => !only_last_answer || part_idx == last_idx,
                false => !self.options.mask_prompt && !only_last_answer,
            };
            trained.resize(ids.len(), learn);
            is_answer.resize(ids.len(), part.is_answer);
            match part.is_answer {
                true => notes.n_answer_cut += part.n_cut,
                false => notes.n_prompt_cut += part.n_cut,
            }
        }
        notes.had_labels = trained.iter().skip(1).any(|trained| *trained);
        let n_over = ids.len().saturating_sub(self.options.limit);
        let n_answer_over = is_answer.iter().take(n_over).filter(|is_answer| **is_answer).count();
        notes.n_answer_cut += n_answer_over;
        notes.n_prompt_cut += n_over - n_answer_over;
        ids.drain(..n_over);
        trained.drain(..n_over);

        notes.lacks_end = self.end_of(parts.last().map_or(&[], |part| &part.ids)).is_none();
        notes.n_unknown = self.n_unknown(&ids);
        notes.doubled_bos = matches!((ids.as_slice(), self.tokenizer.bos_id()),
            ([first, second, ..], Some(bos)) if *first == bos && *second == bos);
        let n_cut = notes.n_prompt_cut + notes.n_answer_cut;
        Ok((TokenSample { row: conversation.row, ids, trained, n_cut, ..TokenSample::default() }, notes))
    }

    /// The tokens of everything before the last answer, cut to the last `max_length`: what generation starts from.
    ///
    /// # Errors
    /// As [`Assembler::sample`].
    pub fn prompt_ids(&self, conversation: &Conversation) -> Result<Vec<u32>> {
        let (mut parts, _) = self.parts(conversation)?;
        parts.pop();
        let mut ids: Vec<u32> = parts.into_iter().flat_map(|part| part.ids).collect();
        ids.drain(..ids.len().saturating_sub(self.max_length));
        Ok(ids)
    }

    /// Texts that end an answer: the user's list and, with markers, the marker texts without the white space
    /// around them.
    pub fn stop_texts(&self) -> &[String] {
        &self.stop_texts
    }

    /// Tokens that end an answer: end of text and, with a chat template, what the template puts after an answer.
    pub fn stop_ids(&self) -> Vec<u32> {
        let mut stop_ids = vec![self.tokenizer.eos_id()];
        let round = Round { prompt: "?".into(), answer: "!".into(), ..Round::default() };
        if self.template.is_some()
            && let Some(example) = Conversation::new(vec![round])
            && let Ok((parts, _)) = self.parts(&example)
        {
            let answer = parts.last().map_or(&[][..], |part| &part.ids);
            stop_ids.extend(self.end_of(answer));
            stop_ids.dedup();
        }
        stop_ids
    }

    /// The tokenizer as training uses it; see [`training_tokenizer`].
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Whether samples are of any length and come in pieces of at most [`Self::max_length`] tokens.
    pub(crate) fn has_pieces(&self) -> bool {
        self.options.limit == usize::MAX
    }

    /// `tokenizer.max_length`: tokens of a sample or prompt, or of a row with packing `wrapped`.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// Whether samples depend on today's date being replaced by a fixed one.
    pub fn fixes_the_date(&self) -> bool {
        self.template.as_ref().is_some_and(ChatTemplate::uses_clock)
    }

    pub(crate) fn options(&self) -> &AssemblyOptions {
        &self.options
    }

    /// Prompt and answer of each round, encoded; with a chat template that changes earlier turns of the last only.
    fn parts(&self, conversation: &Conversation) -> Result<(Vec<Part>, SampleNotes)> {
        match &self.template {
            Some(template) => self.template_parts(template, conversation),
            None => Ok((self.marker_parts(conversation)?, SampleNotes::default())),
        }
    }

    fn marker_parts(&self, conversation: &Conversation) -> Result<Vec<Part>> {
        let options = &self.options;
        let limit = options.limit;
        let eos = |wanted: bool| if wanted { self.tokenizer.eos_token() } else { "" };
        let mut parts = Vec::with_capacity(2 * conversation.rounds.len());
        for (round_idx, round) in conversation.rounds.iter().enumerate() {
            let text = format!(
                "{}{}{}{}",
                options.prompt_start,
                round.prompt,
                eos(options.eos_after_prompt),
                options.answer_separator
            );
            let mut prompt = Part::new(false, self.tokenizer.encode(&text)?).keep_last(limit);
            if round_idx == 0
                && let Some(start) = options.text_start
            {
                prompt.ids.insert(0, start);
            }
            if round_idx == 0 && !round.system.is_empty() {
                let text =
                    format!("{}{}{}", options.system_start, round.system, eos(options.eos_after_system));
                let system = Part::new(false, self.tokenizer.encode(&text)?).keep_first(limit);
                prompt = system.followed_by(prompt);
            }
            parts.push(prompt);
            let text = format!("{}{}", round.answer, eos(options.eos_after_answer));
            parts.push(Part::new(true, self.tokenizer.encode(&text)?).keep_first(limit));
        }
        Ok(parts)
    }

    fn template_parts(
        &self,
        template: &ChatTemplate,
        conversation: &Conversation,
    ) -> Result<(Vec<Part>, SampleNotes)> {
        let (bos, eos) = (self.tokenizer.bos_token().unwrap_or(""), self.tokenizer.eos_token());
        let render = |messages: &[ChatMessage], add_generation_prompt: bool| {
            template
                .render(messages, add_generation_prompt, bos, eos)
                .map_err(|error| DataError::Sample { row: conversation.row, reason: error.to_string() })
        };
        let Turns { texts, last_turn_only } = turns(conversation, &render)?;
        let mut parts = Vec::with_capacity(2 * texts.len());
        let mut previous = None;
        for (prompt, answer) in texts {
            for (text, is_answer) in [(prompt, false), (answer, true)] {
                let ids = self.tokenizer.encode_continuation(&text, previous)?;
                previous = ids.last().copied().or(previous);
                parts.push(Part::new(is_answer, ids));
            }
        }
        Ok((parts, SampleNotes { last_turn_only, ..SampleNotes::default() }))
    }

    /// The special token that ends an answer; white space may follow it: templates put a line end there.
    fn end_of(&self, answer: &[u32]) -> Option<u32> {
        let is_blank = |id: u32| self.tokenizer.token_text(id).trim().is_empty();
        let last = answer.iter().rev().copied().find(|id| !is_blank(*id))?;
        (self.tokenizer.is_special(last) && Some(last) != self.unknown_id()).then_some(last)
    }

    fn n_unknown(&self, ids: &[u32]) -> usize {
        let unknown_id = self.unknown_id();
        ids.iter().filter(|id| Some(**id) == unknown_id).count()
    }

    /// The unknown token, unless it is the one that ends a text: then it says nothing.
    fn unknown_id(&self) -> Option<u32> {
        self.tokenizer.unk_id().filter(|id| *id != self.tokenizer.eos_id())
    }
}

/// The tokenizer as training uses it: with markers, `add_prefix_space` of `tokenizer.tokenizer_kwargs` applies (H2O
/// LLM Studio's default is false, so that SentencePiece tokenizers put no space before each part). With a chat
/// template, and for plain texts, the model's own rules stay, because it was trained with them. A model exported after training needs
/// this tokenizer.
///
/// # Errors
/// [`DataError::Setting`] when the options are no JSON object or the tokenizer cannot be changed that way.
pub fn training_tokenizer(config: &ExperimentConfig, tokenizer: &Tokenizer) -> Result<Tokenizer> {
    let is_the_models = config.dataset.text_format == TextFormat::ChatTemplate
        || config.problem_type == ProblemType::ContinuedPretraining;
    if is_the_models {
        return Ok(tokenizer.clone());
    }
    let setting = |reason: String| DataError::Setting { field: "tokenizer.tokenizer_kwargs", reason };
    let text = &config.tokenizer.tokenizer_kwargs;
    let options: serde_json::Map<String, serde_json::Value> = match text.trim() {
        "" => serde_json::Map::new(),
        text => serde_json::from_str(text).map_err(|error| setting(format!("{text:?}: {error}")))?,
    };
    match options.get("add_prefix_space").and_then(serde_json::Value::as_bool) {
        None => Ok(tokenizer.clone()),
        Some(wanted) => {
            tokenizer.clone().with_prefix_space(wanted).map_err(|error| setting(error.to_string()))
        }
    }
}

/// A part of a sample: all that stands before an answer, or an answer.
struct Part {
    is_answer: bool,
    ids: Vec<u32>,
    n_cut: usize,
}

impl Part {
    fn new(is_answer: bool, ids: Vec<u32>) -> Self {
        Self { is_answer, ids, n_cut: 0 }
    }

    fn keep_first(mut self, limit: usize) -> Self {
        self.n_cut += self.ids.len().saturating_sub(limit);
        self.ids.truncate(limit);
        self
    }

    fn keep_last(mut self, limit: usize) -> Self {
        let n_over = self.ids.len().saturating_sub(limit);
        self.n_cut += n_over;
        self.ids.drain(..n_over);
        self
    }

    fn followed_by(mut self, next: Self) -> Self {
        self.ids.extend(next.ids);
        self.n_cut += next.n_cut;
        self
    }
}

fn usable_template(tokenizer: &Tokenizer) -> Result<ChatTemplate> {
    let setting = |reason: String| DataError::Setting { field: "dataset.text_format", reason };
    let template = tokenizer.chat_template().ok_or_else(|| {
        let origin = tokenizer.origin().display();
        setting(format!("chat_template is asked for, but the tokenizer of {origin} has none; use markers"))
    })?;
    template.check().map_err(|error| setting(error.to_string()))?;
    Ok(template.clone())
}

fn stop_texts(stop_tokens: &str, options: &AssemblyOptions) -> Vec<String> {
    let mut texts: Vec<String> =
        stop_tokens.split(',').filter(|text| !text.is_empty()).map(str::to_owned).collect();
    if options.format == TextFormat::Markers {
        let markers = [&options.prompt_start, &options.answer_separator, &options.system_start];
        texts.extend(
            markers.into_iter().map(|marker| marker.trim().to_owned()).filter(|text| !text.is_empty()),
        );
    }
    let mut seen = std::collections::BTreeSet::new();
    texts.retain(|text| seen.insert(text.clone()));
    texts
}

#[cfg(test)]
#[path = "sample_tests.rs"]
mod tests;
