//! The weights of a model by name: what an optimizer updates and a checkpoint stores.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor};
use tunesmith_ops::{Compute, Format, StoredWeight, Weight, stored_weight, unpacked, unpacked_rows};

use crate::error::{ModelError, Result};
use crate::on_disk::{Failure, OnDisk};
use crate::score_head::ScoreHeadKind;

/// One weight.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// The name on the hub, or `<module path>.lora_A.weight` / `.lora_B.weight` for an adapter's.
    pub name: String,
    /// The shape on the hub, e.g. [O,I] for a linear layer (GPT-2: [I,O]).
    pub shape: Vec<usize>,
    value: Value,
    /// Whether a training step computes its gradient.
    pub trainable: bool,
}

/// The values of a parameter, in row-major order and outside of any graph.
#[derive(Debug, Clone)]
enum Value {
    /// Flat, on the model's device: float32, or of 16 bits for a frozen matrix on a graphics processor.
    Tensor(Box<Tensor<1>>),
    /// A frozen matrix in a format of its own, in the CPU's memory.
    Stored(StoredWeight),
    /// In its file, read for each use.
    OnDisk(Arc<OnDisk>),
}

impl Parameter {
    /// A parameter of flat values.
    pub(crate) fn new(name: String, shape: Vec<usize>, value: Tensor<1>, trainable: bool) -> Self {
        Self { name, shape, value: Value::Tensor(Box::new(value)), trainable }
    }

    /// A frozen matrix in a format of its own.
    pub(crate) fn from_stored(name: String, weight: StoredWeight) -> Self {
        Self { name, shape: weight.dims().to_vec(), value: Value::Stored(weight), trainable: false }
    }

    /// A frozen weight that stays in its file.
    pub(crate) fn on_disk(weight: OnDisk) -> Self {
        let (name, shape) = (weight.spec.name.clone(), weight.spec.shape.clone());
        Self { name, shape, value: Value::OnDisk(Arc::new(weight)), trainable: false }
    }

    /// The values as float32, flat; a matrix in another format is unpacked for it.
    pub fn tensor(&self) -> Tensor<1> {
        match &self.value {
            Value::Tensor(tensor) if tensor.dtype() == DType::F32 => (**tensor).clone(),
            Value::Tensor(tensor) => tensor.clone().cast(DType::F32),
            Value::Stored(weight) => unpacked(weight, &Device::flex()).flatten(0, 1),
            Value::OnDisk(weight) => weight.read().tensor(),
        }
    }

    /// The matrix as operations take it.
    pub(crate) fn weight(&self) -> Weight {
        match &self.value {
            Value::Tensor(tensor) => {
                let shape: [usize; 2] = std::array::from_fn(|i| self.shape.get(i).copied().unwrap_or(1));
                Weight::from(tensor.clone().reshape(shape))
            }
            Value::Stored(weight) => Weight::from(weight.clone()),
            Value::OnDisk(weight) => weight.read().weight(),
        }
    }

    /// The device of the values.
    pub fn device(&self) -> Device {
        match &self.value {
            Value::Tensor(tensor) => tensor.device(),
            Value::Stored(_) => Device::flex(),
            Value::OnDisk(weight) => weight.device.clone(),
        }
    }

    /// The matrix in the CPU's memory, where its format is other than float32.
    pub fn stored(&self) -> Option<&StoredWeight> {
        match &self.value {
            Value::Tensor(_) | Value::OnDisk(_) => None,
            Value::Stored(weight) => Some(weight),
        }
    }

    /// Number of values.
    pub fn n_values(&self) -> usize {
        self.shape.iter().product()
    }

