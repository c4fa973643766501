//! Which block holds the keys and values of which tokens: a tree of full blocks, from the start of a text on.
//!
//! An entry is found by the entry before it and its own tokens, so what is found is exactly what was asked for; nothing
//! rests on a hash. Which entries stay is the pools' choice: an entry goes when its block is given away.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// What comes before a block.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Parent {
    /// Nothing: the text begins here. Texts of different salts share no blocks.
    Start(Option<Arc<str>>),
    /// The entry of this number. Numbers are never used again, unlike those of blocks.
    Entry(u64),
}

type Key = (Parent, Arc<[u32]>);

/// A full block of known tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    number: u64,
    /// Its block in the layers that see every token.
    pub(super) whole: u32,
    /// Its block in the windowed layers, as long as it is there.
    pub(super) window: Option<u32>,
}

impl Entry {
    /// The place after this entry.
    pub(super) fn as_parent(&self) -> Parent {
        Parent::Entry(self.number)
    }
}

/// Entries for the beginning of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// Those whose tokens are all in the text, in order.
    pub(super) full: Vec<Entry>,
    /// The next one, of which only so many tokens are.
    pub(super) partial: Option<(Entry, usize)>,
}

impl Match {
    /// How many tokens match, by entries of `block_tokens`.
    pub(super) fn tokens(&self, block_tokens: usize) -> usize {
        self.full.len() * block_tokens + self.partial.as_ref().map_or(0, |(_, common)| *common)
    }
}

/// All entries.
#[derive(Debug, Default)]
pub(super) struct PrefixIndex {
    entries: BTreeMap<Key, Entry>,
    /// Keys by block.
    by_whole: HashMap<u32, Key>,
    by_window: HashMap<u32, Key>,
    next: u64,
}

impl PrefixIndex {
    /// The entry of a full block.
    pub(super) fn get(&self, parent: &Parent, tokens: &[u32]) -> Option<&Entry> {
        self.entries.get(&(parent.clone(), tokens.into()))
    }

    /// The longest match of `tokens`, which begin at `start`, by entries of `block_tokens` tokens.
    pub(super) fn find(&self, start: Parent, tokens: &[u32], block_tokens: usize) -> Match {
        let mut full: Vec<Entry> = Vec::new();
        let mut parent = start;
        let mut rest = tokens;
        while let Some((block, after)) = rest.split_at_checked(block_tokens)
            && let Some(entry) = self.get(&parent, block)
        {
            parent = entry.as_parent();
            full.push(entry.clone());
            rest = after;
        }
        Match { full, partial: self.longest(parent, rest) }
    }

    /// The entry after `parent` that has most of its first tokens in common with `tokens`.
    fn longest(&self, parent: Parent, tokens: &[u32]) -> Option<(Entry, usize)> {
        // In the order of keys the most similar one is a neighbour of where the tokens themselves would stand.
        let place: Key = (parent, tokens.into());
        let before = self.entries.range(..&place).next_back();
        let after = self.entries.range((Bound::Included(&place), Bound::Unbounded)).next();
        let siblings = [before, after].into_iter().flatten().filter(|((parent, _), _)| *parent == place.0);
        siblings
            .map(|((_, found), entry)| (entry, common_length(found, tokens)))
            .max_by_key(|(_, common)| *common)
            .filter(|(_, common)| *common > 0)
            .map(|(entry, common)| (entry.clone(), common))
    }

    /// Adds an entry, which must not be there.
    pub(super) fn insert(
        &mut self,
        parent: Parent,
        tokens: &[u32],
        whole: u32,
        window: Option<u32>,
    ) -> Entry {
        let key: Key = (parent, tokens.into());
        let entry = Entry { number: self.next, whole, window };
        self.next += 1;
        self.by_whole.insert(whole, key.clone());
        if let Some(window) = window {
            self.by_window.insert(window, key.clone());
        }
        self.entries.insert(key, entry.clone());
        entry
    }

