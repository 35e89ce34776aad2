//! Continuing one prompt in several ways at once, with all that a request may want to know or to force: log-probabilities,
//! penalties and biases, a grammar.
//!
//! The prompt is computed once whatever the number of choices, and what the cache knows of it from the request before is used
//! again. A choice is drawn as the prompt with that occurrence in a batch would be: the first one is what a single choice is.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use tunesmith_formats::tokenizer::{DecodeStream, Tokenizer};
use tunesmith_models::CausalLm;
use tunesmith_ops::KvCache;

use crate::batch::{
    FinishReason, N_PASS_TOKENS, Portion, all_scores, check_prompts, continue_with_hooks, end_ids,
    last_scores,
};
use crate::bias::LogitBias;
use crate::error::Result;
use crate::grammar::{Grammar, GrammarFactory, GrammarMatcher};
use crate::hooks::TokenHooks;
use crate::logprobs::TokenLogprobs;
use crate::settings::GenerationSettings;
use crate::stopping::ShownText;

/// What is wanted of a completion.
#[derive(Debug, Clone, Default)]
pub struct CompletionOptions {
    /// How tokens are chosen.
    pub settings: GenerationSettings,
    /// How many answers are wanted; 0 counts as 1.
    pub n_choices: usize,
    /// Log-probabilities of the tokens, with so many of the likeliest beside each.
    pub top_logprobs: Option<usize>,
    /// What is added to the logits.
    pub bias: LogitBias,
    /// What the answers must be.
    pub grammar: Option<Grammar>,
    /// The grammar begins behind the first token after which the answer has this text; at once without one.
    pub grammar_after: Option<String>,
    /// Special tokens whose text is shown.
    pub shown_special: Vec<u32>,
    /// The text is given as it continues the prompt, white space at its ends included.
    pub is_verbatim: bool,
}

/// More of the text of a choice.
#[derive(Debug)]
pub struct Piece<'p> {
    /// The choice.
    pub choice_idx: usize,
    /// The text, perhaps none at the end.
    pub text: &'p str,
    /// The tokens that the text became certain by, if log-probabilities are wanted.
    pub logprobs: &'p [TokenLogprobs],
    /// How many tokens these are.
    pub n_tokens: usize,
}

/// How a choice ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Its tokens, including the one that ended the text or those of a stop text.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish: FinishReason,
}

/// What became of a prompt.
#[derive(Debug, Clone)]
pub struct Completion {
    /// The choices, in order.
    pub choices: Vec<Choice>,
    /// How many tokens of the prompt were known from the request before.
    pub n_reused: usize,
    /// From the call to the end.
    pub secs: f64,
    /// From the call to the first token of the first choice.
    pub first_token_secs: f64,
}

/// A model that completes prompts, one after the other.
pub struct Completer<'a> {
    model: &'a CausalLm,
    tokenizer: &'a Tokenizer,
    grammars: OnceCell<GrammarFactory>,
    cache: KvCache,
    /// The tokens whose keys and values the cache holds, in one sequence.
    cached_ids: Vec<u32>,
}

impl<'a> Completer<'a> {
    /// With nothing known yet.
    pub fn new(model: &'a CausalLm, tokenizer: &'a Tokenizer) -> Self {
        let cache = KvCache::new(model.n_layers(), 1);
        Self { model, tokenizer, grammars: OnceCell::new(), cache, cached_ids: Vec::new() }
    }

