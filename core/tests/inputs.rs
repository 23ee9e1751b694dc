//! Secrets as people write them.

use secrecy::ExposeSecret as _;
use serde_json::json;

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use operator_core::api::*;
use operator_core::credentials::inputs::MAX_TOKEN_BYTES;
use operator_core::credentials::*;
use testkit::builders::{PIN, TOKEN, spec};

type Secrets = BTreeMap<String, SecretData>;

/// The Secrets "meta" and "number" with these values.
fn secrets(token: &[u8], pin: &[u8]) -> Secrets {
    let one =
        |key: &str, value: &[u8]| SecretData::from([(key.to_owned(), ByteString(value.to_vec()))]);
    Secrets::from([
        ("meta".to_owned(), one("token", token)),
        ("number".to_owned(), one("pin", pin)),
    ])
}

fn full_spec() -> WhatsAppPhoneNumberSpec {
    let mut spec = spec();
    spec.backup_secret_ref =
        serde_json::from_value(json!({"name": "backup"})).expect("a reference");
    spec.app_secret_ref = serde_json::from_value(json!({"name": "meta"})).expect("a reference");
    spec
}

fn read(spec: &WhatsAppPhoneNumberSpec, secrets: &Secrets) -> Result<CallInputs, SecretFault> {
    // The closure's lifetime is that of both arguments.
    CallInputs::from_secrets(spec, |name| secrets.get(name))
}

fn fault(spec: &WhatsAppPhoneNumberSpec, secrets: &Secrets) -> SecretFault {
    read(spec, secrets).err().expect("a fault")
}

#[test]
fn white_space_around_token_and_pin_is_trimmed() {
    let inputs = read(
        &spec(),
        &secrets(
            format!(" {TOKEN}\r\n").as_bytes(),
            format!("{PIN}\n").as_bytes(),
        ),
    )
    .unwrap_or_else(|fault| panic!("{fault:?}"));
    assert_eq!(inputs.token.expose_secret(), TOKEN);
    assert_eq!(inputs.pin.expose_secret(), PIN);
    assert!(inputs.backup.is_none() && inputs.app_secret.is_none());
}

#[test]
fn tokens_that_cannot_be_one_are_refused() {
    let long = "E".repeat(MAX_TOKEN_BYTES + 1);
    let cases: [(&[u8], &str); 8] = [
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (b"EAA bc", "contains whitespace"),
        (b"EAA\nbc", "contains control characters or line breaks"),
        (b"EAA\0bc", "contains control characters or line breaks"),
        ("\u{feff}EAAbc".as_bytes(), "contains non-ASCII characters"),
        (b"EAA\xff", "is not UTF-8 text"),
        (long.as_bytes(), "is longer than 8 KiB"),
    ];
    for (token, wrong) in cases {
        let fault = fault(&spec(), &secrets(token, PIN.as_bytes()));
        assert_eq!(fault.reason, Reason::InvalidToken, "{wrong}");
        let expected = format!(
            "the access token in Secret \"meta\", key \"token\", {wrong}: store only the access token, as plain text"
        );
        assert_eq!(fault.message, expected);
    }
}

#[test]
fn a_token_of_eight_kib_is_taken() {
    let longest = "E".repeat(8 * 1024);
    assert!(read(&spec(), &secrets(longest.as_bytes(), PIN.as_bytes())).is_ok());
    assert_eq!(MAX_TOKEN_BYTES, longest.len());
}

#[test]
fn pins_that_are_not_six_ascii_digits_are_refused() {
    let cases: [(&[u8], &str); 8] = [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"12345", "is not six ASCII digits"),
        (b"1234567", "is not six ASCII digits"),
        (b"12345a", "is not six ASCII digits"),
        (b"123 456", "is not six ASCII digits"),
        (
            "\u{661}\u{662}\u{663}".as_bytes(),
            "is not six ASCII digits",
        ),
        (b"\xff\xff\xff\xff\xff\xff", "is not UTF-8 text"),
    ];
    for (pin, wrong) in cases {
        let fault = fault(&spec(), &secrets(TOKEN.as_bytes(), pin));
        assert_eq!(fault.reason, Reason::InvalidPin, "{pin:?}");
        assert!(
            fault.message.starts_with(&format!(
                "the PIN in Secret \"number\", key \"pin\", {wrong}: "
            )),
            "{fault:?}"
        );
    }
}

#[test]
fn missing_secrets_and_keys_are_named() {
    let mut secrets = secrets(TOKEN.as_bytes(), PIN.as_bytes());
    let missing = fault(&full_spec(), &secrets);
    assert_eq!(missing.reason, Reason::SecretNotFound);
    assert_eq!(
        missing.message,
        "Secret \"backup\", referenced by spec.backupSecretRef, does not exist in this namespace: create it with the backup password under key \"password\""
    );
    secrets.insert("backup".to_owned(), SecretData::new());
    let missing = fault(&full_spec(), &secrets);
    assert_eq!(missing.reason, Reason::SecretKeyMissing);
    assert_eq!(
        missing.message,
        "Secret \"backup\" has no key \"password\" for the backup password: add the key, or correct spec.backupSecretRef"
    );
}

#[test]
fn backup_and_app_secret_are_read_and_checked() {
    let mut secrets = secrets(TOKEN.as_bytes(), PIN.as_bytes());
    let mut put = |secret: &str, key: &str, value: &[u8]| {
        let data = secrets.entry(secret.to_owned()).or_default();
        data.insert(key.to_owned(), ByteString(value.to_vec()));
        read(&full_spec(), &secrets)
    };
    let reason = |result: Result<CallInputs, SecretFault>| result.err().map(|fault| fault.reason);
    assert_eq!(
        reason(put("backup", "password", b"")),
        Some(Reason::InvalidBackup)
    );
    assert_eq!(
        reason(put("backup", "password", b" pass ")),
        Some(Reason::SecretKeyMissing)
    );
    assert_eq!(
        reason(put("backup", "data", b"\xff")),
        Some(Reason::InvalidBackup)
    );
    assert_eq!(
        reason(put("backup", "data", b"AAAA")),
        Some(Reason::SecretKeyMissing)
    );
    let fault = put("meta", "appSecret", b"a b")
        .err()
        .expect("whitespace inside");
    assert_eq!(fault.reason, Reason::InvalidToken);
    assert!(
        fault.message.starts_with(
            "the app secret in Secret \"meta\", key \"appSecret\", contains whitespace"
        ),
        "{fault:?}"
    );
    let inputs = put("meta", "appSecret", b"s3cret\n").unwrap_or_else(|fault| panic!("{fault:?}"));
    assert_eq!(
        inputs
            .backup
            .map(|b| b.password.expose_secret().to_owned())
            .as_deref(),
        Some(" pass ")
    );
    assert_eq!(
        inputs
            .app_secret
            .map(|s| s.expose_secret().to_owned())
            .as_deref(),
        Some("s3cret")
    );
}

#[test]
fn every_secret_is_named_once() {
    assert_eq!(
        secret_names(&spec()).into_iter().collect::<Vec<_>>(),
        ["meta", "number"]
    );
    assert_eq!(
        secret_names(&full_spec()).into_iter().collect::<Vec<_>>(),
        ["backup", "meta", "number"]
    );
}

proptest::proptest! {
    #[test]
    fn no_fault_repeats_what_the_secret_holds(value in "[#-~]{9,40} [#-~]{9,40}") {
        let fault = fault(&spec(), &secrets(value.as_bytes(), PIN.as_bytes()));
        proptest::prop_assert!(!fault.message.contains(&value));
        proptest::prop_assert!(!fault.message.contains('\n'));
    }
}
