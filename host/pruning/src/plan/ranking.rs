//! Which units of one layer stay, given their scores and how many may.
//!
//! Ties are broken by index (the lower one stays), so that equal scores give equal plans on every machine.

/// Indices that stay, ascending, when every one of `groups` consecutive, equally long groups keeps its `keep` highest
/// scores. `groups` must divide the number of scores.
pub(super) fn keep_in_groups(scores: &[f64], groups: usize, keep: usize) -> Vec<usize> {
    let length = scores.len().checked_div(groups).unwrap_or(0).max(1);
    let mut kept: Vec<usize> = scores
        .chunks(length)
        .enumerate()
        .flat_map(|(group, scores)| {
            descending(scores).into_iter().take(keep).map(move |index| group * length + index)
        })
        .collect();
    kept.sort_unstable();
    kept
}

/// The indices below `count` that are not in the ascending list `listed`.
pub(super) fn complement(count: usize, listed: &[usize]) -> Vec<usize> {
    let mut listed = listed.iter().copied().peekable();
    (0..count).filter(|index| listed.next_if_eq(index).is_none()).collect()
}

/// Indices by falling score, ties by rising index.
fn descending(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<(usize, f64)> = scores.iter().copied().enumerate().collect();
    order.sort_by(|(first_index, first), (second_index, second)| {
        second.total_cmp(first).then(first_index.cmp(second_index))
    });
    order.into_iter().map(|(index, _)| index).collect()
}

/// The share of a layer's importance that the kept units hold, in `[0, 1]`.
///
/// Policies may score below zero; then the lowest score counts as zero. A layer whose scores are all equal to zero
/// counts units instead.
pub(super) fn kept_share(scores: &[f64], kept: &[usize]) -> f64 {
    let floor = scores.iter().copied().fold(0.0_f64, f64::min);
    let total: f64 = scores.iter().map(|score| score - floor).sum();
    if total > 0.0 {
        let held: f64 = kept.iter().filter_map(|&index| scores.get(index)).map(|score| score - floor).sum();
        held / total
    } else {
        kept.len() as f64 / scores.len().max(1) as f64
    }
}
