//! How vocabularies spell bytes as characters.

use tokenizers::DecoderWrapper;

/// The spelling that a tokenizer's decoder undoes.
pub(super) enum Spelling {
    /// GPT-2's: each byte is one printable character, space is `Ġ`.
    ByteLevel,
    /// SentencePiece's: `▁` is a space, `<0xAB>` a byte.
    Metaspace,
    /// None: tokens are their text.
    Plain,
}

impl Spelling {
    pub(super) fn of(tokenizer: &tokenizers::Tokenizer) -> Self {
        tokenizer.get_decoder().map_or(Self::Plain, Self::of_decoder)
    }

    fn of_decoder(decoder: &DecoderWrapper) -> Self {
        match decoder {
            DecoderWrapper::ByteLevel(_) => Self::ByteLevel,
            DecoderWrapper::Metaspace(_) | DecoderWrapper::ByteFallback(_) => Self::Metaspace,
            DecoderWrapper::Sequence(sequence) => sequence
                .get_decoders()
                .iter()
                .map(Self::of_decoder)
                .find(|spelling| !matches!(spelling, Self::Plain))
                .unwrap_or(Self::Plain),
            _ => Self::Plain,
        }
    }

    /// The bytes of a vocabulary entry.
    pub(super) fn bytes(&self, token: &str) -> Vec<u8> {
        match self {
            // An entry with a character outside the table isn't spelled in it: HF takes its UTF-8 instead.
            Self::ByteLevel => {
                token.chars().map(byte_of).collect::<Option<_>>().unwrap_or_else(|| token.into())
            }
            Self::Metaspace => match hexadecimal_byte(token) {
                Some(byte) => vec![byte],
                None => token.replace('\u{2581}', " ").into_bytes(),
            },
            Self::Plain => token.into(),
        }
    }
}

/// Whether decoding drops one space at the very beginning.
pub(super) fn strips_leading_space(tokenizer: &tokenizers::Tokenizer) -> bool {
    fn strips(decoder: &DecoderWrapper) -> bool {
        match decoder {
            DecoderWrapper::Strip(strip) => strip.content == ' ' && strip.start > 0,
            DecoderWrapper::Metaspace(_) => true,
            DecoderWrapper::Sequence(sequence) => sequence.get_decoders().iter().any(strips),
            _ => false,
        }
    }
    tokenizer.get_decoder().is_some_and(strips)
}

/// Inverse of GPT-2's `bytes_to_unicode`: printable Latin-1 stands for itself, the 68 others follow from U+0100 on.
pub(crate) fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => u8::try_from(code).ok(),
        0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// The character that spells a byte.
pub(crate) fn character_of(byte: u8) -> char {
    let code = u32::from(byte);
    let spelled = match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => code,
        0x00..=0x20 => code + 0x100,
        0x7f..=0xa0 => code - 0x7f + 0x121,
        0xad => 0x143,
    };
    char::from_u32(spelled).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn hexadecimal_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character_and_comes_back() {
        for byte in 0..=255 {
            assert_eq!(byte_of(character_of(byte)), Some(byte));
        }
        assert_eq!(character_of(b' '), 'Ġ');
        assert_eq!(character_of(b'\n'), 'Ċ');
        assert_eq!(byte_of('Ń'), Some(0xad));
    }
}
