//! Random changes of valid inputs: the same ones in every run.

/// How many changes one input has at most.
const CHANGES: usize = 6;

/// Makes damaged inputs from seeds.
pub(crate) struct Damage {
    seeds: Vec<Vec<u8>>,
    state: u64,
}

impl Damage {
    pub(crate) const fn new(seeds: Vec<Vec<u8>>) -> Self {
        Self { seeds, state: 0x9e37_79b9_7f4a_7c15 }
    }

    /// A seed with one change or several.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut bytes = self.seed().to_vec();
        for _ in 0..=self.below(CHANGES) {
            let (at, length) = self.range(bytes.len());
            match self.below(6) {
                0 => drop(bytes.drain(at..at + length)),
                1 => {
                    let again = bytes[at..at + length].to_vec();
                    let to = self.below(bytes.len() + 1);
                    bytes.splice(to..to, again);
                }
                2 => {
                    let other = self.seed().to_vec();
                    let (from, length) = self.range(other.len());
                    bytes.splice(at..at, other[from..from + length].iter().copied());
                }
                3 => bytes.insert(at, self.random() as u8),
                _ => {
                    let change = [0x01, 0x20, 0x80, 0xff, self.random() as u8][self.below(5)];
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= change;
                    }
                }
            }
        }
        bytes
    }

    fn seed(&mut self) -> &[u8] {
        let at = self.below(self.seeds.len());
        &self.seeds[at]
    }

    /// A place in `length` bytes and how many from there: mostly few.
    fn range(&mut self, length: usize) -> (usize, usize) {
        let at = self.below(length + 1);
        let most = if self.below(4) == 0 { length } else { 16 };
        (at, self.below(most.min(length - at) + 1))
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.random() % limit.max(1) as u64) as usize
    }

    /// Marsaglia's xorshift64.
    const fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }
}
