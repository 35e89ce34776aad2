//! Heads that make a few scores of a sequence, for classes or numbers, from its last token.
//!
//! Two kinds exist in the world, and weights of both can be exchanged: transformers' sequence classifiers read the output
//! of the last normalisation, H2O LLM Studio's models the scores of all tokens of the vocabulary in float32. Both are a
//! matrix without bias, which is a parameter of the model like any other, and always trained.

use burn::tensor::{DType, Tensor};
use tunesmith_formats::model_config::ModelConfig;
use tunesmith_formats::safetensors_io::NamedTensor;
use tunesmith_ops::{embedding, linear};

use crate::causal_lm::CausalLm;
use crate::counter::{mix, unit};
use crate::error::{ModelError, Result};
use crate::parameters::{Parameter, ParameterStore, to_device};
use crate::pass::Pass;

/// What a score head reads, which decides the name of its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreHeadKind {
    /// The output of the last normalisation: `score.weight` [n_outputs,C], as in transformers.
    OnHidden,
    /// The scores of all tokens: `classification_head.weight` [n_outputs,V], as in H2O LLM Studio.
    ClassificationOnLogits,
    /// The same for numbers: `regression_head.weight`.
    RegressionOnLogits,
}

/// What a fresh score head looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoreHeadSpec {
    /// What it reads.
    pub kind: ScoreHeadKind,
    /// Number of scores of a sequence, at least 1.
    pub n_outputs: usize,
    /// Seed of the initial values.
    pub seed: u64,
}

/// A head in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoreHead {
    /// What it reads.
    pub kind: ScoreHeadKind,
    /// Number of scores of a sequence.
    pub n_outputs: usize,
    /// Index of its weight among the parameters.
    pub(crate) weight: usize,
}

impl ScoreHeadKind {
    const ALL: [Self; 3] = [Self::OnHidden, Self::ClassificationOnLogits, Self::RegressionOnLogits];

    /// The name of its weight.
    pub fn weight_name(self) -> &'static str {
        match self {
            Self::OnHidden => "score.weight",
            Self::ClassificationOnLogits => "classification_head.weight",
            Self::RegressionOnLogits => "regression_head.weight",
        }
    }

    /// Whether it reads the scores of all tokens, which needs the language model's own head.
    pub fn is_on_logits(self) -> bool {
        self != Self::OnHidden
    }

    /// The kind whose weight has this name.
    pub(crate) fn of_weight(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.weight_name() == name)
    }

    /// Numbers read of a token.
    pub(crate) fn in_features(self, config: &ModelConfig) -> usize {
        if self.is_on_logits() { config.vocab_size } else { config.hidden_size }
    }

    /// Initial values [n_outputs·I], each a function of seed and place alone: normal with the deviation that the model's
    /// configuration has for new weights, or uniform within ±1/√V.
    fn initial(self, n_values: usize, config: &ModelConfig, seed: u64) -> Vec<f32> {
        if self.is_on_logits() {
            let bound = 1.0 / (config.vocab_size as f64).sqrt();
            let uniform = |i| ((2.0 * unit(mix(seed, i)) - 1.0) * bound) as f32;
            return (0..n_values as u64).map(uniform).collect();
        }
        const USUAL_RANGE: f64 = 0.02;
        let deviation = config.raw.get("initializer_range").and_then(|v| v.as_f64()).unwrap_or(USUAL_RANGE);
        (0..n_values as u64).map(|i| (normal(seed, i) * deviation) as f32).collect()
    }
}

impl ScoreHead {
    /// The head that was loaded among the parameters.
    pub(crate) fn among(parameters: &ParameterStore) -> Option<Self> {
        ScoreHeadKind::ALL.into_iter().find_map(|kind| {
            let weight = parameters.index_of(kind.weight_name())?;
            let n_outputs = parameters.get(weight)?.shape.first().copied()?;
            Some(Self { kind, n_outputs, weight })
        })
    }

    /// [B,n_outputs], one row for each segment of the pass, from the output of the last block x [N,C]. Only the last
    /// token of a segment is computed.
    pub(crate) fn scores(self, model: &CausalLm, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        let last: Vec<u32> = pass.tokens.segments.ranges().map(|r| r.end.saturating_sub(1) as u32).collect();
        let hidden = model.family().final_norm(embedding(x, &last), pass);
        let features = match self.kind.is_on_logits() {
            true => model.logits_in(hidden, pass),
            false => hidden,
        };
        linear(features, pass.matrix(self.weight), None)
    }
}

