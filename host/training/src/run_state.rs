//! The checkpoint of a run: one file, replaced as a whole, from which the run goes on as if it had never stopped.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::TrainingError;
use crate::network::Network;
use crate::optimizer::{AdamW, AdamWSettings, Moments};
use crate::tensor_file::{NamedTensor, read, write};

/// The file's name in the run's directory.
pub(crate) const FILE: &str = "run.safetensors";
const METADATA: &str = "espalier";

/// What a checkpoint says beside its tensors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Metadata {
    step: u64,
    run: String,
}

/// Writes the network's trainable tensors with their moments, after `step` steps of the run that `run` identifies.
pub(crate) fn save(
    directory: &Path,
    network: &Network,
    optimizer: &AdamW,
    step: u64,
    run: &str,
) -> Result<(), TrainingError> {
    let mut tensors = Vec::with_capacity(3 * network.trainable().len());
    for (parameter, moments) in network.trainable().iter().zip(optimizer.moments()) {
        let tensor = |part: &str, values| NamedTensor {
            name: format!("{}.{part}", parameter.name),
            shape: parameter.shape().to_vec(),
            values,
        };
        tensors.push(tensor("value", parameter.values()?));
        tensors.push(tensor("first_moment", moments.first.clone()));
        tensors.push(tensor("second_moment", moments.second.clone()));
    }
    let metadata = Metadata { step, run: run.to_owned() };
    let metadata = serde_json::to_string(&metadata)
        .map_err(|error| TrainingError::argument("checkpoint", error, "a serialisable state"))?;
    write(&directory.join(FILE), (METADATA, &metadata), &tensors)
}

/// Puts the checkpoint's values into `network`; the optimizer and the steps done, or `None` without a checkpoint.
pub(crate) fn load(
    directory: &Path,
    network: &Network,
    settings: AdamWSettings,
    run: &str,
) -> Result<Option<(AdamW, u64)>, TrainingError> {
    let path = directory.join(FILE);
    if !path.exists() {
        return Ok(None);
    }
    let (metadata, tensors) = read(&path, METADATA)?;
    let damaged = |found: String, expected: String| {
        TrainingError::argument(path.display().to_string(), found, expected)
    };
    let metadata: Metadata = serde_json::from_str(&metadata)
        .map_err(|error| damaged(error.to_string(), "a run's step and identity".to_owned()))?;
    if metadata.run != run {
        return Err(TrainingError::OtherRun { path, found: metadata.run, expected: run.to_owned() });
    }
    let mut tensors = tensors.into_iter();
    let mut moments = Vec::with_capacity(network.trainable().len());
    for parameter in network.trainable() {
        let mut next = |part: &str| {
            let name = format!("{}.{part}", parameter.name);
            let tensor =
                tensors.next().filter(|tensor| tensor.name == name && tensor.shape == parameter.shape());
            tensor.map(|tensor| tensor.values).ok_or_else(|| {
                damaged("another tensor".to_owned(), format!("{name} of shape {:?}", parameter.shape()))
            })
        };
        parameter.set(next("value")?)?;
        moments.push(Moments { first: next("first_moment")?, second: next("second_moment")? });
    }
    Ok(Some((AdamW::resumed(settings, metadata.step, moments), metadata.step)))
}