    /// The values on the host in order, whole rows, about `max_values` of them at a time.
    pub(crate) fn pieces(&self, max_values: usize) -> impl Iterator<Item = Result<Vec<f32>>> + '_ {
        let n_values = self.n_values();
        let n_rows = self.shape.first().copied().unwrap_or(1).max(1);
        let width = n_values / n_rows;
        let n_rows_at_once = (max_values / width.max(1)).max(1);
        // A weight that stays in its file is read once.
        let read = match &self.value {
            Value::OnDisk(weight) => Some(weight.read()),
            Value::Tensor(_) | Value::Stored(_) => None,
        };
        (0..n_rows).step_by(n_rows_at_once).map(move |first| {
            let rows = first..(first + n_rows_at_once).min(n_rows);
            match &read.as_ref().unwrap_or(self).value {
                Value::Stored(weight) => Ok(unpacked_rows(weight, rows)),
                Value::Tensor(tensor) => {
                    let part = tensor.clone().slice(rows.start * width..rows.end * width);
                    read_back(part.cast(DType::F32), &self.name)
                }
                Value::OnDisk(_) => unreachable!("a weight that was read is in memory"),
            }
        })
    }

    /// Copies the values to the host.
    pub fn to_vec(&self) -> Result<Vec<f32>> {
        read_back(self.tensor(), &self.name)
    }
}

/// All weights of a model in a fixed order: those of the base model as its architecture lists them, then the
/// adapter's. The position in this order is the index that [`crate::StepResult::gradients`] uses.
#[derive(Debug, Default)]
pub struct ParameterStore {
    items: Vec<Parameter>,
    index: BTreeMap<String, usize>,
    pub(crate) compute: Compute,
    /// Of those that are read for each use.
    pub(crate) failure: Failure,
}

impl ParameterStore {
    /// An empty store for a model whose products are computed in this format.
    pub(crate) fn new(compute: Compute) -> Self {
        Self { compute, ..Self::default() }
    }

    /// The number format of the model's products.
    pub fn compute(&self) -> Compute {
        self.compute
    }

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

    /// Replaces a parameter's values (flat, same number of elements); a stored matrix keeps its format.
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
        parameter.value = match &parameter.value {
            Value::Tensor(kept) => Value::Tensor(Box::new(value.inner().cast(kept.dtype()))),
            Value::OnDisk(_) => Value::Tensor(Box::new(value.inner())),
            Value::Stored(weight) => {
                let ([n_rows, n_columns], format) = (weight.dims(), weight.format());
                let values = read_back(value, &parameter.name)?;
                Value::Stored(converted(&values, n_rows, n_columns, format, &parameter.name)?)
            }
        };
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
        let value = parameter.tensor();
        let value = match &mut parameter.value {
            Value::Tensor(kept) => {
                **kept = Tensor::empty([0], (&value.device(), kept.dtype()));
                update(value)
            }
            Value::Stored(_) | Value::OnDisk(_) => update(value),
        };
        self.set_value(parameter_idx, value)
    }

    /// Sets which parameters are trained; a score head always is. A matrix in another format becomes float32 for it.
    pub fn set_trainable(&mut self, is_trainable: impl Fn(&str) -> bool) {
        for parameter in &mut self.items {
            parameter.trainable =
                is_trainable(&parameter.name) || ScoreHeadKind::of_weight(&parameter.name).is_some();
            if parameter.trainable {
                parameter.value = Value::Tensor(Box::new(parameter.tensor()));
            }
        }
    }

    /// Takes one parameter out of training, if it is there.
    pub(crate) fn freeze(&mut self, name: &str) {
        if let Some(parameter) =
            self.index_of(name).and_then(|parameter_idx| self.items.get_mut(parameter_idx))
        {
            parameter.trainable = false;
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

/// The values as a stored matrix.
pub(crate) fn converted(
    values: &[f32],
    n_rows: usize,
    n_columns: usize,
    format: Format,
    name: &str,
) -> Result<StoredWeight> {
    stored_weight(values, n_rows, n_columns, format).ok_or_else(|| ModelError::ParameterShape {
        name: name.to_owned(),
        expected: vec![n_rows, n_columns],
        found: values.len(),
    })
}

/// A flat tensor of the values on the device, as numbers of that type.
pub(crate) fn to_device(values: Vec<f32>, device: &Device, dtype: DType) -> Tensor<1> {
    let n_values = values.len();
    Tensor::from_data(burn::tensor::TensorData::new(values, [n_values]), (device, dtype))
}

/// The values of a tensor on the host.
pub fn read_back<const D: usize>(tensor: Tensor<D>, what: &str) -> Result<Vec<f32>> {
    tensor
        .try_into_vec_as::<f32>()
        .map_err(|error| ModelError::DeviceRead { what: what.to_owned(), reason: error.to_string() })
}
