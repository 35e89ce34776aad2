//! The chat template of an exported model that was trained on marker texts: a rendered conversation is the very text
//! that training assembled.

use tunesmith_config::{Dataset, ExperimentConfig, TextFormat};
use tunesmith_data::{end_ids, training_tokenizer, unescape};
use tunesmith_formats::chat_template::ChatTemplate;
use tunesmith_formats::tokenizer::Tokenizer;

use crate::error::TrainError;

/// The tokenizer to export with a model: the one it was trained with, and a chat template for the marker texts unless it
/// was trained on the tokenizer's own.
pub(crate) fn exported_tokenizer(
    config: &ExperimentConfig,
    tokenizer: &Tokenizer,
) -> Result<Tokenizer, TrainError> {
    let tokenizer = training_tokenizer(config, tokenizer)?;
    let dataset = &config.dataset;
    if dataset.text_format == TextFormat::ChatTemplate {
        return Ok(ending_as_answers(config, tokenizer));
    }
    let markers = [&dataset.text_system_start, &dataset.text_prompt_start, &dataset.text_answer_separator];
    let [system, prompt, answer] = &markers.map(|text| unescape(text));
    let mut source = marker_template(dataset, [system, prompt, answer], tokenizer.eos_token());
    if tokenizer.start_id().is_some() {
        // Programs that render a conversation put nothing in front of it.
        source.insert_str(0, "{{ bos_token }}");
    }
    let template = ChatTemplate::new(source);
    Ok(tokenizer.with_chat_template(Some(template)))
}

/// A base model that was given a template ends texts as its answers end: programs that know one token only, stop there.
fn ending_as_answers(config: &ExperimentConfig, tokenizer: Tokenizer) -> Tokenizer {
    if config.tokenizer.chat_template.trim().is_empty() {
        return tokenizer;
    }
    let other = end_ids(&tokenizer).into_iter().find(|id| *id != tokenizer.eos_id());
    other.and_then(|id| tokenizer.clone().with_eos(id)).unwrap_or(tokenizer)
}

/// The Jinja source for the markers of `dataset`, already unescaped as `[system, prompt, answer]`, and the end-of-text
/// token `eos`.
///
/// With a system column one leading system message is allowed; then, and without it from the start, user and assistant
/// alternate. Everything else raises.
fn marker_template(dataset: &Dataset, markers: [&str; 3], eos: &str) -> String {
    let [system, prompt, answer] = markers.map(literal);
    let eos = literal(eos);
    let end = |is_added: bool| if is_added { format!(" + {eos}") } else { String::new() };
    let system_end = end(dataset.add_eos_token_to_system);
    let prompt_end = end(dataset.add_eos_token_to_prompt);
    let answer_end = end(dataset.add_eos_token_to_answer);
    let has_system = !dataset.system_column.is_none();
    let head = if has_system {
        format!(
            "{{% if messages and messages[0]['role'] == 'system' %}}\
             {{% if messages[0]['content'] | trim %}}\
             {{{{ {system} + messages[0]['content'] | trim{system_end} }}}}\
             {{% endif %}}\
             {{% set rounds = messages[1:] %}}\
             {{% else %}}{{% set rounds = messages %}}{{% endif %}}"
        )
    } else {
        "{% set rounds = messages %}".to_owned()
    };
    let refuse_system = if has_system {
        ""
    } else {
        "{% if message['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    };
    format!(
        "{head}{{% for message in rounds %}}{refuse_system}\
         {{% if message['role'] == 'user' and loop.index0 % 2 == 0 %}}\
         {{{{ {prompt} + message['content'] | trim{prompt_end} }}}}\
         {{% elif message['role'] == 'assistant' and loop.index0 % 2 == 1 %}}\
         {{{{ {answer} + message['content'] | trim{answer_end} }}}}\
         {{% else %}}\
         {{{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}}}\
         {{% endif %}}{{% endfor %}}\
         {{% if add_generation_prompt %}}{{{{ {answer} }}}}{{% endif %}}"
    )
}

/// A Jinja string of that text. JSON's escapes are among Jinja's.
fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tunesmith_formats::chat_template::ChatMessage;

    const MARKERS: [&str; 3] = ["<|system|>", "<|prompt|>", "<|answer|>"];

    fn dataset(system_column: &str, has_eos: bool) -> Dataset {
        let mut config = ExperimentConfig::default();
        config.set("dataset.system_column", system_column).unwrap();
        config.dataset.add_eos_token_to_system = has_eos;
        config.dataset.add_eos_token_to_prompt = has_eos;
        config.dataset.add_eos_token_to_answer = has_eos;
        config.dataset
    }

    fn render(dataset: &Dataset, markers: [&str; 3], roles: &[&str]) -> Result<String, String> {
        let messages: Vec<ChatMessage> = roles
            .iter()
            .enumerate()
            .map(|(message_idx, role)| ChatMessage::new(*role, format!(" [{role} {message_idx}]\n")))
            .collect();
        ChatTemplate::new(marker_template(dataset, markers, "</s>"))
            .render(&messages, true, "", "</s>")
            .map_err(|error| error.to_string())
    }

    #[test]
    fn gv_7_5_chat_templates() {
        let rounds = ["user", "assistant", "user"];
        let with_eos = "<|prompt|>[user 0]</s><|answer|>[assistant 1]</s><|prompt|>[user 2]</s><|answer|>";
        assert_eq!(render(&dataset("None", true), MARKERS, &rounds).unwrap(), with_eos);
        assert_eq!(render(&dataset("system", true), MARKERS, &rounds).unwrap(), with_eos);
        let without_eos = with_eos.replace("</s>", "");
        assert_eq!(render(&dataset("None", false), MARKERS, &rounds).unwrap(), without_eos);
        let all = ["system", "user", "assistant", "user"];
        let with_system = "<|system|>[system 0]</s><|prompt|>[user 1]</s><|answer|>[assistant 2]</s><|prompt|>[user 3]</s><|answer|>";
        assert_eq!(render(&dataset("system", true), MARKERS, &all).unwrap(), with_system);
        let plain = render(&dataset("None", false), ["", "", ""], &rounds).unwrap();
        assert_eq!(plain, "[user 0][assistant 1][user 2]");
    }

    #[test]
    fn gv_7_5_wrong_orders_raise() {
        let without_system: [&[&str]; 5] = [
            &["system", "user"],
            &["user", "assistant", "system"],
            &["user", "user", "assistant"],
            &["assistant", "user"],
            &["assistant", "assistant", "user"],
        ];
        for roles in without_system {
            assert!(render(&dataset("None", true), MARKERS, roles).is_err(), "{roles:?}");
        }
        let refusal = render(&dataset("None", true), MARKERS, &["system", "user"]).unwrap_err();
        assert!(refusal.contains("System role not supported"), "{refusal}");
        let with_system: [&[&str]; 5] = [
            &["user", "system", "assistant"],
            &["system", "user", "user"],
            &["user", "user"],
            &["user", "assistant", "assistant"],
            &["system", "assistant"],
        ];
        for roles in with_system {
            let refusal = render(&dataset("system", true), MARKERS, roles).unwrap_err();
            assert!(refusal.contains("Conversation roles must alternate"), "{roles:?}: {refusal}");
        }
    }

    #[test]
    fn quotes_and_line_ends_in_markers_survive() {
        let markers = ["it's \"S\"\n", "\\P\t", "é{{ x }}"];
        let text = render(&dataset("system", false), markers, &["system", "user"]).unwrap();
        assert_eq!(text, "it's \"S\"\n[system 0]\\P\t[user 1]é{{ x }}");
    }
}
