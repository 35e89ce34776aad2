//! Parameter groups and the optimizer's memory, over the update rules of `ops`.

use burn::tensor::Tensor;
use tunesmith_config::{Optimizer as OptimizerChoice, Training};
use tunesmith_models::ParameterStore;
use tunesmith_ops::{Moments8, Rule, State, TensorData, update, update_8bit};

use crate::error::TrainError;
use crate::trainability::name_contains_any;

/// Which learning rate and weight decay a parameter gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterGroup {
    /// Uses `training.differential_learning_rate`.
    pub is_differential: bool,
    /// Uses `training.lora_plus_ratio` times its learning rate.
    pub is_lora_plus: bool,
    /// Uses `training.weight_decay`.
    pub has_decay: bool,
}

impl ParameterGroup {
    /// The group of the parameter called `name` with `n_dimensions`.
    ///
    /// - differential when its name contains one of `differential_learning_rate_layers`;
    /// - of LoRA+ when it is the second matrix of an adapter or has one dimension, as `peft` groups them;
    /// - without decay when it is a bias or the weight of a norm, as in the trainer of transformers; with
    ///   `weight_decay_norms` when its name contains `bias` or `LayerNorm.weight`, as in H2O LLM Studio.
    pub fn of(training: &Training, name: &str, n_dimensions: usize) -> Self {
        let is_spared = match training.weight_decay_norms {
            true => name.contains("LayerNorm.weight"),
            false => is_norm_weight(name),
        };
        Self {
            is_differential: name_contains_any(name, &training.differential_learning_rate_layers),
            is_lora_plus: training.lora && (name.contains("lora_B") || n_dimensions == 1),
            has_decay: !name.contains("bias") && !is_spared,
        }
    }
}

/// Whether a parameter belongs to a norm, by the name of its module: `input_layernorm`, `q_norm`, `norm`, GPT-2's `ln_1`.
fn is_norm_weight(name: &str) -> bool {
    let mut modules = name.rsplit('.').skip(1);
    modules.next().is_some_and(|module| {
        let module = module.to_ascii_lowercase();
        module.ends_with("norm") || module.starts_with("ln_")
    })
}

/// The update rule of a configuration, with the settings of PyTorch's defaults except where H2O LLM Studio departs from
/// them (momentum 0.9 for SGD, with Nesterov's look-ahead, and for RMSprop, with α 0.9).
///
/// The rule of the 8-bit AdamW is that of AdamW: the difference is in what is kept of the moments, [`keeps_8bit`].
pub fn rule_of(training: &Training, weight_decay: f64) -> Rule {
    const EPS: f64 = 1e-8;
    let (beta1, beta2, eps) = (training.adam_beta1, training.adam_beta2, training.adam_epsilon);
    match training.optimizer {
        OptimizerChoice::AdamW | OptimizerChoice::AdamW8bit => {
            Rule::AdamW { beta1, beta2, eps, weight_decay }
        }
        OptimizerChoice::Adam => Rule::Adam { beta1, beta2, eps, weight_decay },
        OptimizerChoice::Sgd => Rule::Sgd { momentum: 0.9, nesterov: true, weight_decay },
        OptimizerChoice::RmsProp => Rule::RmsProp { alpha: 0.9, momentum: 0.9, eps: EPS, weight_decay },
        OptimizerChoice::Adadelta => Rule::Adadelta { rho: 0.9, eps: 1e-6, weight_decay },
    }
}

/// Whether the moments of a parameter of `n_values` are kept in 8 bits. Those of a short one cost little and are kept whole,
/// as in bitsandbytes.
fn keeps_8bit(choice: OptimizerChoice, n_values: usize) -> bool {
    const LEAST_VALUES: usize = 4096;
    choice == OptimizerChoice::AdamW8bit && LEAST_VALUES <= n_values
}

/// Bytes that the optimizer keeps for a parameter of `n_values`.
pub(crate) fn state_bytes(choice: OptimizerChoice, n_values: u64) -> u64 {
    let n_values = usize::try_from(n_values).unwrap_or(usize::MAX);
    match keeps_8bit(choice, n_values) {
        true => Moments8::n_bytes(n_values) as u64,
        false => {
            let training = Training { optimizer: choice, ..Training::default() };
            (size_of::<f32>() * rule_of(&training, 0.0).n_states() * n_values) as u64
        }
    }
}

