//! Chat templates: the small Jinja programs that models ship to lay a conversation out as text.
//!
//! The engine is set up as transformers sets Jinja up, because models are trained on what transformers
//! renders: blocks trimmed on both sides, Python's string and dictionary methods, `raise_exception`,
//! `strftime_now`, Python's `tojson`, `break`/`continue`, and `{% generation %}`, whose content is rendered as if the
//! tags were not there and reported as spans ([`Rendered`]). `tools` and `documents` are defined and none.
//!
//! A template comes with the model from outside: it can neither read files nor load other templates, and
//! the engine's recursion limit and a budget of instructions end one that does not end by itself.

mod clock;
mod generation_tags;
mod python_json;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};
use serde_json::{Map, Value as Json};

use crate::error::{FormatError, Result};

/// Work a single rendering may do: one unit is about one instruction or 64 bytes of text, so this allows
/// conversations of tens of megabytes and stops an endless loop within seconds.
const FUEL: u64 = 20_000_000;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage {
    /// Who speaks: "system", "user", "assistant", or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl ChatMessage {
    /// A message of `role` saying `content`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A conversation as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// What stood between `{% generation %}` and `{% endgeneration %}`, as byte ranges of the text: what the template's
    /// author wants learned. `None` when the template has no such tags.
    pub generated: Option<Vec<Range<usize>>>,
}

/// A compiled chat template.
///
/// A source that does not compile is kept with its error, which every [`ChatTemplate::render`] returns: a
/// model with a broken template can still be trained without it.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    origin: PathBuf,
    compiled: std::result::Result<Environment<'static>, String>,
    clock_unix_secs: Option<u64>,
    /// Variables that every rendering gets (`chat_template_kwargs` of transformers).
    variables: Map<String, Json>,
}

impl ChatTemplate {
    /// Compiles `source`; a syntax error is reported by [`ChatTemplate::check`] and [`ChatTemplate::render`].
    pub fn new(source: String) -> Self {
        let compiled = compile(&source).map_err(|error| describe(&error));
        let origin = PathBuf::from("chat_template");
        Self { source, origin, compiled, clock_unix_secs: None, variables: Map::new() }
    }

    /// Names the file that error messages point to.
    #[must_use]
    pub fn with_origin(mut self, path: &Path) -> Self {
        self.origin = path.to_owned();
        self
    }

    /// Fixes what `strftime_now` calls now, in seconds since 1970-01-01 UTC.
    ///
    /// Without it the system's clock is read, so that a template which writes today's date gives another
    /// text tomorrow.
    #[must_use]
    pub fn with_clock(mut self, unix_secs: u64) -> Self {
        self.clock_unix_secs = Some(unix_secs);
        self
    }

    /// Gives every rendering these variables, `enable_thinking` for instance. Those of a single rendering win.
    #[must_use]
    pub fn with_variables(mut self, variables: Map<String, Json>) -> Self {
        self.variables = variables;
        self
    }

    /// The variables that every rendering gets.
    pub fn variables(&self) -> &Map<String, Json> {
        &self.variables
    }

    /// Whether the template reads the variable `name`, as far as its source tells.
    pub fn reads(&self, name: &str) -> bool {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        self.source.match_indices(name).any(|(at, _)| {
            let (before, after) = self.source.split_at(at);
            !before.ends_with(is_word) && !after.get(name.len()..).unwrap_or_default().starts_with(is_word)
        })
    }

    /// The template as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the rendered text can depend on the time of day or the date.
    pub fn uses_clock(&self) -> bool {
        self.source.contains("strftime_now")
    }

    /// Whether the template compiles.
    ///
    /// # Errors
    /// [`FormatError::Template`] with the line and reason.
    pub fn check(&self) -> Result<()> {
        self.compiled.as_ref().map(|_| ()).map_err(|reason| self.error(reason.clone()))
    }

