//! Surgery on gpt-oss keeps the bytes of what stays.

use std::collections::BTreeMap;

use espalier_kernels::{WeightFormat, quantize};
use espalier_model::{Checkpoint, export_gguf, safetensors};
use espalier_pruning::{
    Count, Layout, NumberFormat, Plan, Provenance, Storage, StorageType, Unit, Unwatched, plan, surgery,
};
use serde_json::{Value, json};

use crate::gpt_oss::{Cut, Pick, of_heads, rows, shape};
use crate::models::{Directory, synth};
use crate::specs::{counted, request, scores};

#[test]
fn experts_take_their_blocks_biases_and_router_rows() {
    let cut = Cut::new(&shape(), &counted([(Unit::Expert, 5)]));
    cut.check(|layer, part| {
        let kept = cut.plan.layers[layer].experts.as_ref().unwrap().kept();
        assert_eq!(kept.len(), 5);
        match part {
            "mlp.router.weight" | "mlp.router.bias" => rows(kept),
            _ if part.ends_with("_proj.bias") && part.contains("experts") => rows(kept),
            _ if part.contains("experts") => Pick { experts: Some(kept), ..Pick::default() },
            _ => Pick::default(),
        }
    });
    assert_eq!(cut.done.requantized, None);
}

/// The tensors of a directory's only file.
fn stored(path: &std::path::Path) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let file = std::fs::read(path.join("model.safetensors")).unwrap();
    let header = safetensors::parse(&file).unwrap();
    header.tensors.into_iter().map(|entry| (entry.name, (entry.shape, file[entry.range].to_vec()))).collect()
}

#[test]
fn the_files_hold_slices_of_the_blocks_and_scales() {
    let cut = Cut::new(&shape(), &counted([(Unit::Expert, 6)]));
    let (before, after) = (stored(&cut.directory.join("original")), stored(&cut.directory.join("pruned")));
    for (layer, entry) in cut.plan.layers.iter().enumerate() {
        let kept = entry.experts.as_ref().unwrap().kept();
        for part in [
            "gate_up_proj_blocks",
            "gate_up_proj_scales",
            "gate_up_proj_bias",
            "down_proj_blocks",
            "down_proj_scales",
        ] {
            let name = format!("model.layers.{layer}.mlp.experts.{part}");
            let ((shape, bytes), (cut_shape, cut_bytes)) = (&before[&name], &after[&name]);
            assert_eq!((shape[0], cut_shape[0]), (8, 6));
            assert_eq!(shape[1..], cut_shape[1..]);
            let each = bytes.len() / 8;
            let expected: Vec<u8> =
                kept.iter().flat_map(|expert| bytes[expert * each..][..each].to_vec()).collect();
            assert!(*cut_bytes == expected, "{name}");
        }
    }
    let config: Value =
        serde_json::from_slice(&std::fs::read(cut.directory.join("pruned").join("config.json")).unwrap())
            .unwrap();
    assert_eq!((&config["num_local_experts"], &config["num_experts_per_tok"]), (&json!(6), &json!(4)));
    assert_eq!(config["quantization_config"]["quant_method"], "mxfp4");
    assert_eq!(config.get("espalier"), None);
}

#[test]
fn heads_and_groups_take_their_sinks_and_biases() {
    let cut = Cut::new(&shape(), &counted([(Unit::Head, 3), (Unit::KvGroup, 3)]));
    cut.check(|layer, part| {
        let entry = &cut.plan.layers[layer];
        let (heads, groups) = (entry.kept_heads(), entry.kv_groups.kept());
        assert_eq!((heads.len(), groups.len()), (3, 3));
        match part.strip_prefix("self_attn.").unwrap_or_default() {
            "q_proj.weight" | "q_proj.bias" => rows(of_heads(&heads)),
            "k_proj.weight" | "k_proj.bias" | "v_proj.weight" | "v_proj.bias" => rows(of_heads(&groups)),
            "o_proj.weight" => Pick { columns: Some(vec![of_heads(&heads)]), ..Pick::default() },
            "sinks" => rows(heads),
            _ => Pick::default(),
        }
    });
}

/// The channels that stay of each expert that stays.
fn channels(plan: &Plan, layer: usize) -> Vec<Vec<usize>> {
    plan.layers[layer].expert_channels.iter().map(|entry| entry.channels.kept()).collect()
}

