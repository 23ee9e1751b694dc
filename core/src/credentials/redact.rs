//! Takes secrets out of text that came from outside, before it can reach a log, an event or a status.
//!
//! Graph can repeat the access token in an error ("Malformed access token ..."), and so may proxies on the way. A text is
//! made one line, everything secret in it is marked on that line, and then it is written out and cut. Marking before
//! writing keeps one rule from spoiling the match of another. Every step is linear in the length of the text.
//!
//! Secrets are searched one by one. One automaton over all of them would be a copy that is not cleared after use; it takes
//! longer to build than the searches take, and that of a backup takes many megabytes.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use secrecy::{ExposeSecret as _, SecretString};
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

use super::inputs::CallInputs;
use crate::api::text::{self, cut, one_line};

/// The longest text that is looked at, in bytes; the rest is dropped.
pub const MAX_INPUT_BYTES: usize = 64 * 1024;

/// The text that replaces a secret.
const PLACEHOLDER: &str = "[redacted]";

/// Shorter secrets are only looked for as words of their own: a password "e" would take every e out of the text.
const SHORT_BYTES: usize = 8;

/// Secrets of at least this length are also found when the text holds only the beginning of one.
const LONG_BYTES: usize = 32;

/// How much of a long secret must be present to count as its beginning.
const HEAD_BYTES: usize = 16;

/// Meta's access tokens, also within a word; with less after the prefix it is an ordinary word.
const TOKEN: &str = "(EAA[A-Za-z0-9_-]{4,})";

/// Names before a secret value; whether `=` or `:` must follow; how long the value must be at least.
const LABELS: [(&str, bool, usize); 5] = [
    ("access_token", true, 1),
    ("appsecret_proof", true, 1),
    ("client_secret", true, 1),
    ("access token", false, 20),
    ("bearer", false, 20),
];

/// Patterns of secrets that are not at hand; group 1 is hidden.
#[expect(clippy::expect_used, reason = "every test compiles these constants")]
static PATTERNS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let labelled = LABELS.map(|(label, separated, min)| labelled(label, separated, min));
    let patterns = labelled.into_iter().chain([TOKEN.to_owned()]);
    let compiled = patterns.map(|pattern| Regex::new(&pattern).expect("a valid pattern"));
    compiled.collect()
});

/// Removes the secrets of one call, and everything that looks like a token, from text.
#[derive(Default)]
pub struct Scrubber {
    /// Secrets in all forms in which a text can contain them.
    anywhere: Vec<SecretString>,
    alone: Vec<Short>,
}

/// A secret that is found only if it has none of these characters next to it, because it would be part of something else.
struct Short {
    text: SecretString,
    neighbours: fn(char) -> bool,
}

/// One line of text, with the bytes marked that must not be shown.
struct Marked<'a> {
    line: &'a str,
    hidden: Vec<bool>,
}

// === impl Scrubber ===

impl Scrubber {
    /// A scrubber that knows the secrets of these calls.
    pub fn new(inputs: &CallInputs) -> Self {
        let mut scrubber = Self::default();
        // Longer runs of digits (error codes, phone numbers, IDs) stay readable; one that contains the PIN's digits by chance
        // does not reveal that they are the PIN.
        scrubber.alone.push(Short {
            text: inputs.pin.clone(),
            neighbours: |c| c.is_ascii_digit(),
        });
        let proof = inputs.appsecret_proof();
        let app = inputs.app_secret.iter().chain(&proof);
        let backup = inputs.backup.iter();
        let backup = backup.flat_map(|backup| [&backup.password, &backup.data]);
        for secret in backup.chain(app).chain([&inputs.token]) {
            scrubber.add(secret.expose_secret());
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
        let line = one_line(bounded);
        let mut marked = Marked::new(&line);
        for secret in &self.anywhere {
            marked.hide_anywhere(secret.expose_secret());
        }
        for pattern in PATTERNS.iter() {
            marked.hide_pattern(pattern);
        }
        if bounded.len() < text.len() {
            // A secret may have been cut off there, so that it is no longer recognized.
            marked.hide(line.len().saturating_sub(self.longest())..line.len());
        }
        // Last, because their neighbours count: a hidden one does not.
        for short in &self.alone {
            marked.hide_alone(short);
        }
        cut(marked.write().trim(), max_chars)
    }

    /// Adds a secret in all its forms.
    fn add(&mut self, secret: &str) {
        for form in forms(prefix(secret, MAX_INPUT_BYTES)) {
            let form = one_line(&form);
            match form.len() {
                _ if form.trim().is_empty() => {}
                ..SHORT_BYTES => self.alone.push(Short {
                    text: form.into(),
                    neighbours: char::is_alphanumeric,
                }),
                _ => self.anywhere.push(form.into()),
            }
        }
    }

    fn longest(&self) -> usize {
        let lengths = self.anywhere.iter().map(|form| form.expose_secret().len());
        lengths.fold(SHORT_BYTES, usize::max)
    }
}

// === impl Marked ===

impl<'a> Marked<'a> {
    fn new(line: &'a str) -> Self {
        let hidden = vec![false; line.len()];
        Self { line, hidden }
    }

