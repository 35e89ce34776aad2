//! The tokenizer as training uses it: with the experiment's options and chat template.

use std::path::Path;

use serde_json::{Map, Value as Json};
use tunesmith_config::{ExperimentConfig, ProblemType, TextFormat};
use tunesmith_formats::chat_template::ChatTemplate;
use tunesmith_formats::tokenizer::Tokenizer;

use crate::error::{DataError, Result};

/// What `strftime_now` in a chat template calls now, in training and in conversations with what was trained: noon of 26
/// July 2024, UTC, the date that published templates use where there is no clock. With the real one a run resumed tomorrow
/// would train on other tokens.
pub const TRAINING_CLOCK_UNIX_SECS: u64 = 1_721_995_200;

/// The template `chatml`, for base models that bring none.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + \
                      '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}\
                      {% endif %}";

/// The tokenizer as training uses it: with markers, `add_prefix_space` of `tokenizer.tokenizer_kwargs` applies (H2O
/// LLM Studio's default is false, so that SentencePiece tokenizers put no space before each part). With a chat
/// template, and for plain texts, the model's own rules stay, because it was trained with them; the template is the one of
/// `tokenizer.chat_template` if there is one, with `tokenizer.chat_template_kwargs` and a fixed date. A model exported
/// after training needs this tokenizer. Without `tokenizer.add_bos_token` texts begin without that token.
///
/// # Errors
/// [`DataError::Setting`] when the options are no JSON object, the tokenizer cannot be changed that way, or the template
/// is not there.
pub fn training_tokenizer(config: &ExperimentConfig, tokenizer: &Tokenizer) -> Result<Tokenizer> {
    if config.problem_type == ProblemType::ContinuedPretraining {
        return Ok(tokenizer.clone());
    }
    let tokenizer = match config.dataset.text_format {
        TextFormat::ChatTemplate => with_template(config, tokenizer)?,
        TextFormat::Markers => with_prefix_space(config, tokenizer)?,
    };
    Ok(if config.tokenizer.add_bos_token { tokenizer } else { tokenizer.without_start() })
}

/// The chat template that samples are written by.
pub(crate) fn usable_template(tokenizer: &Tokenizer) -> Result<ChatTemplate> {
    let setting = |reason: String| DataError::Setting { field: "dataset.text_format", reason };
    let template = tokenizer.chat_template().ok_or_else(|| {
        let origin = tokenizer.origin().display();
        setting(format!(
            "chat_template is asked for, but the tokenizer of {origin} has none; use markers, or name a template \
             (tokenizer.chat_template: chatml, a file, or its source)"
        ))
    })?;
    template.check().map_err(|error| setting(error.to_string()))?;
    Ok(template.clone())
}

fn with_template(config: &ExperimentConfig, tokenizer: &Tokenizer) -> Result<Tokenizer> {
    let variables = object("tokenizer.chat_template_kwargs", &config.tokenizer.chat_template_kwargs)?;
    let template = match config.tokenizer.chat_template.trim() {
        "" => tokenizer.chat_template().cloned(),
        wanted => Some(template_named(wanted, tokenizer)?),
    };
    let settled =
        template.map(|template| template.with_clock(TRAINING_CLOCK_UNIX_SECS).with_variables(variables));
    Ok(tokenizer.clone().with_chat_template(settled))
}

/// The template that `tokenizer.chat_template` means.
fn template_named(wanted: &str, tokenizer: &Tokenizer) -> Result<ChatTemplate> {
    let setting = |reason: String| DataError::Setting { field: "tokenizer.chat_template", reason };
    if wanted.contains("{{") || wanted.contains("{%") {
        return Ok(ChatTemplate::new(wanted.to_owned()));
    }
    if let Some(template) = tokenizer.named_chat_template(wanted) {
        return Ok(template.clone());
    }
    if wanted == "chatml" {
        let lacks = ["<|im_start|>", "<|im_end|>"].iter().find(|text| tokenizer.token_id(text).is_none());
        return match lacks {
            None => Ok(ChatTemplate::new(CHATML.to_owned())),
            Some(text) => Err(setting(format!(
                "chatml needs the tokens <|im_start|> and <|im_end|>, and the tokenizer of {} has no {text}; write a \
                 template with tokens that it has",
                tokenizer.origin().display()
            ))),
        };
    }
    let source = std::fs::read_to_string(wanted).map_err(|error| {
        setting(format!(
            "{wanted:?} is no template of the tokenizer, not chatml, no Jinja source, and no file that can be read: {error}"
        ))
    })?;
    Ok(ChatTemplate::new(source).with_origin(Path::new(wanted)))
}

fn with_prefix_space(config: &ExperimentConfig, tokenizer: &Tokenizer) -> Result<Tokenizer> {
    const FIELD: &str = "tokenizer.tokenizer_kwargs";
    let options = object(FIELD, &config.tokenizer.tokenizer_kwargs)?;
    let setting = |reason: String| DataError::Setting { field: FIELD, reason };
    match options.get("add_prefix_space").and_then(Json::as_bool) {
        None => Ok(tokenizer.clone()),
        Some(wanted) => {
            tokenizer.clone().with_prefix_space(wanted).map_err(|error| setting(error.to_string()))
        }
    }
}

/// A setting that is a JSON object as text; nothing is one without keys.
fn object(field: &'static str, text: &str) -> Result<Map<String, Json>> {
    match text.trim() {
        "" => Ok(Map::new()),
        text => serde_json::from_str(text)
            .map_err(|error| DataError::Setting { field, reason: format!("{text:?}: {error}") }),
    }
}
