//! Gives the model a name of its own in data that other assistants wrote.

use tunesmith_config::Dataset;

/// How data calls the assistant, in the order of replacement. Two spellings end in a space that stays.
const ASSISTANT_NAMES: &[&str] = &[
    "Open Assistant",
    "Open-Assistant",
    "open-assistant",
    "OpenAssistant",
    "open assistant",
    "Open Assistand",
    "Open Assitant",
    "Open Assistent",
    "Open Assisstant",
    "Open Assitent",
    "Open Assitiant",
    "Open Assistiant",
    "Open Assitan ",
    "Open Assistan ",
    "Open Asistant",
    "Open Assiant",
    "Assistant",
    "ChatGPT",
];

/// How data calls the author. Punctuation at the end stays.
const AUTHOR_NAMES: &[&str] = &[
    "LAION AI", "LAION-AI", "LAION,", "LAION.ai", "LAION.", "LAION", "Laion AI", "OpenAI", "Open AI",
    "openai", "open ai",
];

/// Replaces those names in a prompt or an answer by the configured ones, one after the other, in the given case
/// only.
pub(crate) fn personalize(text: &str, dataset: &Dataset) -> String {
    let named = replace_all(text.to_owned(), ASSISTANT_NAMES, &dataset.chatbot_name);
    replace_all(named, AUTHOR_NAMES, &dataset.chatbot_author)
}

fn replace_all(mut text: String, names: &[&str], replacement: &str) -> String {
    for name in names {
        if text.contains(name) {
            let kept: String =
                name.chars().last().filter(|c| matches!(c, ' ' | ',' | '.')).into_iter().collect();
            text = text.replace(name, &format!("{replacement}{kept}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_in_order_and_punctuation_stays() {
        let dataset =
            Dataset { chatbot_name: "Bob".into(), chatbot_author: "ACME".into(), ..Dataset::default() };
        let cases = [
            ("I am Open Assistant, made by LAION.", "I am Bob, made by ACME."),
            ("I am Open Assitan by LAION, yes", "I am Bob by ACME, yes"),
            ("LAION.ai and LAION-AI and Laion AI", "ACME and ACME and ACME"),
            ("ChatGPT is no Assistant of openai", "Bob is no Bob of ACME"),
            ("an assistant of OPENAI", "an assistant of OPENAI"),
        ];
        for (text, expected) in cases {
            assert_eq!(personalize(text, &dataset), expected);
        }
    }
}
