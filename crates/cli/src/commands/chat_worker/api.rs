//! Questions of the programming interface: several choices, log-probabilities, tools, answers of a given form, and the answer in
//! its parts.

use std::ops::ControlFlow;

use serde_json::{Value, json};
use tunesmith_formats::tokenizer::Tokenizer;
use tunesmith_generate::{
    CompletionOptions, GenerateError, GenerationSettings, LogitBias, ReplySplitter, THINK_CLOSE, THINK_OPEN,
    ToolFormat,
};

use super::prompts::Asking;
use super::questions::{ApiWishes, Completion, Conversation, Prompt, Prompts};
use super::teller::{Teller, logprobs_json};
use super::{Refusal, Worker, finish_name};

/// What is said of an answer to a question of the interface.
struct Told {
    n_prompt: usize,
    n_cached: usize,
    n_reasoning: usize,
    secs: f64,
    first_token_secs: f64,
    /// Finish and number of tokens of each choice.
    choices: Vec<(&'static str, usize)>,
}

impl Told {
    fn to_json(&self) -> Value {
        let n_new: usize = self.choices.iter().map(|(_, n_tokens)| n_tokens).sum();
        let secs_after_first = self.secs - self.first_token_secs;
        let rate = (1 < n_new && 0.0 < secs_after_first).then(|| (n_new - 1) as f64 / secs_after_first);
        let choices: Vec<Value> = self
            .choices
            .iter()
            .map(|(finish, n_tokens)| json!({"finish": finish, "n_new_tokens": n_tokens}))
            .collect();
        json!({
            "finish": self.choices.first().map_or("cancelled", |(finish, _)| finish),
            "n_prompt_tokens": self.n_prompt,
            "n_new_tokens": n_new,
            "secs": self.secs,
            "tokens_per_sec": rate,
            "n_cached_tokens": self.n_cached,
            "n_reasoning_tokens": self.n_reasoning,
            "choices": choices,
        })
    }
}

impl Worker<'_> {
    /// Answers a conversation.
    pub(super) fn converse_by_api(&mut self, id: &str, conversation: Conversation) -> Result<Value, Refusal> {
        let api = conversation.api.clone().unwrap_or_default();
        let mut settings = self.chat_settings.clone();
        conversation.wishes.apply(&mut settings);
        let asking = self.asking(&conversation, &api)?;
        let n_choices = api.n;
        let splitters: Vec<ReplySplitter> =
            (0..n_choices).map(|_| ReplySplitter::new(asking.is_reasoning, asking.tools)).collect();
        let told = self.tell(id, 0, &asking, settings, &api, Some(splitters))?;
        Ok(told.to_json())
    }

    /// Goes on with texts, one after the other.
    pub(super) fn complete_by_api(&mut self, id: &str, completion: &Completion) -> Result<Value, Refusal> {
        let api = completion.api.clone().unwrap_or_default();
        let mut settings = self.plain_settings.clone();
        completion.wishes.apply(&mut settings);
        let prompts = match &completion.prompt {
            Prompts::One(text) => vec![self.prompt_of_text(text, &api)?],
            Prompts::Many(many) => many
                .iter()
                .map(|prompt| match prompt {
                    Prompt::Text(text) => self.prompt_of_text(text, &api),
                    Prompt::Ids(ids) => Ok(ids.clone()),
                })
                .collect::<Result<_, Refusal>>()?,
        };
        let mut all = Told {
            n_prompt: 0,
            n_cached: 0,
            n_reasoning: 0,
            secs: 0.0,
            first_token_secs: 0.0,
            choices: Vec::new(),
        };
        for (prompt_idx, ids) in prompts.into_iter().enumerate() {
            if self.is_cancelled(id) {
                break;
            }
            let first_choice = prompt_idx * api.n;
            let asking = Asking { ids, is_reasoning: false, tools: None, grammar: None, grammar_after: None };
            if api.echo {
                self.echo(id, first_choice, &asking.ids, &api)?;
            }
            let told = match api.only_prompt {
                true => Told {
                    n_prompt: asking.ids.len(),
                    n_cached: 0,
                    n_reasoning: 0,
                    secs: 0.0,
                    first_token_secs: 0.0,
                    choices: vec![("max_new_tokens", 0); api.n],
                },
                false => self.tell(id, first_choice, &asking, settings.clone(), &api, None)?,
            };
            if prompt_idx == 0 {
                all.first_token_secs = told.first_token_secs;
            }
            all.n_prompt += told.n_prompt;
            all.n_cached += told.n_cached;
            all.secs += told.secs;
            all.choices.extend(told.choices);
        }
        Ok(all.to_json())
    }

