//! Which units of one layer stay, given their scores and how many may.
//!
//! Ties are broken by index (the lower one stays), so that equal scores give equal plans on every machine.

/// Indices that stay, ascending, when every one of `groups` consecutive, equally long groups keeps its `keep` highest
/// scores. `groups` must divide the number of scores.
pub(super) fn keep_in_groups(scores: &[f64], groups: usize, keep: usize) -> Vec<usize> {
    let length = group_length(scores, groups);
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

/// Indices that stay, ascending, when whole aligned blocks of `block` scores stay together, `keep` scores in all, and
/// each block counts with the sum of its scores. `block` must divide `keep`.
pub(super) fn keep_blocks(scores: &[f64], block: usize, keep: usize) -> Vec<usize> {
    let sums = block_sums(scores, block);
    let kept = keep_in_groups(&sums, 1, keep / block.max(1));
    kept.into_iter().flat_map(|index| index * block..(index + 1) * block).collect()
}

/// The sum of each aligned block of scores.
pub(super) fn block_sums(scores: &[f64], block: usize) -> Vec<f64> {
    scores.chunks(block.max(1)).map(|block| block.iter().sum()).collect()
}

/// The indices below `count` that are not in the ascending list `listed`.
pub(super) fn complement(count: usize, listed: &[usize]) -> Vec<usize> {
    let mut listed = listed.iter().copied().peekable();
    (0..count).filter(|index| listed.next_if_eq(index).is_none()).collect()
}

/// The share of a layer's importance that stays, in `[0, 1]`, for every number of units that each of `groups` may keep:
/// none, one, and so on.
///
/// Policies may score below zero; then the lowest score counts as zero. A layer whose scores are all equal to zero
/// counts units instead.
pub(super) fn shares_by_count(scores: &[f64], groups: usize) -> Vec<f64> {
    let length = group_length(scores, groups);
    let floor = scores.iter().copied().fold(0.0_f64, f64::min);
    let total: f64 = scores.iter().map(|score| score - floor).sum();
    let mut shares = vec![0.0; length + 1];
    for group in scores.chunks(length) {
        let mut held = 0.0;
        for (count, index) in descending(group).into_iter().enumerate() {
            held += match group.get(index) {
                Some(score) if total > 0.0 => (score - floor) / total,
                _ => 1.0 / scores.len().max(1) as f64,
            };
            if let Some(share) = shares.get_mut(count + 1) {
                *share += held;
            }
        }
    }
    shares
}

fn group_length(scores: &[f64], groups: usize) -> usize {
    scores.len().checked_div(groups).unwrap_or(0).max(1)
}

/// Indices by falling score, ties by rising index.
fn descending(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<(usize, f64)> = scores.iter().copied().enumerate().collect();
    order.sort_by(|(first_index, first), (second_index, second)| {
        second.total_cmp(first).then(first_index.cmp(second_index))
    });
    order.into_iter().map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_blocks_stay_by_their_sums() {
        let scores = [9.0, 0.0, 4.0, 4.0, 5.0, 5.0];
        assert_eq!(keep_blocks(&scores, 2, 4), [0, 1, 4, 5]);
        assert_eq!(keep_blocks(&scores, 1, 4), [0, 2, 4, 5]);
    }

    #[test]
    fn shares_rise_to_the_whole() {
        assert_eq!(shares_by_count(&[1.0, 3.0, 2.0, 2.0], 2), [0.0, 0.625, 1.0]);
        assert_eq!(shares_by_count(&[0.0; 4], 1), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(shares_by_count(&[-1.0, 0.0], 1), [0.0, 1.0, 1.0]);
    }
}
