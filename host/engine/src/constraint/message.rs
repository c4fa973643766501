//! llguidance's error messages, cut to what a client can use.

use std::fmt::Display;

/// Longest message that is passed on, in characters.
const LIMIT: usize = 400;

/// The message on one line, without the state, the backtrace and the excerpts of the grammar that llguidance adds.
pub(super) fn brief(error: &impl Display) -> String {
    let message = error.to_string();
    let lines = message.lines().map(str::trim).take_while(|line| !line.starts_with('<'));
    let words = lines.filter(|line| !is_excerpt(line)).flat_map(str::split_whitespace);
    let text = words.collect::<Vec<_>>().join(" ");
    match text.as_str() {
        "NoExtensionBias" => "no text fits it".to_owned(),
        text => text.chars().take(LIMIT).collect(),
    }
}

/// A numbered line of a grammar, or a mark under it.
fn is_excerpt(line: &str) -> bool {
    let is_numbered = line.split_once(" | ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
    is_numbered || line.chars().all(|character| character == '^')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_sees_what_is_wrong_and_no_more() {
        let error = "at 1(8): invalid regex:\n    (\n    ^\nerror: unclosed group\n   1 | start: /(/\n             ^\n<state>\nx\n";
        assert_eq!(brief(&error), "at 1(8): invalid regex: ( error: unclosed group");
        assert_eq!(brief(&"panic: at the disco\n<backtrace>\n0: main"), "panic: at the disco");
        assert_eq!(brief(&"NoExtensionBias"), "no text fits it");
        assert_eq!(brief(&"x".repeat(1000)).len(), LIMIT);
    }
}
