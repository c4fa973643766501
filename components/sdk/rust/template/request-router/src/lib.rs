//! Least busy: the variant with the fewest requests answers; of equals, the first.

wit_bindgen::generate!({ path: "wit", world: "request-router", generate_all });

use espalier::policy::types::Identity;
use exports::espalier::policy::routing::{Choice, Guest, Request, Setting, VariantStatus};

struct Router;

impl Guest for Router {
    fn describe() -> Identity {
        Identity {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: env!("CARGO_PKG_DESCRIPTION").to_owned(),
        }
    }

    // What the operator sets with `--set KEY=VALUE`. A setting that the router does not know must be refused.
    fn configure(settings: Vec<Setting>) -> Result<(), String> {
        match settings.first() {
            Some(setting) => Err(format!("found the setting \"{}\", expected none", setting.key)),
            None => Ok(()),
        }
    }

    // Indices of variants in the order in which they are tried.
    fn route(_request: Request, variants: Vec<VariantStatus>) -> Result<Choice, String> {
        let mut order: Vec<u32> = (0..).take(variants.len()).collect();
        // The sort is stable, so of equals the first stays first.
        order.sort_by_key(|index| {
            let variant = &variants[*index as usize];
            u64::from(variant.running) + u64::from(variant.waiting)
        });
        Ok(Choice { order, shadow: None })
    }
}

export!(Router);
