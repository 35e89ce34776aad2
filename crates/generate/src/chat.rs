//! A conversation with a model: history, prompt assembly, streamed answers.
//!
//! Each prompt holds the whole conversation. What the cache knows of it from earlier turns is used again: the cache is
//! cut to the tokens that the new prompt shares with it, and only the rest is computed. A model with an encoder reads each
//! prompt anew.

use std::ops::ControlFlow;

use tunesmith_formats::chat_template::{ChatMessage, ChatTemplate};
use tunesmith_formats::tokenizer::Tokenizer;
use tunesmith_models::CausalLm;
use tunesmith_ops::KvCache;

use crate::batch::{FinishReason, continue_prompts};
use crate::error::{GenerateError, Result};
use crate::settings::GenerationSettings;
use crate::stopping::ShownText;

/// How a conversation is written out for the model.
#[derive(Debug, Clone)]
pub enum ChatLayout {
    /// By a chat template.
    Template(Box<ChatTemplate>),
    /// By marker texts around the messages.
    Markers(ChatMarkers),
}

impl ChatLayout {
    /// The template that the tokenizer brings.
    pub fn of_tokenizer(tokenizer: &Tokenizer) -> Result<Self> {
        let template = tokenizer.chat_template().ok_or(GenerateError::NoChatTemplate)?;
        Ok(Self::Template(Box::new(template.clone())))
    }
}

/// Marker texts, as in training with H2O LLM Studio's assembly. Each part is tokenised by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatMarkers {
    /// Before the system text.
    pub system_start: String,
    /// Before the user's text.
    pub prompt_start: String,
    /// After the user's text, before the answer.
    pub answer_separator: String,
    /// Whether the end-of-text token follows the system text.
    pub add_eos_to_system: bool,
    /// Whether it follows the user's text.
    pub add_eos_to_prompt: bool,
    /// Whether it follows an answer of the history.
    pub add_eos_to_answer: bool,
}

/// One answer.
#[derive(Debug, Clone)]
pub struct ChatReply {
    /// The answer without special tokens, cut before stop texts, stripped: exactly the pieces that were shown.
    pub text: String,
    /// Its tokens as generated.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish: FinishReason,
    /// Tokens of the prompt: the whole conversation so far.
    pub n_prompt: usize,
    /// How many of them were known from earlier turns.
    pub n_reused: usize,
    /// From the question to the end of the answer.
    pub secs: f64,
    /// From the question to the first token.
    pub first_token_secs: f64,
}

/// A conversation.
pub struct ChatSession<'a> {
    model: &'a CausalLm,
    tokenizer: &'a Tokenizer,
    layout: ChatLayout,
    settings: GenerationSettings,
    system: Option<String>,
    n_history_rounds: Option<usize>,
    messages: Vec<ChatMessage>,
    cache: KvCache,
    /// The tokens whose keys and values the cache holds.
    cached_ids: Vec<u32>,
}

impl<'a> ChatSession<'a> {
    /// A conversation without messages. With a marker layout, the markers become stop texts.
    pub fn new(
        model: &'a CausalLm,
        tokenizer: &'a Tokenizer,
        layout: ChatLayout,
        mut settings: GenerationSettings,
    ) -> Result<Self> {
        if let ChatLayout::Markers(markers) = &layout {
            let texts = [&markers.system_start, &markers.prompt_start, &markers.answer_separator];
            settings.stop_texts.extend(texts.map(|text| text.trim().to_owned()));
        }
        settings.stop_texts.retain(|text| !text.is_empty());
        settings.check()?;
        Ok(Self {
            model,
            tokenizer,
            layout,
            settings,
            system: None,
            n_history_rounds: None,
            messages: Vec::new(),
            cache: KvCache::new(model.n_layers(), 1),
            cached_ids: Vec::new(),
        })
    }

    /// Sets the text that goes before the conversation; blank means none.
    pub fn set_system(&mut self, text: &str) {
        self.system = (!text.trim().is_empty()).then(|| text.to_owned());
    }