    /// Completes a prompt. `on_piece` gets the texts in pieces as they become certain, and may break off all choices.
    ///
    /// # Errors
    /// Settings that do not go together, a prompt that the model cannot take, a grammar that cannot be followed. Nothing was
    /// given to `on_piece` when the prompt, the settings or the grammar itself are at fault.
    pub fn complete(
        &mut self,
        prompt: &[u32],
        options: &CompletionOptions,
        on_piece: &mut dyn FnMut(&Piece<'_>) -> ControlFlow<()>,
    ) -> Result<Completion> {
        let done = self.try_complete(prompt, options, on_piece);
        if done.is_err() {
            self.forget();
        }
        done
    }

    fn try_complete(
        &mut self,
        prompt: &[u32],
        options: &CompletionOptions,
        on_piece: &mut dyn FnMut(&Piece<'_>) -> ControlFlow<()>,
    ) -> Result<Completion> {
        let n_choices = options.n_choices.max(1);
        let mut settings = options.settings.clone();
        let matcher = options.grammar.as_ref().map(|grammar| self.matcher(grammar)).transpose()?;
        if matcher.is_some() {
            // The grammar says where the text may end, and where it must.
            settings.min_new_tokens = 0;
        }
        let prompts = vec![prompt.to_vec(); n_choices];
        let n_reused = self.reuse_cache(prompt);
        if 1 < n_choices && !self.model.has_encoder() && prompt.len() <= self.model.context_length() {
            self.prefill(prompt)?;
            self.cache.keep(&vec![0; n_choices]);
        }
        let end_ids = end_ids(self.model, self.tokenizer, &settings);
        let mut watch = Watch {
            options,
            end_ids: &end_ids,
            rows: (0..n_choices)
                .map(|_| Row::new(options, self.tokenizer, prompt.last().copied(), matcher.clone()))
                .collect(),
            on_piece,
        };
        let generated = continue_with_hooks(
            self.model,
            self.tokenizer,
            &mut self.cache,
            &prompts,
            &settings,
            &mut watch,
        )?;
        for (choice_idx, done) in generated.iter().enumerate() {
            watch.finish(choice_idx, done.finish);
        }
        if self.model.has_encoder() {
            self.forget();
        } else {
            // Of several sequences all share the prompt; of one, its answer is known, too.
            self.cached_ids = prompt.to_vec();
            match generated.as_slice() {
                [only] => self.cached_ids.extend_from_slice(&only.ids),
                _ => {
                    self.cache.keep(&[0]);
                    self.cache.truncate(0, prompt.len());
                }
            }
            self.cached_ids.truncate(self.cache.lengths().first().copied().unwrap_or(0));
        }
        let secs = generated.iter().map(|one| one.secs).fold(0.0, f64::max);
        let first_token_secs = generated.first().map_or(0.0, |one| one.first_token_secs);
        let choices = generated.into_iter().map(|one| Choice { ids: one.ids, finish: one.finish }).collect();
        Ok(Completion { choices, n_reused, secs, first_token_secs })
    }

    /// The log-probabilities of a prompt's own tokens but the first, which nothing stands before, each with `n_top` of the
    /// likeliest.
    ///
    /// # Errors
    /// The model cannot take the prompt, or has an encoder, which gives its sources no probabilities.
    pub fn prompt_logprobs(&mut self, prompt: &[u32], n_top: usize) -> Result<Vec<TokenLogprobs>> {
        check_prompts(&[prompt.to_vec()], self.model.context_length())?;
        self.forget();
        let mut found = Vec::with_capacity(prompt.len());
        for (chunk_idx, chunk) in prompt.chunks(N_LOGPROB_TOKENS).enumerate() {
            let n_known = chunk_idx * N_LOGPROB_TOKENS;
            let scores = all_scores(self.model, &mut self.cache, chunk, n_known)?;
            let next = prompt.get(n_known + 1..).unwrap_or_default();
            found.extend(scores.iter().zip(next).map(|(logits, &id)| TokenLogprobs::new(logits, id, n_top)));
        }
        self.cached_ids = prompt.to_vec();
        Ok(found)
    }

    fn matcher(&self, grammar: &Grammar) -> Result<GrammarMatcher> {
        let factory = match self.grammars.get() {
            Some(factory) => factory,
            None => {
                let made = GrammarFactory::new(self.tokenizer)?;
                self.grammars.get_or_init(|| made)
            }
        };
        factory.matcher(grammar)
    }

    /// Cuts the cache to what it shares with the prompt, except for the prompt's last token, whose logits are needed.
    fn reuse_cache(&mut self, prompt: &[u32]) -> usize {
        let n_shared = prompt.iter().zip(&self.cached_ids).take_while(|(a, b)| a == b).count();
        let n_reused = n_shared.min(prompt.len().saturating_sub(1));
        self.cache.truncate(0, n_reused);
        self.cached_ids.truncate(n_reused);
        n_reused
    }

    /// Takes all of the prompt but its last token into the cache.
    fn prefill(&mut self, prompt: &[u32]) -> Result<()> {
        let Some((_, before)) = prompt.split_last() else { return Ok(()) };
        let mut n_known = self.cached_ids.len();
        for chunk in before.get(n_known..).unwrap_or_default().chunks(N_PASS_TOKENS) {
            let portion = Portion { ids: chunk, n_known, is_last: false };
            last_scores(self.model, &mut self.cache, &[portion])?;
            n_known += chunk.len();
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.cache = KvCache::new(self.model.n_layers(), 1);
        self.cached_ids.clear();
    }
}

/// Prompt tokens whose logits are in memory at a time: each takes as many numbers as the vocabulary has tokens.
const N_LOGPROB_TOKENS: usize = 64;

/// Watches all choices.
struct Watch<'w, 'o> {
    options: &'o CompletionOptions,
    end_ids: &'w [u32],
    rows: Vec<Row<'o>>,
    on_piece: &'w mut dyn FnMut(&Piece<'_>) -> ControlFlow<()>,
}

/// One choice.
struct Row<'o> {
    shown: ShownText<'o>,
    /// How often each token was generated; counted only where there are penalties.
    counts: BTreeMap<u32, u32>,
    /// The model's own logits of the next token, where log-probabilities are wanted.
    logits: Vec<f32>,
    /// Tokens whose text is not shown yet.
    logprobs: Vec<TokenLogprobs>,
    n_tokens: usize,
    grammar: Option<GrammarMatcher>,
    /// The text so far, while the grammar waits for one.
    waiting: Option<(DecodeStream<'o>, String)>,
}

impl<'o> Row<'o> {
    fn new(
        options: &'o CompletionOptions,
        tokenizer: &'o Tokenizer,
        last_of_prompt: Option<u32>,
        grammar: Option<GrammarMatcher>,
    ) -> Self {
        let mut shown =
            ShownText::new(&options.settings.stop_texts, tokenizer).showing(&options.shown_special);
        if options.is_verbatim {
            shown = shown.continuing(last_of_prompt);
        }
        let waits = grammar.is_some() && options.grammar_after.is_some();
        Self {
            shown,
            counts: BTreeMap::new(),
            logits: Vec::new(),
            logprobs: Vec::new(),
            n_tokens: 0,
            grammar,
            waiting: waits.then(|| (tokenizer.stream_with_special(), String::new())),
        }
    }

    /// Moves the grammar on by a token.
    fn follow(&mut self, id: u32, marker: Option<&str>) -> Result<()> {
        if let Some((stream, text)) = &mut self.waiting {
            text.push_str(&stream.push(id).unwrap_or_default());
            if marker.is_none_or(|marker| text.contains(marker)) {
                self.waiting = None;
            }
            return Ok(());
        }
        self.grammar.as_mut().map_or(Ok(()), |grammar| grammar.consume(id))
    }
}

impl Watch<'_, '_> {
    fn tell(&mut self, choice_idx: usize, text: &str) -> ControlFlow<()> {
        let Some(row) = self.rows.get_mut(choice_idx) else { return ControlFlow::Continue(()) };
        let logprobs = std::mem::take(&mut row.logprobs);
        let n_tokens = std::mem::take(&mut row.n_tokens);
        (self.on_piece)(&Piece { choice_idx, text, logprobs: &logprobs, n_tokens })
    }

    /// Gives what was held back.
    fn finish(&mut self, choice_idx: usize, finish: FinishReason) {
        let Some(row) = self.rows.get_mut(choice_idx) else { return };
        if finish == FinishReason::StopText {
            // What is left are the tokens of the stop text.
            row.logprobs.clear();
        }
        let text = match finish {
            // What was held back was not certain when the answer was broken off.
            FinishReason::Cancelled => return,
            finish => row.shown.finish(finish),
        };
        if !text.is_empty() || 0 < row.n_tokens {
            // Nothing is left to break off.
            let _ = self.tell(choice_idx, &text);
        }
    }
}

impl TokenHooks for Watch<'_, '_> {
    fn has_before(&self) -> bool {
        self.options.top_logprobs.is_some()
            || self.options.grammar.is_some()
            || !self.options.bias.is_neutral()
    }

    fn before(&mut self, prompt_idx: usize, logits: &mut [f32]) -> Result<()> {
        let Some(row) = self.rows.get_mut(prompt_idx) else { return Ok(()) };
        if self.options.top_logprobs.is_some() {
            row.logits.clear();
            row.logits.extend_from_slice(logits);
        }
        self.options.bias.apply(logits, &row.counts);
        match (&mut row.grammar, &row.waiting) {
            (Some(grammar), None) => grammar.restrict(logits, self.end_ids),
            _ => Ok(()),
        }
    }

    fn chosen(&mut self, prompt_idx: usize, id: u32) -> Result<ControlFlow<()>> {
        let is_end = self.end_ids.contains(&id);
        let Some(row) = self.rows.get_mut(prompt_idx) else { return Ok(ControlFlow::Continue(())) };
        row.n_tokens += 1;
        if !self.options.bias.is_neutral() {
            *row.counts.entry(id).or_insert(0) += 1;
        }
        if let Some(n_top) = self.options.top_logprobs
            && !is_end
        {
            row.logprobs.push(TokenLogprobs::new(&row.logits, id, n_top));
        }
        if !is_end {
            row.follow(id, self.options.grammar_after.as_deref())?;
        }
        let text = row.shown.push(id);
        if text.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        Ok(self.tell(prompt_idx, &text))
    }
}
