//! `tokenizer`: token counts and tokenizer options.

use crate::declare::fields;
use crate::field::facets;

fields! {
    /// Token counts and tokenizer options.
    pub struct Tokenizer in "tokenizer" {
        /// Largest number of tokens of a sample. System texts and answers keep their first tokens, prompts their
        /// last; the assembled conversation keeps its last. More tokens need more memory and time. Some models
        /// have a largest position of their own.
        max_length: usize = 512
            => facets().at_least(2.0).slider(32.0, 16384.0, 32.0).open_grid(&[256.0, 512.0, 1024.0]);
        /// Adds the three marker texts to the vocabulary, so that each is one token with an embedding that is
        /// learned.
        add_prompt_answer_tokens: bool = false;
        /// Share of a batch's samples whose length is respected when padding is cut; longer ones lose their
        /// start. 1 cuts nothing but padding. Samples lie end to end here, so there is no padding to save.
        padding_quantile: f64 = 1.0 => facets().within(0.0, 1.0).slider(0.0, 1.0, 0.01);
        /// Options of the Hugging Face tokenizer class, a JSON object as text. `add_prefix_space` says whether
        /// SentencePiece tokenizers put a space before each part; with a chat template the model's own rule stays.
        tokenizer_kwargs: String = r#"{"use_fast": true, "add_prefix_space": false}"#.to_owned();
        /// Puts the beginning-of-text token in front of every sample if the tokenizer puts it in front of texts by itself
        /// (Llama 3, Gemma, Mistral) and the chat template has not written it. `false` leaves it out, as H2O LLM Studio does: such
        /// models then see texts that they were not made for.
        add_bos_token: bool = true;
        /// Chat template to use instead of the tokenizer's own: a file with Jinja source, the source itself, `chatml`, or the
        /// name of one of several templates that the tokenizer brings. Empty: the tokenizer's own.
        chat_template: String = String::new();
        /// Variables for the chat template, a JSON object as text: `{"enable_thinking": false}` for instance.
        chat_template_kwargs: String = String::new();
    }
}
