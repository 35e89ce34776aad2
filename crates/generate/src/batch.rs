//! Continuing prompts, many at once.
//!
//! A pass takes from every sequence the tokens that its cache does not hold yet: a piece of the prompt at first, later
//! the one token that was just chosen. The sequences whose last token is in the pass get their next token from it. So
//! a long prompt is fed in pieces while others are decoded already, and no pass is larger than [`N_PASS_TOKENS`].
//!
//! A model with an encoder reads the prompts as sources, all of them first, and continues the start token instead.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;

use burn::tensor::{Int, Tensor, TensorData};
use tunesmith_formats::tokenizer::Tokenizer;
use tunesmith_models::{CausalLm, TokenBatch};
use tunesmith_ops::{KvCache, Segments};

use crate::beams::{BeamSearch, Found};
use crate::error::{GenerateError, Result};
use crate::hooks::{Listener, TokenHooks};
use crate::sampling::Sampler;
use crate::settings::GenerationSettings;
use crate::stopping::{StopTexts, StopWatch, clean_text, decode_cut};

/// Most tokens of a pass; bounds the memory for activations.
pub(crate) const N_PASS_TOKENS: usize = 2048;

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it.
    EndOfText,
    /// A stop text appeared.
    StopText,
    /// `max_new_tokens` were generated.
    MaxNewTokens,
    /// The model's context is full.
    ContextFull,
    /// `max_time_secs` have passed.
    MaxTime,
    /// The caller's callback broke off.
    Cancelled,
}

impl FinishReason {
    /// Whether a limit ended the answer at a token after which the model would have gone on, so that its last character may be
    /// incomplete.
    pub fn is_cut(self) -> bool {
        matches!(self, Self::MaxNewTokens | Self::ContextFull | Self::MaxTime | Self::Cancelled)
    }
}

/// The answer to one prompt.
#[derive(Debug, Clone)]
pub struct Generated {
    /// The generated tokens, including the one that ended the text or those of a stop text.
    pub ids: Vec<u32>,
    /// The answer without special tokens, cut before stop texts, stripped.
    pub text: String,
    /// Why it ended.
    pub finish: FinishReason,
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// From the call to the end of this answer.
    pub secs: f64,
    /// From the call to its first token.
    pub first_token_secs: f64,
}

/// Continues all prompts together, or with an encoder makes a text for each. `on_token` gets the prompt's index and each token as it is chosen, and may break
/// off the whole call; what was generated so far is returned then.
///
/// The number of prompts bounds the memory of the cache, so a caller with many prompts passes them in portions.
pub fn generate(
    model: &CausalLm,
    tokenizer: &Tokenizer,
    prompts: &[Vec<u32>],
    settings: &GenerationSettings,
    on_token: &mut dyn FnMut(usize, u32) -> ControlFlow<()>,
) -> Result<Vec<Generated>> {
    let mut cache = KvCache::new(model.n_layers(), prompts.len());
    continue_prompts(model, tokenizer, &mut cache, prompts, settings, on_token)
}

/// [`generate`] on a cache that may hold the beginnings of the prompts already. Afterwards the cache holds those
/// sequences that were not finished before the last pass; with a single prompt that is the one. With an encoder the cache is
/// made anew.
pub(crate) fn continue_prompts(
    model: &CausalLm,
    tokenizer: &Tokenizer,
    cache: &mut KvCache,
    prompts: &[Vec<u32>],
    settings: &GenerationSettings,
    on_token: &mut dyn FnMut(usize, u32) -> ControlFlow<()>,
) -> Result<Vec<Generated>> {
    continue_with_hooks(model, tokenizer, cache, prompts, settings, &mut Listener(on_token))
}

