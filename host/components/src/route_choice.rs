//! A router's answer, checked: what leaves this module names variants that there are.

use crate::bindings::exports_of_routing::Choice;
use crate::{ComponentError, RouteChoice, Shadow};

/// Checks the answer of the component `label` about so many variants.
pub(crate) fn checked(label: &str, choice: &Choice, variants: usize) -> Result<RouteChoice, ComponentError> {
    let refused = |found: String, expected: String| {
        Err(ComponentError::InvalidAnswer { component: label.to_owned(), call: "route", found, expected })
    };
    let below = format!("one below the number of variants, {variants}");
    let index_of = |index: u32| usize::try_from(index).ok().filter(|index| *index < variants);
    // Longer ones must have an index twice.
    if choice.order.is_empty() || choice.order.len() > variants {
        let found = format!("an order of {} variants", choice.order.len());
        return refused(found, format!("from 1 to {variants}"));
    }
    let mut order = Vec::with_capacity(choice.order.len());
    for found in &choice.order {
        match index_of(*found) {
            Some(index) if order.contains(&index) => {
                return refused(format!("the index {found} twice"), "each variant at most once".to_owned());
            }
            Some(index) => order.push(index),
            None => return refused(format!("the index {found}"), below),
        }
    }
    let shadow = match choice.shadow {
        None => None,
        Some(shadow) => match index_of(shadow.target) {
            Some(variant) if (0.0..=1.0).contains(&shadow.share) => {
                Some(Shadow { variant, share: shadow.share })
            }
            Some(_) => return refused(format!("the share {}", shadow.share), "one from 0 to 1".to_owned()),
            None => return refused(format!("the shadow {}", shadow.target), below),
        },
    };
    Ok(RouteChoice { order, shadow })
}