    /// Lays `messages` out as text.
    ///
    /// `add_generation_prompt` asks for the opening of an assistant's turn at the end. `bos` and `eos` are
    /// the tokenizer's token texts (`bos_token` and `eos_token` in the template).
    ///
    /// # Errors
    /// [`FormatError::Template`]: the template does not compile or fails; when it refuses the conversation
    /// by `raise_exception`, `reason` is exactly its message.
    pub fn render(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
        bos: &str,
        eos: &str,
    ) -> Result<String> {
        let messages = messages
            .iter()
            .map(|message| {
                Value::from_pairs([
                    ("role", Value::from(message.role.as_str())),
                    ("content", Value::from(message.content.as_str())),
                ])
            })
            .collect();
        let tokens = [("bos_token", Value::from(bos)), ("eos_token", Value::from(eos))];
        self.render_values(messages, add_generation_prompt, tokens)
            .map(|text| generation_tags::split(&text).text)
    }

    /// Lays out messages that are more than role and text (names, tool calls, content in parts), with further
    /// variables for the template: `bos_token`, `eos_token`, `tools`, `enable_thinking` and the like.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_json(
        &self,
        messages: &Json,
        add_generation_prompt: bool,
        variables: &Map<String, Json>,
    ) -> Result<String> {
        self.render_spans(messages, add_generation_prompt, variables).map(|rendered| rendered.text)
    }

    /// As [`ChatTemplate::render_json`], with the spans that the template itself marks as the assistant's.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_spans(
        &self,
        messages: &Json,
        add_generation_prompt: bool,
        variables: &Map<String, Json>,
    ) -> Result<Rendered> {
        let variables = variables.iter().map(|(name, value)| (name.as_str(), python_json::to_value(value)));
        let text = self.render_values(python_json::to_value(messages), add_generation_prompt, variables)?;
        let mut rendered = generation_tags::split(&text);
        if !generation_tags::are_in(&self.source) {
            rendered.generated = None;
        }
        Ok(rendered)
    }

    fn render_values<'a>(
        &self,
        messages: Value,
        add_generation_prompt: bool,
        variables: impl IntoIterator<Item = (&'a str, Value)>,
    ) -> Result<String> {
        let environment = self.compiled.as_ref().map_err(|reason| self.error(reason.clone()))?;
        let clock_unix_secs = self.clock_unix_secs;
        let strftime_now = Value::from_function(move |format: String| {
            clock::strftime(clock_unix_secs.unwrap_or_else(system_clock_unix_secs), &format)
                .map_err(|reason| Error::new(ErrorKind::InvalidOperation, reason))
        });
        let common = [
            ("messages", messages),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("strftime_now", strftime_now),
        ];
        let mut all: BTreeMap<String, Value> =
            common.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        all.extend(self.variables.iter().map(|(name, value)| (name.clone(), python_json::to_value(value))));
        all.extend(variables.into_iter().map(|(name, value)| (name.to_owned(), value)));
        environment
            .get_template(TEMPLATE_NAME)
            .and_then(|template| template.render(Value::from(all)))
            .map_err(|error| self.error(describe(&error)))
    }

    fn error(&self, reason: String) -> FormatError {
        FormatError::Template { path: self.origin.clone(), reason }
    }
}

impl PartialEq for ChatTemplate {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
            && self.clock_unix_secs == other.clock_unix_secs
            && self.variables == other.variables
    }
}

const TEMPLATE_NAME: &str = "chat_template";

/// Carries the text of `raise_exception` through the engine's own error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct RaisedByTemplate(String);

fn compile(source: &str) -> std::result::Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", python_json::tojson);
    // As Python decides it: nothing is no list, and a text is one.
    environment.add_test("iterable", |value: &Value| holds_items(value.kind()));
    environment.add_test("sequence", |value: &Value| {
        holds_items(value.kind()) && value.kind() != ValueKind::Iterable
    });
    environment.add_function("raise_exception", |message: String| -> std::result::Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, "raised by the template")
            .with_source(RaisedByTemplate(message)))
    });
    environment.add_template_owned(TEMPLATE_NAME, generation_tags::replace(source))?;
    Ok(environment)
}

fn holds_items(kind: ValueKind) -> bool {
    matches!(
        kind,
        ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Iterable
    )
}

/// The message of `raise_exception` if that ended the rendering, else the engine's reason with its line.
fn describe(error: &Error) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(RaisedByTemplate(message)) = current.downcast_ref() {
            return message.clone();
        }
        cause = current.source();
    }
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("line {line}: {what}"),
        None => what,
    }
}

fn system_clock_unix_secs() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests;