/// [`continue_prompts`] with hooks around the choice of each token.
pub(crate) fn continue_with_hooks(
    model: &CausalLm,
    tokenizer: &Tokenizer,
    cache: &mut KvCache,
    prompts: &[Vec<u32>],
    settings: &GenerationSettings,
    hooks: &mut dyn TokenHooks,
) -> Result<Vec<Generated>> {
    let start = Instant::now();
    settings.check()?;
    let context = model.context_length();
    let stops = StopTexts::new(settings, tokenizer)?;
    let end_ids = end_ids(model, tokenizer, settings);
    check_prompts(prompts, context)?;
    let texts = texts(model, prompts, cache)?;
    if settings.num_beams > 1 {
        if hooks.has_before() {
            let reason = format!(
                "must be 1 where the logits of single tokens are read or changed (logprobs, penalties, grammars), is {}",
                settings.num_beams
            );
            return Err(GenerateError::Setting { setting: "num_beams", reason });
        }
        let search = BeamSearch { model, tokenizer, settings, stops: &stops, end_ids: &end_ids, start };
        return search_all(&search, cache, prompts, &texts, hooks);
    }
    let mut rows = Vec::with_capacity(prompts.len());
    let mut occurrences: BTreeMap<&[u32], u64> = BTreeMap::new();
    for (prompt, text) in prompts.iter().zip(texts.iter()) {
        let occurrence = occurrences.entry(prompt).or_insert(0);
        rows.push(Row {
            asked: prompt,
            prompt: text,
            new_ids: Vec::new(),
            sampler: Sampler::new(settings, prompt, text, *occurrence, model.config().vocab_size),
            watch: StopWatch::new(&stops, tokenizer),
            finish: None,
            secs: 0.0,
            first_token_secs: 0.0,
        });
        *occurrence += 1;
    }

    // Indices of the unfinished rows, in the order of the cache's sequences.
    let mut active: Vec<usize> = (0..rows.len()).collect();
    while !active.is_empty() {
        let portions = next_portions(&rows, &active, &cache.lengths());
        let scores = scores_after(model, &rows, &active, &portions, cache)?;
        for (row_idx, mut logits) in scores {
            let row = &mut rows[row_idx];
            let n_new = row.new_ids.len();
            hooks.before(row_idx, &mut logits)?;
            let id = row
                .sampler
                .choose(settings, &mut logits, n_new, &end_ids)
                .ok_or(GenerateError::NotFinite { prompt_idx: row_idx, n_new })?;
            row.new_ids.push(id);
            row.secs = start.elapsed().as_secs_f64();
            if n_new == 0 {
                row.first_token_secs = row.secs;
            }
            row.finish = row.finish_reason(id, settings, &end_ids, context);
            if hooks.chosen(row_idx, id)?.is_break() {
                finish_all(&mut rows, FinishReason::Cancelled, start);
                break;
            }
        }
        if settings.max_time_secs > 0.0 && start.elapsed().as_secs_f64() >= settings.max_time_secs {
            finish_all(&mut rows, FinishReason::MaxTime, start);
        }
        let kept: Vec<usize> = (0..active.len()).filter(|&i| rows[active[i]].finish.is_none()).collect();
        if kept.len() < active.len() && !kept.is_empty() {
            cache.keep(&kept);
        }
        active = kept.into_iter().map(|i| active[i]).collect();
    }

    let answers = rows.into_iter().map(|row| {
        let Row { new_ids: ids, finish, secs, first_token_secs, .. } = row;
        generated(tokenizer, &stops, row.asked, Found { ids, finish, secs, first_token_secs })
    });
    answers.collect()
}

/// What is continued for each prompt: the prompt itself, or with an encoder the start token, after the prompts have been
/// encoded into the cache.
fn texts<'p>(model: &CausalLm, prompts: &'p [Vec<u32>], cache: &mut KvCache) -> Result<Cow<'p, [Vec<u32>]>> {
    let Some(start_id) = model.start_id() else { return Ok(prompts.into()) };
    if !prompts.is_empty() {
        *cache = encoded(model, prompts)?;
    }
    Ok(vec![vec![start_id]; prompts.len()].into())
}

/// A cache of the prompts as sources.
fn encoded(model: &CausalLm, prompts: &[Vec<u32>]) -> Result<KvCache> {
    let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
    let positions: Vec<u32> = lengths.iter().flat_map(|length| 0..*length as u32).collect();
    let segments = Segments::new(&lengths);
    let ids = prompts.concat();
    Ok(model.encode(&TokenBatch { ids: &ids, positions: &positions, segments: &segments })?)
}

/// Refuses prompts that cannot be continued.
pub(crate) fn check_prompts(prompts: &[Vec<u32>], context: usize) -> Result<()> {
    for (prompt_idx, prompt) in prompts.iter().enumerate() {
        if prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt { prompt_idx });
        }
        if prompt.len() > context {
            return Err(GenerateError::PromptTooLong { prompt_idx, n_tokens: prompt.len(), context });
        }
    }
    Ok(())
}

