//! Porter's stemmer with NLTK's extensions, which is what rouge-score stems with.
//!
//! Porter, "An algorithm for suffix stripping", Program 14 (1980), with the changes that NLTK 3 calls `NLTK_EXTENSIONS`:
//! a table of irregular forms, words of one or two letters left alone, and a few suffixes handled differently. Words are
//! of the letters a to z and digits, as rouge-score's tokenizer leaves them.

/// Irregular forms and their stems.
const IRREGULAR: [(&str, &str); 16] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// A suffix, what replaces it, and what must hold of the stem before it. The first suffix that fits decides.
type Rule = (&'static str, &'static str, fn(&str) -> bool);

const STEP_2: [Rule; 22] = [
    ("ational", "ate", is_long),
    ("tional", "tion", is_long),
    ("enci", "ence", is_long),
    ("anci", "ance", is_long),
    ("izer", "ize", is_long),
    ("bli", "ble", is_long),
    ("alli", "al", is_long),
    ("entli", "ent", is_long),
    ("eli", "e", is_long),
    ("ousli", "ous", is_long),
    ("ization", "ize", is_long),
    ("ation", "ate", is_long),
    ("ator", "ate", is_long),
    ("alism", "al", is_long),
    ("iveness", "ive", is_long),
    ("fulness", "ful", is_long),
    ("ousness", "ous", is_long),
    ("aliti", "al", is_long),
    ("iviti", "ive", is_long),
    ("biliti", "ble", is_long),
    ("fulli", "ful", is_long),
    // The l counts to the stem here, so that short stems such as "geo" fit.
    ("logi", "log", |stem| measure(&[stem, "l"].concat()) > 0),
];

const STEP_3: [Rule; 7] = [
    ("icate", "ic", is_long),
    ("ative", "", is_long),
    ("alize", "al", is_long),
    ("iciti", "ic", is_long),
    ("ical", "ic", is_long),
    ("ful", "", is_long),
    ("ness", "", is_long),
];

const STEP_4: [Rule; 19] = [
    ("al", "", is_longer),
    ("ance", "", is_longer),
    ("ence", "", is_longer),
    ("er", "", is_longer),
    ("ic", "", is_longer),
    ("able", "", is_longer),
    ("ible", "", is_longer),
    ("ant", "", is_longer),
    ("ement", "", is_longer),
    ("ment", "", is_longer),
    ("ent", "", is_longer),
    ("ion", "", |stem| is_longer(stem) && stem.ends_with(['s', 't'])),
    ("ou", "", is_longer),
    ("ism", "", is_longer),
    ("ate", "", is_longer),
    ("iti", "", is_longer),
    ("ous", "", is_longer),
    ("ive", "", is_longer),
    ("ize", "", is_longer),
];

/// The stem of a word in lower case.
pub(crate) fn stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(form, _)| *form == word) {
        return (*stem).to_owned();
    }
    if word.len() <= 2 {
        return word.to_owned();
    }
    let stem = ending_in_y(past_and_progressive(plural(word)));
    let stem = double_suffix(stem);
    let stem = with_rules(stem, &STEP_3);
    let stem = with_rules(stem, &STEP_4);
    single_l(final_e(stem))
}

/// Step 1a.
fn plural(word: &str) -> String {
    if word.len() == 4 && word.ends_with("ies") {
        return replaced(word, "ies", "ie");
    }
    let always = |_: &str| true;
    with_rules(
        word.to_owned(),
        &[("sses", "ss", always), ("ies", "i", always), ("ss", "ss", always), ("s", "", always)],
    )
}

/// Step 1b.
fn past_and_progressive(word: String) -> String {
    if word.ends_with("ied") {
        return replaced(&word, "ied", if word.len() == 4 { "ie" } else { "i" });
    }
    if let Some(stem) = word.strip_suffix("eed") {
        return if is_long(stem) { [stem, "ee"].concat() } else { word };
    }
    let has_vowel = |stem: &&str| are_consonants(stem).contains(&false);
    let Some(stem) = ["ed", "ing"].iter().find_map(|suffix| word.strip_suffix(suffix).filter(has_vowel))
    else {
        return word;
    };
    if ["at", "bl", "iz"].iter().any(|ending| stem.ends_with(ending)) {
        return [stem, "e"].concat();
    }
    if let Some(shorter) = without_doubled_consonant(stem) {
        return if stem.ends_with(['l', 's', 'z']) { stem } else { shorter }.to_owned();
    }
    if measure(stem) == 1 && ends_with_short_syllable(stem) { [stem, "e"].concat() } else { stem.to_owned() }
}

