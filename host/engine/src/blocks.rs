//! Which blocks of the key-value store are free.

/// Hands out block numbers and takes them back.
#[derive(Debug)]
pub(crate) struct BlockPool {
    free: Vec<u32>,
    total: usize,
}

impl BlockPool {
    pub(crate) fn new(total: usize) -> Self {
        Self { free: (0..total as u32).rev().collect(), total }
    }

    /// `count` blocks, or none at all.
    pub(crate) fn allocate(&mut self, count: usize) -> Option<Vec<u32>> {
        let keep = self.free.len().checked_sub(count)?;
        Some(self.free.split_off(keep))
    }

    /// Takes blocks back.
    pub(crate) fn release(&mut self, blocks: &mut Vec<u32>) {
        self.free.append(blocks);
    }

    pub(crate) fn used(&self) -> usize {
        self.total - self.free.len()
    }

    pub(crate) fn total(&self) -> usize {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocation_is_all_or_nothing() {
        let mut pool = BlockPool::new(4);
        let mut three = pool.allocate(3).unwrap();
        assert!(pool.allocate(2).is_none());
        assert_eq!(pool.used(), 3);
        pool.release(&mut three);
        assert_eq!(pool.used(), 0);
        let mut all = pool.allocate(4).unwrap();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
    }
}
