//! Differentiable fused operations over Burn: one function per op, composed version for every device, CPU override.
