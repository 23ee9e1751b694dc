//! Takes secrets out of text that came from outside, before it can reach a log, an event or a status. Pure.
//!
//! Graph can repeat the access token in an error ("Malformed access token ..."), and so may proxies on the way. A text is
//! made one line, everything secret in it is marked on that line, and then it is written out and cut. Marking before
//! writing keeps one rule from spoiling the match of another. Every step is linear in the length of the text.

use secrecy::{ExposeSecret as _, SecretString};
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

use super::inputs::CallInputs;
use crate::api::text::{self, cut, one_line};

/// The longest text that is looked at, in bytes; the rest is dropped.
pub const MAX_INPUT_BYTES: usize = 64 * 1024;

/// What stands in the place of a secret.
const PLACEHOLDER: &str = "[redacted]";

/// Shorter secrets are only looked for as words of their own: a password "e" would take every e out of the text.
const SHORT_BYTES: usize = 8;

/// Secrets of at least this length are also found when the text holds only the beginning of one.
const LONG_BYTES: usize = 32;

/// How much of a long secret must be there to be taken for its beginning.
const HEAD_BYTES: usize = 16;

/// Meta's access tokens begin so.
const TOKEN_PREFIX: &str = "EAA";

/// How many characters after the prefix make a token of it; less is taken for an ordinary word.
const TOKEN_MIN_REST: usize = 4;

/// Names before a secret value, in lower case; whether `=` or `:` must follow; how long the value must be.
const LABELS: [(&str, bool, usize); 5] = [
    ("access_token", true, 1),
    ("appsecret_proof", true, 1),
    ("client_secret", true, 1),
    ("access token", false, 20),
    ("bearer", false, 20),
];

/// Removes the secrets of one call, and whatever looks like a token, from text.
#[derive(Default)]
pub struct Scrubber {
    secrets: Vec<Pattern>,
}

/// A secret in one of the forms in which it can stand in a text.
struct Pattern {
    text: SecretString,
    place: Place,
}

/// Where a pattern counts as the secret.
#[derive(Clone, Copy)]
enum Place {
    Anywhere,
    /// With no letter or digit beside it.
    Word,
    /// With no digit beside it: a PIN. Longer runs of digits (error codes, phone numbers, IDs) stay readable; one that
    /// holds the PIN's digits by chance does not tell that they are the PIN.
    Number,
}

/// One line of text, with the bytes marked that must not be shown.
struct Marked {
    line: String,
    hidden: Vec<bool>,
}

// === impl Scrubber ===

impl Scrubber {
    /// A scrubber that knows the secrets of these calls.
    pub fn new(inputs: &CallInputs) -> Self {
        let mut scrubber = Self::default();
        scrubber.add(inputs.pin.expose_secret(), Place::Number);
        scrubber.add_forms(inputs.token.expose_secret());
        if let Some(backup) = &inputs.backup {
            scrubber.add_forms(backup.password.expose_secret());
            scrubber.add_forms(backup.data.expose_secret());
        }
        if let Some(app_secret) = &inputs.app_secret {
            scrubber.add_forms(app_secret.expose_secret());
        }
        if let Some(proof) = inputs.appsecret_proof() {
            scrubber.add_forms(proof.expose_secret());
        }
        scrubber
    }

    /// The text as one line of at most [`text::TEXT`] characters, without secrets and control characters.
    pub fn scrub(&self, text: &str) -> String {
        self.scrub_to(text, text::TEXT)
    }

    /// The text as one line of so many characters, without secrets and control characters.
    pub fn scrub_to(&self, text: &str, max_chars: usize) -> String {
        let bounded = prefix(text, MAX_INPUT_BYTES);
        let mut marked = Marked::new(bounded);
        for pattern in &self.secrets {
            marked.hide_pattern(pattern);
        }
        marked.hide_token_like();
        for (label, separated, min) in LABELS {
            marked.hide_labelled(label, separated, min);
        }
        if bounded.len() < text.len() {
            marked.hide_end(self.longest());
        }
        // Last, as their neighbours count: one that is hidden is none.
        for pattern in &self.secrets {
            marked.hide_placed(pattern.text.expose_secret(), pattern.place);
        }
        cut(marked.write().trim(), max_chars)
    }

