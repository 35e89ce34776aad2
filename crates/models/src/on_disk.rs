//! Weights that stay in their file and are read each time they are used: a model for a look at its outputs, in little memory.
//!
//! A forward pass takes its weights by value and cannot fail, so a weight that could not be read is zero and the failure is
//! kept, to be asked for when the outputs are there ([`crate::CausalLm::check_reads`]).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{DType, Device, Tensor};
use tunesmith_formats::StoredDtype;
use tunesmith_formats::model_source::ModelSource;
use tunesmith_ops::{Compute, Format};

use crate::error::{ModelError, Result};
use crate::family::ParameterSpec;
use crate::loading::{LoadOptions, load_parameter};
use crate::parameters::Parameter;

/// The first failure to read one of a model's weights.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failure(Arc<Mutex<Option<ModelError>>>);

impl Failure {
    /// Takes the failure, if there was one.
    pub(crate) fn check(&self) -> Result<()> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn note(&self, error: ModelError) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// A weight in its file.
#[derive(Clone)]
pub(crate) struct OnDisk {
    pub(crate) source: Arc<ModelSource>,
    pub(crate) spec: ParameterSpec,
    /// The format that frozen matrices are read into; `None` for the file's own, which is exact.
    pub(crate) frozen: Option<Format>,
    pub(crate) device: Device,
    pub(crate) failure: Failure,
}

impl fmt::Debug for OnDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OnDisk {} {:?}", self.spec.name, self.spec.shape)
    }
}

impl OnDisk {
    /// The weight, read now.
    pub(crate) fn read(&self) -> Parameter {
        let as_in_file = match self.source.tensor(&self.spec.name).map(|tensor| tensor.dtype) {
            Some(StoredDtype::BF16) => Format::Bf16,
            Some(StoredDtype::F16) => Format::F16,
            _ => Format::F32,
        };
        let frozen = self.frozen.unwrap_or(as_in_file);
        let options = LoadOptions { compute: Compute::F32, frozen, is_trained: &|_| false };
        let read = load_parameter(&self.source, &self.spec, &self.device, &options);
        self.source.let_go();
        read.unwrap_or_else(|error| {
            self.failure.note(error);
            let n_values: usize = self.spec.shape.iter().product();
            let zeros = Tensor::zeros([n_values], (&self.device, DType::F32));
            Parameter::new(self.spec.name.clone(), self.spec.shape.clone(), zeros, false)
        })
    }
}
