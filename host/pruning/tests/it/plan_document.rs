//! The plan as a file that people review and change.

use espalier_model::ModelSpec;
use espalier_pruning::{NumberFormat, Plan, Scores, Storage, Unit, plan};

use crate::specs::{llama, request, scores, smollm2};

#[test]
fn a_plan_survives_its_document() {
    let spec = smollm2();
    let plan = plan(&scores(&spec, 1), &spec, &request(0.75, &[Unit::Head, Unit::FfnChannel])).unwrap();
    assert_eq!(Plan::from_json(&plan.to_json().unwrap()).unwrap(), plan);
}

#[test]
fn a_plan_reads_like_this() {
    let spec = llama(1, 16, 4, 2, 6);
    let mut scores = Scores::new();
    scores.insert(Unit::Head, vec![vec![3.0, 1.0, 2.0, 4.0]]);
    scores.insert(Unit::FfnChannel, vec![vec![6.0, 1.0, 5.0, 2.0, 4.0, 3.0]]);
    let mut request = request(0.9, &[Unit::Head, Unit::FfnChannel]);
    request.constraints.ffn_channel_multiple = 2;
    let found = plan(&scores, &spec, &request).unwrap().to_json().unwrap();
    assert_eq!(found, include_str!("plan.json"));
}

#[test]
fn a_plan_for_another_model_is_refused() {
    let spec = llama(2, 64, 4, 2, 64);
    let plan = plan(&scores(&spec, 2), &spec, &request(0.9, &[Unit::FfnChannel])).unwrap();
    let refusal = |other: ModelSpec| plan.apply_to(&other).unwrap_err().to_string();
    assert_eq!(
        refusal(llama(3, 64, 4, 2, 64)),
        "the plan does not fit the model: the number of layers is 2; expected 3"
    );
    assert_eq!(
        refusal(llama(2, 64, 8, 2, 64)),
        "the plan does not fit the model: the count of heads of layer 0 is 4; expected 8"
    );
    let mut wider = spec.clone();
    wider.vocab_size += 1;
    assert!(refusal(wider).contains("parameters before"));
}

#[test]
fn an_edit_that_cannot_be_cut_is_refused() {
    let spec = llama(1, 96, 8, 2, 64);
    let whole = Plan::unchanged(&spec, Storage::uniform(NumberFormat::F32));
    let refusal = |change: fn(&mut Plan)| {
        let mut edited = whole.clone();
        change(&mut edited);
        edited.apply_to(&spec).unwrap_err().to_string()
    };
    for (change, expected) in [
        (
            (|plan: &mut Plan| plan.layers[0].heads.removed = vec![1, 1]) as fn(&mut Plan),
            "out of order or range",
        ),
        (|plan| plan.layers[0].ffn_channels.as_mut().unwrap().removed = vec![64], "out of order or range"),
        (|plan| plan.layers[0].ffn_channels.as_mut().unwrap().removed = (0..64).collect(), "everything"),
        (
            |plan| plan.layers[0].heads.removed = vec![0],
            "heads kept in key/value group 1 of layer 0 is 4; expected 3",
        ),
        (|plan| plan.layers[0].heads.removed = vec![0, 4], "parameters after"),
        (|plan| plan.layers[0].layer = 3, "the index of layer 0 is 3; expected 0"),
    ] {
        let found = refusal(change);
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn a_document_of_another_form_or_version_is_refused() {
    assert!(
        Plan::from_json("{}").unwrap_err().to_string().starts_with("the plan is not valid: missing field")
    );
    let spec = llama(1, 64, 8, 2, 64);
    let mut plan = Plan::unchanged(&spec, Storage::uniform(NumberFormat::F32));
    plan.version = 1;
    let error = Plan::from_json(&plan.to_json().unwrap()).unwrap_err().to_string();
    assert_eq!(error, "the plan does not fit the model: the version is 1; expected 3");
}
