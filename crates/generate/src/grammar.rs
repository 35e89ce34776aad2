//! Answers that must have a form: after each token, which tokens may come next by a grammar.
//!
//! The grammars, JSON schemas among them, are llguidance's. A token is allowed when its bytes can go on with what was generated;
//! the tokens that end a text are allowed when the grammar is complete, and nothing else is when nothing can follow.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use tunesmith_formats::tokenizer::Tokenizer;

use crate::error::{GenerateError, Result};

/// White space between the parts of a JSON text: bounded, since a model may like to go on with it for ever.
const JSON_SPACE: &str = r"[\x20\x0A\x0D\x09]{1,32}";

/// The vocabulary as grammars need it; made once for a tokenizer.
pub(crate) struct GrammarFactory {
    parsers: ParserFactory,
    eos_id: u32,
}

impl GrammarFactory {
    pub(crate) fn new(tokenizer: &Tokenizer) -> Result<Self> {
        let words: Vec<Vec<u8>> = (0..tokenizer.vocab_size() as u32).map(|id| word(tokenizer, id)).collect();
        let eos_id = tokenizer.eos_id();
        let info = TokRxInfo::new(words.len() as u32, eos_id);
        // Approximate: the bytes of a text are cut into tokens by the model alone, so no other cutting is ever asked for.
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(TokTrie::from(&info, &words)));
        let mut parsers = ParserFactory::new_simple(&environment).map_err(|error| failed(&error))?;
        parsers.quiet();
        parsers.limits_mut().verbose_errors = false;
        Ok(Self { parsers, eos_id })
    }

    /// Compiles a grammar.
    ///
    /// # Errors
    /// [`GenerateError::Grammar`]: it is wrong, or uses what is not supported.
    pub(crate) fn matcher(&self, grammar: &Grammar) -> Result<GrammarMatcher> {
        let top = match grammar {
            Grammar::JsonSchema(schema) => TopLevelGrammar::from_json_schema(with_bounded_space(schema)),
            Grammar::Lark(source) => TopLevelGrammar::from_lark(source.clone()),
        };
        let matcher = Matcher::new(self.parsers.create_parser(top));
        match matcher.get_error() {
            Some(reason) => Err(GenerateError::Grammar { reason: first_line(&reason) }),
            None => Ok(GrammarMatcher { matcher, eos_id: self.eos_id }),
        }
    }
}

/// What an answer must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Grammar {
    /// A JSON text that is valid by this schema.
    JsonSchema(Value),
    /// A text by this grammar in llguidance's variant of Lark's language.
    Lark(String),
}

impl Grammar {
    /// Any JSON object.
    pub fn json_object() -> Self {
        Self::JsonSchema(json!({"type": "object"}))
    }
}

/// The schema as a part of a Lark grammar, with bounded white space.
pub(crate) fn lark_json(schema: &Value) -> String {
    format!("%json {}", with_bounded_space(schema))
}

fn with_bounded_space(schema: &Value) -> Value {
    let mut schema = match schema {
        // What every value is valid by, and what none is.
        Value::Bool(true) => json!({}),
        other => other.clone(),
    };
    if let Value::Object(schema) = &mut schema
        && !schema.contains_key("x-guidance")
    {
        schema.insert("x-guidance".to_owned(), json!({"whitespace_pattern": JSON_SPACE}));
    }
    schema
}

/// Follows one answer.
#[derive(Clone)]
pub(crate) struct GrammarMatcher {
    matcher: Matcher,
    eos_id: u32,
}

impl GrammarMatcher {
    /// Excludes from the logits [V] what must not come next. `end_ids` are allowed where the text may end.
    pub(crate) fn restrict(&mut self, logits: &mut [f32], end_ids: &[u32]) -> Result<()> {
        let allowed = self.matcher.compute_mask_or_eos().map_err(|error| failed(&error))?;
        let may_end = allowed.is_allowed(self.eos_id);
        let mut has_next = false;
        for (id, logit) in (0..).zip(logits.iter_mut()) {
            let is_allowed = match end_ids.contains(&id) {
                true => may_end,
                false => (id as usize) < allowed.len() && allowed.is_allowed(id),
            };
            if is_allowed {
                has_next |= logit.is_finite();
            } else {
                *logit = f32::NEG_INFINITY;
            }
        }
        if has_next {
            return Ok(());
        }
        let reason = "no token of the model's vocabulary can follow what was generated".to_owned();
        Err(GenerateError::Grammar { reason })
    }

    /// Goes on by a token that [`GrammarMatcher::restrict`] left in and that does not end the text.
    pub(crate) fn consume(&mut self, id: u32) -> Result<()> {
        self.matcher.consume_token(id).map_err(|error| failed(&error))
    }
}

/// The bytes of a token; those of special tokens are marked, so that no text is mistaken for them.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(id);
    if !tokenizer.is_special(id) {
        return bytes;
    }
    [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes.as_slice()].concat()
}

fn failed(error: &impl std::fmt::Display) -> GenerateError {
    GenerateError::Grammar { reason: first_line(&error.to_string()) }
}

/// The library adds the grammar and where it stands in it below.
fn first_line(reason: &str) -> String {
    let lines: Vec<&str> = reason.lines().map(str::trim).filter(|line| !line.is_empty()).take(4).collect();
    lines.join(" ")
}