    /// Adds a secret as it is, as it stands in JSON, and percent-encoded.
    fn add_forms(&mut self, secret: &str) {
        let secret = prefix(secret, MAX_INPUT_BYTES);
        let place = if secret.len() < SHORT_BYTES {
            Place::Word
        } else {
            Place::Anywhere
        };
        self.add(secret, place);
        for form in other_forms(secret)
            .iter()
            .filter(|form| form.as_str() != secret)
        {
            self.add(form, place);
        }
    }

    fn add(&mut self, secret: &str, place: Place) {
        let text = one_line(secret);
        if !text.trim().is_empty() {
            self.secrets.push(Pattern {
                text: text.into(),
                place,
            });
        }
    }

    fn longest(&self) -> usize {
        let lengths = self
            .secrets
            .iter()
            .map(|pattern| pattern.text.expose_secret().len());
        lengths.max().unwrap_or_default()
    }
}

// === impl Place ===

impl Place {
    /// Whether a match between these two characters counts.
    fn accepts(self, before: Option<char>, after: Option<char>) -> bool {
        let beside = |test: fn(char) -> bool| before.is_some_and(test) || after.is_some_and(test);
        match self {
            Self::Anywhere => true,
            Self::Word => !beside(char::is_alphanumeric),
            Self::Number => !beside(|c| c.is_ascii_digit()),
        }
    }
}

// === impl Marked ===

impl Marked {
    fn new(text: &str) -> Self {
        let line = one_line(text);
        let hidden = vec![false; line.len()];
        Self { line, hidden }
    }

    fn hide(&mut self, start: usize, end: usize) {
        if let Some(range) = self.hidden.get_mut(start..end) {
            range.fill(true);
        }
    }

    fn hide_pattern(&mut self, pattern: &Pattern) {
        let secret = pattern.text.expose_secret();
        if matches!(pattern.place, Place::Anywhere) {
            self.hide_all(secret);
            self.hide_beginnings(secret);
        }
    }

    fn hide_all(&mut self, secret: &str) {
        for at in starts(&self.line, secret) {
            self.hide(at, at + secret.len());
        }
    }

    /// Hides what begins like a long secret, as far as it is the same: Graph and proxies shorten what they repeat.
    fn hide_beginnings(&mut self, secret: &str) {
        if secret.len() < LONG_BYTES {
            return;
        }
        let mut done = 0;
        for at in starts(&self.line, prefix(secret, HEAD_BYTES)) {
            if at >= done {
                let rest = self.line.as_bytes().iter().skip(at);
                done = at
                    + rest
                        .zip(secret.as_bytes())
                        .take_while(|(a, b)| a == b)
                        .count();
                self.hide(at, done);
            }
        }
    }

    /// Hides a short secret where its neighbours allow it. Overlapping matches are looked at too: the secret is short, so
    /// that stays linear.
    fn hide_placed(&mut self, secret: &str, place: Place) {
        if matches!(place, Place::Anywhere) {
            return;
        }
        let mut from = 0;
        while let Some(found) = self.line.get(from..).and_then(|rest| rest.find(secret)) {
            let (start, end) = (from + found, from + found + secret.len());
            let shown = |at: usize| self.hidden.get(at) == Some(&false);
            let before = self
                .line
                .get(..start)
                .filter(|_| shown(start.wrapping_sub(1)));
            let before = before.and_then(|text| text.chars().next_back());
            let after = self.line.get(end..).filter(|_| shown(end));
            let after = after.and_then(|text| text.chars().next());
            if place.accepts(before, after) {
                self.hide(start, end);
            }
            from = start
                + self
                    .line
                    .get(start..)
                    .and_then(|text| text.chars().next())
                    .map_or(1, char::len_utf8);
        }
    }