/// The optimizer: one slot per trainable parameter.
#[derive(Debug)]
pub struct Optimizer {
    slots: Vec<Slot>,
    learning_rate: f64,
    differential_learning_rate: f64,
    lora_plus_ratio: f64,
    n_updates: u64,
}

/// What the optimizer keeps for one parameter.
#[derive(Debug)]
struct Slot {
    parameter_idx: usize,
    name: String,
    group: ParameterGroup,
    rule: Rule,
    memory: Memory,
}

/// What is remembered of a parameter's gradients.
#[derive(Debug)]
enum Memory {
    Whole(State),
    In8Bits(Moments8),
}

impl Memory {
    fn new(choice: OptimizerChoice, rule: &Rule, parameter: &Tensor<1>) -> Self {
        let [n_values] = parameter.dims();
        match keeps_8bit(choice, n_values) {
            true => Self::In8Bits(Moments8::new(n_values)),
            false => Self::Whole(rule.initial_state(parameter)),
        }
    }

    /// Everything as numbers, in a fixed order: state tensors, or codes and scales of one moment after the other.
    fn values(&self) -> Vec<Result<Vec<f32>, TrainError>> {
        match self {
            Self::Whole(state) => state.iter().map(read_back).collect(),
            Self::In8Bits(Moments8 { codes, scales }) => {
                let numbers = |codes: &[u8]| codes.iter().map(|code| f32::from(*code)).collect::<Vec<f32>>();
                codes.iter().zip(scales).flat_map(|(c, s)| [Ok(numbers(c)), Ok(s.clone())]).collect()
            }
        }
    }

    /// Replaces everything by what `take` gives for a place in that order and its number of values.
    fn restore(
        &mut self,
        mut take: impl FnMut(usize, usize) -> Result<Vec<f32>, TrainError>,
    ) -> Result<(), TrainError> {
        match self {
            Self::Whole(state) => {
                for (place, tensor) in state.iter_mut().enumerate() {
                    let [n_values] = tensor.dims();
                    let values = TensorData::new(take(place, n_values)?, [n_values]);
                    *tensor = Tensor::from_data(values, &tensor.device());
                }
            }
            Self::In8Bits(Moments8 { codes, scales }) => {
                for (moment_idx, (codes, scales)) in codes.iter_mut().zip(scales).enumerate() {
                    // Whole numbers from 0 to 255 were written.
                    let stored = take(2 * moment_idx, codes.len())?;
                    *codes = stored.into_iter().map(|code| code as u8).collect();
                    *scales = take(2 * moment_idx + 1, scales.len())?;
                }
            }
        }
        Ok(())
    }
}

fn read_back(tensor: &Tensor<1>) -> Result<Vec<f32>, TrainError> {
    Ok(tunesmith_models::read_back(tensor.clone(), "the optimizer's state")?)
}

impl Optimizer {
    /// An optimizer for the trainable parameters of `store`, with all state at zero.
    pub fn new(training: &Training, store: &ParameterStore) -> Self {
        let slots = store
            .iter()
            .enumerate()
            .filter(|(_, parameter)| parameter.trainable)
            .map(|(parameter_idx, parameter)| {
                let group = ParameterGroup::of(training, &parameter.name, parameter.shape.len());
                let weight_decay = if group.has_decay { training.weight_decay } else { 0.0 };
                let rule = rule_of(training, weight_decay);
                let memory = Memory::new(training.optimizer, &rule, &parameter.tensor());
                Slot { parameter_idx, name: parameter.name.clone(), group, rule, memory }
            })
            .collect();
        Self {
            slots,
            learning_rate: training.learning_rate,
            differential_learning_rate: training.differential_learning_rate,
            lora_plus_ratio: training.lora_plus_ratio,
            n_updates: 0,
        }
    }

    /// The learning rate of the normal groups at a schedule's `factor`.
    pub fn learning_rate(&self, factor: f64) -> f64 {
        self.learning_rate * factor
    }

    /// The learning rate of the differential groups at a schedule's `factor`; `None` when no parameter is in them.
    pub fn differential_learning_rate(&self, factor: f64) -> Option<f64> {
        let any = self.slots.iter().any(|slot| slot.group.is_differential);
        any.then_some(self.differential_learning_rate * factor)
    }

