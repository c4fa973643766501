//! `recipes/recipe.schema.json`, from which editors complete and check recipes, held to what the reader takes.

use std::collections::BTreeSet;
use std::path::Path;

use espalier_components::Unit;
use espalier_training::Configuration;
use serde_json::Value;

use super::{Recipe, RecipeTexts};
use crate::allocation::Allocation;
use crate::plan::Layout;
use crate::storage::StorageType;

fn schema() -> Value {
    serde_json::from_str(include_str!("../../../../recipes/recipe.schema.json")).unwrap()
}

/// The fields that a reader names when it meets one that it does not know.
fn expected_fields(error: &str) -> BTreeSet<String> {
    let (_, names) = error.split_once("expected one of ").or_else(|| error.split_once("expected ")).unwrap();
    names.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The fields of the table that `text` puts an unknown field into.
fn recipe_fields(text: &str) -> BTreeSet<String> {
    let text = format!("name = \"x\"\n{text}\nunknown_field = 1\n");
    let error = Recipe::parse(&text, "r", Path::new(""), &RecipeTexts::default()).unwrap_err().to_string();
    assert!(error.contains("unknown field `unknown_field`"), "{error}");
    expected_fields(&error)
}

fn training_fields(table: &str) -> BTreeSet<String> {
    let text = format!("method = \"full\"\ntexts = [\"a\"]\nsteps = 1\n{table}\nunknown_field = 1\n");
    let error = Configuration::parse(&text, "t", Path::new("")).unwrap_err().to_string();
    assert!(error.contains("unknown field `unknown_field`"), "{error}");
    expected_fields(&error)
}

fn described(schema: &Value, pointer: &str) -> BTreeSet<String> {
    let found = schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is missing"));
    assert_eq!(found["additionalProperties"], false, "{pointer}");
    let properties = found["properties"].as_object().unwrap();
    assert!(
        properties.values().all(|field| field.get("description").is_some() || field.get("$ref").is_some())
    );
    properties.keys().cloned().collect()
}

#[test]
fn the_schema_has_the_fields_that_the_reader_takes() {
    let schema = schema();
    const STAGE: &str = "/$defs/stage";
    for (pointer, text) in [
        ("", ""),
        ("/properties/calibration", "[calibration]"),
        ("/properties/evaluation", "[evaluation]"),
        (STAGE, "[[stages]]"),
        ("/$defs/stage/properties/constraints", "[[stages]]\nname = \"a\"\n[stages.constraints]"),
        ("/$defs/stage/properties/refit", "[[stages]]\nname = \"a\"\n[stages.refit]"),
        ("/$defs/stage/properties/protect/items", "[[stages]]\nname = \"a\"\n[[stages.protect]]"),
        ("/$defs/stage/properties/gates/items", "[[stages]]\nname = \"a\"\n[[stages.gates]]"),
    ] {
        assert_eq!(described(&schema, pointer), recipe_fields(text), "{pointer}");
    }
    let training = "/$defs/stage/properties/training";
    let given = super::stage::GIVEN.map(str::to_owned);
    let taken = training_fields("").into_iter().filter(|field| !given.contains(field));
    assert_eq!(described(&schema, training), taken.collect());
    for table in ["optimizer", "adapter", "distillation", "output"] {
        let pointer = format!("{training}/properties/{table}");
        assert_eq!(described(&schema, &pointer), training_fields(&format!("[{table}]")), "{pointer}");
    }
}

#[test]
fn the_schema_has_the_names_that_the_reader_takes() {
    let schema = schema();
    let names = |pointer: &str| -> Vec<String> {
        let names = schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is missing"));
        names.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("/$defs/unit/enum"), Unit::ALL.map(|unit| unit.name().to_owned()));
    let of_stage = |field: &str| names(&format!("/$defs/stage/properties/{field}/enum"));
    assert!(of_stage("allocation").iter().all(|name| Allocation::parse(name).is_some()));
    assert!(of_stage("dtype").iter().all(|name| StorageType::parse(name).is_some()));
    assert!(of_stage("constraints/properties/layout").iter().all(|name| Layout::parse(name).is_some()));
    assert_eq!(of_stage("quantize"), super::stage::QUANTIZED.map(|format| format.name().to_owned()));
}
