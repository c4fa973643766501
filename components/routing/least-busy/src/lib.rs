//! Least busy: the variant with the fewest requests answers.
//!
//! Variants are compared by the number of requests that run or wait, then by the share of their KV cache in use, then
//! by their recent time per token. Of equals the first wins, so that an idle host always answers with its first
//! variant. Where the queue of one is full, the next in this order answers. It takes no settings.

use std::cmp::Ordering;

use espalier_request_router::{Choice, Guest, Identity, Request, Setting, Settings, VariantStatus, identity};

struct LeastBusy;

impl Guest for LeastBusy {
    fn describe() -> Identity {
        identity!()
    }

    fn configure(settings: Vec<Setting>) -> Result<(), String> {
        Settings::new(settings).finish(&[])
    }

    fn route(_request: Request, variants: Vec<VariantStatus>) -> Result<Choice, String> {
        let mut order: Vec<_> = variants.iter().enumerate().collect();
        order.sort_by(|(_, a), (_, b)| compare(a, b));
        Ok(Choice::in_order(order.into_iter().map(|(index, _)| index)))
    }
}

fn compare(a: &VariantStatus, b: &VariantStatus) -> Ordering {
    let requests = |variant: &VariantStatus| u64::from(variant.running) + u64::from(variant.waiting);
    // A variant that has not decoded anything yet counts as fast, so that it gets its chance.
    let pace = |variant: &VariantStatus| variant.milliseconds_per_token.unwrap_or(0.0);
    requests(a).cmp(&requests(b)).then(a.kv_usage.total_cmp(&b.kv_usage)).then(pace(a).total_cmp(&pace(b)))
}

espalier_request_router::export!(LeastBusy);
