//! One line of a bounded size: what may stand in a status, an event or a log. Pure.
//!
//! A size is that of the JSON in which the API server stores a text. It is written in Go, so `<`, `>` and `&` take six
//! bytes there, as control characters do. The bounds together keep a status below [`STATUS_MAX_BYTES`], whatever Graph says.

/// The largest status that the operator writes, in bytes as stored. With what the API server notes about the fields of such
/// a status (`metadata.managedFields`) it stays below 16 KiB.
pub const STATUS_MAX_BYTES: usize = 15 * 1024 - 256;

/// How long a text may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// In characters.
    pub chars: usize,
    /// In bytes as stored.
    pub bytes: usize,
}

impl Bound {
    /// An identifier or a word: Meta's trace IDs have some 25 characters.
    pub const WORD: Self = Self::of_bytes(64);
    /// A name or a title.
    pub const NAME: Self = Self::of_bytes(256);
    /// What Graph says in sentences.
    pub const TEXT: Self = Self {
        chars: 512,
        bytes: 768,
    };
    /// The message of a condition: as a note of an event it may have 1,024 bytes.
    pub const MESSAGE: Self = Self::of_bytes(1_000);
    /// A line of a log.
    pub const LOG: Self = Self::of_bytes(2_048);

    const fn of_bytes(bytes: usize) -> Self {
        Self {
            chars: bytes,
            bytes,
        }
    }

    /// What is left after this text.
    pub fn without(self, text: &str) -> Self {
        Self {
            chars: self.chars.saturating_sub(text.chars().count()),
            bytes: self.bytes.saturating_sub(stored_bytes(text)),
        }
    }
}

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

/// The text cut to a bound, with an ellipsis at the end if something is missing.
pub fn cut(text: &str, bound: Bound) -> String {
    const ELLIPSIS: char = '…';
    let mut room = bound;
    let mut end_with_ellipsis = 0;
    for (at, c) in text.char_indices() {
        let bytes = char_bytes(c);
        if room.chars > 0 && room.bytes >= char_bytes(ELLIPSIS) {
            end_with_ellipsis = at;
        }
        if room.chars == 0 || room.bytes < bytes {
            let mut cut = text.get(..end_with_ellipsis).unwrap_or_default().to_owned();
            if bound.chars > 0 && bound.bytes >= char_bytes(ELLIPSIS) {
                cut.push(ELLIPSIS);
            }
            return cut;
        }
        room.chars -= 1;
        room.bytes -= bytes;
    }
    text.to_owned()
}

/// How many bytes a text takes in the API server's JSON, without the quotes.
pub fn stored_bytes(text: &str) -> usize {
    text.chars().map(char_bytes).sum()
}

fn char_bytes(c: char) -> usize {
    match c {
        '"' | '\\' => 2,
        '<' | '>' | '&' | '\0'..='\u{1f}' | '\u{2028}' | '\u{2029}' => 6,
        c => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_those_of_gos_json() {
        for (text, bytes) in [
            ("plain", 5),
            ("é€😀", 9),
            ("\"\\", 4),
            ("<>&", 18),
            ("\u{1}\n\u{2028}", 18),
            ("\u{7f}/", 2),
        ] {
            assert_eq!(stored_bytes(text), bytes, "{text:?}");
        }
    }

    #[test]
    fn a_cut_text_ends_with_an_ellipsis() {
        let bound = Bound { chars: 4, bytes: 8 };
        for (text, expected) in [
            ("abcd", "abcd"),
            ("abcde", "abc…"),
            ("éééé", "éééé"),
            ("ééééé", "éé…"),
            ("<<", "…"),
            ("a😀😀", "a😀…"),
            ("", ""),
        ] {
            assert_eq!(cut(text, bound), expected, "{text}");
        }
        assert_eq!(cut("abc", Bound::of_bytes(2)), "");
    }

    proptest! {
        #[test]
        fn a_cut_text_fits_and_begins_as_before(text in "\\PC{0,60}|[a<\"\u{2028}\u{1f600}]{0,60}", chars in 0_usize..50, bytes in 0_usize..80) {
            let bound = Bound { chars, bytes };
            let cut = cut(&text, bound);
            prop_assert!(cut.chars().count() <= chars && stored_bytes(&cut) <= bytes, "{cut:?}");
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
