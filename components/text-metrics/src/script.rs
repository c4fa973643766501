//! Which script a text is written in, as far as it decides into which units the text is cut.

use crate::spaces::is_space;

/// The characters that sacrebleu's tokenizer `zh` takes for Chinese: ideographs, their punctuation and full-width forms.
///
/// The table in `tokenizer_zh.py` means to have the ideographs beyond U+FFFF as well, but writes them in a notation
/// with four digits; what it compares with instead makes U+2001 to U+2A6D, dashes and curly quotes among them, Chinese.
const CHINESE: [(char, char); 13] = [
    ('\u{2001}', '\u{2a6d}'),
    ('\u{2e80}', '\u{2fdf}'),
    ('\u{2ff0}', '\u{303f}'),
    ('\u{3100}', '\u{312f}'),
    ('\u{31a0}', '\u{31ef}'),
    ('\u{3200}', '\u{4db5}'),
    ('\u{4e00}', '\u{9fbb}'),
    ('\u{f900}', '\u{fa2d}'),
    ('\u{fa30}', '\u{fa6a}'),
    ('\u{fa70}', '\u{fad9}'),
    ('\u{fe10}', '\u{fe1f}'),
    ('\u{fe30}', '\u{fe4f}'),
    ('\u{ff00}', '\u{ffef}'),
];

/// Whether sacrebleu puts spaces around the character.
pub(crate) fn is_chinese(character: char) -> bool {
    CHINESE.iter().any(|&(first, last)| (first..=last).contains(&character))
}

/// How a text is cut into units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// At white space.
    Spaced,
    /// Between any two characters.
    Chinese,
}

impl Script {
    /// The script of several texts together: Chinese if more than half of what is not white space is.
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut chinese, mut all) = (0_usize, 0_usize);
        for character in texts.into_iter().flat_map(str::chars).filter(|&character| !is_space(character)) {
            all += 1;
            chinese += usize::from(is_chinese(character));
        }
        if 2 * chinese > all { Self::Chinese } else { Self::Spaced }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greater_part_decides() {
        assert_eq!(Script::of(["今天 is", "好天气"]), Script::Chinese);
        assert_eq!(Script::of(["the word 世界", ""]), Script::Spaced);
        assert_eq!(Script::of([]), Script::Spaced);
    }

    #[test]
    fn the_table_has_the_gaps_of_the_original() {
        assert!(is_chinese('“') && is_chinese('—') && is_chinese('世') && is_chinese('，'));
        assert!(!is_chinese('\u{2000}') && !is_chinese('\u{20000}') && !is_chinese('か') && !is_chinese('a'));
    }
}
