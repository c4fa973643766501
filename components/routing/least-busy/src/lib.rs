//! Least busy: the variant with the fewest requests answers.
//!
//! Variants are compared by the number of requests that run or wait, then by the share of their KV cache in use, then
//! by their recent time per token. Of equals the first wins, so that an idle host always answers with its first
//! variant.

use std::cmp::Ordering;

use espalier_request_router::{Guest, Identity, Request, VariantStatus, identity};

struct LeastBusy;

impl Guest for LeastBusy {
    fn describe() -> Identity {
        identity!()
    }

    fn route(_request: Request, variants: Vec<VariantStatus>) -> Result<u32, String> {
        let least = variants.iter().enumerate().min_by(|(_, a), (_, b)| compare(a, b));
        let index = least.map(|(index, _)| index).ok_or("there is no variant to choose from")?;
        u32::try_from(index).map_err(|_| "too many variants".to_owned())
    }
}

fn compare(a: &VariantStatus, b: &VariantStatus) -> Ordering {
    let requests = |variant: &VariantStatus| u64::from(variant.running) + u64::from(variant.waiting);
    // A variant that has not decoded anything yet counts as fast, so that it gets its chance.
    let pace = |variant: &VariantStatus| variant.milliseconds_per_token.unwrap_or(0.0);
    requests(a).cmp(&requests(b)).then(a.kv_usage.total_cmp(&b.kv_usage)).then(pace(a).total_cmp(&pace(b)))
}

espalier_request_router::export!(LeastBusy);