    /// Hides what looks like one of Meta's tokens, also within a word.
    fn hide_token_like(&mut self) {
        let mut done = 0;
        for at in starts(&self.line, TOKEN_PREFIX) {
            if at >= done {
                let end = at + run(&self.line, at, is_token_byte);
                if end - at >= TOKEN_PREFIX.len() + TOKEN_MIN_REST {
                    self.hide(at, end);
                    done = end;
                }
            }
        }
    }

    /// Hides the value after a label, for example `access_token=...`, also in JSON and percent-encoded.
    fn hide_labelled(&mut self, label: &str, separated: bool, min: usize) {
        let mut done = 0;
        for at in starts(&self.line.to_ascii_lowercase(), label) {
            if at < done {
                continue;
            }
            let after = at + label.len();
            let gap = run(&self.line, after, is_gap_byte);
            let between = self.line.get(after..after + gap).unwrap_or_default();
            let encoded = self
                .line
                .get(after + gap..)
                .is_some_and(|rest| rest.starts_with("%3D") || rest.starts_with("%3d"));
            if separated && !between.contains(['=', ':']) && !encoded {
                continue;
            }
            let start = after + gap + if encoded { "%3D".len() } else { 0 };
            let end = start + run(&self.line, start, is_value_byte);
            if end - start >= min {
                self.hide(start, end);
                done = end;
            }
        }
    }

    /// Hides the end, where a secret may have been cut off so that it is not known any more.
    fn hide_end(&mut self, bytes: usize) {
        self.hide(self.hidden.len().saturating_sub(bytes), self.hidden.len());
    }

    fn write(&self) -> String {
        let mut text = String::new();
        let mut hiding = false;
        for (at, c) in self.line.char_indices() {
            let hidden = self.hidden.get(at).copied().unwrap_or(true);
            match (hidden, hiding) {
                (true, false) => text.push_str(PLACEHOLDER),
                (true, true) => {}
                (false, _) => text.push(c),
            }
            hiding = hidden;
        }
        text
    }
}

/// The secret inside a JSON string, there also with slashes escaped as PHP does, and percent-encoded in two ways.
fn other_forms(secret: &str) -> [Zeroizing<String>; 4] {
    let quoted = Zeroizing::new(serde_json::to_string(secret).unwrap_or_default());
    let json = quoted
        .get(1..quoted.len().saturating_sub(1))
        .unwrap_or_default();
    let form: String = byte_serialize(secret.as_bytes()).collect();
    [
        json.to_owned(),
        json.replace('/', "\\/"),
        form.replace('+', "%20"),
        form,
    ]
    .map(Zeroizing::new)
}

/// At most this many bytes from the beginning, whole characters only.
fn prefix(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// Where the pattern stands in the text, without overlaps.
fn starts(text: &str, pattern: &str) -> Vec<usize> {
    text.match_indices(pattern).map(|(at, _)| at).collect()
}

/// How many bytes in a row, from a place on, pass the test.
fn run(text: &str, from: usize, test: fn(u8) -> bool) -> usize {
    text.bytes()
        .skip(from)
        .take_while(|byte| test(*byte))
        .count()
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// What can stand between a label and its value.
fn is_gap_byte(byte: u8) -> bool {
    matches!(
        byte,
        b' ' | b'"' | b'\'' | b'\\' | b'=' | b':' | b'<' | b'[' | b'('
    )
}

/// What a value consists of; anything that is not ASCII ends it.
fn is_value_byte(byte: u8) -> bool {
    byte.is_ascii_graphic()
        && !matches!(
            byte,
            b'"' | b'\'' | b'\\' | b'&' | b',' | b';' | b'<' | b'>' | b')' | b']' | b'}'
        )
}
