//! Shadow: one variant answers, and another one gets copies of a share of the requests, from which nobody is answered.
//!
//! Settings: `to`, the variant that gets the copies (must be there); `share`, by default 0.1; `answer`, the variant that
//! answers, by default the model's first one other than `to`.
//!
//! Rule: `answer`, then the others in the model's order; `to` answers nothing, unless it is all that is loaded. While `to`
//! is not loaded nothing is copied. What becomes of a copy is in the metrics of the host.

use std::sync::OnceLock;

use espalier_request_router::{
    Choice, Guest, Identity, Request, Setting, Settings, VariantStatus, identity, position,
};

struct Mirror;

struct Plan {
    to: String,
    share: f32,
    answer: Option<String>,
}

static PLAN: OnceLock<Plan> = OnceLock::new();

impl Guest for Mirror {
    fn describe() -> Identity {
        identity!()
    }

    fn configure(settings: Vec<Setting>) -> Result<(), String> {
        let mut settings = Settings::new(settings);
        let to = settings.text("to").filter(|to| !to.is_empty());
        let to = to.ok_or("to: found nothing, expected the variant that gets the copies")?;
        let share = settings.number("share", 0.0..=1.0)?.unwrap_or(0.1) as f32;
        let answer = settings.text("answer");
        settings.finish(&["to", "share", "answer"])?;
        if answer.as_ref() == Some(&to) {
            return Err(format!("answer: found \"{to}\", expected another variant than to"));
        }
        PLAN.set(Plan { to, share, answer }).map_err(|_| "was configured before".to_owned())
    }

    fn route(_request: Request, variants: Vec<VariantStatus>) -> Result<Choice, String> {
        let plan = PLAN.get().ok_or("was not configured")?;
        let copies = position(&variants, &plan.to);
        let first = plan.answer.as_ref().and_then(|answer| position(&variants, answer));
        let others = (0..variants.len()).filter(|index| Some(*index) != copies && Some(*index) != first);
        let order: Vec<usize> = first.into_iter().chain(others).collect();
        match copies {
            Some(copies) if !order.is_empty() => Ok(Choice::in_order(order).with_shadow(copies, plan.share)),
            _ => Ok(Choice::in_order(0..variants.len())),
        }
    }
}

espalier_request_router::export!(Mirror);
