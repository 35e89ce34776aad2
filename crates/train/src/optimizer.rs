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
    /// Uses `training.weight_decay`.
    pub has_decay: bool,
}

impl ParameterGroup {
    /// The group of the parameter called `name`: differential when its name contains one of `differential_layers`;
    /// without decay when it contains `bias` or `LayerNorm.weight`. RMS norm weights do decay, as in H2O LLM Studio.
    pub fn of(name: &str, differential_layers: &[String]) -> Self {
        const WITHOUT_DECAY: [&str; 2] = ["bias", "LayerNorm.weight"];
        Self {
            is_differential: name_contains_any(name, differential_layers),
            has_decay: !WITHOUT_DECAY.iter().any(|part| name.contains(part)),
        }
    }
}

/// The rule that `choice` stands for, with the settings of PyTorch's defaults except where H2O LLM Studio departs from
/// them (momentum 0.9 for SGD, with Nesterov's look-ahead, and for RMSprop, with α 0.9).
///
/// The rule of the 8-bit AdamW is that of AdamW: the difference is in what is kept of the moments, [`keeps_8bit`].
pub fn rule_of(choice: OptimizerChoice, weight_decay: f64) -> Rule {
    const BETAS: (f64, f64) = (0.9, 0.999);
    const EPS: f64 = 1e-8;
    let (beta1, beta2) = BETAS;
    match choice {
        OptimizerChoice::AdamW | OptimizerChoice::AdamW8bit => {
            Rule::AdamW { beta1, beta2, eps: EPS, weight_decay }
        }
        OptimizerChoice::Adam => Rule::Adam { beta1, beta2, eps: EPS, weight_decay },
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
        false => (size_of::<f32>() * rule_of(choice, 0.0).n_states() * n_values) as u64,
    }
}

/// The optimizer: one slot per trainable parameter.
#[derive(Debug)]
pub struct Optimizer {
    slots: Vec<Slot>,
    learning_rate: f64,
    differential_learning_rate: f64,
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
                let group = ParameterGroup::of(&parameter.name, &training.differential_learning_rate_layers);
                let weight_decay = if group.has_decay { training.weight_decay } else { 0.0 };
                let rule = rule_of(training.optimizer, weight_decay);
                let memory = Memory::new(training.optimizer, &rule, &parameter.tensor());
                Slot { parameter_idx, name: parameter.name.clone(), group, rule, memory }
            })
            .collect();
        Self {
            slots,
            learning_rate: training.learning_rate,
            differential_learning_rate: training.differential_learning_rate,
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
            let rate = if slot.group.is_differential { differential_learning_rate } else { learning_rate };
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

    /// Applies `rule_of(choice)` to flat parameters and compares after every step.
    fn check(
        choice: OptimizerChoice,
        start: &[f32],
        gradients: &[Vec<f32>],
        expected: &[Vec<f64>],
        tolerance: f64,
    ) {
        let device = open_device("cpu").unwrap();
        let rule = rule_of(choice, 0.01);
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
        assert!(worst <= tolerance, "{choice}: worst difference {worst:e}");
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
            check(choice, &[1.0], &gradients, &expected, 3e-7);
        }
    }

    #[test]
    fn steps_of_the_reference() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/optimizers.json");
        let golden: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(golden["lr"].as_f64(), Some(0.1));
        assert_eq!(golden["weight_decay"].as_f64(), Some(0.01));
        let start: Vec<f32> = serde_json::from_value(golden["params"].clone()).unwrap();
        let gradients: Vec<Vec<f32>> = serde_json::from_value(golden["grads"].clone()).unwrap();
        for (name, choice) in [
            ("adamw", OptimizerChoice::AdamW),
            ("adam", OptimizerChoice::Adam),
            ("sgd", OptimizerChoice::Sgd),
            ("rmsprop", OptimizerChoice::RmsProp),
            ("adadelta", OptimizerChoice::Adadelta),
        ] {
            let after: Vec<Vec<f64>> =
                serde_json::from_value(golden["rules"][name]["after"].clone()).unwrap();
            assert_eq!(after.len(), gradients.len());
            check(choice, &start, &gradients, &after, 1e-6);
        }
    }

    #[test]
    fn groups_by_name() {
        let layers = ["head".to_owned(), "embed".to_owned()];
        let group = |name| {
            let group = ParameterGroup::of(name, &layers);
            (group.is_differential, group.has_decay)
        };
        assert_eq!(group("lm_head.weight"), (true, true));
        assert_eq!(group("model.embed_tokens.weight"), (true, true));
        assert_eq!(group("model.layers.0.self_attn.q_proj.weight"), (false, true));
        assert_eq!(group("model.layers.0.self_attn.q_proj.bias"), (false, false));
        assert_eq!(group("encoder.LayerNorm.weight"), (false, false));
        assert_eq!(group("model.layers.0.input_layernorm.weight"), (false, true));
        assert!(ParameterGroup::of("model.norm.weight", &["backbone".to_owned()]).is_differential);
    }
}
