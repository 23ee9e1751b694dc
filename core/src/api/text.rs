//! One line of a bounded length: what may stand in a status, an event or a log. Pure.
//!
//! Bounds are in characters, which is how the API server counts the lengths of a CRD's schema.

/// The bound of an identifier or a word: Meta's trace IDs have some 25 characters.
pub const WORD: usize = 64;

/// The bound of a name or a title.
pub const NAME: usize = 256;

/// The bound of Graph's sentences.
pub const TEXT: usize = 512;

/// The bound of a condition's message.
pub const MESSAGE: usize = 1_000;

/// The bound of a line of a log.
pub const LOG: usize = 2_048;

/// The text in one line: line breaks and tabs become blanks, other control characters and those that steer the direction
/// or are invisible go.
pub fn one_line(text: &str) -> String {
    text.chars()
        .filter_map(|c| match c {
            '\t' | '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                Some(' ')
            }
            '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}' => None,
            c if c.is_control() => None,
            c => Some(c),
        })
        .collect()
}

/// The text cut to so many characters, with an ellipsis as the last of them if something is missing.
pub fn cut(text: &str, max_chars: usize) -> String {
    if text.chars().nth(max_chars).is_none() {
        return text.to_owned();
    }
    let kept = text.chars().take(max_chars.saturating_sub(1));
    kept.chain(['…']).take(max_chars).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cut_text_ends_with_an_ellipsis() {
        for (text, expected) in [
            ("abcd", "abcd"),
            ("abcde", "abc…"),
            ("éééé", "éééé"),
            ("ééééé", "ééé…"),
            ("<<<<<", "<<<…"),
            ("a😀😀😀😀", "a😀😀…"),
            ("", ""),
        ] {
            assert_eq!(cut(text, 4), expected, "{text}");
        }
        assert_eq!(cut("abc", 1), "…");
        assert_eq!(cut("abc", 0), "");
    }

    proptest! {
        #[test]
        fn a_cut_text_fits_and_begins_as_before(text in "\\PC{0,60}|[a<\"\u{2028}\u{1f600}]{0,60}", max_chars in 0_usize..80) {
            let cut = cut(&text, max_chars);
            prop_assert_eq!(cut.chars().count(), text.chars().count().min(max_chars));
            prop_assert!(cut == text || text.starts_with(cut.strip_suffix('…').unwrap_or(&cut)));
        }

        #[test]
        fn a_line_is_one_line(text in any::<String>()) {
            let line = one_line(&text);
            let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
            prop_assert!(!line.chars().any(breaks));
        }
    }
}
