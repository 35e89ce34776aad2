//! From a conversation to token ids with a mask of the ones to learn.
//!
//! With marker texts (H2O LLM Studio's assembly) each part is text of its own:
//!
//! ```text
//! [beginning of text] [system start + system (+ EOS)] [prompt start + prompt (+ EOS) + answer separator] [answer (+ EOS)]
//! ```
//!
//! System text only in front of the first prompt. Parts are encoded separately. With a chat template
//! (`sample_template.rs`) the parts are what the template writes before each answer, which is exactly what generation
//! starts from, and each answer with its end; they are encoded separately, too. Where an answer's prompt does not go on
//! from the answer before (templates that drop earlier thoughts), the answer becomes a sample of its own.
//!
//! The beginning-of-text token is there if the tokenizer puts it in front of texts by itself, or the template writes it.
//!
//! For a model with an encoder the parts before the last answer are its source, and the answer is the decoder's text:
//!
//! ```text
//! [all parts before the last answer] | [start token] [answer (+ EOS)]
//! ```
//!
//! Texts without a prompt (continued pre-training) are their tokens between those that say where a text begins, if the
//! model's tokenizer puts one there, and ends:
//!
//! ```text
//! [beginning of text] [text] [EOS]
//! ```
//!
//! What is too long is cut as `dataset.truncate` says (`sample_parts.rs`). With packing `wrapped`, and of texts without
//! prompts, nothing is cut: rows of `max_length` tokens are cut out of the stream of samples later.

mod kinds;
mod turns;

use tunesmith_config::{ExperimentConfig, Packing, ProblemType, TextFormat, Truncate, Turns};
use tunesmith_formats::tokenizer::Tokenizer;

use crate::answer_ends::end_ids;
use crate::conversation::{Conversation, Target};
use crate::error::Result;
use crate::escapes::unescape;
use crate::sample_parts::{Part, Room};
use crate::sample_template::TemplateReader;
use crate::token_sample::{SampleNotes, TokenSample};
use crate::training_tokenizer::{training_tokenizer, usable_template};

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
    turns: Turns,
    /// What stands at the beginning of every sample.
    start_id: Option<u32>,
    /// The tokenizer would put something there, and the settings leave it out.
    lacks_start: bool,
    /// Prompts are the source of an encoder.
    has_encoder: bool,
    /// What a sample may hold.
    room: Room,
}

/// Turns conversations into samples and prompts.
#[derive(Debug, Clone)]
pub struct Assembler {
    options: AssemblyOptions,
    max_length: usize,
    tokenizer: Tokenizer,
    template: Option<TemplateReader>,
    stop_texts: Vec<String>,
}

/// A sample and what is worth knowing about it.
pub(crate) type Noted = (TokenSample, SampleNotes);

