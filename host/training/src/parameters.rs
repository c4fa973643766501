//! A model's weights as tensors: those that train, and those that are frozen.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use espalier_model::{Checkpoint, ModelError, ModelSpec};

use crate::error::TrainingError;
use crate::gradient_sum::GradientSum;
use crate::operation::linear::Weight;
use crate::operation::values;

/// Which weights train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trainable {
    /// All of them.
    All,
    /// None: they are frozen under an adapter, or nothing is to be learnt.
    Nothing,
}

/// A named tensor that an optimizer changes.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// HF name of a weight, or that of an adapter's part.
    pub name: String,
    /// Its values; everything that shares them sees a change.
    pub(crate) variable: Var,
    /// Where its gradient goes while a backward pass is under way.
    pub(crate) gradient: GradientSum,
}

impl Parameter {
    pub(crate) fn new(name: String, variable: Var) -> Self {
        Self { name, variable, gradient: GradientSum::default() }
    }

    pub(crate) fn weight(&self) -> Weight {
        Weight { values: self.variable.as_tensor().clone(), gradient: Some(self.gradient.clone()) }
    }

    /// The values, row by row.
    ///
    /// # Errors
    /// The tensor library refuses to read them.
    pub fn values(&self) -> Result<Vec<f32>, TrainingError> {
        Ok(values::to_vec(self.variable.as_tensor())?)
    }

    /// Its sides, slowest first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        self.variable.dims()
    }

    /// Changes the values where they lie, row by row.
    pub(crate) fn change(&self, change: impl FnOnce(&mut [f32])) -> Result<(), TrainingError> {
        Ok(values::change(self.variable.as_tensor(), change)?)
    }

    /// Replaces all values.
    ///
    /// # Errors
    /// Another number of values.
    pub fn set(&self, new: Vec<f32>) -> Result<(), TrainingError> {
        if new.len() != self.variable.elem_count() {
            let expected = self.variable.elem_count().to_string();
            return Err(TrainingError::argument(format!("values of {}", self.name), new.len(), expected));
        }
        Ok(self.variable.set(&values::tensor(new, self.variable.shape().clone())?)?)
    }
}

/// All weights of a model in f32, by the names of [`ModelSpec::tensors`].
#[derive(Clone, Debug)]
pub struct Parameters {
    tensors: BTreeMap<String, Tensor>,
    trainable: Vec<Parameter>,
}

impl Parameters {
    /// The weights of `checkpoint`, whatever its format, widened to f32.
    ///
    /// # Errors
    /// A tensor that cannot be read.
    pub fn load(checkpoint: &Checkpoint, trainable: Trainable) -> Result<Self, TrainingError> {
        Self::new(checkpoint.spec(), trainable, |name, _| Ok(checkpoint.tensor(name)?.to_f32()?))
    }

    /// Weights from a function of name and shape.
    ///
    /// # Errors
    /// Those of the function, and values that don't fill the shape.
    pub fn new(
        spec: &ModelSpec,
        trainable: Trainable,
        mut produce: impl FnMut(&str, &[usize]) -> Result<Vec<f32>, TrainingError>,
    ) -> Result<Self, TrainingError> {
        let mut parameters = Self { tensors: BTreeMap::new(), trainable: Vec::new() };
        for tensor in spec.tensors() {
            let values = values::tensor(produce(&tensor.name, &tensor.shape)?, tensor.shape.as_slice())?;
            let values = match trainable {
                Trainable::Nothing => values,
                Trainable::All => {
                    let variable = Var::from_tensor(&values)?;
                    let shared = variable.as_tensor().clone();
                    parameters.trainable.push(Parameter::new(tensor.name.clone(), variable));
                    shared
                }
            };
            parameters.tensors.insert(tensor.name, values);
        }
        Ok(parameters)
    }

    /// Those that an optimizer changes, in the order of [`ModelSpec::tensors`].
    #[must_use]
    pub fn trainable(&self) -> &[Parameter] {
        &self.trainable
    }

    /// The values of a weight.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn values(&self, name: &str) -> Result<Vec<f32>, TrainingError> {
        Ok(values::to_vec(self.tensor(name)?)?)
    }

    /// A matrix with the sum that its gradient goes to, if it trains.
    pub(crate) fn weight(&self, name: &str) -> Result<Weight, TrainingError> {
        let trains = self.trainable.iter().find(|parameter| parameter.name == name);
        match trains {
            Some(parameter) => Ok(parameter.weight()),
            None => Ok(Weight { values: self.tensor(name)?.clone(), gradient: None }),
        }
    }

    pub(crate) fn tensor(&self, name: &str) -> Result<&Tensor, TrainingError> {
        let missing = || ModelError::MissingTensor { name: name.to_owned(), expected: Vec::new() };
        self.tensors.get(name).ok_or_else(|| missing().into())
    }
}