impl CausalLm {
    /// Adds a fresh score head. It is trained from now on, whatever else is.
    ///
    /// # Errors
    /// [`ModelError::ScoreHeadPresent`]; [`ModelError::ScoreHead`] for no output, or a head on the scores of all tokens
    /// over a model that has no head for those.
    pub fn attach_score_head(&mut self, spec: &ScoreHeadSpec) -> Result<()> {
        if self.score_head.is_some() {
            return Err(ModelError::ScoreHeadPresent);
        }
        if spec.n_outputs == 0 {
            return Err(ModelError::ScoreHead { reason: "it has no output".to_owned() });
        }
        let in_features = spec.kind.in_features(self.config());
        let values = spec.kind.initial(spec.n_outputs * in_features, self.config(), spec.seed);
        self.push_score_head(spec.kind, [spec.n_outputs, in_features], values)
    }

    /// Adds a stored score head: a tensor of one of the names of [`ScoreHeadKind::weight_name`]. The values of a head of
    /// the same kind and shape that is there are replaced.
    ///
    /// # Errors
    /// [`ModelError::ScoreHead`] for another name or shape; as [`Self::attach_score_head`].
    pub fn load_score_head(&mut self, tensor: NamedTensor) -> Result<()> {
        let (kind, shape) = self.stored_score_head(&tensor)?;
        match self.score_head {
            None => self.push_score_head(kind, shape, tensor.data),
            Some(head) => {
                let value = to_device(tensor.data, self.device(), DType::F32);
                self.parameters_mut().set_value(head.weight, value)
            }
        }
    }

    /// The attached score head.
    pub fn score_head(&self) -> Option<ScoreHead> {
        self.score_head
    }

    /// What each score is called, in their order; empty where they have no names.
    pub fn score_labels(&self) -> &[String] {
        &self.score_labels
    }

    /// Gives the scores names, which are written beside the weights wherever they are stored.
    pub fn name_scores(&mut self, labels: Vec<String>) {
        self.score_labels = labels;
    }

    /// The weight of the score head, to store it.
    ///
    /// # Errors
    /// [`ModelError::ScoreHeadAbsent`].
    pub fn score_head_tensor(&self) -> Result<NamedTensor> {
        let head = self.require_score_head()?;
        let weight = self.parameters().get(head.weight).ok_or(ModelError::ScoreHeadAbsent)?;
        Ok(NamedTensor { name: weight.name.clone(), shape: weight.shape.clone(), data: weight.to_vec()? })
    }

    pub(crate) fn require_score_head(&self) -> Result<ScoreHead> {
        self.score_head.ok_or(ModelError::ScoreHeadAbsent)
    }

    /// Kind and shape of a stored head, if this model can take it.
    pub(crate) fn stored_score_head(&self, tensor: &NamedTensor) -> Result<(ScoreHeadKind, [usize; 2])> {
        let refused = |reason| Err(ModelError::ScoreHead { reason });
        let Some(kind) = ScoreHeadKind::of_weight(&tensor.name) else {
            let known = ScoreHeadKind::ALL.map(ScoreHeadKind::weight_name).join(", ");
            return refused(format!("a tensor {} is none; known are {known}", tensor.name));
        };
        let in_features = kind.in_features(self.config());
        let shape = match tensor.shape[..] {
            [n_outputs, found] if found == in_features && n_outputs > 0 => [n_outputs, found],
            _ => {
                let (name, found) = (&tensor.name, &tensor.shape);
                return refused(format!(
                    "{name} has shape {found:?}, this model needs [outputs, {in_features}]"
                ));
            }
        };
        match self.score_head {
            Some(head) if (head.kind, head.n_outputs) != (kind, shape[0]) => {
                Err(ModelError::ScoreHeadPresent)
            }
            _ => Ok((kind, shape)),
        }
    }

    fn push_score_head(&mut self, kind: ScoreHeadKind, shape: [usize; 2], values: Vec<f32>) -> Result<()> {
        if self.has_encoder() {
            let reason = "a model of encoder and decoder cannot have one here".to_owned();
            return Err(ModelError::ScoreHead { reason });
        }
        if kind.is_on_logits() {
            self.require_language_head()?;
        } else {
            let head = self.config().architecture.head_name();
            self.parameters_mut().freeze(head);
        }
        let value = to_device(values, self.device(), DType::F32);
        let parameter = Parameter::new(kind.weight_name().to_owned(), shape.to_vec(), value, true);
        let weight = self.parameters_mut().push(parameter);
        self.score_head = Some(ScoreHead { kind, n_outputs: shape[0], weight });
        Ok(())
    }
}

/// A standard normal number by Box and Muller's transform of two uniform ones.
fn normal(key: u64, index: u64) -> f64 {
    // In (0, 1], so that the logarithm is finite.
    let radius = 1.0 - unit(mix(key, 2 * index));
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * unit(mix(key, 2 * index + 1))).cos()
}