impl Assembler {
    /// Takes the settings of `dataset`, `tokenizer` and `prediction.stop_tokens`.
    ///
    /// # Errors
    /// [`crate::DataError::Setting`] when the tokenizer has no usable chat template but one is asked for, or
    /// `tokenizer.tokenizer_kwargs` cannot be met.
    pub fn new(config: &ExperimentConfig, tokenizer: &Tokenizer) -> Result<Self> {
        let dataset = &config.dataset;
        let max_length = config.tokenizer.max_length;
        let has_texts = config.problem_type == ProblemType::ContinuedPretraining;
        let marker = |text: &str| if has_texts { String::new() } else { unescape(text) };
        let training = training_tokenizer(config, tokenizer)?;
        let has_encoder = config.problem_type == ProblemType::SequenceToSequenceModeling;
        let is_whole = has_texts || config.training.packing == Packing::Wrapped;
        let options = AssemblyOptions {
            format: if has_texts { TextFormat::Markers } else { dataset.text_format },
            system_start: marker(&dataset.text_system_start),
            prompt_start: marker(&dataset.text_prompt_start),
            answer_separator: marker(&dataset.text_answer_separator),
            eos_after_system: dataset.add_eos_token_to_system && !has_texts,
            eos_after_prompt: dataset.add_eos_token_to_prompt && !has_texts,
            eos_after_answer: dataset.add_eos_token_to_answer,
            mask_prompt: dataset.mask_prompt_labels,
            turns: if dataset.only_last_answer { Turns::Last } else { dataset.turns },
            has_encoder,
            // No family with an encoder begins its texts with a token of that kind.
            start_id: training.start_id().filter(|_| !has_encoder),
            lacks_start: training.start_id().is_none() && tokenizer.start_id().is_some(),
            room: Room {
                n_tokens: if is_whole { usize::MAX } else { max_length },
                truncate: dataset.truncate,
            },
        };
        let tokenizer = training;
        let template = match options.format {
            TextFormat::Markers => None,
            TextFormat::ChatTemplate => {
                let bos = tokenizer.bos_token().unwrap_or_default();
                let special = tokenizer.special_texts();
                Some(TemplateReader::new(usable_template(&tokenizer)?, bos, tokenizer.eos_token(), &special))
            }
        };
        let stop_texts = stop_texts(&config.prediction.stop_tokens, &options);
        Ok(Self { options, max_length, tokenizer, template, stop_texts })
    }

    /// The tokens of `conversation` up to its last learned answer, cut to `max_length` unless samples are wrapped, with
    /// their mask.
    ///
    /// # Errors
    /// As [`Assembler::samples`].
    pub fn sample(&self, conversation: &Conversation) -> Result<TokenSample> {
        self.sample_with_notes(conversation).map(|(sample, _)| sample)
    }

    /// As [`Assembler::sample`], with what is worth knowing about it.
    ///
    /// # Errors
    /// As [`Assembler::samples`].
    pub fn sample_with_notes(&self, conversation: &Conversation) -> Result<(TokenSample, SampleNotes)> {
        let nothing =
            || (TokenSample { row: conversation.row, ..TokenSample::default() }, SampleNotes::default());
        Ok(self.samples(conversation)?.pop().unwrap_or_else(nothing))
    }

    /// All samples of `conversation`, with what is worth knowing about each: one, or one an answer where the chat template
    /// does not allow one, or `dataset.turns` asks for it.
    ///
    /// # Errors
    /// [`crate::DataError::Sample`] when the chat template refuses the conversation or its answer cannot be told from
    /// the rest, [`crate::DataError::Tokenizer`] when encoding fails.
    pub fn samples(&self, conversation: &Conversation) -> Result<Vec<(TokenSample, SampleNotes)>> {
        match conversation.target() {
            Target::Answer if self.options.has_encoder => Ok(vec![self.with_source(conversation)?]),
            Target::Answer => self.answered(conversation),
            Target::Text { starts, ends } => Ok(vec![self.text(conversation, *starts, *ends)?]),
            Target::Values(values) => Ok(vec![self.valued(conversation, values)?]),
            Target::Preference { .. } | Target::Judged { .. } => Ok(vec![self.compared(conversation)?]),
        }
    }

    /// The tokens of everything before the last answer, cut to the last `max_length`: what generation starts from.
    ///
    /// # Errors
    /// As [`Assembler::samples`].
    pub fn prompt_ids(&self, conversation: &Conversation) -> Result<Vec<u32>> {
        let (mut prompt, _, _) = self.last_turn(conversation)?;
        match self.options.room.truncate {
            Truncate::Left => prompt.keep_last(self.max_length),
            _ => prompt.cut_text(self.max_length),
        };
        Ok(prompt.ids)
    }

    /// Texts that end an answer: the user's list and, with markers, the marker texts without the white space
    /// around them.
    pub fn stop_texts(&self) -> &[String] {
        &self.stop_texts
    }

