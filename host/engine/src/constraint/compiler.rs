//! Compiles grammars for the vocabulary of one generation.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use espalier_model::Tokenizer;
use llguidance::api::ParserLimits;
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{ParserFactory, panic_utils};

use super::grammar::{Grammar, refused};
use super::matcher::Constraint;
use super::vocabulary;
use crate::error::EngineError;

/// Stack of the thread that compiles. Compilers recurse along a grammar's references; what the limits on a grammar's
/// length leave of that fits in here. Only what is used of it takes memory.
const STACK: usize = 128 << 20;

/// A grammar that takes longer is refused, whatever it costs to compile it to its end.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Grammars that may be compiled at the same time, those included that were given up.
const COMPILE_LIMIT: usize = 8;

/// What one constraint may take. llguidance counts in fuel, so the limits are the same on every machine.
fn limits() -> ParserLimits {
    ParserLimits {
        initial_lexer_fuel: 500_000,
        // About 15 ms of a step.
        step_lexer_fuel: 200_000,
        step_max_items: 50_000,
        max_items_in_row: 2_000,
        // 1 to 2 kB of memory each.
        max_lexer_states: 20_000,
        max_grammar_size: 200_000,
        precompute_large_lexemes: true,
        verbose_errors: false,
    }
}

/// Compiles grammars for one vocabulary, whose prefix tree it holds.
pub struct ConstraintCompiler {
    factory: Arc<ParserFactory>,
    compiling: Arc<AtomicUsize>,
}

impl ConstraintCompiler {
    /// For the tokens of `tokenizer` and logits `[vocab_size]`; `ends` are the tokens that end a generation.
    ///
    /// # Errors
    /// A vocabulary that can't be made a prefix tree.
    pub fn new(tokenizer: &Tokenizer, vocab_size: usize, ends: &[u32]) -> Result<Self, EngineError> {
        let build = || {
            let environment = vocabulary::environment(tokenizer, vocab_size, ends);
            let capabilities = InferenceCapabilities::default();
            let slices = llguidance::earley::SlicedBiasComputer::general_slices();
            let mut factory = ParserFactory::new(&environment, capabilities, &slices)?;
            factory.quiet();
            *factory.limits_mut() = limits();
            Ok(Self { factory: Arc::new(factory), compiling: Arc::default() })
        };
        panic_utils::catch_unwind(AssertUnwindSafe(build))
            .map_err(|error| EngineError::Vocabulary { reason: error.to_string() })
    }

    /// Compiles a grammar. It takes milliseconds, for hostile ones up to about a second.
    ///
    /// # Errors
    /// A grammar that isn't one, that no text fits, or that goes beyond the limits.
    pub fn compile(&self, grammar: &Grammar) -> Result<Constraint, EngineError> {
        let lowered = grammar.lowered()?;
        let place = Place::take(&self.compiling)?;
        let factory = Arc::clone(&self.factory);
        let (sender, receiver) = sync_channel(1);
        let compile = move || {
            // Nobody receives what was given up.
            let _ = sender.send(Constraint::new(factory.create_parser(lowered)));
            drop(place);
        };
        let thread = thread::Builder::new().name("grammar".to_owned()).stack_size(STACK);
        thread.spawn(compile).map_err(EngineError::Thread)?;
        let Ok(compiled) = receiver.recv_timeout(TIME_LIMIT) else {
            return Err(refused(format!("it takes more than {} s to compile", TIME_LIMIT.as_secs())));
        };
        compiled.map_err(refused)
    }
}

/// One of the [`COMPILE_LIMIT`], until it is dropped.
struct Place {
    taken: Arc<AtomicUsize>,
}

