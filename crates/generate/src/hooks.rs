//! What a caller may do around the choice of each token: see and change the logits before it, and hear of it afterwards.

use std::ops::ControlFlow;

use crate::error::Result;

/// Called for every next token of every prompt.
pub(crate) trait TokenHooks {
    /// Whether [`TokenHooks::before`] does anything; such hooks do not go with beam search, which has no single next token.
    fn has_before(&self) -> bool {
        false
    }

    /// Gets the logits [V] of the next token as the model gives them, before penalties and sampling, and may change them.
    fn before(&mut self, _prompt_idx: usize, _logits: &mut [f32]) -> Result<()> {
        Ok(())
    }

    /// Gets each token as it is chosen, and may break off the whole call.
    fn chosen(&mut self, prompt_idx: usize, id: u32) -> Result<ControlFlow<()>>;
}

/// Hooks that only hear of tokens.
pub(crate) struct Listener<'a>(pub(crate) &'a mut dyn FnMut(usize, u32) -> ControlFlow<()>);

impl TokenHooks for Listener<'_> {
    fn chosen(&mut self, prompt_idx: usize, id: u32) -> Result<ControlFlow<()>> {
        Ok((self.0)(prompt_idx, id))
    }
}
