//! White space as Python knows it, whose programs the metrics agree with.

/// Whether `str.isspace` holds: Unicode's `White_Space` and the four ASCII separators.
pub(crate) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

/// What lies between white space, as `str.split` gives it.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// Every character that is no white space.
pub(crate) fn characters(text: &str) -> Vec<char> {
    text.chars().filter(|&character| !is_space(character)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_and_wide_spaces_part_words() {
        let found: Vec<&str> = words(" a\u{a0}b\x1cc\u{3000}d\n").collect();
        assert_eq!(found, ["a", "b", "c", "d"]);
        // A zero-width space is no white space.
        assert_eq!(characters("a\u{200b} b"), ['a', '\u{200b}', 'b']);
    }
}