    /// Tokens that end an answer: end of text and, with a chat template, what the template puts after an answer and
    /// after a call of a tool.
    pub fn stop_ids(&self) -> Vec<u32> {
        match &self.template {
            Some(_) => end_ids(&self.tokenizer),
            None => vec![self.tokenizer.eos_id()],
        }
    }

    /// What a generated answer says: without what the chat template itself puts before an answer, such as an empty
    /// thought, and without a thought where the `expected` answer is known and has none.
    pub fn spoken<'a>(&self, generated: &'a str, expected: &str) -> &'a str {
        const END: &str = "</think>";
        const LINE_ENDS: [char; 2] = ['\r', '\n'];

        let Some(reader) = &self.template else { return generated };
        let lead = reader.shape().lead.trim();
        let text = match generated.trim_start().strip_prefix(lead) {
            Some(rest) if !lead.is_empty() => rest.trim_start_matches(LINE_ENDS),
            _ => generated,
        };
        let has_thought =
            text.trim_start().starts_with("<think>") || reader.shape().opening.contains("<think>");
        match text.split_once(END) {
            Some((_, spoken)) if has_thought && !expected.is_empty() && !expected.contains(END) => {
                spoken.trim_start_matches(LINE_ENDS)
            }
            _ => text,
        }
    }

    /// What the model is to write where the last answer calls tools: the calls in the form of the chat template, as a generated
    /// answer has them. `None` for other answers.
    pub fn expected_call(&self, conversation: &Conversation) -> Option<String> {
        let details = conversation.rounds.last()?.details.as_ref()?;
        details.answer_keys.get("tool_calls")?;
        let (_, answer, _) = self.uncut_last_turn(conversation).ok()?;
        let ids: Vec<u32> = answer.into_iter().flat_map(|part| part.ids).collect();
        let text = self.tokenizer.decode(&ids, true).ok()?;
        Some(self.spoken(text.trim(), "").to_owned())
    }

    /// The tokenizer as training uses it; see [`training_tokenizer`].
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Whether samples are of any length and come in pieces of at most [`Self::max_length`] tokens.
    pub(crate) fn has_pieces(&self) -> bool {
        self.options.room.n_tokens == usize::MAX
    }

    /// `tokenizer.max_length`: tokens of a sample or prompt, or of a row with packing `wrapped`.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// Whether samples depend on today's date being replaced by a fixed one.
    pub fn fixes_the_date(&self) -> bool {
        self.template.as_ref().is_some_and(|reader| reader.template().uses_clock())
    }

    /// What the user should know of the format, whatever the samples are.
    pub(crate) fn format_notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.options.lacks_start {
            notes.push(
                "the tokenizer puts a beginning-of-text token in front of texts, and tokenizer.add_bos_token: false leaves it \
                 out: the model sees texts that it was not made for"
                    .to_owned(),
            );
        }
        notes
    }

    pub(crate) fn options(&self) -> &AssemblyOptions {
        &self.options
    }

    /// The template's source and variables, for the key of the token cache.
    pub(crate) fn template_key(&self) -> String {
        self.template.as_ref().map_or(String::new(), |reader| {
            let template = reader.template();
            format!("{}\n{}", template.source(), serde_json::Value::Object(template.variables().clone()))
        })
    }

    fn learns_prompts(&self) -> bool {
        !self.options.mask_prompt && self.options.turns != Turns::Last
    }

    /// The special token that ends an answer; white space may follow it: templates put a line end there.
    fn end_of(&self, parts: &[Part]) -> Option<u32> {
        let is_blank = |id: u32| self.tokenizer.token_text(id).trim().is_empty();
        let answer = parts.iter().rev().take_while(|part| part.is_answer);
        let mut ids = answer.flat_map(|part| part.ids.iter().rev().copied());
        let last = ids.find(|id| !is_blank(*id))?;
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
mod context_tests;
#[cfg(test)]
#[path = "sample_tests.rs"]
mod tests;