fn channel_pick(plan: &Plan, layer: usize, part: &str) -> Pick {
    let experts = plan.layers[layer].experts.as_ref().unwrap().kept();
    match part.strip_prefix("mlp.experts.").unwrap_or_default() {
        "gate_proj.weight" | "up_proj.weight" => {
            Pick { experts: Some(experts), rows: Some(channels(plan, layer)), columns: None }
        }
        "down_proj.weight" => {
            Pick { experts: Some(experts), rows: None, columns: Some(channels(plan, layer)) }
        }
        // Seen by the picker as rows of one matrix, of which each loses other columns: checked on its own.
        _ => Pick::default(),
    }
}

#[test]
fn aligned_groups_of_channels_keep_every_byte() {
    let cut = Cut::new(&shape(), &counted([(Unit::ExpertChannel, 64), (Unit::Expert, 7)]));
    assert_eq!(cut.done.requantized, None);
    for layer in 0..4 {
        let experts = cut.plan.layers[layer].experts.as_ref().unwrap().kept();
        for projection in ["gate_proj", "up_proj", "down_proj"] {
            let part = format!("mlp.experts.{projection}.weight");
            let name = format!("model.layers.{layer}.{part}");
            let expected = cut.expected(&name, &channel_pick(&cut.plan, layer, &part));
            assert!(cut.pruned.tensor(&name).unwrap().bytes().unwrap().as_slice() == expected, "{name}");
        }
        for projection in ["gate_proj", "up_proj"] {
            let name = format!("model.layers.{layer}.mlp.experts.{projection}.bias");
            let before = cut.original.tensor(&name).unwrap().to_f32().unwrap();
            let expected: Vec<f32> = experts
                .iter()
                .zip(channels(&cut.plan, layer))
                .flat_map(|(expert, kept)| kept.into_iter().map(move |channel| expert * 128 + channel))
                .map(|index| before[index])
                .collect();
            assert_eq!(cut.pruned.tensor(&name).unwrap().to_f32().unwrap(), expected, "{name}");
        }
        let name = format!("model.layers.{layer}.mlp.experts.down_proj.bias");
        let expected = cut.expected(&name, &rows(experts));
        assert_eq!(cut.pruned.tensor(&name).unwrap().bytes().unwrap().as_slice(), expected);
    }
}

#[test]
fn single_channels_requantise_the_down_projection_and_say_how_far_it_moved() {
    let mut asked = counted([(Unit::ExpertChannel, 64)]);
    asked.constraints.lossless = false;
    let cut = Cut::new(&shape(), &asked);
    let (mut error, mut values) = (0.0_f64, 0.0_f64);
    for layer in 0..4 {
        for projection in ["gate_proj", "up_proj"] {
            let part = format!("mlp.experts.{projection}.weight");
            let name = format!("model.layers.{layer}.{part}");
            let expected = cut.expected(&name, &channel_pick(&cut.plan, layer, &part));
            assert!(cut.pruned.tensor(&name).unwrap().bytes().unwrap().as_slice() == expected, "{name}");
        }
        let name = format!("model.layers.{layer}.mlp.experts.down_proj.weight");
        let before = cut.original.tensor(&name).unwrap().to_f32().unwrap();
        let after = cut.pruned.tensor(&name).unwrap();
        let mut selected = Vec::new();
        for (expert, kept) in channels(&cut.plan, layer).into_iter().enumerate() {
            for row in before[expert * 64 * 128..(expert + 1) * 64 * 128].chunks(128) {
                selected.extend(kept.iter().map(|&channel| row[channel]));
            }
        }
        let mut expected = Vec::new();
        quantize(WeightFormat::Mxfp4, &selected, &mut expected).unwrap();
        assert!(after.bytes().unwrap().as_slice() == expected, "{name}");
        for (before, after) in selected.iter().zip(after.to_f32().unwrap()) {
            error += f64::from(after - before).powi(2);
            values += f64::from(*before).powi(2);
        }
    }
    let reported = cut.done.requantized.unwrap();
    assert_eq!(reported.tensors, 4);
    assert!((reported.relative_rms_error - (error / values).sqrt()).abs() < 1e-12);
    assert!(reported.relative_rms_error < 0.06, "{}", reported.relative_rms_error);
    let provenance = Provenance::read(&cut.directory.join("pruned")).unwrap().unwrap();
    assert_eq!(provenance.requantized, Some(reported));
}

#[test]
fn layers_go_in_pairs_and_the_others_move_up_unchanged() {
    let cut = Cut::new(&shape().with("num_hidden_layers", 8), &counted([(Unit::Layer, 4)]));
    let kept = cut.plan.kept_layers();
    assert!(kept.iter().enumerate().all(|(place, layer)| layer % 2 == place % 2), "{kept:?}");
    cut.check(|_, _| Pick::default());
    let windows: Vec<_> = cut.pruned.spec().layers.iter().map(|layer| layer.sliding_window).collect();
    assert_eq!(windows, [Some(16), None, Some(16), None]);
}

