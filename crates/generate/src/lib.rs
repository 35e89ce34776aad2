//! Text generation: KV cache, samplers, stopping, batching.