    fn hide(&mut self, range: Range<usize>) {
        if let Some(marks) = self.hidden.get_mut(range) {
            marks.fill(true);
        }
    }

    /// Hides a secret, and what begins like a long one as far as it is the same: Graph and proxies shorten what they repeat.
    fn hide_anywhere(&mut self, secret: &str) {
        for (at, _) in self.line.match_indices(secret) {
            self.hide(at..at + secret.len());
        }
        if secret.len() < LONG_BYTES {
            return;
        }
        let mut done = 0;
        for (at, _) in self.line.match_indices(prefix(secret, HEAD_BYTES)) {
            if at >= done {
                let pairs = self.line.bytes().skip(at).zip(secret.bytes());
                done = at + pairs.take_while(|(a, b)| a == b).count();
                self.hide(at..done);
            }
        }
    }

    fn hide_pattern(&mut self, pattern: &Regex) {
        for found in pattern.captures_iter(self.line) {
            if let Some(secret) = found.get(1) {
                self.hide(secret.range());
            }
        }
    }

    /// Hides a short secret if none of its neighbours is shown. Overlapping matches are checked too.
    fn hide_alone(&mut self, short: &Short) {
        let secret = short.text.expose_secret();
        for (start, _) in self.line.char_indices() {
            let (before, rest) = self.line.split_at(start);
            let Some(after) = rest.strip_prefix(secret) else {
                continue;
            };
            let end = start + secret.len();
            let shown = |at: usize| self.hidden.get(at) == Some(&false);
            let before = before.chars().next_back().filter(|_| shown(start - 1));
            let after = after.chars().next().filter(|_| shown(end));
            if !before.into_iter().chain(after).any(short.neighbours) {
                self.hide(start..end);
            }
        }
    }

    fn write(&self) -> String {
        let mut text = String::new();
        let mut hiding = false;
        for (at, c) in self.line.char_indices() {
            let hidden = self.hidden.get(at).copied().unwrap_or(true);
            if !hidden {
                text.push(c);
            } else if !hiding {
                text.push_str(PLACEHOLDER);
            }
            hiding = hidden;
        }
        text
    }
}

/// The pattern of the value after a label, for example `access_token=...`, also in JSON and percent-encoded. Anything that
/// is not ASCII ends a value. Each label has its own pattern, because the value of one can be the label of another.
fn labelled(label: &str, separated: bool, min: usize) -> String {
    let gap = r#"(?:[ "'\\=:<\[(]|%3[Dd])*"#;
    let separator = if separated { "(?:[=:]|%3[Dd])" } else { "" };
    let value = r#"[!-~&&[^"'\\&,;<>)\]}]]"#;
    format!("(?i-u:{label}){gap}{separator}{gap}({value}{{{min},}})")
}

/// The secret as it is, inside a JSON string, there also with slashes escaped as PHP does, and percent-encoded in two ways.
fn forms(secret: &str) -> Vec<Zeroizing<String>> {
    let quoted = Zeroizing::new(serde_json::to_string(secret).unwrap_or_default());
    let json = quoted
        .get(1..quoted.len().saturating_sub(1))
        .unwrap_or_default();
    let form: String = byte_serialize(secret.as_bytes()).collect();
    let forms = [
        secret.to_owned(),
        json.to_owned(),
        json.replace('/', "\\/"),
        form.replace('+', "%20"),
        form,
    ];
    let mut forms = Vec::from(forms.map(Zeroizing::new));
    forms.dedup();
    forms
}

/// At most this many bytes from the beginning, whole characters only.
fn prefix(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}