impl Place {
    fn take(taken: &Arc<AtomicUsize>) -> Result<Self, EngineError> {
        let place = Self { taken: Arc::clone(taken) };
        if taken.fetch_add(1, Ordering::Relaxed) < COMPILE_LIMIT {
            return Ok(place);
        }
        Err(refused(format!("{COMPILE_LIMIT} others are being compiled, which is the limit")))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use espalier_model::TokenizerFiles;
    use serde_json::{Value, json};

    use super::super::grammar::Notation;
    use super::*;

    struct Fixture {
        tokenizer: Tokenizer,
        compiler: ConstraintCompiler,
        end: u32,
    }

    static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
        let tokenizer = Tokenizer::new(&TokenizerFiles::o200k_harmony().unwrap(), None, &[]).unwrap();
        let end = tokenizer.token_id("<|return|>").unwrap();
        // Logits may have more rows than the vocabulary has tokens.
        let compiler = ConstraintCompiler::new(&tokenizer, tokenizer.vocab_size() + 64, &[end]).unwrap();
        Fixture { tokenizer, compiler, end }
    });

    fn compile(grammar: &Grammar) -> Result<Constraint, EngineError> {
        FIXTURE.compiler.compile(grammar)
    }

    #[track_caller]
    fn assert_accepts(notation: Notation, accepted: &[&str], refused: &[&str]) {
        let constraint = compile(&Grammar::new(notation)).unwrap();
        let accepts = |text: &str| constraint.accepts(&FIXTURE.tokenizer.encode(text, false).unwrap());
        for text in accepted {
            assert!(accepts(text), "{text:?} is refused");
        }
        for text in refused {
            assert!(!accepts(text), "{text:?} is accepted");
        }
    }

    #[test]
    fn each_notation_says_what_a_text_may_be() {
        let schema = json!({
            "type": "object",
            "properties": {"a": {"type": "integer", "minimum": 3}, "b": {"enum": ["x", "y"]}},
            "required": ["a"],
            "additionalProperties": false,
        });
        let accepted = [r#"{"a": 3}"#, "{\n  \"a\": 12,\n  \"b\": \"y\"\n}"];
        let refused =
            [r#"{"a": 2}"#, r#"{"a": 3, "b": "z"}"#, r#"{"b": "x"}"#, r#"{"a": 3}x"#, r#"{"a": 3"#, ""];
        assert_accepts(Notation::JsonSchema(schema), &accepted, &refused);
        assert_accepts(Notation::JsonSchema(json!(true)), &["[1, \"é\"]", "null"], &["[1", "nul"]);
        let spaces = format!("{{\n{}}}", " ".repeat(41));
        assert_accepts(
            Notation::JsonSchema(json!({"type": "object"})),
            &["{ }", "{\n\t}"],
            &[&spaces, "{  }"],
        );
        let regex = Notation::Regex(r"[a-z]+/\d{2,3}|é*".into());
        assert_accepts(regex, &["abc/12", "x/345", "éé", ""], &["abc/1", "/12", "abc/1234", "e"]);
        let choice = Notation::Choice(vec!["yes".into(), "yes, \"please\"\n".into(), "no".into()]);
        assert_accepts(choice, &["yes", "no", "yes, \"please\"\n"], &["ye", "yesno", "", "maybe"]);
        let lark = Notation::Lark("start: \"(\" start \")\" | NUMBER\nNUMBER: /[0-9]+/".into());
        assert_accepts(lark, &["7", "((42))"], &["((42)", "()", "x"]);
    }

    #[test]
    fn control_tokens_come_only_where_a_grammar_names_them() {
        let text = compile(&Grammar::new(Notation::Regex(r"(.|\n)*".into()))).unwrap().next(&[]).unwrap();
        let Fixture { tokenizer, end, .. } = &*FIXTURE;
        for name in ["<|message|>", "<|end|>", "<|channel|>"] {
            assert!(!text.contains(tokenizer.token_id(name).unwrap()), "{name}");
        }
        assert!(text.contains(*end), "an empty text may end");
        assert!((tokenizer.vocab_size() as u32..).take(64).all(|token| !text.contains(token)));
        let spelled = tokenizer.encode("<|message|>", false).unwrap();
        let any = Grammar::new(Notation::Regex(r"(.|\n)*".into()));
        assert!(compile(&any).unwrap().accepts(&spelled), "as characters it is text");
        let named = Grammar::framed(
            "start: <|channel|> \"final\" <|message|> @body".into(),
            vec![("body".into(), Notation::JsonSchema(json!({"type": "boolean"})))],
        );
        let tokens = tokenizer.encode("<|channel|>final<|message|>true", true).unwrap();
        assert!(compile(&named).unwrap().accepts(&tokens));
    }

    #[test]
    fn a_text_that_can_only_end_is_complete() {
        let mut constraint = compile(&Grammar::new(Notation::Choice(vec!["no".into()]))).unwrap();
        let token = FIXTURE.tokenizer.encode("no", false).unwrap()[0];
        assert!(!constraint.is_complete());
        let mut again = constraint.clone();
        constraint.take(token).unwrap();
        assert!(constraint.is_complete() && !again.is_complete());
        assert!(again.next(&[token]).is_ok_and(|allowed| !allowed.contains(token) && !allowed.is_empty()));
        assert!(again.take(FIXTURE.end).is_err(), "what isn't allowed is an error");
    }

    /// Whatever they do, it has to stay within the limits.
    fn hostile() -> Vec<(&'static str, Notation)> {
        let deep = |depth: usize| (0..depth).fold(json!({}), |inner, _| json!({"items": inner}));
        let chain: serde_json::Map<String, Value> =
            (0..3000).map(|i| (format!("d{i}"), json!({"$ref": format!("#/$defs/d{}", i + 1)}))).collect();
        let pairs = |count: usize| -> Vec<Value> {
            let option = |i: usize, kind: &str| json!({"properties": {format!("p{i}"): {"type": kind}}});
            (0..count).map(|i| json!({"anyOf": [option(i, "string"), option(i, "number")]})).collect()
        };
        let rules: String = (0..3000).map(|i| format!("R{i}: \"a\" R{}\n", i + 1)).collect();
        let calls: String = (0..3000).map(|i| format!("r{i}: \"a\" r{}\n", i + 1)).collect();
        let doubling: String = (0..60).map(|i| format!("r{i}: r{} r{}\n", i + 1, i + 1)).collect();
        vec![
            ("nothing", Notation::JsonSchema(json!(false))),
            ("no schema", Notation::JsonSchema(json!("x"))),
            ("unknown type", Notation::JsonSchema(json!({"type": "thing"}))),
            ("unknown keyword", Notation::JsonSchema(json!({"type": "array", "uniqueItems": true}))),
            ("nested schema", Notation::JsonSchema(deep(200))),
            ("reference to nothing", Notation::JsonSchema(json!({"$ref": "#/$defs/x"}))),
            ("foreign reference", Notation::JsonSchema(json!({"$ref": "https://example.com/x.json"}))),
            ("reference to itself", Notation::JsonSchema(json!({"$ref": "#"}))),
            ("chain of references", Notation::JsonSchema(json!({"$ref": "#/$defs/d0", "$defs": chain}))),
            ("product of options", Notation::JsonSchema(json!({"type": "object", "allOf": pairs(20)}))),
            (
                "long array",
                Notation::JsonSchema(
                    json!({"type": "array", "items": {"type": "array", "items": {"type": "object"}, "minItems": 1_000_000}, "minItems": 1_000_000}),
                ),
            ),
            ("long text", Notation::JsonSchema(json!({"type": "string", "minLength": 100_000_000}))),
            (
                "long pattern",
                Notation::JsonSchema(
                    json!({"type": "string", "pattern": "^(a{1,1000}){1,1000}$", "maxLength": 77}),
                ),
            ),
            ("many bytes", Notation::JsonSchema(json!({"enum": ["x".repeat(300 << 10)]}))),
            ("no expression", Notation::Regex("(".into())),
            ("look-around", Notation::Regex("(?=a)b".into())),
            ("nested expression", Notation::Regex("(".repeat(20_000) + &")".repeat(20_000))),
            ("repetition", Notation::Regex("((a{1,1000}){1,1000}){1,1000}".into())),
            ("exponential states", Notation::Regex("(a|b)*a(a|b){5000}".into())),
            (
                "intersected patterns",
                Notation::JsonSchema(
                    json!({"allOf": (0..40).map(|i| json!({"pattern": format!("(.*x.{{{i}}}y.*)+")})).collect::<Vec<_>>()}),
                ),
            ),
            (
                "exponential intersection",
                Notation::Lark(format!(
                    "start: A\nA: {}",
                    (0..40).map(|i| format!("/(.*x.{{{i}}}y.*)+/")).collect::<Vec<_>>().join(" & ")
                )),
            ),
            ("no grammar", Notation::Lark("start: nothing".into())),
            ("no start", Notation::Lark("a: \"x\"".into())),
            ("left recursion", Notation::Lark("start: start start | \"a\" | ".into())),
            ("endless rule", Notation::Lark("start: start".into())),
            ("brackets", Notation::Lark(format!("start: {}\"a\"{}", "(".repeat(20_000), ")".repeat(20_000)))),
            ("templates", Notation::Lark(format!("start: {}", "a{".repeat(20_000)))),
            ("conditions", Notation::Lark(format!("start: \"a\" %if {}", "not(".repeat(10_000)))),
            ("chain of terminals", Notation::Lark(format!("start: R0\n{rules}R3000: \"b\"\n"))),
            ("chain of rules", Notation::Lark(format!("start: r0\n{calls}r3000: \"b\"\n"))),
            ("doubling rules", Notation::Lark(format!("start: r0\n{doubling}r60: \"b\"\n"))),
            ("unknown control token", Notation::Lark("start: <|nothing|>".into())),
            (
                "big repetition",
                Notation::Lark("start: (\"a\" (\"b\" (\"c\" | start){1,100000}){1,100000}){1,100000}".into()),
            ),
            ("no choice", Notation::Choice(Vec::new())),
            ("empty choice", Notation::Choice(vec![String::new()])),
            ("many choices", Notation::Choice((0..100_000).map(|i| i.to_string()).collect())),
        ]
    }

    #[test]
    fn hostile_grammars_are_refused_or_followed() {
        for (name, notation) in hostile() {
            let followed = compile(&Grammar::new(notation)).map_err(|error| error.to_string()).and_then(
                |mut constraint| {
                    // Any text: whatever comes first, for a while.
                    (0..100).try_for_each(|_| {
                        let allowed = constraint.next(&[FIXTURE.end])?;
                        let token = (0..).take(200_000).find(|&token| allowed.contains(token));
                        constraint.take(token.ok_or("the text has ended")?)
                    })
                },
            );
            let given_up = format!("more than {} s", TIME_LIMIT.as_secs());
            let is_clear =
                |reason: &String| !reason.is_empty() && reason.len() < 600 && !reason.contains(&given_up);
            assert!(followed.as_ref().err().is_none_or(is_clear), "{name}: {followed:?}");
            let is_wrong =
                name.starts_with("no ") || name.starts_with("many ") || name.starts_with("unknown ");
            assert!(followed.is_err() || !is_wrong, "{name} is accepted");
        }
    }
}
