//! A small gpt-oss, cut, and what is expected of its tensors.

use espalier_model::{Checkpoint, SynthShape};
use espalier_pruning::{Plan, PlanRequest, Surgery, Unwatched, plan, surgery};
use serde_json::json;

use crate::models::{Directory, synth};
use crate::specs::scores;

/// Four layers of 64, 8 heads of 16 in 4 groups, 8 experts of 128 channels in MXFP4, the rest in bf16.
pub(crate) fn shape() -> SynthShape {
    SynthShape::default()
        .with("model_type", "gpt_oss")
        .with("head_dim", 16)
        .with("torch_dtype", "bfloat16")
        .with("quantization_config", json!({"quant_method": "mxfp4"}))
}

pub(crate) struct Cut {
    pub(crate) directory: Directory,
    pub(crate) original: Checkpoint,
    pub(crate) pruned: Checkpoint,
    pub(crate) plan: Plan,
    pub(crate) done: Surgery,
}

impl Cut {
    pub(crate) fn new(shape: &SynthShape, request: &PlanRequest) -> Self {
        let directory = Directory::new();
        let original = synth(shape, &directory.join("original"));
        let plan = plan(&scores(original.spec(), 8), original.spec(), request).unwrap();
        let done = surgery(&plan, &original, &directory.join("pruned"), &mut Unwatched).unwrap();
        let pruned = Checkpoint::open(&directory.join("pruned")).unwrap();
        assert_eq!(pruned.spec(), &done.spec);
        let bytes: u64 = pruned.tensors().map(|tensor| tensor.byte_len() as u64).sum();
        assert_eq!(bytes, plan.after.bytes, "the plan predicts the bytes");
        Self { directory, original, pruned, plan, done }
    }

    /// Bytes of a tensor of the original, cut by hand: `experts` of the first side, then `rows`, then pieces of a row.
    pub(crate) fn expected(&self, name: &str, pick: &Pick) -> Vec<u8> {
        let tensor = self.original.tensor(name).unwrap();
        let bytes = tensor.bytes().unwrap();
        let shape = match *tensor.shape.as_slice() {
            [length] => [1, length, 1],
            [rows, columns] => [1, rows, columns],
            [experts, rows, columns] => [experts, rows, columns],
            _ => panic!("{:?}", tensor.shape),
        };
        let (block, block_bytes) = (tensor.format.block_values(), tensor.format.block_bytes());
        let row_bytes = shape[2] / block * block_bytes;
        let all = |count: usize| (0..count).collect::<Vec<_>>();
        let mut out = Vec::new();
        for (place, expert) in pick.experts.clone().unwrap_or_else(|| all(shape[0])).into_iter().enumerate() {
            let pick_of = |lists: &Option<Vec<Vec<usize>>>, count: usize| {
                lists.as_ref().map_or_else(|| all(count), |lists| lists[place.min(lists.len() - 1)].clone())
            };
            for row in pick_of(&pick.rows, shape[1]) {
                let row = &bytes.as_slice()[(expert * shape[1] + row) * row_bytes..][..row_bytes];
                for column in pick_of(&pick.columns, shape[2]) {
                    if column % block == 0 {
                        out.extend_from_slice(&row[column / block * block_bytes..][..block_bytes]);
                    }
                }
            }
        }
        out
    }

    /// Every tensor of the pruned model has the bytes that `pick` names of the original's.
    pub(crate) fn check(&self, pick: impl Fn(usize, &str) -> Pick) {
        let kept = self.plan.kept_layers();
        for tensor in self.pruned.tensors() {
            let found = tensor.bytes().unwrap();
            let inside = tensor.name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
            let expected = match inside {
                Some((layer, part)) => {
                    let source = kept[layer.parse::<usize>().unwrap()];
                    self.expected(&format!("model.layers.{source}.{part}"), &pick(source, part))
                }
                None => self.expected(&tensor.name, &Pick::default()),
            };
            assert!(found.as_slice() == expected, "{}", tensor.name);
        }
    }
}

/// What stays of a tensor; absent where all does. Rows and columns are listed once, or for each expert that stays.
#[derive(Default)]
pub(crate) struct Pick {
    pub(crate) experts: Option<Vec<usize>>,
    pub(crate) rows: Option<Vec<Vec<usize>>>,
    pub(crate) columns: Option<Vec<Vec<usize>>>,
}

pub(crate) fn rows(rows: Vec<usize>) -> Pick {
    Pick { rows: Some(vec![rows]), ..Pick::default() }
}

pub(crate) fn of_heads(heads: &[usize]) -> Vec<usize> {
    heads.iter().flat_map(|head| head * 16..head * 16 + 16).collect()
}
