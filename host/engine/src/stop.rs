//! Finds stop strings in text that arrives in pieces, across the borders of tokens.

/// Holds back text that could still become a stop string.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    stops: Vec<String>,
    pending: String,
}

/// What [`StopMatcher::push`] made of a piece.
#[derive(Debug, PartialEq)]
pub enum Matched {
    /// Text that is safe to show.
    Text(String),
    /// A stop string was met; this is the text before it.
    Stop(String),
}

impl StopMatcher {
    /// A matcher at the beginning of a text. Without stop strings it holds nothing back.
    #[must_use]
    pub fn new(stops: Vec<String>) -> Self {
        Self { stops, pending: String::new() }
    }

    /// Takes the next piece of text.
    pub fn push(&mut self, piece: &str) -> Matched {
        self.pending.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.pending.find(stop.as_str())).min() {
            self.pending.truncate(at);
            return Matched::Stop(std::mem::take(&mut self.pending));
        }
        let held = self.longest_possible_prefix();
        let rest = self.pending.split_off(self.pending.len() - held);
        Matched::Text(std::mem::replace(&mut self.pending, rest))
    }

    /// What was held back, when no more text comes.
    pub fn flush(&mut self) -> String {
        std::mem::take(&mut self.pending)
    }

    /// Bytes at the end of `pending` that begin a stop string.
    fn longest_possible_prefix(&self) -> usize {
        self.stops
            .iter()
            .filter_map(|stop| {
                stop.char_indices()
                    .map(|(at, _)| at)
                    .rev()
                    .find(|&length| self.pending.ends_with(&stop[..length]))
            })
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut matcher = StopMatcher::new(stops.iter().map(|s| (*s).to_owned()).collect());
        let mut shown = String::new();
        for piece in pieces {
            match matcher.push(piece) {
                Matched::Text(text) => shown.push_str(&text),
                Matched::Stop(text) => return (shown + &text, true),
            }
        }
        (shown + &matcher.flush(), false)
    }

    #[test]
    fn a_stop_string_across_pieces_is_cut_off() {
        assert_eq!(run(&["END"], &["abc E", "N", "D def"]), ("abc ".to_owned(), true));
    }

    #[test]
    fn a_false_start_is_shown_after_all() {
        assert_eq!(run(&["END"], &["abc E", "N", "X def E"]), ("abc ENX def E".to_owned(), false));
    }

    #[test]
    fn the_earliest_of_several_wins() {
        assert_eq!(run(&["zz", "b"], &["a", "b zz"]), ("a".to_owned(), true));
    }

    #[test]
    fn a_repeating_prefix_is_found() {
        assert_eq!(run(&["aab"], &["aa", "ab"]), ("a".to_owned(), true));
    }

    #[test]
    fn characters_of_several_bytes_are_never_split() {
        assert_eq!(run(&["é!"], &["caf", "é", "!"]), ("caf".to_owned(), true));
        assert_eq!(run(&["é!"], &["caf", "é", "?"]), ("café?".to_owned(), false));
    }
}
