//! Answers in the shapes that OpenAI's clients expect, whole or streamed.

use std::convert::Infallible;

use axum::Json;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde_json::{Map, Value, json};

use super::errors::OpenAiError;
use super::logprobs::{TextLogprobs, chat_logprobs};
use super::requests::Plan;
use crate::chat::{Answer, Answers, Done, Part};
use crate::jobs::unix_secs;

/// Which of the two interfaces is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Chat,
    Completion,
}

/// What all pieces of an answer have in common.
#[derive(Clone, Debug)]
pub(super) struct Head {
    form: Form,
    id: String,
    created: u64,
    model: String,
    n_choices: usize,
    has_usage: bool,
    has_logprobs: bool,
}

/// One choice as far as it is known.
#[derive(Clone, Debug, Default)]
struct Choice {
    text: String,
    reasoning: String,
    tool_calls: Vec<Value>,
    logprobs: Vec<Value>,
}

impl Head {
    pub(super) fn new(form: Form, model: String, plan: &Plan) -> Self {
        let mut bytes = [0_u8; 12];
        // Without randomness ids may repeat, which no client minds.
        let _ = getrandom::fill(&mut bytes);
        let name: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let prefix = if form == Form::Chat { "chatcmpl" } else { "cmpl" };
        Self {
            form,
            id: format!("{prefix}-{name}"),
            created: unix_secs() as u64,
            model,
            n_choices: plan.n_choices,
            has_usage: plan.has_usage,
            has_logprobs: plan.has_logprobs,
        }
    }

    fn wrap(&self, object: &str, choices: Value, usage: Option<Value>) -> Value {
        let mut body = json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if let (Some(body), Some(usage)) = (body.as_object_mut(), usage) {
            body.insert("usage".to_owned(), usage);
        }
        body
    }

    /// A piece of a streamed answer.
    fn chunk(&self, choice: Value, usage: Option<Value>) -> Value {
        let object = if self.form == Form::Chat { "chat.completion.chunk" } else { "text_completion" };
        // A stream that ends with the counts says in each piece that they are not known yet.
        let usage = usage.or(self.has_usage.then_some(Value::Null));
        let choices = if choice.is_null() { json!([]) } else { json!([choice]) };
        self.wrap(object, choices, usage)
    }

    fn whole(&self, choices: &[Choice], done: &Done) -> Value {
        let object = if self.form == Form::Chat { "chat.completion" } else { "text_completion" };
        let choices: Vec<Value> =
            choices.iter().enumerate().map(|(idx, choice)| self.whole_choice(idx, choice, done)).collect();
        self.wrap(object, json!(choices), Some(usage(done)))
    }

    fn whole_choice(&self, idx: usize, choice: &Choice, done: &Done) -> Value {
        let finish = finish_reason(done, idx, !choice.tool_calls.is_empty());
        if self.form == Form::Completion {
            let logprobs =
                self.has_logprobs.then(|| TextLogprobs::default().next(&choice.text, &choice.logprobs));
            return json!({"index": idx, "text": choice.text, "logprobs": logprobs, "finish_reason": finish});
        }
        let is_call_only = choice.text.is_empty() && !choice.tool_calls.is_empty();
        let content = if is_call_only { Value::Null } else { json!(choice.text) };
        let mut message = json!({"role": "assistant", "content": content, "refusal": null});
        if !choice.reasoning.is_empty() {
            message["reasoning_content"] = json!(choice.reasoning);
        }
        if !choice.tool_calls.is_empty() {
            message["tool_calls"] = json!(choice.tool_calls);
        }
        let logprobs = self.has_logprobs.then(|| chat_logprobs(&choice.logprobs));
        json!({"index": idx, "message": message, "logprobs": logprobs, "finish_reason": finish})
    }
}

impl Choice {
    fn add(&mut self, part: Part) {
        self.text.push_str(part.text.as_deref().unwrap_or_default());
        self.reasoning.push_str(part.reasoning.as_deref().unwrap_or_default());
        self.tool_calls.extend(part.tool_calls.into_iter().map(|call| {
            json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}})
        }));
        self.logprobs.extend(part.logprobs.unwrap_or_default());
    }
}

fn usage(done: &Done) -> Value {
    json!({
        "prompt_tokens": done.n_prompt_tokens,
        "completion_tokens": done.n_new_tokens,
        "total_tokens": done.n_prompt_tokens + done.n_new_tokens,
        "prompt_tokens_details": {"cached_tokens": done.n_cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": done.n_reasoning_tokens},
    })
}

fn finish_reason(done: &Done, choice_idx: usize, has_calls: bool) -> &'static str {
    let finish = done.choices.get(choice_idx).map_or(done.finish.as_str(), |choice| choice.finish.as_str());
    match finish {
        "max_new_tokens" | "time_limit" => "length",
        _ if has_calls => "tool_calls",
        _ => "stop",
    }
}

/// The answer in one piece.
pub(super) async fn whole(head: Head, mut answers: Answers) -> Result<Response, OpenAiError> {
    let mut choices = vec![Choice::default(); head.n_choices];
    loop {
        match answers.next().await {
            Some(Answer::Part(part)) => {
                if let Some(choice) = choices.get_mut(part.choice) {
                    choice.add(part);
                }
            }
            Some(Answer::Done(done)) => return Ok(Json(head.whole(&choices, &done)).into_response()),
            Some(Answer::Failed(failed)) => return Err(failed.into()),
            None => return Err(OpenAiError::new(500, "the answer broke off", None, "internal")),
        }
    }
}