    /// Updates, counted from 0, that the state has seen.
    pub fn n_updates(&self) -> u64 {
        self.n_updates
    }

    /// One step: every parameter with a gradient in `gradients` (flat f32, by ascending parameter index) moves.
    /// Gradients are multiplied by `clip_factor` first and dropped one after the other.
    pub fn step(
        &mut self,
        store: &mut ParameterStore,
        gradients: Vec<(usize, Tensor<1>)>,
        schedule_factor: f64,
        clip_factor: f64,
    ) -> Result<(), TrainError> {
        self.n_updates += 1;
        let learning_rate = self.learning_rate * schedule_factor;
        let differential_learning_rate = self.differential_learning_rate * schedule_factor;
        for (parameter_idx, gradient) in gradients {
            let Ok(slot_idx) = self.slots.binary_search_by_key(&parameter_idx, |slot| slot.parameter_idx)
            else {
                continue;
            };
            let Some(slot) = self.slots.get_mut(slot_idx) else { continue };
            let mut rate =
                if slot.group.is_differential { differential_learning_rate } else { learning_rate };
            if slot.group.is_lora_plus {
                rate *= self.lora_plus_ratio;
            }
            let gradient = if clip_factor < 1.0 { gradient.mul_scalar(clip_factor as f32) } else { gradient };
            let n_updates = self.n_updates;
            store.update_value(parameter_idx, |value| match &mut slot.memory {
                Memory::Whole(state) => {
                    let taken = std::mem::take(state);
                    let (value, new) = update(&slot.rule, rate as f32, n_updates, value, gradient, taken);
                    *state = new;
                    value
                }
                Memory::In8Bits(moments) => {
                    update_8bit(&slot.rule, rate as f32, n_updates, value, gradient, moments)
                }
            })?;
        }
        Ok(())
    }

    /// All state as flat numbers with their names, `<parameter>.<number>`, in parameter order. Of moments in 8 bits codes and
    /// scales take turns.
    pub(crate) fn state_values(&self) -> impl Iterator<Item = Result<(String, Vec<f32>), TrainError>> {
        self.slots.iter().flat_map(|slot| {
            let named = |(place, values): (usize, Result<Vec<f32>, TrainError>)| {
                Ok((format!("{}.{place}", slot.name), values?))
            };
            slot.memory.values().into_iter().enumerate().map(named)
        })
    }

