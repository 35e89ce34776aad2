//! A feed-forward part of many experts, of which each token takes a few.
//!
//! With p = softmax(router(x)) over the E experts and S the k experts with the largest p of a token:
//!
//!     y = Σ over e in S of w[e] · down_e(act(gate_e(x)) · up_e(x)),   w[e] = p[e], or p[e] / Σ over S of p
//!
//! Each expert computes the rows of its tokens and no others. The choice itself has no derivative; the weights have.
//! The loss that spreads tokens over the experts is not computed. Adapters go on attention only.

use burn::tensor::Tensor;
use tunesmith_formats::model_config::{Experts, ModelConfig};
use tunesmith_ops::{
    Activation, Orientation, add_to_rows, chosen_columns, gated, largest_per_row, linear, row_softmax,
    select_rows,
};

use crate::family::{self, Declarations};
use crate::linear::Linear;
use crate::pass::Pass;

pub(crate) struct SparseMlp {
    /// Index of the router's matrix [E,C] among the parameters.
    router: usize,
    experts: Vec<Expert>,
    n_per_token: usize,
    has_normalised_weights: bool,
    activation: Activation,
}

struct Expert {
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl SparseMlp {
    /// Declares router and experts at `at`, the path of the feed-forward part.
    pub(crate) fn new(config: &ModelConfig, experts: &Experts, at: &str, declare: &mut Declarations) -> Self {
        let (c, f) = (config.hidden_size, experts.intermediate_size);
        let router = declare.tensor(format!("{at}.gate.weight"), &[experts.n_experts, c]);
        let expert = |expert_idx| {
            let mut part = |name, n_in, n_out| {
                let path = format!("{at}.experts.{expert_idx}.{name}");
                declare.linear(path, n_in, n_out, false, Orientation::OutIn)
            };
            Expert { gate: part("gate_proj", c, f), up: part("up_proj", c, f), down: part("down_proj", f, c) }
        };
        Self {
            router,
            experts: (0..experts.n_experts).map(expert).collect(),
            n_per_token: experts.n_per_token,
            has_normalised_weights: experts.has_normalised_weights,
            activation: family::activation(config.activation),
        }
    }

    /// [N,C] to [N,C].
    pub(crate) fn forward(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        let probabilities = row_softmax(linear(x.clone(), pass.weight(self.router), None));
        let chosen = largest_per_row(&probabilities, self.n_per_token);
        let weights = probabilities.clone() * chosen_columns(&probabilities, &chosen, self.n_per_token);
        let weights = match self.has_normalised_weights {
            true => weights.clone() / weights.sum_dim(1),
            false => weights,
        };
        let mut rows_of = vec![Vec::new(); self.experts.len()];
        for (row, experts) in (0_u32..).zip(chosen.chunks_exact(self.n_per_token)) {
            experts.iter().for_each(|expert_idx| rows_of[*expert_idx as usize].push(row));
        }
        let mut y = x.zeros_like();
        for (expert_idx, (expert, rows)) in self.experts.iter().zip(rows_of).enumerate() {
            if rows.is_empty() {
                continue;
            }
            let h = select_rows(x.clone(), &rows);
            let h = gated(expert.gate.forward(h.clone(), pass), expert.up.forward(h, pass), self.activation);
            let weight = select_rows(weights.clone(), &rows).narrow(1, expert_idx, 1);
            y = add_to_rows(y, &rows, expert.down.forward(h, pass) * weight);
        }
        y
    }
}
