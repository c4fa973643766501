//! Traces in a file, so that a scoring policy can be tried without a model.
//!
//! The file is a safetensors file with a tensor `sequences.S.layers.L.PROBE`, `[tokens, columns]` in f32, for each calibration
//! sequence, layer and probe, and the model's shape as JSON under `espalier.model` in its metadata. What is read is
//! checked: a policy that is shown recorded traces sees the shapes that the WIT promises.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use espalier_components::{ModelFacts, Probe, ScoringInputs, ScoringPolicy, Trace, Unit};
use espalier_evaluation::model_facts;
use espalier_kernels::Tensor;
use espalier_model::safetensors::{self, Dtype, Entry, Header, Planned, ShardWriter};
use espalier_model::{Model, ModelError};
use serde_json::json;

use crate::calibration::Calibration;
use crate::error::PruningError;
use crate::progress::Progress;
use crate::scores::Scores;
use crate::traces::{TraceObserver, calibrate};

/// The key of the model's shape.
const MODEL: &str = "espalier.model";

/// The traces of some calibration sequences.
#[derive(Clone, Debug)]
pub struct RecordedTraces {
    facts: Arc<ModelFacts>,
    /// By sequence and layer.
    traces: BTreeMap<(usize, usize), Vec<Trace>>,
}

impl RecordedTraces {
    /// Runs the windows through the model and keeps those of the probes that its layers have.
    ///
    /// # Errors
    /// See [`calibrate`].
    pub fn record(
        model: &Model,
        calibration: &Calibration,
        probes: &[Probe],
        progress: &mut dyn Progress,
    ) -> Result<Self, PruningError> {
        let facts = Arc::new(model_facts(model.spec()));
        let mut recorder =
            Recorder { probes: probes.to_vec(), sequence: 0, last: None, traces: BTreeMap::new() };
        calibrate(model, None, calibration, &mut recorder, progress)?;
        Ok(Self { facts, traces: recorder.traces })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read, or whose contents are not traces; the field is named.
    pub fn read(path: &Path) -> Result<Self, PruningError> {
        let bytes = fs::read(path).map_err(PruningError::file("read", path))?;
        Self::from_bytes(&bytes)
    }

    /// Reads a file's contents.
    ///
    /// # Errors
    /// Contents that are not traces; the field is named.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PruningError> {
        let header = safetensors::parse(bytes)?;
        let facts = facts(&header)?;
        let mut traces: BTreeMap<(usize, usize), Vec<Trace>> = BTreeMap::new();
        for entry in header.tensors {
            let (sequence, layer, trace) = trace(&entry, bytes, &facts)?;
            traces.entry((sequence, layer)).or_default().push(trace);
        }
        Ok(Self { facts: Arc::new(facts), traces })
    }

    /// Writes a file.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&self, path: &Path) -> Result<(), PruningError> {
        let traces = || {
            self.traces.iter().flat_map(|((sequence, layer), traces)| {
                traces.iter().map(move |trace| {
                    (format!("sequences.{sequence}.layers.{layer}.{}", trace.probe.name()), trace)
                })
            })
        };
        let planned: Vec<Planned> = traces()
            .map(|(name, trace)| Planned { name, dtype: Dtype::F32, shape: trace.values.shape().to_vec() })
            .collect();
        let facts = json!(*self.facts).to_string();
        let mut file = ShardWriter::create(path, Some((MODEL, &facts)), &planned)?;
        for (_, trace) in traces() {
            for value in trace.values.values() {
                file.write(&value.to_le_bytes())?;
            }
        }
        Ok(file.finish()?)
    }

    /// The shape of the model.
    #[must_use]
    pub fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    /// Shows the policy every sequence and asks it for the scores of `units` in every layer. It has no weights and no
    /// losses without units: a policy that asks for those is told that they are unavailable.
    ///
    /// # Errors
    /// A guest that refuses, traps or reaches a limit, a unit that it does not score, or a probe that was not recorded.
    pub fn score(&self, policy: &ScoringPolicy, units: &[Unit]) -> Result<Scores, PruningError> {
        let probes = policy.probes(units)?;
        let mut job = policy.begin(ScoringInputs::new(Arc::clone(&self.facts)), units)?;
        for ((_, layer), traces) in &self.traces {
            let missing = self.facts.layers.get(*layer).and_then(|facts| {
                probes.iter().find(|probe| {
                    probe.exists_in(facts) && !traces.iter().any(|trace| trace.probe == **probe)
                })
            });
            if let Some(probe) = missing {
                return Err(PruningError::ProbeUnavailable {
                    policy: policy.identity().to_string(),
                    probe: probe.name(),
                    reason: "the file of traces does not have it".to_owned(),
                });
            }
            let wanted: Vec<Trace> =
                traces.iter().filter(|trace| probes.contains(&trace.probe)).cloned().collect();
            job.observe(*layer, &wanted)?;
        }
        let mut scores = Scores::new();
        for unit in units {
            let layers = 0..self.facts.layers.len();
            let of_unit: Result<_, _> = layers.map(|layer| job.scores(layer, *unit)).collect();
            scores.insert(*unit, of_unit?);
        }
        Ok(scores)
    }
}

/// Keeps what it sees.
struct Recorder {
    probes: Vec<Probe>,
    sequence: usize,
    /// The layer that was seen last.
    last: Option<usize>,
    traces: BTreeMap<(usize, usize), Vec<Trace>>,
}

impl TraceObserver for Recorder {
    fn probes(&self) -> Vec<Probe> {
        self.probes.clone()
    }