    /// Replaces all state by what `take` gives for each name of [`Self::state_values`] and its number of values.
    pub(crate) fn restore(
        &mut self,
        n_updates: u64,
        mut take: impl FnMut(&str, usize) -> Result<Vec<f32>, TrainError>,
    ) -> Result<(), TrainError> {
        for Slot { name, memory, .. } in &mut self.slots {
            memory.restore(|place, n_values| take(&format!("{name}.{place}"), n_values))?;
        }
        self.n_updates = n_updates;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tunesmith_ops::open_device;

    /// Applies the rule of `training` to flat parameters and compares after every step.
    fn check(
        training: &Training,
        start: &[f32],
        gradients: &[Vec<f32>],
        expected: &[Vec<f64>],
        tolerance: f64,
    ) {
        let device = open_device("cpu").unwrap();
        let rule = rule_of(training, 0.01);
        let mut value = Tensor::<1>::from_data(start, &device);
        let mut state = rule.initial_state(&value);
        let mut worst: f64 = 0.0;
        for (step, (gradient, want)) in gradients.iter().zip(expected).enumerate() {
            let gradient = Tensor::from_data(gradient.as_slice(), &device);
            (value, state) = update(&rule, 0.1, step as u64 + 1, value, gradient, state);
            let got: Vec<f32> = value.try_to_vec_as().unwrap();
            for (got, want) in got.iter().zip(want) {
                worst = worst.max((f64::from(*got) - want).abs());
            }
        }
        assert!(worst <= tolerance, "{}: worst difference {worst:e}", training.optimizer);
    }

    fn with(optimizer: OptimizerChoice) -> Training {
        Training { optimizer, ..Training::default() }
    }

    fn golden() -> serde_json::Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/optimizers.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn gv_11_3_optimizer_steps() {
        let cases = [
            (OptimizerChoice::AdamW, [0.899000002, 0.863540418, 0.8247377]),
            (OptimizerChoice::Adam, [0.900000002, 0.863364138, 0.823084722]),
            (OptimizerChoice::Sgd, [0.9031, 0.89807411, 0.855657258]),
            (OptimizerChoice::RmsProp, [0.683772254, 0.516418142, 0.299984493]),
            (OptimizerChoice::Adadelta, [0.999683778, 0.999847245, 0.999745894]),
        ];
        let gradients = [vec![0.5], vec![-0.2], vec![0.1]];
        for (choice, expected) in cases {
            let expected: Vec<Vec<f64>> = expected.iter().map(|value| vec![*value]).collect();
            check(&with(choice), &[1.0], &gradients, &expected, 3e-7);
        }
    }

    #[test]
    fn steps_of_the_reference() {
        let golden = golden();
        assert_eq!(golden["lr"].as_f64(), Some(0.1));
        assert_eq!(golden["weight_decay"].as_f64(), Some(0.01));
        let start: Vec<f32> = serde_json::from_value(golden["params"].clone()).unwrap();
        let gradients: Vec<Vec<f32>> = serde_json::from_value(golden["grads"].clone()).unwrap();
        let other =
            |optimizer| Training { adam_beta1: 0.8, adam_beta2: 0.95, adam_epsilon: 1e-3, ..with(optimizer) };
        for (name, training) in [
            ("adamw", with(OptimizerChoice::AdamW)),
            ("adam", with(OptimizerChoice::Adam)),
            ("sgd", with(OptimizerChoice::Sgd)),
            ("rmsprop", with(OptimizerChoice::RmsProp)),
            ("adadelta", with(OptimizerChoice::Adadelta)),
            ("adamw_other", other(OptimizerChoice::AdamW)),
            ("adam_other", other(OptimizerChoice::Adam)),
        ] {
            let after: Vec<Vec<f64>> =
                serde_json::from_value(golden["rules"][name]["after"].clone()).unwrap();
            assert_eq!(after.len(), gradients.len());
            check(&training, &start, &gradients, &after, 1e-6);
        }
    }

    #[test]
    fn differential_layers_by_name() {
        let layers = vec!["head".to_owned(), "embed".to_owned()];
        let training = Training { differential_learning_rate_layers: layers, ..Training::default() };
        let is_differential = |name| ParameterGroup::of(&training, name, 2).is_differential;
        assert!(is_differential("lm_head.weight") && is_differential("model.embed_tokens.weight"));
        assert!(!is_differential("model.layers.0.self_attn.q_proj.weight"));
    }

    #[test]
    fn norms_and_biases_do_not_decay_as_in_transformers() {
        let decayed = golden()["decayed"].as_object().unwrap().clone();
        assert!(decayed.len() > 70);
        for (name, is_decayed) in decayed {
            let group = ParameterGroup::of(&Training::default(), &name, 2);
            assert_eq!(Some(group.has_decay), is_decayed.as_bool(), "{name}");
        }
    }

    #[test]
    fn rms_norms_decay_as_in_h2o_llm_studio_where_that_is_asked_for() {
        let training = Training { weight_decay_norms: true, ..Training::default() };
        let has_decay = |name| ParameterGroup::of(&training, name, 1).has_decay;
        assert!(has_decay("model.layers.0.input_layernorm.weight") && has_decay("model.norm.weight"));
        assert!(!has_decay("model.layers.0.self_attn.q_proj.bias"));
        assert!(!has_decay("encoder.LayerNorm.weight"));
    }

    #[test]
    fn groups_of_lora_plus_are_those_of_peft() {
        let golden = golden()["lora_plus"].clone();
        let parameters = golden["parameters"].as_object().unwrap();
        assert!(parameters.len() >= 8);
        for (name, parameter) in parameters {
            let n_dimensions = parameter["shape"].as_array().unwrap().len();
            let group = ParameterGroup::of(&Training::default(), name, n_dimensions);
            let rate = if group.is_lora_plus { golden["ratio"].as_f64() } else { Some(1.0) };
            assert_eq!(rate, parameter["rate"].as_f64(), "{name}");
        }
        let full = Training { lora: false, ..Training::default() };
        assert!(!ParameterGroup::of(&full, "model.norm.weight", 1).is_lora_plus);
    }
}