    /// Gives an entry a window block where it has none; says whether it had none.
    pub(super) fn add_window(&mut self, parent: &Parent, tokens: &[u32], window: u32) -> bool {
        let key: Key = (parent.clone(), tokens.into());
        match self.entries.get_mut(&key) {
            Some(entry) if entry.window.is_none() => {
                entry.window = Some(window);
                self.by_window.insert(window, key);
                true
            }
            _ => false,
        }
    }

    /// Takes out the entry of a block that was given away; returns the window block that it leaves behind.
    pub(super) fn remove_whole(&mut self, whole: u32) -> Option<u32> {
        let key = self.by_whole.remove(&whole)?;
        let window = self.entries.remove(&key)?.window?;
        self.by_window.remove(&window);
        Some(window)
    }

    /// A window block was given away: its entry is without one now.
    pub(super) fn remove_window(&mut self, window: u32) {
        if let Some(key) = self.by_window.remove(&window)
            && let Some(entry) = self.entries.get_mut(&key)
        {
            entry.window = None;
        }
    }

    /// Whether every entry can be reached.
    #[cfg(test)]
    pub(super) fn is_a_tree(&self) -> bool {
        let numbers: std::collections::HashSet<u64> =
            self.entries.values().map(|entry| entry.number).collect();
        self.entries.keys().all(|(parent, _)| match parent {
            Parent::Start(_) => true,
            Parent::Entry(number) => numbers.contains(number),
        })
    }
}

/// How many first tokens two texts have in common.
pub(crate) fn common_length(one: &[u32], other: &[u32]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Parent = Parent::Start(None);

    fn blocks(found: &Match) -> (Vec<u32>, Option<(u32, usize)>) {
        let partial = found.partial.as_ref().map(|(entry, common)| (entry.whole, *common));
        (found.full.iter().map(|entry| entry.whole).collect(), partial)
    }

    #[test]
    fn the_longest_match_ends_inside_the_most_similar_block() {
        let mut index = PrefixIndex::default();
        let first = index.insert(START, &[1, 2, 3], 0, None);
        for (whole, tokens) in [(1, [4, 5, 6]), (2, [4, 7, 7]), (3, [5, 0, 0])] {
            index.insert(first.as_parent(), &tokens, whole, None);
        }
        let find = |tokens: &[u32]| blocks(&index.find(START, tokens, 3));
        assert_eq!(find(&[1, 2, 3, 4, 5, 6, 9]), (vec![0, 1], None));
        assert_eq!(find(&[1, 2, 3, 4, 7, 8, 9]), (vec![0], Some((2, 2))));
        assert_eq!(find(&[1, 2, 3, 5]), (vec![0], Some((3, 1))));
        assert_eq!(find(&[1, 2, 3]), (vec![0], None));
        assert_eq!(find(&[1, 2, 9]), (vec![], Some((0, 2))));
        assert_eq!(find(&[4, 5, 6]), (vec![], None), "the same tokens elsewhere are something else");
    }

    #[test]
    fn salts_part_what_is_otherwise_equal() {
        let mut index = PrefixIndex::default();
        index.insert(Parent::Start(Some("a".into())), &[1, 2], 0, None);
        assert_eq!(blocks(&index.find(START, &[1, 2], 2)), (vec![], None));
        assert_eq!(blocks(&index.find(Parent::Start(Some("b".into())), &[1, 2], 2)), (vec![], None));
        assert_eq!(blocks(&index.find(Parent::Start(Some("a".into())), &[1, 2], 2)), (vec![0], None));
    }

    #[test]
    fn a_block_that_is_given_away_is_found_no_more() {
        let mut index = PrefixIndex::default();
        let first = index.insert(START, &[1, 2], 0, Some(7));
        index.remove_window(7);
        assert_eq!(index.find(START, &[1, 2], 2).full[0].window, None);
        assert!(index.add_window(&START, &[1, 2], 8) && !index.add_window(&START, &[1, 2], 9));
        assert_eq!(index.remove_whole(0), Some(8));
        assert_eq!(blocks(&index.find(START, &[1, 2], 2)), (vec![], None));
        let again = index.insert(START, &[1, 2], 0, None);
        assert_ne!(again, first, "what followed the old entry doesn't follow the new one");
    }
}
