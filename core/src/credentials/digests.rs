//! Digests of what a call is made of: they go to status, so that a change is noticed without the secrets being kept.
//!
//! A plain hash of six digits would reveal the PIN, so everything but the token is hashed with the token as the key.
//! The PIN has a separate digest, so that a PIN that Meta refused is not sent again because something else changed.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::inputs::CallInputs;
use crate::api::WhatsAppPhoneNumberSpec;

/// What a call is made of, as `status.tokenDigest`, `status.pinDigest` and `status.inputsDigest` hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    /// SHA-256 of the access token, in hex.
    pub token: String,
    /// HMAC-SHA256 under the token over the PIN, in hex.
    pub pin: String,
    /// HMAC-SHA256 under the token over everything else a register call is made of, in hex.
    pub inputs: String,
}

/// An HMAC-SHA256 over fields of which each is framed, so that no two lists of fields look the same.
struct FramedMac(Hmac<Sha256>);

// === impl CallInputs ===

impl CallInputs {
    /// The digests of these inputs together with what the spec adds to a call.
    pub fn digests(&self, spec: &WhatsAppPhoneNumberSpec) -> Digests {
        let token = self.token.expose_secret().as_bytes();
        let retention = spec.meta_store_retention_minutes.map(|n| n.to_string());
        // As it goes over the wire, so that a renamed variant would change no digest.
        let region = spec
            .data_localization_region
            .and_then(|region| serde_json::to_string(&region).ok());

        let mut pin = FramedMac(keyed(token));
        pin.field(self.pin.expose_secret());

        let mut mac = FramedMac(keyed(token));
        mac.optional(self.backup.as_ref().map(|b| b.password.expose_secret()));
        mac.optional(self.backup.as_ref().map(|b| b.data.expose_secret()));
        mac.optional(self.app_secret.as_ref().map(|s| s.expose_secret()));
        mac.optional(region.as_deref());
        mac.optional(retention.as_deref());
        mac.optional(spec.graph_api_version.as_deref());

        Digests {
            token: hex(&Sha256::digest(token)),
            pin: hex(&pin.0.finalize().into_bytes()),
            inputs: hex(&mac.0.finalize().into_bytes()),
        }
    }

    /// The `appsecret_proof` of a call: HMAC-SHA256 of the token under the app secret, in hex ("Secure Graph API Calls").
    pub fn appsecret_proof(&self) -> Option<SecretString> {
        let mut mac = keyed(self.app_secret.as_ref()?.expose_secret().as_bytes());
        mac.update(self.token.expose_secret().as_bytes());
        Some(SecretString::from(hex(&mac.finalize().into_bytes())))
    }
}

// === impl FramedMac ===

impl FramedMac {
    /// A field that is always there: its length, then itself.
    fn field(&mut self, text: &str) {
        self.0.update(&(text.len() as u64).to_be_bytes());
        self.0.update(text.as_bytes());
    }

    /// A field that may be missing: a byte that says whether it is there comes first.
    fn optional(&mut self, text: Option<&str>) {
        self.0.update(&[u8::from(text.is_some())]);
        if let Some(text) = text {
            self.field(text);
        }
    }
}

/// Returns an HMAC-SHA256 with this key.
#[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::DataLocalizationRegion;
    use crate::credentials::Backup;

    fn inputs() -> CallInputs {
        CallInputs {
            token: "EAAGtesttoken0123456789abcdefghij".into(),
            pin: "493817".into(),
            backup: None,
            app_secret: None,
        }
    }

    fn spec() -> WhatsAppPhoneNumberSpec {
        serde_json::from_value(serde_json::json!({
            "phoneNumberID": "106540352242922",
            "tokenSecretRef": {"name": "meta"},
            "pinSecretRef": {"name": "number"},
        }))
        .expect("a complete spec")
    }

    fn mac(key: &[u8], data: &[u8]) -> String {
        let mut mac = keyed(key);
        mac.update(data);
        hex(&mac.finalize().into_bytes())
    }

    #[test]
    fn hmac_agrees_with_rfc_4231() {
        // Test cases 2 (a short key) and 6 (a key longer than a block).
        assert_eq!(
            mac(b"Jefe", b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            mac(
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First"
            ),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn token_digest_is_sha_256_of_the_token() {
        let mut inputs = inputs();
        inputs.token = SecretString::from("abc");
        assert_eq!(
            inputs.digests(&spec()).token,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn every_input_changes_the_inputs_digest() {
        let backup = |password: &str, data: &str| {
            Some(Backup {
                password: password.into(),
                data: data.into(),
            })
        };
        let mut seen = std::collections::BTreeSet::new();
        let mut add =
            |what: &str, change: &dyn Fn(&mut CallInputs, &mut WhatsAppPhoneNumberSpec)| {
                let (mut inputs, mut spec) = (inputs(), spec());
                change(&mut inputs, &mut spec);
                assert!(
                    seen.insert(inputs.digests(&spec).inputs),
                    "{what} changed nothing"
                );
            };
        add("nothing", &|_, _| ());
        add("token", &|i, _| i.token = "EAAother".into());
        add("backup", &|i, _| i.backup = backup("a", "bc"));
        add("where password and data meet", &|i, _| {
            i.backup = backup("ab", "c")
        });
        // Alike but for the lengths, as 1 is also the byte of presence.
        add("a byte like a frame", &|i, _| {
            i.backup = backup("a\u{1}b", "c")
        });
        add("the same byte elsewhere", &|i, _| {
            i.backup = backup("a", "b\u{1}c")
        });
        add("empty backup", &|i, _| i.backup = backup("", ""));
        add("app secret", &|i, _| i.app_secret = Some("v24.0".into()));
        add("region", &|_, s| {
            s.data_localization_region = Some(DataLocalizationRegion::De)
        });
        add("another region", &|_, s| {
            s.data_localization_region = Some(DataLocalizationRegion::Ch)
        });
        add("retention", &|_, s| {
            s.meta_store_retention_minutes = Some(60)
        });
        add("version", &|_, s| {
            s.graph_api_version = Some("v24.0".into())
        });
    }

    #[test]
    fn the_pin_changes_its_own_digest_only() {
        let (known, mut other) = (inputs().digests(&spec()), inputs());
        other.pin = "000000".into();
        let other = other.digests(&spec());
        assert_ne!(other.pin, known.pin);
        assert_eq!((other.token, other.inputs), (known.token, known.inputs));
        let mut other = inputs();
        other.token = "EAAother".into();
        assert_ne!(other.digests(&spec()).pin, known.pin);
    }

    #[test]
    fn what_is_no_part_of_a_call_changes_no_digest() {
        let mut other = spec();
        other.suspend = true;
        other.token_secret_ref.name = "elsewhere".to_owned();
        assert_eq!(inputs().digests(&spec()), inputs().digests(&other));
    }

    #[test]
    fn appsecret_proof_is_keyed_with_the_app_secret() {
        let mut inputs = inputs();
        assert!(inputs.appsecret_proof().is_none());
        inputs.app_secret = Some("Jefe".into());
        inputs.token = "what do ya want for nothing?".into();
        assert_eq!(
            inputs
                .appsecret_proof()
                .expect("an app secret is set")
                .expose_secret(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
