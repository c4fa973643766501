//! Length and quality: the smallest variant that will do answers.
//!
//! Settings: `lengths`, for example `small:256, medium:2048`, the longest prompt in tokens that a variant is meant for;
//! `qualities`, for example `original:1, small:0.7`, what each variant is worth from 0 to 1. A variant without a quality is
//! worth its share of the parameters of the largest one.
//!
//! Rule: a request that asks for a quality goes to the variant with the least worth that is not below it, to the best
//! one if there is none. Any other request goes to the variant with the least length that holds its prompt, to the best
//! one if there is none. Where the variant can't take it, the better ones follow, the nearest first, then the worse ones.
//! The rule is this project's own.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use espalier_request_router::{
    Choice, Guest, Identity, Request, Setting, Settings, VariantStatus, identity, position,
};

struct LengthAndQuality;

struct Rule {
    lengths: BTreeMap<String, f64>,
    qualities: BTreeMap<String, f64>,
}

static RULE: OnceLock<Rule> = OnceLock::new();

impl Guest for LengthAndQuality {
    fn describe() -> Identity {
        identity!()
    }

    fn configure(settings: Vec<Setting>) -> Result<(), String> {
        let mut settings = Settings::new(settings);
        let rule = Rule {
            lengths: settings.numbers("lengths", 1.0..=1e9)?,
            qualities: settings.numbers("qualities", 0.0..=1.0)?,
        };
        settings.finish(&["lengths", "qualities"])?;
        RULE.set(rule).map_err(|_| "was configured before".to_owned())
    }

    fn route(request: Request, variants: Vec<VariantStatus>) -> Result<Choice, String> {
        let rule = RULE.get().ok_or("was not configured")?;
        let worths = rule.worths(&variants);
        let mut ranked: Vec<usize> = (0..variants.len()).collect();
        ranked.sort_by(|a, b| order(&worths, *a, *b));
        let best = ranked.len().saturating_sub(1);
        let wanted = match request.quality {
            Some(quality) => ranked.iter().position(|index| worth(&worths, *index) as f32 >= quality),
            None => {
                let named = rule.for_length(f64::from(request.prompt_tokens), &variants);
                named.and_then(|named| ranked.iter().position(|index| *index == named))
            }
        };
        let (worse, fitting) = ranked.split_at(wanted.unwrap_or(best));
        Ok(Choice::in_order(fitting.iter().chain(worse.iter().rev()).copied()))
    }
}

impl Rule {
    fn worths(&self, variants: &[VariantStatus]) -> Vec<f64> {
        let largest = variants.iter().map(|variant| variant.parameters).max().unwrap_or(0).max(1);
        let share = |variant: &VariantStatus| variant.parameters as f64 / largest as f64;
        let worth = |variant: &VariantStatus| self.qualities.get(&variant.name).copied();
        variants.iter().map(|variant| worth(variant).unwrap_or_else(|| share(variant))).collect()
    }

    /// The loaded variant with the least length that holds the prompt.
    fn for_length(&self, prompt_tokens: f64, variants: &[VariantStatus]) -> Option<usize> {
        let fitting = self.lengths.iter().filter(|(_, length)| **length >= prompt_tokens);
        let loaded = fitting.filter_map(|(name, length)| Some((position(variants, name)?, *length)));
        loaded.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(index, _)| index)
    }
}

fn worth(worths: &[f64], index: usize) -> f64 {
    worths.get(index).copied().unwrap_or(0.0)
}

/// Of equals the later one is worse, so that the model's first variant wins.
fn order(worths: &[f64], a: usize, b: usize) -> Ordering {
    worth(worths, a).total_cmp(&worth(worths, b)).then(b.cmp(&a))
}

espalier_request_router::export!(LengthAndQuality);