#[test]
fn other_number_formats_hold_the_same_values() {
    let counts = [(Unit::Expert, 5), (Unit::ExpertChannel, 96), (Unit::Head, 4)];
    let mxfp4 = Cut::new(&shape(), &counted(counts));
    for format in [NumberFormat::Bf16, NumberFormat::F32] {
        let mut asked = counted(counts);
        asked.constraints.lossless = true;
        let mut plan = mxfp4.plan.clone();
        plan.storage = Storage::uniform(format);
        let out = mxfp4.directory.join(format.name());
        surgery(&plan, &mxfp4.original, &out, &mut Unwatched).unwrap();
        let converted = Checkpoint::open(&out).unwrap();
        for tensor in mxfp4.pruned.tensors() {
            let other = converted.tensor(&tensor.name).unwrap();
            assert_eq!(other.format, format.weight_format());
            assert_eq!(other.to_f32().unwrap(), tensor.to_f32().unwrap(), "{}", tensor.name);
        }
    }
}

#[test]
fn every_form_of_the_same_model_is_cut_to_the_same_tensors() {
    let directory = Directory::new();
    let original = synth(&shape(), &directory.join("original"));
    export_gguf(&original, &directory.join("model.gguf"), None).unwrap();
    let gguf = Checkpoint::open(&directory.join("model.gguf")).unwrap();
    assert_eq!(StorageType::Source.of(&gguf).experts, NumberFormat::Mxfp4);
    let counts = [(Unit::Expert, 5), (Unit::ExpertChannel, 64), (Unit::KvGroup, 2), (Unit::Layer, 2)];
    let mut cut = Vec::new();
    for (name, checkpoint) in [("a", &original), ("b", &gguf)] {
        let mut asked = counted(counts);
        asked.storage = StorageType::Source.of(checkpoint);
        let plan = plan(&scores(original.spec(), 9), checkpoint.spec(), &asked).unwrap();
        surgery(&plan, checkpoint, &directory.join(name), &mut Unwatched).unwrap();
        cut.push(Checkpoint::open(&directory.join(name)).unwrap());
    }
    for tensor in cut[0].tensors() {
        assert_eq!(
            cut[1].tensor(&tensor.name).unwrap().to_f32().unwrap(),
            tensor.to_f32().unwrap(),
            "{}",
            tensor.name
        );
    }
}

#[test]
fn an_uneven_model_is_written_where_the_layout_permits_it() {
    let mut asked = counted([(Unit::Layer, 3)]);
    asked.constraints.layout = Layout::Espalier;
    asked.target.counts.insert(Unit::Expert, Count::PerLayer(vec![8, 7, 6, 5]));
    asked.target.counts.insert(Unit::KvGroup, Count::PerLayer(vec![4, 3, 2, 1]));
    let cut = Cut::new(&shape(), &asked);
    cut.check(|layer, part| {
        let entry = &cut.plan.layers[layer];
        let (experts, heads) = (entry.experts.as_ref().unwrap().kept(), entry.kept_heads());
        match part {
            "mlp.router.weight" | "mlp.router.bias" => rows(experts),
            _ if part.ends_with("_proj.bias") && part.contains("experts") => rows(experts),
            _ if part.contains("experts") => Pick { experts: Some(experts), ..Pick::default() },
            "self_attn.q_proj.weight" | "self_attn.q_proj.bias" => rows(of_heads(&heads)),
            "self_attn.o_proj.weight" => Pick { columns: Some(vec![of_heads(&heads)]), ..Pick::default() },
            "self_attn.sinks" => rows(heads),
            _ if part.starts_with("self_attn.k") || part.starts_with("self_attn.v") => {
                rows(of_heads(&entry.kv_groups.kept()))
            }
            _ => Pick::default(),
        }
    });
    let error = export_gguf(&cut.pruned, &cut.directory.join("uneven.gguf"), None).unwrap_err().to_string();
    assert!(error.contains("layer 1 in GGUF with"), "{error}");
    // It can be cut again, by a plan made by hand, to a model that everything loads.
    let mut even = Plan::unchanged(cut.pruned.spec(), cut.plan.storage);
    even.constraints.layout = Layout::Espalier;
    surgery(&even, &cut.pruned, &cut.directory.join("again"), &mut Unwatched).unwrap();
    let error =
        plan(&scores(cut.pruned.spec(), 1), cut.pruned.spec(), &request(0.9, &[Unit::Expert])).unwrap_err();
    assert!(error.to_string().contains("plans need the same count in every layer"), "{error}");
}
