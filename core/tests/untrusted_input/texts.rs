//! Texts: secrets in odd places.

use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use super::generators;
use operator_core::credentials::Scrubber;
use operator_core::credentials::redact::MAX_INPUT_BYTES;
use operator_core::credentials::{Backup, CallInputs};
use testkit::builders::{PIN, inputs};
use testkit::untrusted_input::check;

/// The secret as it must be found: as it is, as JSON and URLs write it, with invisible characters in it.
fn forms(secret: &str) -> Vec<String> {
    let json = serde_json::Value::from(secret).to_string();
    let json = json[1..json.len() - 1].to_owned();
    let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let spaced: String = secret.chars().flat_map(|c| ['\u{200b}', c]).collect();
    let slashes = json.replace('/', "\\/");
    vec![
        secret.to_owned(),
        json,
        slashes,
        form.replace('+', "%20"),
        form,
        spaced,
    ]
}

/// What secrets are made of: in a test they may be seen.
type Parts = (String, String, Option<(String, String)>, Option<String>);

/// Secrets of all kinds, long enough to be told from words.
fn secrets() -> impl Strategy<Value = Parts> {
    let token = prop_oneof!["EAA[A-Za-z0-9]{20,200}", "[!-~]{12,300}"];
    let backup = prop::option::of(("[ -~\n\t\u{e9}\u{1f600}]{8,60}", "[A-Za-z0-9+/=]{8,400}"));
    (token, "[0-9]{6}", backup, prop::option::of("[0-9a-f]{32}"))
}

fn inputs_of((token, pin, backup, app_secret): Parts) -> CallInputs {
    CallInputs {
        token: token.into(),
        pin: pin.into(),
        backup: backup.map(|(password, data)| Backup {
            password: password.into(),
            data: data.into(),
        }),
        app_secret: app_secret.map(Into::into),
    }
}

fn exposed(inputs: &CallInputs) -> Vec<String> {
    let backup = inputs.backup.iter();
    let backup = backup.flat_map(|backup| [&backup.password, &backup.data]);
    let proof = inputs.appsecret_proof();
    let all = [&inputs.token]
        .into_iter()
        .chain(backup)
        .chain(&inputs.app_secret)
        .chain(&proof);
    all.map(|secret| secret.expose_secret().to_owned())
        .collect()
}

proptest! {
    #![proptest_config(generators::config())]

    #[test]
    fn no_secret_gets_through_in_any_form(
        parts in secrets(),
        pieces in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), ".{0,20}"), 0..12),
        max_chars in 0_usize..800,
    ) {
        let inputs = inputs_of(parts);
        let secrets: Vec<String> = exposed(&inputs).into_iter().filter(|secret| secret.trim().len() >= 8).collect();
        // A placeholder cannot spell a secret that looks like one.
        prop_assume!(secrets.iter().all(|secret| !"[redacted][redacted]".contains(secret.as_str())));
        let mut text = String::new();
        for (which, form, between) in &pieces {
            text += form.get::<String>(&forms(which.get::<String>(&secrets)));
            text += between;
        }
        text += &format!(" {}.", inputs.pin.expose_secret());
        let clean = Scrubber::new(&inputs).scrub_to(&text, max_chars);
        check::text(&clean, max_chars);
        for secret in &secrets {
            for form in forms(secret) {
                prop_assert!(!clean.contains(&form), "{form:?} in {clean:?}");
            }
        }
        // Where the text was cut, so may have been a longer number.
        let whole = clean.strip_suffix('…').map(|cut| cut.trim_end_matches(|c: char| c.is_ascii_digit()));
        let mut numbers = whole.unwrap_or(&clean).split(|c: char| !c.is_ascii_digit());
        prop_assert!(numbers.all(|number| number != inputs.pin.expose_secret()), "{clean}");
    }
}

/// A secret in the middle of what is cut off, at each place around the cut.
#[test]
fn a_secret_at_the_end_of_what_is_looked_at_does_not_show() {
    let mut inputs = inputs();
    inputs.token = format!("EAB{}", "0123456789abcdef".repeat(2)).into();
    let scrubber = Scrubber::new(&inputs);
    let token = inputs.token.expose_secret();
    for missing in (0..token.len()).step_by(3) {
        let at = MAX_INPUT_BYTES - token.len() + missing;
        // Blanks at the front go, so that the end is what is shown.
        let text = format!("{}{token}{PIN}", " ".repeat(at));
        let clean = scrubber.scrub(&text);
        assert!(!clean.contains(&token[..8]), "{missing}: {clean}");
    }
}
