//! Rendered conversations equal transformers'.

use espalier_model::{ChatMessage, ChatTemplate};
use serde_json::{Map, Value};

const CONVERSATIONS: &str = include_str!("../golden/conversations.json");
/// The date at which the golden file was made.
const FROZEN: [(&str, &str); 2] = [("%d %b %Y", "06 Mar 2025"), ("%Y-%m-%d", "2025-03-06")];

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, "<|bos|>", "<|eos|>").unwrap()
}

fn at_frozen_date(mut text: String) -> String {
    for (format, frozen) in FROZEN {
        let today = template(&format!("{{{{ strftime_now('{format}') }}}}")).render(&[], false).unwrap();
        text = text.replace(&today, frozen);
    }
    text
}

fn source(name: &str) -> &'static str {
    match name {
        "smollm2" => include_str!("../golden/templates/smollm2.jinja"),
        "llama3" => include_str!("../golden/templates/llama3.jinja"),
        "qwen2" => include_str!("../golden/templates/qwen2.jinja"),
        "deepseek-r1" => include_str!("../golden/templates/deepseek-r1.jinja"),
        "mistral" => include_str!("../golden/templates/mistral.jinja"),
        "python" => include_str!("../golden/templates/python.jinja"),
        other => unreachable!("no template {other}"),
    }
}

#[test]
fn conversations_render_as_in_transformers() {
    let cases: Vec<Map<String, Value>> = serde_json::from_str(CONVERSATIONS).unwrap();
    assert_eq!(cases.len(), 48);
    for case in cases {
        let name = case["template"].as_str().unwrap();
        let rendered = template(source(name)).render_with(case["variables"].as_object().unwrap());
        let place = format!("{name}, {}", case["conversation"]);
        match (rendered, case.get("text"), case.get("error")) {
            (Ok(text), Some(expected), _) => {
                pretty_assert(&at_frozen_date(text), expected.as_str().unwrap(), &place);
            }
            (Err(error), None, Some(expected)) => {
                let message = expected.as_str().unwrap().trim_start_matches("TemplateError: ");
                assert!(error.to_string().contains(message), "{place}: {error}");
            }
            (rendered, text, error) => panic!("{place}: {rendered:?} instead of {text:?} or {error:?}"),
        }
    }
}

fn pretty_assert(text: &str, expected: &str, place: &str) {
    assert!(text == expected, "{place}:\n{text}\n--- instead of\n{expected}");
}

#[test]
fn plain_messages_render_like_json_ones() {
    let message = |role: &str, content: &str| ChatMessage { role: role.into(), content: content.into() };
    let text = template(source("smollm2")).render(&[message("user", "Hi")], true).unwrap();
    assert!(
        text.starts_with("<|im_start|>system\nYou are") && text.ends_with("<|im_start|>assistant\n"),
        "{text}"
    );
}

#[test]
fn errors_name_the_line_or_carry_the_templates_own_words() {
    let error = ChatTemplate::new("{% if %}", "", "").unwrap_err().to_string();
    assert!(error.starts_with("chat template: ") && error.contains("line 1"), "{error}");
    let error = template("\n{{ raise_exception('roles!') }}").render(&[], true).unwrap_err().to_string();
    assert_eq!(error, "chat template: roles! (line 2)");
    let error = template("{{ messages[0].content.nonsense() }}")
        .render(&[ChatMessage { role: "user".into(), content: "x".into() }], true)
        .unwrap_err()
        .to_string();
    assert!(error.contains("nonsense"), "{error}");
}

#[test]
fn a_template_that_never_ends_is_stopped() {
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}x{% endfor %}{% endfor %}{% endfor %}";
    assert!(template(endless).render(&[], true).is_err());
    let recursive = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
    assert!(template(recursive).render(&[], true).is_err());
    let growing = "{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(200) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}";
    assert!(template(growing).render(&[], true).is_err());
}
