//! PTX cut into tokens.

/// A token and the line that it is on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind<'a>,
    pub(crate) line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind<'a> {
    /// A name, opcode, directive (with its point) or special register.
    Word(&'a str),
    /// A number in any notation.
    Number(&'a str),
    /// A quoted text.
    Text(&'a str),
    /// A single sign.
    Sign(char),
}

/// Cuts `text` into tokens, comments left out. What doesn't begin any token is given back as a sign.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let bytes = text.as_bytes();
    let (mut at, mut line, mut found) = (0, 1, Vec::new());
    while let Some(&byte) = bytes.get(at) {
        let end = match byte {
            b'\n' => {
                line += 1;
                at += 1;
                continue;
            }
            b if b.is_ascii_whitespace() || b == 0 => {
                at += 1;
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at = run(bytes, at, |b| b != b'\n');
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                let end = text[at + 2..].find("*/").map_or(bytes.len(), |length| at + length + 4);
                line += text[at..end].matches('\n').count();
                at = end;
                continue;
            }
            b'"' => (run(bytes, at + 1, |b| b != b'"') + 1).min(bytes.len()),
            b if b.is_ascii_digit() => run(bytes, at, |b| b.is_ascii_alphanumeric() || b == b'.'),
            b if starts_word(b) => word_end(bytes, at),
            _ => {
                at + 1 + usize::from(byte >= 0x80) * (text[at..].chars().next().map_or(1, char::len_utf8) - 1)
            }
        };
        let piece = &text[at..end];
        let kind = match byte {
            b'"' => Kind::Text(piece),
            b if b.is_ascii_digit() => Kind::Number(piece),
            b if starts_word(b) && piece.len() > 1 || b.is_ascii_alphabetic() || b == b'_' => {
                Kind::Word(piece)
            }
            _ => Kind::Sign(piece.chars().next().unwrap_or(' ')),
        };
        found.push(Token { kind, line });
        at = end;
    }
    found
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$' | b'%' | b'.')
}

/// The end of a word. `::` belongs to it (`.shared::cta`), a single `:` ends it (a label).
fn word_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    loop {
        at = run(bytes, at, |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'.' | b'%'));
        if bytes.get(at..at + 2) != Some(b"::") {
            return at;
        }
        at += 2;
    }
}

fn run(bytes: &[u8], from: usize, more: impl Fn(u8) -> bool) -> usize {
    bytes[from.min(bytes.len())..]
        .iter()
        .position(|&byte| !more(byte))
        .map_or(bytes.len(), |length| from + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_points_and_double_colons() {
        let kinds: Vec<_> = tokens("L1: ld.shared::cta.u32 %r1, [%r2+-4]; // x\n/* y */ 0f3F800000")
            .iter()
            .map(|token| token.kind)
            .collect();
        use Kind::{Number, Sign, Word};
        assert_eq!(
            kinds,
            [
                Word("L1"),
                Sign(':'),
                Word("ld.shared::cta.u32"),
                Word("%r1"),
                Sign(','),
                Sign('['),
                Word("%r2"),
                Sign('+'),
                Sign('-'),
                Number("4"),
                Sign(']'),
                Sign(';'),
                Number("0f3F800000"),
            ]
        );
    }
}
