//! What a conversation becomes by its target: a text, a source with an answer, values, two answers that are compared, or
//! answers after all that stands before them, cut to the room there is.

use tunesmith_config::{Truncate, Turns};

use super::turns::{Assembly, LastTurn, with_fewest_dropped};
use super::{Assembler, Noted};
use crate::conversation::Conversation;
use crate::error::Result;
use crate::sample_parts::{Part, keep_first, keep_last, n_tokens};
use crate::token_sample::{SampleNotes, TokenSample};

impl Assembler {
    /// A text, all of which is learned.
    pub(super) fn text(&self, conversation: &Conversation, starts: bool, ends: bool) -> Result<Noted> {
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
    pub(super) fn with_source(&self, conversation: &Conversation) -> Result<Noted> {
        let room = self.options.room;
        let (source, mut answer, mut notes) = self.last_turn(conversation)?;
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
    pub(super) fn valued(&self, conversation: &Conversation, values: &[f32]) -> Result<Noted> {
        let (mut prompt, _, mut notes) = self.last_turn(conversation)?;
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
    pub(super) fn compared(&self, conversation: &Conversation) -> Result<Noted> {
        let Some(contrast) = conversation.contrast() else { return self.answered_last(conversation) };
        let (better, worse) = (self.uncut_last_turn(conversation)?, self.uncut_last_turn(&contrast)?);
        let longest = match self.options.room.truncate {
            Truncate::Left => 0,
            _ => n_tokens(&better.1).max(n_tokens(&worse.1)),
        };
        let of = |conversation: &Conversation, turn: LastTurn| -> Result<Noted> {
            Ok(self.answered_by(conversation, self.cut_last_turn(conversation, turn, longest)?))
        };
        let (mut sample, mut notes) = of(conversation, better)?;
        let (contrast, other) = of(&contrast, worse)?;
        sample.n_contrast = contrast.ids.len();
        sample.ids.extend(contrast.ids);
        sample.trained.extend(contrast.trained);
        sample.n_cut += contrast.n_cut;
        notes.add(&other);
        Ok(self.noted(sample, notes))
    }

    /// The answers that are learned, as one sample or several.
    pub(super) fn answered(&self, conversation: &Conversation) -> Result<Vec<Noted>> {
        match self.options.turns {
            Turns::Last => return Ok(vec![self.answered_last(conversation)?]),
            Turns::All if self.options.mask_prompt => return self.one_by_one(conversation),
            Turns::All | Turns::Auto => {}
        }
        let (assemblies, notes) = self.assemble(conversation)?;
        let n_assemblies = assemblies.len();
        let mut samples = Vec::with_capacity(n_assemblies);
        for Assembly { parts, n_rounds } in assemblies {
            let notes = SampleNotes { is_one_of_several: n_assemblies > 1, ..notes };
            let room = self.options.room;
            let is_cut_by_parts = matches!(room.truncate, Truncate::PromptLeft | Truncate::ResponseRight);
            samples.push(match is_cut_by_parts && room.lacks(n_tokens(&parts)) {
                false => self.finished(conversation.row, parts, notes, self.learns_prompts()),
                true => self.with_fewer_rounds(&first_rounds(conversation, n_rounds), &parts, notes)?,
            });
        }
        Ok(samples)
    }

    /// Each learned answer as a sample of its own.
    fn one_by_one(&self, conversation: &Conversation) -> Result<Vec<Noted>> {
        let learned = conversation.rounds.iter().enumerate().filter(|(_, round)| round.is_learned());
        let last_of = |n_rounds: usize| -> Result<Noted> {
            let (sample, notes) = self.answered_last(&first_rounds(conversation, n_rounds))?;
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
        let fits = |parts: &Vec<Part>| !self.options.room.lacks(n_tokens(parts));
        let later = |shorter: &Conversation| -> Result<Vec<Part>> {
            let (mut assemblies, _) = self.assemble(shorter)?;
            Ok(assemblies.pop().map(|assembly| assembly.parts).unwrap_or_default())
        };
        let has_one_answer = parts.iter().filter(|part| !part.is_answer).count() < 2;
        let shorter = match has_one_answer {
            true => None,
            false => Some(with_fewest_dropped(conversation, later, fits)?).filter(|(_, kept)| fits(kept)),
        };
        let Some((n_rounds_cut, kept)) = shorter else {
            let (mut sample, last) = self.answered_last(conversation)?;
            if self.learns_prompts() {
                sample.trained.fill(true);
            }
            return Ok((sample, SampleNotes { is_one_of_several: notes.is_one_of_several, ..last }));
        };
        let of = |parts: &[Part], is_answer: bool| -> usize {
            parts.iter().filter(|part| part.is_answer == is_answer).map(|part| part.ids.len()).sum()
        };
        let notes = SampleNotes {
            n_rounds_cut,
            n_prompt_cut: of(parts, false).saturating_sub(of(&kept, false)),
            n_answer_cut: of(parts, true).saturating_sub(of(&kept, true)),
            ..notes
        };
        Ok(self.finished(conversation.row, kept, notes, self.learns_prompts()))
    }

    /// The last answer and all that stands before it, which is not learned.
    fn answered_last(&self, conversation: &Conversation) -> Result<Noted> {
        Ok(self.answered_by(conversation, self.last_turn(conversation)?))
    }

    /// The sample of a last turn whose prompt is cut.
    fn answered_by(&self, conversation: &Conversation, turn: LastTurn) -> Noted {
        let (prompt, mut answer, mut notes) = turn;
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
        self.finished(conversation.row, parts, notes, false)
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
