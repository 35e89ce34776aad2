//! Tokens that end an answer: what generation stops at, in training's evaluation, in conversations and in exported models.

use tunesmith_formats::tokenizer::Tokenizer;

use crate::sample_template::TemplateReader;

/// The end-of-text token, then what the tokenizer's chat template puts after an answer and after a call of a tool, where
/// that is another special token: `<|im_end|>` of a base model with a ChatML template, for instance.
pub fn end_ids(tokenizer: &Tokenizer) -> Vec<u32> {
    let mut end_ids = vec![tokenizer.eos_id()];
    let Some(template) = tokenizer.chat_template().filter(|template| template.check().is_ok()) else {
        return end_ids;
    };
    let bos = tokenizer.bos_token().unwrap_or_default();
    let special = tokenizer.special_texts();
    let reader = TemplateReader::new(template.clone(), bos, tokenizer.eos_token(), &special);
    for text in reader.ends() {
        // An end is written after some token; which one does not matter.
        let Ok(ids) = tokenizer.encode_continuation(&text, Some(tokenizer.eos_id())) else { continue };
        let end = ids.iter().copied().find(|id| tokenizer.is_special(*id));
        end_ids.extend(end.filter(|id| !end_ids.contains(id)));
    }
    end_ids
}

#[cfg(test)]
mod tests {
    use tunesmith_formats::chat_template::ChatTemplate;

    use super::*;
    use crate::test_support::golden_tokenizer;

    #[test]
    fn a_template_ends_answers_with_another_token_than_texts() {
        let tokenizer = golden_tokenizer("spm-llama");
        let with =
            |source: &str| tokenizer.clone().with_chat_template(Some(ChatTemplate::new(source.to_owned())));
        let eos = tokenizer.eos_id();
        let other = tokenizer.bos_id().unwrap();
        assert_eq!(end_ids(&tokenizer.clone().with_chat_template(None)), [eos]);
        assert_eq!(end_ids(&with("{% for m in messages %}{{ m.content }}</s>{% endfor %}")), [eos]);
        // A beginning of text does not usually end one; here it stands for any special token.
        assert_eq!(end_ids(&with("{% for m in messages %}{{ m.content }}<s>\n{% endfor %}")), [eos, other]);
        assert_eq!(end_ids(&with("{% if %}")), [eos]);
    }
}
