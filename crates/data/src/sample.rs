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

use tunesmith_config::{ExperimentConfig, Packing, ProblemType, TextFormat, Truncate, Turns};
use tunesmith_formats::tokenizer::Tokenizer;

use crate::answer_ends::end_ids;
use crate::conversation::{Conversation, Round, Target};
use crate::error::{DataError, Result};
use crate::escapes::unescape;
use crate::sample_parts::{Part, Room, keep_first, keep_last, n_tokens};
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
    /// [`DataError::Setting`] when the tokenizer has no usable chat template but one is asked for, or
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
    /// [`DataError::Sample`] when the chat template refuses the conversation or its answer cannot be told from
    /// the rest, [`DataError::Tokenizer`] when encoding fails.
    pub fn samples(&self, conversation: &Conversation) -> Result<Vec<(TokenSample, SampleNotes)>> {
        match conversation.target() {
            Target::Answer if self.options.has_encoder => Ok(vec![self.with_source(conversation)?]),
            Target::Answer => self.answered(conversation),
            Target::Text { starts, ends } => Ok(vec![self.text(conversation, *starts, *ends)?]),
            Target::Values(values) => Ok(vec![self.valued(conversation, values)?]),
            Target::Preference { .. } | Target::Judged { .. } => Ok(vec![self.compared(conversation)?]),
        }
    }

    /// A text, all of which is learned.
    fn text(&self, conversation: &Conversation, starts: bool, ends: bool) -> Result<Noted> {
        let text = conversation.rounds.last().map_or("", |round| &round.answer);
        let mut ids = Vec::new();
        if !text.trim().is_empty() {
            ids.extend(self.options.start_id.filter(|_| starts));
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
    fn with_source(&self, conversation: &Conversation) -> Result<Noted> {
        let room = self.options.room;
        let (source, mut answer, mut notes) = self.last_turn(conversation, 0)?;
        notes.n_answer_cut = keep_first(&mut answer, room.n_tokens);
        notes.n_answer_cut += answer.iter().map(|part| part.n_cut).sum::<usize>();
        let mut ids = source.ids;
        if ids.is_empty() {
            // An encoder reads something; answers to no prompt are generated from the same.
            ids.push(self.tokenizer.eos_id());
        }
        let n_source = ids.len();
        notes.had_labels = n_tokens(&answer) > 0;
        notes.lacks_end = self.end_of(&answer).is_none();
        notes.is_too_long = room.truncate == Truncate::Drop && notes.n_prompt_cut + notes.n_answer_cut > 0;
        ids.push(self.tokenizer.pad_id());
        let mut sample = joined(conversation.row, answer);
        let n_answer = sample.ids.len();
        ids.append(&mut sample.ids);
        sample.trained = vec![false; ids.len() - n_answer];
        sample.trained.resize(ids.len(), true);
        notes.n_unknown = self.n_unknown(&ids);
        Ok(self.noted(TokenSample { ids, n_source, ..sample }, notes))
    }

    /// All that stands before the answer, of which nothing is learned but the values at its end.
    fn valued(&self, conversation: &Conversation, values: &[f32]) -> Result<Noted> {
        let (mut prompt, _, mut notes) = self.last_turn(conversation, 0)?;
        if matches!(prompt.ids.as_slice(), [only] if Some(*only) == self.options.start_id) {
            // Nothing is asked.
            prompt.ids.clear();
        }
        notes.n_unknown = self.n_unknown(&prompt.ids);
        notes.had_labels = true;
        notes.is_too_long = self.options.room.truncate == Truncate::Drop && notes.n_prompt_cut > 0;
        let trained = vec![false; prompt.ids.len()];
        let sample =
            TokenSample { row: conversation.row, ids: prompt.ids, trained, ..TokenSample::default() };
        Ok(self.noted(TokenSample { values: values.to_vec(), ..sample }, notes))
    }

    /// Both answers that are compared, each after all that stands before it; only the last answers are. They are cut so that
    /// both keep the same prompt.
    fn compared(&self, conversation: &Conversation) -> Result<Noted> {
        let Some(contrast) = conversation.contrast() else { return self.answered_last(conversation, 0) };
        let n_answer = |conversation: &Conversation| -> Result<usize> {
            Ok(n_tokens(&self.uncut_last_turn(conversation)?.1))
        };
        let longest = match self.options.room.truncate {
            Truncate::Left => 0,
            _ => n_answer(conversation)?.max(n_answer(&contrast)?),
        };
        let (mut sample, mut notes) = self.answered_last(conversation, longest)?;
        let (contrast, other) = self.answered_last(&contrast, longest)?;
        sample.n_contrast = contrast.ids.len();
        sample.ids.extend(contrast.ids);
        sample.trained.extend(contrast.trained);
        sample.n_cut += contrast.n_cut;
        notes.add(&other);
        Ok(self.noted(sample, notes))
    }

    /// The answers that are learned, as one sample or several.
    fn answered(&self, conversation: &Conversation) -> Result<Vec<Noted>> {
        match self.options.turns {
            Turns::Last => return Ok(vec![self.answered_last(conversation, 0)?]),
            Turns::All if self.options.mask_prompt => return self.one_by_one(conversation),
            Turns::All | Turns::Auto => {}
        }
        let (assemblies, notes) = self.assemble(conversation)?;
        let n_assemblies = assemblies.len();
        let mut samples = Vec::with_capacity(n_assemblies);
        for Assembly { parts, n_rounds } in assemblies {
            let notes = SampleNotes { is_one_of_several: n_assemblies > 1, ..notes };
            let room = self.options.room;
            let whole = first_rounds(conversation, n_rounds);
            samples.push(match room.lacks(n_tokens(&parts)) {
                false => self.finished(conversation.row, parts, notes, self.learns_prompts()),
                true if room.truncate == Truncate::Left || room.truncate == Truncate::Drop => {
                    self.finished(conversation.row, parts, notes, self.learns_prompts())
                }
                true => match parts.iter().filter(|part| !part.is_answer).count() {
                    0 | 1 => self.answered_last(&whole, 0)?,
                    _ => self.with_fewer_rounds(&whole, &parts, notes)?,
                },
            });
        }
        Ok(samples)
    }

    /// Each learned answer as a sample of its own.
    fn one_by_one(&self, conversation: &Conversation) -> Result<Vec<Noted>> {
        let learned = conversation.rounds.iter().enumerate().filter(|(_, round)| round.is_learned());
        let last_of = |n_rounds: usize| -> Result<Noted> {
            let (sample, notes) = self.answered_last(&first_rounds(conversation, n_rounds), 0)?;
            Ok((TokenSample { row: conversation.row, ..sample }, notes))
        };
        let mut samples: Vec<Noted> = learned.map(|(idx, _)| last_of(idx + 1)).collect::<Result<_>>()?;
        let is_one_of_several = samples.len() > 1;
        samples.iter_mut().for_each(|(_, notes)| notes.is_one_of_several = is_one_of_several);
        Ok(samples)
    }

    /// A sample of several answers that is too long: without its oldest rounds, or the last answer alone.
    fn with_fewer_rounds(
        &self,
        conversation: &Conversation,
        parts: &[Part],
        notes: SampleNotes,
    ) -> Result<Noted> {
        let room = self.options.room;
        let n_rounds = conversation.rounds.len();
        let later = |n_dropped: usize| -> Result<Vec<Part>> {
            let (mut assemblies, _) = self.assemble(&without_oldest(conversation, n_dropped))?;
            Ok(assemblies.pop().map(|assembly| assembly.parts).unwrap_or_default())
        };
        // The fewest rounds that have to go, if it is enough to leave the last one.
        let (mut too_few, mut enough) = (0, n_rounds.saturating_sub(1));
        let mut kept = later(enough)?;
        if room.lacks(n_tokens(&kept)) {
            return self.answered_last(conversation, 0);
        }
        while enough - too_few > 1 {
            let middle = usize::midpoint(too_few, enough);
            let parts = later(middle)?;
            match room.lacks(n_tokens(&parts)) {
                true => too_few = middle,
                false => (enough, kept) = (middle, parts),
            }
        }
        let of = |parts: &[Part], is_answer: bool| -> usize {
            parts.iter().filter(|part| part.is_answer == is_answer).map(|part| part.ids.len()).sum()
        };
        let notes = SampleNotes {
            n_rounds_cut: enough,
            n_prompt_cut: of(parts, false).saturating_sub(of(&kept, false)),
            n_answer_cut: of(parts, true).saturating_sub(of(&kept, true)),
            ..notes
        };
        Ok(self.finished(conversation.row, kept, notes, self.learns_prompts()))
    }

    /// The last answer and all that stands before it, which is not learned. Room is left for an answer of `longest` tokens.
    fn answered_last(&self, conversation: &Conversation, longest: usize) -> Result<Noted> {
        let (prompt, mut answer, mut notes) = self.last_turn(conversation, longest)?;
        if self.options.room.truncate != Truncate::Left {
            let room = self.options.room.n_tokens.saturating_sub(prompt.ids.len());
            let n_cut =
                if self.options.room.truncate == Truncate::Drop { 0 } else { keep_first(&mut answer, room) };
            notes.n_answer_cut += n_cut;
        }
        let mut parts = vec![prompt];
        parts.append(&mut answer);
        let is_context = conversation.rounds.last().is_some_and(|round| !round.is_learned());
        if is_context {
            parts.iter_mut().for_each(|part| part.is_learned = false);
        }
        Ok(self.finished(conversation.row, parts, notes, false))
    }

    /// Puts the parts together; with H2O LLM Studio's way of cutting, the whole keeps its last tokens.
    fn finished(
        &self,
        row: usize,
        mut parts: Vec<Part>,
        mut notes: SampleNotes,
        learns_prompts: bool,
    ) -> Noted {
        let room = self.options.room;
        if learns_prompts {
            parts.iter_mut().for_each(|part| part.is_learned |= !part.is_answer);
        }
        let mut learned = parts.iter().flat_map(|part| part.ids.iter().map(|_| part.is_learned));
        notes.had_labels = learned.by_ref().skip(1).any(|is_learned| is_learned);
        for part in &parts {
            match part.is_answer {
                true => notes.n_answer_cut += part.n_cut,
                false => notes.n_prompt_cut += part.n_cut,
            }
        }
        let end_of_last = self.end_of(&parts);
        if room.lacks(n_tokens(&parts)) {
            match room.truncate {
                Truncate::Drop => notes.is_too_long = true,
                _ => keep_last(&mut parts, room.n_tokens, &mut notes),
            }
        }
        notes.lacks_end = end_of_last.is_none();
        let sample = joined(row, parts);
        notes.n_unknown = self.n_unknown(&sample.ids);
        notes.doubled_bos = matches!((sample.ids.as_slice(), self.tokenizer.bos_id()),
            ([first, second, ..], Some(bos)) if *first == bos && *second == bos);
        self.noted(sample, notes)
    }

    /// With the sum of what was cut; a sample that is left out for its length has no tokens.
    fn noted(&self, mut sample: TokenSample, notes: SampleNotes) -> Noted {
        sample.n_cut = notes.n_prompt_cut + notes.n_answer_cut;
        if notes.is_too_long {
            sample.ids.clear();
            sample.trained.clear();
            (sample.n_contrast, sample.n_source) = (0, 0);
        }
        (sample, notes)
    }

    /// The tokens of everything before the last answer, cut to the last `max_length`: what generation starts from.
    ///
    /// # Errors
    /// As [`Assembler::samples`].
    pub fn prompt_ids(&self, conversation: &Conversation) -> Result<Vec<u32>> {
        let (mut prompt, _, _) = self.last_turn(conversation, 0)?;
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
        let Some(reader) = &self.template else { return generated };
        let lead = reader.shape().lead.trim();
        let text = match generated.trim_start().strip_prefix(lead) {
            Some(rest) if !lead.is_empty() => rest.trim_start(),
            _ => generated,
        };
        const END: &str = "</think>";
        let has_thought =
            text.trim_start().starts_with("<think>") || reader.shape().opening.contains("<think>");
        match text.split_once(END) {
            Some((_, spoken)) if has_thought && !expected.is_empty() && !expected.contains(END) => {
                spoken.trim_start()
            }
            _ => text,
        }
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

    /// All learned answers with what stands before them, uncut.
    fn assemble(&self, conversation: &Conversation) -> Result<(Vec<Assembly>, SampleNotes)> {
        match &self.template {
            Some(reader) => self.template_assemblies(reader, conversation),
            None => {
                refuse_tools(conversation)?;
                let n_rounds = conversation.rounds.len();
                let parts = self.marker_parts(conversation)?;
                let notes =
                    SampleNotes { has_unread_thought: has_thought(conversation), ..SampleNotes::default() };
                Ok((vec![Assembly { parts, n_rounds }], notes))
            }
        }
    }

    /// The prompt of the last answer, cut so that there is room for the answer and one of `longest` tokens, the answer in
    /// pieces, uncut, and what is worth knowing.
    fn last_turn(
        &self,
        conversation: &Conversation,
        longest: usize,
    ) -> Result<(Part, Vec<Part>, SampleNotes)> {
        let room = self.options.room;
        let (mut prompt, answer, mut notes) = self.uncut_last_turn(conversation)?;
        let is_prompt_alone = self.options.has_encoder || matches!(conversation.target(), Target::Values(_));
        let n_answer = if is_prompt_alone { 0 } else { n_tokens(&answer).max(longest) };
        if room.truncate == Truncate::Left {
            // A source is cut for itself; elsewhere the whole is cut in the end.
            if is_prompt_alone {
                notes.n_prompt_cut = prompt.keep_last(room.n_tokens) + prompt.n_cut;
            }
            return Ok((prompt, answer, notes));
        }
        if room.truncate == Truncate::Drop && !is_prompt_alone {
            return Ok((prompt, answer, notes));
        }
        let n_whole = prompt.ids.len();
        let (mut limit, _) = room.shares(n_whole, n_answer);
        let n_rounds = conversation.rounds.len();
        if n_whole > limit && n_rounds > 1 {
            // The fewest of the oldest rounds that have to go; all but the last if that is not enough.
            let (mut too_few, mut enough) = (0, n_rounds - 1);
            let later = |n_dropped: usize| -> Result<Part> {
                Ok(self.uncut_last_turn(&without_oldest(conversation, n_dropped))?.0)
            };
            let fits = |part: &Part| part.ids.len() <= room.shares(part.ids.len(), n_answer).0;
            prompt = later(enough)?;
            if fits(&prompt) {
                while enough - too_few > 1 {
                    let middle = usize::midpoint(too_few, enough);
                    let part = later(middle)?;
                    if fits(&part) { (enough, prompt) = (middle, part) } else { too_few = middle }
                }
            }
            notes.n_rounds_cut = enough;
            (limit, _) = room.shares(prompt.ids.len(), n_answer);
        }
        prompt.cut_text(limit);
        notes.n_prompt_cut = n_whole - prompt.ids.len();
        Ok((prompt, answer, notes))
    }

    /// All before the last answer as one part, and the answer in pieces.
    fn uncut_last_turn(&self, conversation: &Conversation) -> Result<(Part, Vec<Part>, SampleNotes)> {
        match &self.template {
            Some(reader) => {
                let last = conversation.rounds.len().saturating_sub(1);
                let refused = |reason: String| DataError::Sample { row: conversation.row, reason };
                let (mut turns, notes) = reader.turns(conversation, &[last]).map_err(refused)?;
                let turn = turns.pop().ok_or_else(|| refused("there is no answer".to_owned()))?;
                let prompt = self.prompt_part(&turn.prompt, turn.content_at)?;
                let answer = self.answer_parts(&turn.answer, &turn.learned, prompt.ids.last().copied())?;
                Ok((prompt, answer, notes))
            }
            None => {
                refuse_tools(conversation)?;
                let mut parts = self.marker_parts(conversation)?;
                let mut answer = parts.pop().unwrap_or_default();
                answer.is_learned = true;
                let mut prompt = Part::default();
                let n_parts = parts.len();
                for (idx, part) in parts.into_iter().enumerate() {
                    if idx + 1 == n_parts {
                        prompt.n_fixed = if n_parts == 1 { part.n_fixed } else { prompt.n_fixed };
                    } else if idx == 0 {
                        prompt.n_fixed = part.n_fixed;
                    }
                    prompt.ids.extend(part.ids);
                    prompt.n_cut += part.n_cut;
                }
                let notes =
                    SampleNotes { has_unread_thought: has_thought(conversation), ..SampleNotes::default() };
                Ok((prompt, vec![answer], notes))
            }
        }
    }

    fn marker_parts(&self, conversation: &Conversation) -> Result<Vec<Part>> {
        let options = &self.options;
        // H2O LLM Studio cuts each part for itself first.
        let limit = if options.room.truncate == Truncate::Left { options.room.n_tokens } else { usize::MAX };
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
            let mut prompt = Part::prompt(self.tokenizer.encode(&text)?, 0);
            prompt.n_fixed = n_shared(&prompt.ids, &self.tokenizer.encode(&options.prompt_start)?);
            prompt.n_cut = prompt.keep_last(limit);
            let mut head = Vec::new();
            if round_idx == 0 {
                head.extend(options.start_id);
                if !round.system.is_empty() {
                    let text =
                        format!("{}{}{}", options.system_start, round.system, eos(options.eos_after_system));
                    let mut system = self.tokenizer.encode(&text)?;
                    prompt.n_cut += system.len().saturating_sub(limit);
                    system.truncate(limit);
                    head.extend(system);
                }
            }
            prompt.n_fixed += head.len();
            head.append(&mut prompt.ids);
            prompt.ids = head;
            parts.push(prompt);
            let text = format!("{}{}", round.answer, eos(options.eos_after_answer));
            let mut answer = Part::answer(self.tokenizer.encode(&text)?, round.is_learned());
            answer.n_cut = answer.keep_first(limit);
            parts.push(answer);
        }
        Ok(parts)
    }

    /// The learned answers by a chat template: each goes on where the one before ends, or begins anew.
    fn template_assemblies(
        &self,
        reader: &TemplateReader,
        conversation: &Conversation,
    ) -> Result<(Vec<Assembly>, SampleNotes)> {
        let learned = conversation.rounds.iter().enumerate().filter(|(_, round)| round.is_learned());
        let mut round_idxs: Vec<usize> = learned.map(|(idx, _)| idx).collect();
        if !self.options.mask_prompt {
            // The last context holds all that is learned.
            round_idxs.drain(..round_idxs.len().saturating_sub(1));
        }
        let (turns, notes) = reader
            .turns(conversation, &round_idxs)
            .map_err(|reason| DataError::Sample { row: conversation.row, reason })?;
        let mut assemblies: Vec<Assembly> = Vec::new();
        let (mut text, mut ids): (String, Vec<u32>) = (String::new(), Vec::new());
        for (round_idx, turn) in round_idxs.into_iter().zip(turns) {
            let continuation = match assemblies.last() {
                Some(_) => self.continuation(&text, &ids, &turn.prompt)?,
                None => None,
            };
            let prompt = match &continuation {
                Some(ids) => Part::prompt(ids.clone(), 0),
                None => {
                    ids.clear();
                    assemblies.push(Assembly { parts: Vec::new(), n_rounds: 0 });
                    self.prompt_part(&turn.prompt, turn.content_at)?
                }
            };
            ids.extend_from_slice(&prompt.ids);
            let answer = self.answer_parts(&turn.answer, &turn.learned, ids.last().copied())?;
            ids.extend(answer.iter().flat_map(|part| &part.ids));
            text = turn.prompt + &turn.answer;
            if let Some(assembly) = assemblies.last_mut() {
                assembly.parts.push(prompt);
                assembly.parts.extend(answer);
                assembly.n_rounds = round_idx + 1;
            }
        }
        Ok((assemblies, notes))
    }

    /// The tokens of what `prompt` has more than `text`, whose tokens are `ids`, if together they are those of the prompt.
    fn continuation(&self, text: &str, ids: &[u32], prompt: &str) -> Result<Option<Vec<u32>>> {
        let Some(rest) = prompt.strip_prefix(text) else { return Ok(None) };
        let rest_ids = self.tokenizer.encode_continuation(rest, ids.last().copied())?;
        if rest_ids.first().is_some_and(|id| self.tokenizer.is_special(*id)) {
            // Nothing is merged across a special token.
            return Ok(Some(rest_ids));
        }
        let whole = self.start_ids(prompt)?;
        Ok(whole.strip_prefix(ids).map(<[u32]>::to_vec))
    }

    fn prompt_part(&self, prompt: &str, content_at: usize) -> Result<Part> {
        let ids = self.start_ids(prompt)?;
        let fixed = self.start_ids(prompt.get(..content_at).unwrap_or_default())?;
        let n_fixed = n_shared(&ids, &fixed);
        Ok(Part::prompt(ids, n_fixed))
    }

    /// The tokens of a text that nothing precedes.
    fn start_ids(&self, text: &str) -> Result<Vec<u32>> {
        Ok(match self.options.start_id {
            Some(_) => self.tokenizer.encode_from_start(text)?,
            None => self.tokenizer.encode(text)?,
        })
    }

    /// An answer in pieces that are learned and pieces that are not.
    fn answer_parts(
        &self,
        answer: &str,
        learned: &[std::ops::Range<usize>],
        mut previous: Option<u32>,
    ) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        let mut at = 0;
        let ends = learned.iter().flat_map(|span| [(span.start, false), (span.end, true)]);
        for (end, is_learned) in ends.chain([(answer.len(), false)]) {
            let piece = answer.get(at..end).unwrap_or_default();
            if !piece.is_empty() {
                let ids = self.tokenizer.encode_continuation(piece, previous)?;
                previous = ids.last().copied().or(previous);
                parts.push(Part::answer(ids, is_learned));
            }
            at = end.max(at);
        }
        Ok(parts)
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

/// The parts of one sample, uncut, and how many of the conversation's first rounds are in it.
struct Assembly {
    parts: Vec<Part>,
    n_rounds: usize,
}

/// Parts as one sample.
fn joined(row: usize, parts: Vec<Part>) -> TokenSample {
    let mut sample = TokenSample { row, ..TokenSample::default() };
    for part in parts {
        sample.ids.extend(part.ids);
        sample.trained.resize(sample.ids.len(), part.is_learned);
    }
    sample
}

fn first_rounds(conversation: &Conversation, n_rounds: usize) -> Conversation {
    let mut shorter = conversation.clone();
    shorter.rounds.truncate(n_rounds);
    shorter
}

/// Without the first rounds; the system text stays.
fn without_oldest(conversation: &Conversation, n_rounds: usize) -> Conversation {
    let mut shorter = conversation.clone();
    shorter.rounds.drain(..n_rounds.min(shorter.rounds.len()));
    if let Some(first) = shorter.rounds.first_mut() {
        first.system = conversation.system().to_owned();
    }
    shorter
}

/// How many tokens two lists have in common at their beginning.
fn n_shared(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Marker texts have no place for tools.
fn refuse_tools(conversation: &Conversation) -> Result<()> {
    if !conversation.has_tools() {
        return Ok(());
    }
    Err(DataError::Sample {
        row: conversation.row,
        reason: "the conversation has tools, for which there are no marker texts; use dataset.text_format: chat_template"
            .to_owned(),
    })
}

fn has_thought(conversation: &Conversation) -> bool {
    let has = |round: &Round| {
        round
            .details
            .as_ref()
            .is_some_and(|details| details.answer_keys.contains_key(crate::messages::THOUGHT))
    };
    conversation.rounds.iter().any(has)
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