    /// Limits the prompt to the last `n` rounds (question and answer) before the new question; `None` means all.
    pub fn set_history_rounds(&mut self, n: Option<usize>) {
        self.n_history_rounds = n;
    }

    /// The settings, to change them between questions.
    pub fn settings_mut(&mut self) -> &mut GenerationSettings {
        &mut self.settings
    }

    /// The messages so far, without the system text.
    pub fn messages(&self) -> &[ChatMessage] {
        &self.messages
    }

    /// How the conversation is written out.
    pub fn layout(&self) -> &ChatLayout {
        &self.layout
    }

    /// Replaces the messages, for example by those of a stored conversation.
    pub fn restore(&mut self, messages: &[ChatMessage]) {
        self.messages = messages.to_vec();
    }

    /// Forgets all messages; system text and settings stay.
    pub fn clear(&mut self) {
        self.messages.clear();
    }

    /// Asks the model. `on_text` gets the answer in pieces as it becomes certain, which together are the reply's text,
    /// and may break it off; the part so far then counts as the answer. After an error the question is forgotten.
    pub fn say(
        &mut self,
        question: &str,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<ChatReply> {
        self.messages.push(ChatMessage { role: USER.to_owned(), content: question.to_owned() });
        let reply = self.answer(on_text);
        match &reply {
            Ok(reply) => {
                self.messages.push(ChatMessage { role: ASSISTANT.to_owned(), content: reply.text.clone() });
            }
            Err(_) => {
                self.messages.pop();
                self.forget_cache();
            }
        }
        reply
    }

    /// The tokens of the conversation up to where the model's answer begins.
    pub fn prompt_ids(&self) -> Result<Vec<u32>> {
        let messages = self.messages_in_prompt();
        match &self.layout {
            ChatLayout::Template(template) => {
                let mut all = Vec::with_capacity(messages.len() + 1);
                if let Some(system) = &self.system {
                    all.push(ChatMessage { role: SYSTEM.to_owned(), content: system.clone() });
                }
                all.extend_from_slice(messages);
                let bos = self.tokenizer.bos_token().unwrap_or_default();
                let text = template.render(&all, true, bos, self.tokenizer.eos_token())?;
                Ok(self.tokenizer.encode_from_start(&text)?)
            }
            ChatLayout::Markers(markers) => {
                let mut ids = match self.model.has_encoder() {
                    true => Vec::new(),
                    false => self.tokenizer.encode_from_start("")?,
                };
                let n_start = ids.len();
                for part in
                    marked_parts(markers, self.system.as_deref(), messages, self.tokenizer.eos_token())
                {
                    ids.extend(self.tokenizer.encode(&part)?);
                }
                // Somebody who continues a plain text may have written the token.
                if n_start > 0 && ids.get(n_start) == ids.first() {
                    ids.drain(..n_start);
                }
                Ok(ids)
            }
        }
    }

    fn answer(&mut self, on_text: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<ChatReply> {
        let prompt = self.prompt_ids()?;
        let n_reused = self.reuse_cache(&prompt);
        let stop_texts = self.settings.stop_texts.clone();
        let mut shown = ShownText::new(&stop_texts, self.tokenizer);
        let mut text = String::new();
        let mut on_token = |_: usize, id: u32| {
            let piece = shown.push(id);
            text.push_str(&piece);
            if piece.is_empty() { ControlFlow::Continue(()) } else { on_text(&piece) }
        };
        let prompts = [prompt];
        let generated = continue_prompts(
            self.model,
            self.tokenizer,
            &mut self.cache,
            &prompts,
            &self.settings,
            &mut on_token,
        )?;
        let [prompt] = prompts;
        let Some(generated) = generated.into_iter().next() else {
            unreachable!("one prompt gives one answer")
        };
        // What was held back belongs to the answer unless the answer was broken off before it.
        if generated.finish != FinishReason::Cancelled {
            let piece = shown.finish(generated.finish);
            text.push_str(&piece);
            if !piece.is_empty() {
                // Nothing is left to break off.
                let _ = on_text(&piece);
            }
        }

        let n_prompt = prompt.len();
        if !self.model.has_encoder() {
            self.cached_ids = prompt;
            self.cached_ids.extend_from_slice(&generated.ids);
            self.cached_ids.truncate(self.cache.lengths().first().copied().unwrap_or(0));
        }
        Ok(ChatReply {
            text,
            ids: generated.ids,
            finish: generated.finish,
            n_prompt,
            n_reused,
            secs: generated.secs,
            first_token_secs: generated.first_token_secs,
        })
    }

    /// Cuts the cache to what it shares with the prompt, except for the prompt's last token, whose output is needed.
    fn reuse_cache(&mut self, prompt: &[u32]) -> usize {
        if self.model.has_encoder() {
            return 0;
        }
        let n_shared = prompt.iter().zip(&self.cached_ids).take_while(|(a, b)| a == b).count();
        let n_reused = n_shared.min(prompt.len().saturating_sub(1));
        self.cache.truncate(0, n_reused);
        self.cached_ids.truncate(n_reused);
        n_reused
    }

    fn forget_cache(&mut self) {
        self.cache = KvCache::new(self.model.n_layers(), 1);
        self.cached_ids.clear();
    }

    /// The new question and the rounds before it that still count.
    fn messages_in_prompt(&self) -> &[ChatMessage] {
        let n_kept = self.n_history_rounds.map_or(self.messages.len(), |n| 2 * n + 1);
        &self.messages[self.messages.len().saturating_sub(n_kept)..]
    }
}

const SYSTEM: &str = "system";
const USER: &str = "user";
const ASSISTANT: &str = "assistant";

/// The conversation in marker layout, in the parts that are tokenised one by one.
fn marked_parts(
    markers: &ChatMarkers,
    system: Option<&str>,
    messages: &[ChatMessage],
    eos: &str,
) -> Vec<String> {
    let end = |is_added: bool| if is_added { eos } else { "" };
    let mut parts = Vec::with_capacity(messages.len() + 1);
    if let Some(system) = system {
        parts.push(format!("{}{system}{}", markers.system_start, end(markers.add_eos_to_system)));
    }
    parts.extend(messages.iter().map(|message| {
        if message.role == ASSISTANT {
            format!("{}{}", message.content, end(markers.add_eos_to_answer))
        } else {
            let end = end(markers.add_eos_to_prompt);
            format!("{}{}{end}{}", markers.prompt_start, message.content, markers.answer_separator)
        }
    }));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_surround_the_messages() {
        let markers = ChatMarkers {
            system_start: "<|system|>".into(),
            prompt_start: "<|prompt|>".into(),
            answer_separator: "<|answer|>".into(),
            add_eos_to_system: true,
            add_eos_to_prompt: true,
            add_eos_to_answer: true,
        };
        let message = |role: &str, content: &str| ChatMessage { role: role.into(), content: content.into() };
        let messages = [
            message(USER, "[user prompt]"),
            message(ASSISTANT, "[assistant response]"),
            message(USER, "[user prompt2]"),
        ];
        assert_eq!(
            marked_parts(&markers, None, &messages, "</s>").concat(),
            "<|prompt|>[user prompt]</s><|answer|>[assistant response]</s><|prompt|>[user prompt2]</s><|answer|>"
        );
        assert!(
            marked_parts(&markers, Some("[system prompt]"), &messages, "</s>")
                .concat()
                .starts_with("<|system|>[system prompt]</s><|prompt|>")
        );
        let bare = ChatMarkers::default();
        assert_eq!(
            marked_parts(&bare, None, &messages, "</s>").concat(),
            "[user prompt][assistant response][user prompt2]"
        );
    }
}