    fn observe(&mut self, layer: usize, traces: &[Trace]) -> Result<(), PruningError> {
        // Layers come in order within a sequence, so one that is not behind the last begins another sequence.
        if self.last.is_some_and(|last| layer <= last) {
            self.sequence += 1;
        }
        self.last = Some(layer);
        self.traces.insert((self.sequence, layer), traces.to_vec());
        Ok(())
    }
}

/// The model's shape in the file's metadata.
fn facts(header: &Header) -> Result<ModelFacts, PruningError> {
    let text = header
        .metadata
        .get(MODEL)
        .ok_or_else(|| invalid("metadata", "none under espalier.model", "the model's shape as JSON"))?;
    serde_json::from_str(text)
        .map_err(|source| PruningError::Json { what: format!("the metadata {MODEL} of the traces"), source })
}

/// A tensor with its sequence and its layer.
fn trace(entry: &Entry, bytes: &[u8], facts: &ModelFacts) -> Result<(usize, usize, Trace), PruningError> {
    let place = parts(&entry.name).ok_or_else(|| {
        invalid("the name of a tensor", &entry.name, "sequences.S.layers.L.PROBE with a probe of the WIT")
    })?;
    let (sequence, layer, probe) = place;
    let Some(layer_facts) = facts.layers.get(layer) else {
        return Err(invalid(
            &entry.name,
            &format!("layer {layer}"),
            &format!("one of {}", facts.layers.len()),
        ));
    };
    if !probe.exists_in(layer_facts) {
        return Err(invalid(&entry.name, "a probe that the layer does not have", "one that it has"));
    }
    let columns = probe.columns(facts, layer_facts);
    let is_fit = matches!(entry.shape.as_slice(), [tokens, found] if *tokens > 0 && u64::try_from(*found) == Ok(columns));
    if entry.dtype != Dtype::F32 || !is_fit {
        let found = format!("{:?} of shape {:?}", entry.dtype, entry.shape);
        return Err(invalid(&entry.name, &found, &format!("F32 of shape [tokens, {columns}]")));
    }
    let data = bytes.get(entry.range.clone()).unwrap_or_default();
    let values = data.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
    let values = Tensor::new(entry.shape.clone(), values).map_err(ModelError::from)?;
    Ok((sequence, layer, Trace { probe, values: Arc::new(values) }))
}

fn parts(name: &str) -> Option<(usize, usize, Probe)> {
    let (sequence, rest) = name.strip_prefix("sequences.")?.split_once(".layers.")?;
    let (layer, probe) = rest.split_once('.')?;
    let probe = Probe::ALL.into_iter().find(|known| known.name() == probe)?;
    Some((sequence.parse().ok()?, layer.parse().ok()?, probe))
}

fn invalid(what: &str, found: &str, expected: &str) -> PruningError {
    PruningError::Traces { what: what.to_owned(), found: found.to_owned(), expected: expected.to_owned() }
}

#[cfg(test)]
mod tests {
    use espalier_components::LayerFacts;

    use super::*;

    /// Two layers of two heads of two channels; one sequence of three tokens.
    fn recorded() -> RecordedTraces {
        let layer = LayerFacts {
            heads: 2,
            kv_heads: 1,
            ffn_size: 3,
            experts: 0,
            active_experts: 0,
            sliding_window: None,
            attention_sinks: false,
            parameters_per_unit: BTreeMap::from([(Unit::Head, 7)]),
        };
        let facts = ModelFacts {
            architecture: "llama".into(),
            hidden_size: 4,
            vocab_size: 10,
            head_dim: 2,
            layers: vec![layer.clone(), layer],
        };
        let values = (0_u8..12).map(f32::from).collect();
        let values = Arc::new(Tensor::new(vec![3, 4], values).unwrap());
        let trace =
            |layer| ((0, layer), vec![Trace { probe: Probe::HeadOutput, values: Arc::clone(&values) }]);
        RecordedTraces { facts: Arc::new(facts), traces: BTreeMap::from([trace(0), trace(1)]) }
    }

    fn written(recorded: &RecordedTraces) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        recorded.write(file.path()).unwrap();
        fs::read(file.path()).unwrap()
    }

    #[test]
    fn what_was_recorded_is_read_again() {
        let recorded = recorded();
        let read = RecordedTraces::from_bytes(&written(&recorded)).unwrap();
        assert_eq!(read.facts(), recorded.facts());
        assert_eq!(read.traces.keys().collect::<Vec<_>>(), [&(0, 0), &(0, 1)]);
        for (place, traces) in &recorded.traces {
            assert_eq!(read.traces[place][0].probe, Probe::HeadOutput);
            assert_eq!(read.traces[place][0].values.values(), traces[0].values.values());
        }
    }

    #[test]
    fn a_wrong_file_is_refused_by_the_field() {
        let bytes = written(&recorded());
        // The same length, so that the header still holds.
        let with = |from: &str, to: &str| {
            assert_eq!(from.len(), to.len());
            let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
            let mut changed = bytes.clone();
            changed[at..at + from.len()].copy_from_slice(to.as_bytes());
            RecordedTraces::from_bytes(&changed).unwrap_err().to_string()
        };
        assert!(with("layers.1.head", "layers.9.head").contains("found layer 9, expected one of 2"));
        assert!(with("head-output", "head-outputs".get(1..).unwrap()).contains("the name of a tensor"));
        assert!(with("[3,4]", "[4,3]").contains("expected F32 of shape [tokens, 4]"));
        assert!(with("head-output", "sink-massss").contains("the name of a tensor"));
        assert!(with("espalier.model", "espalier.movel").contains("espalier.model"));
        assert!(RecordedTraces::from_bytes(&bytes[..bytes.len() - 4]).is_err());
        assert!(RecordedTraces::from_bytes(b"").is_err());
    }
}