    /// Says the prompt as the beginning of its choices.
    fn echo(&mut self, id: &str, first_choice: usize, ids: &[u32], api: &ApiWishes) -> Result<(), Refusal> {
        if self.model.has_encoder() {
            return Err(Refusal::new("a model with an encoder does not go on with its prompt").param("echo"));
        }
        let text = self.tokenizer.decode(ids, true).map_err(GenerateError::from)?;
        let mut logprobs = Vec::new();
        if let Some(n_top) = api.top_logprobs {
            let of_prompt = self
                .completer
                .prompt_logprobs(ids, n_top)
                .map_err(|error| Refusal::from(error).param("prompt"))?;
            // Nothing stands before the first token that would make it likely or not.
            let first = ids.first().map(|&id| {
                json!({"token": self.tokenizer.token_text(id), "logprob": null,
                "bytes": self.tokenizer.token_bytes(id), "top_logprobs": []})
            });
            logprobs.extend(first);
            logprobs.extend(of_prompt.iter().map(|token| logprobs_json(self.tokenizer, token)));
        }
        for choice in first_choice..first_choice + api.n {
            let mut line = json!({"id": id, "choice": choice, "text": text});
            if api.top_logprobs.is_some() {
                line["logprobs"] = json!(logprobs);
            }
            self.terminal.json(&line)?;
        }
        Ok(())
    }

    fn prompt_of_text(&self, text: &str, api: &ApiWishes) -> Result<Vec<u32>, Refusal> {
        let mut ids = self.tokenizer.encode(text).map_err(GenerateError::from)?;
        // As texts are in training: base models have never seen one that does not begin so.
        let start = self.tokenizer.start_id().filter(|_| api.add_special_tokens);
        if let Some(start) = start
            && ids.first() != Some(&start)
        {
            ids.insert(0, start);
        }
        Ok(ids)
    }

    /// Completes a prompt and says the pieces; with splitters in their parts.
    fn tell(
        &mut self,
        id: &str,
        first_choice: usize,
        asking: &Asking,
        settings: GenerationSettings,
        api: &ApiWishes,
        splitters: Option<Vec<ReplySplitter>>,
    ) -> Result<Told, Refusal> {
        let shown_special = match splitters {
            Some(_) => special_ids(self.tokenizer, asking.tools),
            None => Vec::new(),
        };
        let options = CompletionOptions {
            settings,
            n_choices: api.n,
            top_logprobs: api.top_logprobs,
            bias: LogitBias {
                frequency_penalty: api.frequency_penalty,
                presence_penalty: api.presence_penalty,
                by_token: api.logit_bias.clone(),
            },
            grammar: asking.grammar.clone(),
            grammar_after: asking.grammar_after.map(str::to_owned),
            shown_special,
            is_verbatim: splitters.is_none(),
        };
        let mut teller = Teller {
            id,
            first_choice,
            tokenizer: self.tokenizer,
            format: asking.tools,
            has_logprobs: api.top_logprobs.is_some(),
            n_calls: vec![0; api.n],
            n_reasoning: 0,
            splitters,
        };
        let terminal = self.terminal;
        let cancelled = &self.cancelled;
        let done = self.completer.complete(&asking.ids, &options, &mut |piece| {
            let is_heard = teller.line(piece).is_none_or(|line| terminal.json(&line).is_ok());
            let is_cancelled = cancelled.lock().is_ok_and(|cancelled| cancelled.contains(id));
            if is_heard && !is_cancelled { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        let of_prompt = if teller.splitters.is_some() { "messages" } else { "prompt" };
        let done = done.map_err(|error| named(error, api, of_prompt))?;
        for line in teller.last_lines() {
            terminal.json(&line)?;
        }
        Ok(Told {
            n_prompt: asking.ids.len(),
            n_cached: done.n_reused,
            n_reasoning: teller.n_reasoning,
            secs: done.secs,
            first_token_secs: done.first_token_secs,
            choices: done.choices.iter().map(|one| (finish_name(one.finish), one.ids.len())).collect(),
        })
    }
}

/// The error with the field of the request that led to it.
fn named(error: GenerateError, api: &ApiWishes, of_prompt: &'static str) -> Refusal {
    let param = match &error {
        GenerateError::PromptTooLong { .. } | GenerateError::EmptyPrompt { .. } => Some(of_prompt),
        GenerateError::Grammar { .. } if api.json_schema.is_some() => Some("response_format"),
        GenerateError::Grammar { .. } => Some("tools"),
        GenerateError::Setting { setting: "max_new_tokens", .. } => Some("max_tokens"),
        GenerateError::Setting { setting, .. } => Some(*setting),
        _ => None,
    };
    let refusal = Refusal::from(error);
    match param {
        Some(param) => refusal.param(param),
        None => refusal,
    }
}

/// Special tokens by which the parts of an answer are found.
fn special_ids(tokenizer: &Tokenizer, tools: Option<ToolFormat>) -> Vec<u32> {
    let of_calls = tools.map(ToolFormat::markers).unwrap_or_default();
    let markers = [THINK_OPEN, THINK_CLOSE].into_iter().chain(of_calls.iter().copied());
    let ids = markers.filter_map(|marker| tokenizer.token_id(marker));
    ids.filter(|&id| tokenizer.is_special(id)).collect()
}