/// The answer as it is made. An error before the first piece is an error of the request; a later one ends the stream.
pub(super) async fn stream_of(
    head: Head,
    mut answers: Answers,
    ended: impl Future<Output = ()> + Send + 'static,
) -> Response {
    let first = match answers.next().await {
        Some(Answer::Failed(failed)) => return OpenAiError::from(failed).into_response(),
        first => first,
    };
    let mut chunks = Chunks::new(head);
    let mut opening: Vec<Event> = chunks.opening().iter().map(data).collect();
    opening.extend(first.into_iter().flat_map(|answer| chunks.of_answer(answer)));
    let rest = stream::unfold((chunks, answers), |(mut chunks, mut answers)| async move {
        let answer = answers.next().await?;
        Some((chunks.of_answer(answer), (chunks, answers)))
    });
    let all = stream::iter(opening).chain(rest.flat_map(stream::iter));
    let events = all.take_until(ended).map(Ok::<Event, Infallible>);
    Sse::new(events).keep_alive(KeepAlive::new()).into_response()
}

/// Makes the pieces of a streamed answer.
struct Chunks {
    head: Head,
    /// Whether a choice has called a tool.
    has_calls: Vec<bool>,
    texts: Vec<TextLogprobs>,
}

impl Chunks {
    fn new(head: Head) -> Self {
        let n_choices = head.n_choices;
        Self { head, has_calls: vec![false; n_choices], texts: vec![TextLogprobs::default(); n_choices] }
    }

    /// The first piece of each choice of a conversation says whose turn it is.
    fn opening(&self) -> Vec<Value> {
        let n_choices = if self.head.form == Form::Chat { self.head.n_choices } else { 0 };
        (0..n_choices)
            .map(|idx| {
                let delta = json!({"role": "assistant", "content": ""});
                self.head.chunk(
                    json!({"index": idx, "delta": delta, "logprobs": null, "finish_reason": null}),
                    None,
                )
            })
            .collect()
    }

    fn of_answer(&mut self, answer: Answer) -> Vec<Event> {
        match answer {
            Answer::Part(part) => self.of_part(&part).iter().map(data).collect(),
            Answer::Done(done) => {
                let mut last: Vec<Event> =
                    (0..self.head.n_choices).map(|idx| data(&self.end(idx, &done))).collect();
                if self.head.has_usage {
                    last.push(data(&self.head.chunk(Value::Null, Some(usage(&done)))));
                }
                last.push(Event::default().data("[DONE]"));
                last
            }
            Answer::Failed(failed) => {
                vec![data(&OpenAiError::new(500, failed.message, None, "broke_off").body())]
            }
        }
    }

    fn of_part(&mut self, part: &Part) -> Vec<Value> {
        let idx = part.choice;
        if self.head.form == Form::Completion {
            let text = part.text.as_deref().unwrap_or_default();
            let tokens = part.logprobs.as_deref().unwrap_or_default();
            let logprobs = match self.texts.get_mut(idx).filter(|_| self.head.has_logprobs) {
                Some(texts) => texts.next(text, tokens),
                None => Value::Null,
            };
            let choice = json!({"index": idx, "text": text, "logprobs": logprobs, "finish_reason": null});
            return vec![self.head.chunk(choice, None)];
        }
        let mut deltas: Vec<Map<String, Value>> = Vec::new();
        for (name, text) in [("reasoning_content", &part.reasoning), ("content", &part.text)] {
            if let Some(text) = text {
                deltas.push(Map::from_iter([(name.to_owned(), json!(text))]));
            }
        }
        for call in &part.tool_calls {
            if let Some(has_calls) = self.has_calls.get_mut(idx) {
                *has_calls = true;
            }
            let named = json!([{"index": call.index, "id": call.id, "type": "function",
                "function": {"name": call.name, "arguments": ""}}]);
            let arguments = json!([{"index": call.index, "function": {"arguments": call.arguments}}]);
            deltas.extend([named, arguments].map(|calls| Map::from_iter([("tool_calls".to_owned(), calls)])));
        }
        let mut logprobs = part.logprobs.as_deref().map_or(Value::Null, chat_logprobs);
        if deltas.is_empty() && !logprobs.is_null() {
            deltas.push(Map::new());
        }
        deltas
            .into_iter()
            .map(|delta| {
                // All tokens go with the first piece.
                let logprobs = std::mem::take(&mut logprobs);
                let choice =
                    json!({"index": idx, "delta": delta, "logprobs": logprobs, "finish_reason": null});
                self.head.chunk(choice, None)
            })
            .collect()
    }

    fn end(&self, idx: usize, done: &Done) -> Value {
        let finish = finish_reason(done, idx, self.has_calls.get(idx).copied().unwrap_or(false));
        let choice = match self.head.form {
            Form::Chat => json!({"index": idx, "delta": {}, "logprobs": null, "finish_reason": finish}),
            Form::Completion => json!({"index": idx, "text": "", "logprobs": null, "finish_reason": finish}),
        };
        self.head.chunk(choice, None)
    }
}

fn data(value: &Value) -> Event {
    Event::default().data(value.to_string())
}
