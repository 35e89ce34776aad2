//! The parts of a conversation before they are cut: by marker texts, or by a chat template, whose answers go on from each
//! other or begin anew.

use tunesmith_config::Truncate;

use super::Assembler;
use crate::conversation::{Conversation, Round, Target};
use crate::error::{DataError, Result};
use crate::sample_parts::{Part, n_tokens};
use crate::sample_template::TemplateReader;
use crate::token_sample::SampleNotes;

/// The parts of one sample, uncut, and how many of the conversation's first rounds are in it.
pub(super) struct Assembly {
    pub(super) parts: Vec<Part>,
    pub(super) n_rounds: usize,
}

/// All before the last answer, that answer in pieces, and what is worth knowing.
pub(super) type LastTurn = (Part, Vec<Part>, SampleNotes);

impl Assembler {
    /// All learned answers with what stands before them, uncut.
    pub(super) fn assemble(&self, conversation: &Conversation) -> Result<(Vec<Assembly>, SampleNotes)> {
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

    /// The last turn with its prompt cut so that there is room for the answer, which stays uncut.
    pub(super) fn last_turn(&self, conversation: &Conversation) -> Result<LastTurn> {
        self.cut_last_turn(conversation, self.uncut_last_turn(conversation)?, 0)
    }

    /// As [`Self::last_turn`], of what [`Self::uncut_last_turn`] gave, with room for an answer of `longest` tokens, too.
    pub(super) fn cut_last_turn(
        &self,
        conversation: &Conversation,
        (mut prompt, answer, mut notes): LastTurn,
        longest: usize,
    ) -> Result<LastTurn> {
        let room = self.options.room;
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
            let later = |shorter: &Conversation| Ok(self.uncut_last_turn(shorter)?.0);
            let fits = |part: &Part| part.ids.len() <= room.shares(part.ids.len(), n_answer).0;
            (notes.n_rounds_cut, prompt) = with_fewest_dropped(conversation, later, fits)?;
            (limit, _) = room.shares(prompt.ids.len(), n_answer);
        }
        prompt.cut_text(limit);
        notes.n_prompt_cut = n_whole - prompt.ids.len();
        Ok((prompt, answer, notes))
    }

    /// All before the last answer as one part, and the answer in pieces.
    pub(super) fn uncut_last_turn(&self, conversation: &Conversation) -> Result<LastTurn> {
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
                let n_fixed = parts.first().map_or(0, |first| first.n_fixed);
                let mut prompt = Part::prompt(Vec::new(), n_fixed);
                for part in parts {
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
        let mut ids = self.tokenizer.encode(text)?;
        // The tokenizer would ask its rules for the token again with every text.
        if let Some(start) = self.options.start_id.filter(|start| ids.first() != Some(start)) {
            ids.insert(0, start);
        }
        Ok(ids)
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
}

/// What is made of the conversation without the fewest of its oldest rounds with which it `fits`, and how many those are; all
/// but the last where nothing fits.
pub(super) fn with_fewest_dropped<T>(
    conversation: &Conversation,
    made_of: impl Fn(&Conversation) -> Result<T>,
    fits: impl Fn(&T) -> bool,
) -> Result<(usize, T)> {
    let (mut too_few, mut enough) = (0, conversation.rounds.len().saturating_sub(1));
    let mut kept = made_of(&without_oldest(conversation, enough))?;
    if fits(&kept) {
        while enough - too_few > 1 {
            let middle = usize::midpoint(too_few, enough);
            let made = made_of(&without_oldest(conversation, middle))?;
            if fits(&made) { (enough, kept) = (middle, made) } else { too_few = middle }
        }
    }
    Ok((enough, kept))
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
