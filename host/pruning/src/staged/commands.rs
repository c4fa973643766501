//! A run as commands, for whoever wants to see it again.

use std::path::Path;

use crate::recipe::Recipe;

/// The run, the measurement of its result, and a host that serves it.
pub(super) fn commands(recipe: &Recipe, model: &Path, out: &Path) -> Vec<String> {
    let (evaluation, model, result) =
        (&recipe.evaluation, quoted(&path(model)), quoted(&path(&out.join("model"))));
    let mut run = format!("espalier prune --model {model} --recipe {}", quoted(&recipe.source));
    if !recipe.texts.is_empty() {
        let texts = recipe.texts.iter().map(|text| quoted(&path(text)));
        run += &format!(" --calibration {}", texts.collect::<Vec<_>>().join(" "));
    }
    let data = quoted(&path(&evaluation.text));
    run += &format!(" --data {data} --out {}", quoted(&path(out)));
    let mut measure = format!(
        "espalier evaluate --baseline {model} --model {result} --data {data} --metrics {}",
        quoted(&evaluation.metrics.join(","))
    );
    if let Some(tokens) = evaluation.max_tokens {
        measure += &format!(" --max-tokens {tokens}");
    }
    for prompt in &evaluation.prompts {
        measure += &format!(" --prompt {}", quoted(prompt));
    }
    if !evaluation.timing {
        measure += " --no-timing";
    }
    let serve = format!("espalier serve --model {}={result}", quoted(&recipe.name));
    vec![run, measure, serve]
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// As a shell reads it.
fn quoted(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./,:@+".contains(letter);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_split_them() {
        assert_eq!(quoted("a/b-1.txt"), "a/b-1.txt");
        assert_eq!(quoted("it's here"), "'it'\\''s here'");
        assert_eq!(quoted(""), "''");
    }
}
