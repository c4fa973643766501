//! The two tokenizers of sacrebleu that BLEU is usually reported with, after `tokenizer_{13a,zh,re}.py` of 2.6.0.
//!
//! Both end in mteval-v13a's rules for Western languages: signs are tokens, full stops and commas too unless a digit is
//! on the side that counts, and so is a dash after a digit.

use crate::Script;
use crate::script::is_chinese;
use crate::spaces::{is_space, words};

/// How a text becomes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokenizer {
    /// mteval-v13a's: what NIST and WMT have used. Four HTML entities are unescaped first.
    Mteval13a,
    /// Each Chinese character is a token, the rest is tokenised by the same rules.
    Chinese,
}

impl Tokenizer {
    /// The one for texts in this script.
    #[must_use]
    pub const fn for_script(script: Script) -> Self {
        match script {
            Script::Spaced => Self::Mteval13a,
            Script::Chinese => Self::Chinese,
        }
    }

    /// Its name in sacrebleu's signatures.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mteval13a => "13a",
            Self::Chinese => "zh",
        }
    }

    /// The tokens of a text.
    #[must_use]
    pub fn tokens(self, text: &str) -> Vec<String> {
        let prepared = match self {
            Self::Mteval13a => joined_and_unescaped(text.trim_end_matches(is_space)),
            Self::Chinese => chinese_characters_apart(text.trim_matches(is_space)),
        };
        words(&western(&prepared)).map(str::to_owned).collect()
    }
}

fn joined_and_unescaped(text: &str) -> String {
    let mut text = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    // In this order, so that `&amp;lt;` is unescaped twice.
    for (entity, character) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        text = text.replace(entity, character);
    }
    format!(" {text} ")
}

fn chinese_characters_apart(text: &str) -> String {
    let mut apart = String::with_capacity(2 * text.len());
    for character in text.chars() {
        if is_chinese(character) {
            apart.extend([' ', character, ' ']);
        } else {
            apart.push(character);
        }
    }
    apart
}

/// mteval-v13a's language-dependent part: four substitutions, one after the other.
fn western(text: &str) -> String {
    let mut spaced = String::with_capacity(2 * text.len());
    for character in text.chars() {
        if is_sign(character) {
            spaced.extend([' ', character, ' ']);
        } else {
            spaced.push(character);
        }
    }
    let is_digit = |character: char| character.is_ascii_digit();
    let is_stop = |character: char| matches!(character, '.' | ',');
    let text = substitute(&spaced, |a, b| !is_digit(a) && is_stop(b), |a, b| [a, ' ', b, ' ']);
    let text = substitute(&text, |a, b| is_stop(a) && !is_digit(b), |a, b| [' ', a, ' ', b]);
    substitute(&text, |a, b| is_digit(a) && b == '-', |a, b| [a, ' ', b, ' '])
}

/// ASCII's signs but for the apostrophe, the comma, the dash and the full stop.
const fn is_sign(character: char) -> bool {
    matches!(character, ' '..='&' | '('..='+' | '/' | ':'..='@' | '['..='`' | '{'..='~')
}

/// Replaces pairs of characters from left to right; a character belongs to one pair at most.
fn substitute(
    text: &str,
    is_match: impl Fn(char, char) -> bool,
    replacement: impl Fn(char, char) -> [char; 4],
) -> String {
    let mut replaced = String::with_capacity(text.len() + text.len() / 8);
    let mut characters = text.chars().peekable();
    while let Some(first) = characters.next() {
        match characters.next_if(|&second| is_match(first, second)) {
            Some(second) => replaced.extend(replacement(first, second)),
            None => replaced.push(first),
        }
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(tokenizer: Tokenizer, text: &str) -> String {
        tokenizer.tokens(text).join(" ")
    }

    #[test]
    fn stops_stay_inside_numbers() {
        let western = |text| joined(Tokenizer::Mteval13a, text);
        assert_eq!(western("It cost $1,234.56, or 10-20%."), "It cost $ 1,234.56 , or 10 - 20 % .");
        assert_eq!(western("the U.S. don't re-\nenter"), "the U . S . don't reenter");
        assert_eq!(western("a &amp;lt; b <skipped>&quot;c&quot;"), "a < b \" c \"");
    }

    #[test]
    fn chinese_characters_are_tokens() {
        assert_eq!(joined(Tokenizer::Chinese, " 今天GDP增长3.5％。"), "今 天 GDP 增 长 3.5 ％ 。");
        assert_eq!(joined(Tokenizer::Chinese, "&quot;"), "& quot ;");
    }
}