/// A beam search for each prompt, one after the other: the beams of one are a batch already.
fn search_all(
    search: &BeamSearch<'_>,
    cache: &mut KvCache,
    prompts: &[Vec<u32>],
    texts: &[Vec<u32>],
    hooks: &mut dyn TokenHooks,
) -> Result<Vec<Generated>> {
    let mut answers = Vec::with_capacity(prompts.len());
    let mut is_broken_off = false;
    for (prompt_idx, (prompt, text)) in prompts.iter().zip(texts).enumerate() {
        let mut failure = None;
        let mut tell = |id| {
            let flow = hooks.chosen(prompt_idx, id).unwrap_or_else(|error| {
                failure = Some(error);
                ControlFlow::Break(())
            });
            is_broken_off |= flow.is_break();
            flow
        };
        let found = match prompts.len() {
            1 => search.run(prompt_idx, text, cache, &mut tell)?,
            _ => {
                let mut own = match search.model.has_encoder() {
                    true => encoded(search.model, std::slice::from_ref(prompt))?,
                    false => KvCache::new(search.model.n_layers(), 1),
                };
                search.run(prompt_idx, text, &mut own, &mut tell)?
            }
        };
        if let Some(failure) = failure {
            return Err(failure);
        }
        answers.push(generated(search.tokenizer, search.stops, prompt, found)?);
        if is_broken_off {
            break;
        }
    }
    let rest = prompts.get(answers.len()..).unwrap_or_default();
    for prompt in rest {
        answers.push(generated(search.tokenizer, search.stops, prompt, Found::default())?);
    }
    Ok(answers)
}

fn generated(tokenizer: &Tokenizer, stops: &StopTexts, prompt: &[u32], found: Found) -> Result<Generated> {
    let finish = found.finish.unwrap_or(FinishReason::Cancelled);
    let text = match finish.is_cut() {
        true => decode_cut(tokenizer, &found.ids)?,
        false => tokenizer.decode(&found.ids, true)?,
    };
    Ok(Generated {
        text: clean_text(&text, &stops.texts),
        finish,
        n_prompt: prompt.len(),
        secs: found.secs,
        first_token_secs: found.first_token_secs,
        ids: found.ids,
    })
}

/// One prompt and its answer so far.
struct Row<'a> {
    /// What the caller asked.
    asked: &'a [u32],
    /// What is continued.
    prompt: &'a [u32],
    new_ids: Vec<u32>,
    sampler: Sampler,
    watch: StopWatch<'a>,
    finish: Option<FinishReason>,
    secs: f64,
    first_token_secs: f64,
}

impl Row<'_> {
    fn n_tokens(&self) -> usize {
        self.prompt.len() + self.new_ids.len()
    }

    /// The token at a place of prompt and answer.
    fn token(&self, place: usize) -> Option<u32> {
        let in_answer = || self.new_ids.get(place.checked_sub(self.prompt.len())?);
        self.prompt.get(place).or_else(in_answer).copied()
    }

    /// Whether the token just appended ends the answer.
    fn finish_reason(
        &mut self,
        id: u32,
        settings: &GenerationSettings,
        end_ids: &[u32],
        context: usize,
    ) -> Option<FinishReason> {
        if end_ids.contains(&id) {
            Some(FinishReason::EndOfText)
        } else if self.watch.is_stopped_by(&self.new_ids) {
            Some(FinishReason::StopText)
        } else if self.new_ids.len() >= settings.max_new_tokens {
            Some(FinishReason::MaxNewTokens)
        } else if self.n_tokens() > context {
            Some(FinishReason::ContextFull)
        } else {
            None
        }
    }
}

