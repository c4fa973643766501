//! Fallback chain: the first variant of a list that takes the request answers.
//!
//! Settings: `order`, for example `original, small`; `others`, `after` (the default: variants that the list does not
//! name follow in the model's order) or `never`.
//!
//! Rule: the variants of the list that are loaded, in its order. The host tries the next one where the queue of one is full
//! or where it is being unloaded.

use std::sync::OnceLock;

use espalier_request_router::{
    Choice, Guest, Identity, Request, Setting, Settings, VariantStatus, identity, position,
};

struct FallbackChain;

struct Chain {
    order: Vec<String>,
    others_follow: bool,
}

static CHAIN: OnceLock<Chain> = OnceLock::new();

impl Guest for FallbackChain {
    fn describe() -> Identity {
        identity!()
    }

    fn configure(settings: Vec<Setting>) -> Result<(), String> {
        let mut settings = Settings::new(settings);
        let order = settings.names("order")?;
        let others_follow = match settings.text("others").as_deref() {
            None | Some("after") => true,
            Some("never") => false,
            Some(other) => return Err(format!("others: found \"{other}\", expected after or never")),
        };
        settings.finish(&["order", "others"])?;
        if order.is_empty() && !others_follow {
            return Err("order: found no variant, expected one at least where others never follow".to_owned());
        }
        CHAIN.set(Chain { order, others_follow }).map_err(|_| "was configured before".to_owned())
    }

    fn route(_request: Request, variants: Vec<VariantStatus>) -> Result<Choice, String> {
        let chain = CHAIN.get().ok_or("was not configured")?;
        let mut order: Vec<usize> = chain.order.iter().filter_map(|name| position(&variants, name)).collect();
        if chain.others_follow {
            let others: Vec<_> = (0..variants.len()).filter(|index| !order.contains(index)).collect();
            order.extend(others);
        }
        if order.is_empty() {
            return Err(format!("none of {} is loaded", chain.order.join(", ")));
        }
        Ok(Choice::in_order(order))
    }
}

espalier_request_router::export!(FallbackChain);