/// Step 1c.
fn ending_in_y(word: String) -> String {
    let is_after_consonant = |stem: &str| stem.len() > 1 && are_consonants(stem).last() == Some(&true);
    with_rules(word, &[("y", "i", is_after_consonant)])
}

/// Step 2.
fn double_suffix(word: String) -> String {
    match word.strip_suffix("alli") {
        Some(stem) if is_long(stem) => double_suffix([stem, "al"].concat()),
        _ => with_rules(word, &STEP_2),
    }
}

/// Step 5a.
fn final_e(word: String) -> String {
    match word.strip_suffix('e') {
        Some(stem) if is_longer(stem) || measure(stem) == 1 && !ends_with_short_syllable(stem) => {
            stem.to_owned()
        }
        _ => word,
    }
}

/// Step 5b.
fn single_l(word: String) -> String {
    match word.strip_suffix('l') {
        Some(shorter) if shorter.ends_with('l') && is_longer(shorter) => shorter.to_owned(),
        _ => word,
    }
}

/// Applies the first rule whose suffix the word has, if its condition holds.
fn with_rules(word: String, rules: &[Rule]) -> String {
    let first = rules
        .iter()
        .find_map(|(suffix, replacement, holds)| Some((word.strip_suffix(suffix)?, replacement, holds)));
    match first {
        Some((stem, replacement, holds)) if holds(stem) => [stem, replacement].concat(),
        _ => word,
    }
}

fn replaced(word: &str, suffix: &str, replacement: &str) -> String {
    [word.strip_suffix(suffix).unwrap_or(word), replacement].concat()
}

/// m > 0.
fn is_long(stem: &str) -> bool {
    measure(stem) > 0
}

/// m > 1.
fn is_longer(stem: &str) -> bool {
    measure(stem) > 1
}

/// Porter's m: how often a vowel is followed by a consonant.
fn measure(stem: &str) -> usize {
    are_consonants(stem).windows(2).filter(|pair| **pair == [false, true]).count()
}

/// Which letters are consonants: not a, e, i, o, u, and y not after a consonant.
fn are_consonants(word: &str) -> Vec<bool> {
    let mut consonants: Vec<bool> = Vec::with_capacity(word.len());
    for letter in word.bytes() {
        consonants.push(match letter {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => consonants.last() != Some(&true),
            _ => true,
        });
    }
    consonants
}

/// The word without its last letter, where that is a doubled consonant.
fn without_doubled_consonant(word: &str) -> Option<&str> {
    let last = word.chars().next_back()?;
    let shorter = word.strip_suffix(last)?;
    (shorter.ends_with(last) && are_consonants(word).last() == Some(&true)).then_some(shorter)
}

/// Porter's *o: consonant, vowel, consonant at the end, the last not w, x or y; or a word of a vowel and a consonant.
fn ends_with_short_syllable(word: &str) -> bool {
    match *are_consonants(word) {
        [false, true] => true,
        [.., true, false, true] => !word.ends_with(['w', 'x', 'y']),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_examples_hold() {
        let stems = [
            ("caresses", "caress"),
            ("ponies", "poni"),
            ("agreed", "agre"),
            ("plastered", "plaster"),
            ("motoring", "motor"),
            ("hopping", "hop"),
            ("falling", "fall"),
            ("filing", "file"),
            ("happy", "happi"),
            ("relational", "relat"),
            ("vietnamization", "vietnam"),
            ("hopefulness", "hope"),
            ("electrical", "electr"),
            ("adoption", "adopt"),
            ("probate", "probat"),
            ("controlling", "control"),
        ];
        for (word, expected) in stems {
            assert_eq!(stem(word), expected, "{word}");
        }
    }

    #[test]
    fn nltks_extensions_hold() {
        let stems = [
            ("dying", "die"),
            ("dies", "die"),
            ("spied", "spi"),
            ("enjoy", "enjoy"),
            ("geologically", "geolog"),
        ];
        for (word, expected) in stems {
            assert_eq!(stem(word), expected, "{word}");
        }
    }
}