/// How many tokens of each active row the next pass takes.
fn next_portions(rows: &[Row<'_>], active: &[usize], cached: &[usize]) -> Vec<usize> {
    let mut n_left = N_PASS_TOKENS.max(active.len());
    // Every row that needs one token gets it; what is left goes to prompts, first come, first served.
    let pending: Vec<usize> =
        active.iter().zip(cached).map(|(&row_idx, cached)| rows[row_idx].n_tokens() - cached).collect();
    n_left -= pending.iter().filter(|&&n| n == 1).count();
    pending
        .into_iter()
        .map(|n_pending| {
            if n_pending == 1 {
                return 1;
            }
            let n_taken = n_pending.min(n_left);
            n_left -= n_taken;
            n_taken
        })
        .collect()
}

/// Runs a pass over the portions; gives the scores [V] of the next token for each row whose tokens are all known now.
fn scores_after(
    model: &CausalLm,
    rows: &[Row<'_>],
    active: &[usize],
    portions: &[usize],
    cache: &mut KvCache,
) -> Result<Vec<(usize, Vec<f32>)>> {
    let mut complete = Vec::new();
    let mut pieces = Vec::with_capacity(active.len());
    for ((&row_idx, &n_taken), n_known) in active.iter().zip(portions).zip(cache.lengths()) {
        let row = &rows[row_idx];
        let is_last = n_taken > 0 && n_known + n_taken == row.n_tokens();
        if is_last {
            complete.push(row_idx);
        }
        let ids: Vec<u32> = (n_known..n_known + n_taken).filter_map(|place| row.token(place)).collect();
        pieces.push((ids, n_known, is_last));
    }
    let portions: Vec<Portion<'_>> = pieces
        .iter()
        .map(|(ids, n_known, is_last)| Portion { ids, n_known: *n_known, is_last: *is_last })
        .collect();
    Ok(complete.into_iter().zip(last_scores(model, cache, &portions)?).collect())
}

/// What a pass takes from a sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portion<'a> {
    /// Its next tokens.
    pub(crate) ids: &'a [u32],
    /// Tokens before them, which the cache knows.
    pub(crate) n_known: usize,
    /// Whether the scores after them are wanted.
    pub(crate) is_last: bool,
}

/// The logits [V] after each of the tokens of a pass over one sequence.
pub(crate) fn all_scores(
    model: &CausalLm,
    cache: &mut KvCache,
    ids: &[u32],
    n_known: usize,
) -> Result<Vec<Vec<f32>>> {
    let positions: Vec<u32> = (n_known..n_known + ids.len()).map(|place| place as u32).collect();
    let segments = Segments::new(&[ids.len()]);
    let hidden =
        model.hidden_cached(&TokenBatch { ids, positions: &positions, segments: &segments }, cache)?;
    let logits = model.logits(hidden);
    let [_, vocab_size] = logits.dims();
    let values = tunesmith_models::read_back(logits, "the scores of the prompt's tokens")?;
    Ok(values.chunks(vocab_size).map(<[f32]>::to_vec).collect())
}

/// Runs a pass over a portion of each sequence of the cache; gives the scores [V] after those that want them, in order.
pub(crate) fn last_scores(
    model: &CausalLm,
    cache: &mut KvCache,
    portions: &[Portion<'_>],
) -> Result<Vec<Vec<f32>>> {
    let (mut ids, mut positions, mut last_places) = (Vec::new(), Vec::new(), Vec::new());
    for portion in portions {
        ids.extend_from_slice(portion.ids);
        positions.extend((portion.n_known..portion.n_known + portion.ids.len()).map(|place| place as u32));
        if portion.is_last {
            last_places.push(ids.len() as i64 - 1);
        }
    }
    let lengths: Vec<usize> = portions.iter().map(|portion| portion.ids.len()).collect();
    let segments = Segments::new(&lengths);
    let tokens = TokenBatch { ids: &ids, positions: &positions, segments: &segments };
    let hidden = model.hidden_cached(&tokens, cache)?;
    if last_places.is_empty() {
        return Ok(Vec::new());
    }
    let n_wanted = last_places.len();
    let hidden = if n_wanted == ids.len() {
        hidden
    } else {
        let places = TensorData::new(last_places, [n_wanted]);
        hidden.select(0, Tensor::<1, Int>::from_data(places, model.device()))
    };
    let logits = model.logits(hidden);
    let [_, vocab_size] = logits.dims();
    let values = tunesmith_models::read_back(logits, "the scores of the next tokens")?;
    Ok(values.chunks(vocab_size).map(<[f32]>::to_vec).collect())
}

fn finish_all(rows: &mut [Row<'_>], reason: FinishReason, start: Instant) {
    for row in rows.iter_mut().filter(|row| row.finish.is_none()) {
        row.finish = Some(reason);
        row.secs = start.elapsed().as_secs_f64();
    }
}

/// All tokens that end a text: the model's, the tokenizer's, and the caller's.
pub(crate) fn end_ids(model: &CausalLm, tokenizer: &Tokenizer, settings: &GenerationSettings) -> Vec<u32> {
    let mut ids = model.end_ids().to_vec();
    ids.push(tokenizer.eos_id());
    ids.extend(&settings.stop_ids);
    ids.sort_unstable();
    ids.dedup();
    ids
}
