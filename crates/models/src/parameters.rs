//! The weights of a model by name: what an optimizer updates and a checkpoint stores.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};

use crate::error::{ModelError, Result};

/// One weight.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// The name on the hub, or `<module path>.lora_A.weight` / `.lora_B.weight` for an adapter's.
    pub name: String,
    /// The shape on the hub, e.g. [O,I] for a linear layer (GPT-2: [I,O]).
    pub shape: Vec<usize>,
    /// The values in row-major order, float32, flat, outside of any graph.
    pub value: Tensor<1>,
    /// Whether a training step computes its gradient.
    pub trainable: bool,
}

impl Parameter {
    /// Number of values.
    pub fn n_values(&self) -> usize {
        self.shape.iter().product()
    }

    /// Copies the values to the host.
    pub fn to_vec(&self) -> Result<Vec<f32>> {
        read_back(self.value.clone(), &self.name)
    }
}

/// All weights of a model in a fixed order: those of the base model as its architecture lists them, then the
/// adapter's. The position in this order is the index that [`crate::StepResult::gradients`] uses.
#[derive(Debug, Default)]
pub struct ParameterStore {
    items: Vec<Parameter>,
    index: BTreeMap<String, usize>,
}

impl ParameterStore {
    /// Number of parameters (tensors).
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The parameters in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Parameter> {
        self.items.iter()
    }

    /// The parameter at an index.
    pub fn get(&self, parameter_idx: usize) -> Option<&Parameter> {
        self.items.get(parameter_idx)
    }

    /// The parameter of that name.
    pub fn by_name(&self, name: &str) -> Option<&Parameter> {
        self.items.get(self.index_of(name)?)
    }

    /// The index of the parameter of that name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// Number of values in all parameters together.
    pub fn n_values(&self) -> usize {
        self.items.iter().map(Parameter::n_values).sum()
    }

    /// Number of values in the trainable parameters together.
    pub fn n_trainable(&self) -> usize {
        self.items.iter().filter(|p| p.trainable).map(Parameter::n_values).sum()
    }

    /// Replaces a parameter's values (flat, same number of elements).
    pub fn set_value(&mut self, parameter_idx: usize, value: Tensor<1>) -> Result<()> {
        let parameter = self.get_mut(parameter_idx)?;
        let [found] = value.dims();
        if found != parameter.n_values() {
            return Err(ModelError::ParameterShape {
                name: parameter.name.clone(),
                expected: parameter.shape.clone(),
                found,
            });
        }
        parameter.value = value.inner();
        Ok(())
    }

    /// Replaces a parameter's values by `update` of them. `update` gets the only handle to them, so that it can work
    /// in place. If it gives another number of values, the parameter is left without any.
    pub fn update_value(
        &mut self,
        parameter_idx: usize,
        update: impl FnOnce(Tensor<1>) -> Tensor<1>,
    ) -> Result<()> {
        let parameter = self.get_mut(parameter_idx)?;
        let nothing = Tensor::empty([0], &parameter.value.device());
        let value = update(std::mem::replace(&mut parameter.value, nothing));
        self.set_value(parameter_idx, value)
    }

    /// Sets which parameters are trained.
    pub fn set_trainable(&mut self, is_trainable: impl Fn(&str) -> bool) {
        for parameter in &mut self.items {
            parameter.trainable = is_trainable(&parameter.name);
        }
    }

    /// Appends a parameter and returns its index.
    pub(crate) fn push(&mut self, parameter: Parameter) -> usize {
        let parameter_idx = self.items.len();
        self.index.insert(parameter.name.clone(), parameter_idx);
        self.items.push(parameter);
        parameter_idx
    }

    fn get_mut(&mut self, parameter_idx: usize) -> Result<&mut Parameter> {
        self.items
            .get_mut(parameter_idx)
            .ok_or_else(|| ModelError::NoSuchParameter { which: format!("number {parameter_idx}") })
    }
}

/// A flat tensor of the values on the device.
pub(crate) fn to_device(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let n_values = values.len();
    Tensor::from_data(burn::tensor::TensorData::new(values, [n_values]), device)
}

/// The values of a tensor on the host.
pub fn read_back<const D: usize>(tensor: Tensor<D>, what: &str) -> Result<Vec<f32>> {
    tensor
        .try_into_vec_as::<f32>()
        .map_err(|error| ModelError::DeviceRead { what: what.to_owned(), reason: error.to_string() })
}
