//! From the Secrets that a resource references to the inputs of a call. The caller provides the data of the Secrets.
//!
//! The secrets leave the API object here and are exposed again only in `graph::request`, `digests` and `redact`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use secrecy::SecretString;

use crate::api::{BackupSecretRef, Reason, WhatsAppPhoneNumberSpec};

/// A size above that of any token or app secret: a larger value is something else.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The number of digits of a PIN.
const PIN_DIGITS: usize = 6;

pub type SecretData = BTreeMap<String, ByteString>;

/// The secrets for the calls for one number. It has no `Debug`, so that no log line can print it.
pub struct CallInputs {
    pub token: SecretString,
    /// The six digits of two-step verification.
    pub pin: SecretString,
    /// The backup of an on-premises account.
    pub backup: Option<Backup>,
    /// The key of the `appsecret_proof`.
    pub app_secret: Option<SecretString>,
}

/// The backup of an on-premises account.
pub struct Backup {
    pub password: SecretString,
    pub data: SecretString,
}

/// The fault that makes the Secrets unusable. The message names the Secret, the key and what to do, never the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFault {
    pub reason: Reason,
    /// What is wrong and what to do, in one line for the user.
    pub message: String,
}

/// One value that the spec references.
struct Value<'a> {
    /// Its name in messages, for example `access token`.
    what: &'static str,
    secret: &'a str,
    key: &'a str,
    bytes: &'a [u8],
}

/// The names of the Secrets that the spec references, without duplicates.
pub fn secret_names(spec: &WhatsAppPhoneNumberSpec) -> BTreeSet<&str> {
    let backup = spec.backup_secret_ref.as_ref().map(|r| r.name.as_str());
    let app = spec.app_secret_ref.as_ref().map(|r| r.name.as_str());
    [
        spec.token_secret_ref.name.as_str(),
        spec.pin_secret_ref.name.as_str(),
    ]
    .into_iter()
    .chain(backup)
    .chain(app)
    .collect()
}

// === impl CallInputs ===

impl CallInputs {
    /// Extracts the inputs from the Secrets; `get` returns the data of a Secret by name.
    ///
    /// # Errors
    /// The first fault in the order token, PIN, backup, app secret.
    pub fn from_secrets<'a>(
        spec: &'a WhatsAppPhoneNumberSpec,
        get: impl Fn(&str) -> Option<&'a SecretData>,
    ) -> Result<Self, SecretFault> {
        let find = |what, field, secret: &'a str, key: &'a str| {
            Value::find(what, field, secret, key, get(secret))
        };
        let (token, pin) = (&spec.token_secret_ref, &spec.pin_secret_ref);
        Ok(Self {
            token: find("access token", "tokenSecretRef", &token.name, &token.key)?.token()?,
            pin: find("PIN", "pinSecretRef", &pin.name, &pin.key)?.pin()?,
            backup: match &spec.backup_secret_ref {
                Some(backup) => Some(Backup::from_secret(backup, get(&backup.name))?),
                None => None,
            },
            app_secret: match &spec.app_secret_ref {
                Some(app) => {
                    Some(find("app secret", "appSecretRef", &app.name, &app.key)?.token()?)
                }
                None => None,
            },
        })
    }
}

// === impl Backup ===

impl Backup {
    fn from_secret(
        reference: &BackupSecretRef,
        data: Option<&SecretData>,
    ) -> Result<Self, SecretFault> {
        let find = |what, key| Value::find(what, "backupSecretRef", &reference.name, key, data);
        Ok(Self {
            password: find("backup password", &reference.password_key)?.backup()?,
            data: find("backup data", &reference.data_key)?.backup()?,
        })
    }
}

// === impl Value ===

impl<'a> Value<'a> {
    fn find(
        what: &'static str,
        field: &str,
        secret: &'a str,
        key: &'a str,
        data: Option<&'a SecretData>,
    ) -> Result<Self, SecretFault> {
        let Some(data) = data else {
            let message = format!(
                "Secret \"{secret}\", referenced by spec.{field}, does not exist in this namespace: create it with the {what} under key \"{key}\""
            );
            return Err(SecretFault {
                reason: Reason::SecretNotFound,
                message,
            });
        };
        let Some(bytes) = data.get(key) else {
            let message = format!(
                "Secret \"{secret}\" has no key \"{key}\" for the {what}: add the key, or correct spec.{field}"
            );
            return Err(SecretFault {
                reason: Reason::SecretKeyMissing,
                message,
            });
        };
        Ok(Self {
            what,
            secret,
            key,
            bytes: &bytes.0,
        })
    }

    /// An access token or app secret. Both are printable ASCII without whitespace, and the token goes into a header.
    fn token(&self) -> Result<SecretString, SecretFault> {
        let fault = |wrong: &str| {
            self.fault(
                Reason::InvalidToken,
                wrong,
                &format!("store only the {}, as plain text", self.what),
            )
        };
        if self.bytes.len() > MAX_TOKEN_BYTES {
            return Err(fault("is longer than 8 KiB"));
        }
        let text = self
            .text()
            .ok_or_else(|| fault("is not UTF-8 text"))?
            .trim();
        if text.is_empty() {
            return Err(fault("is empty"));
        }
        if text.chars().any(char::is_control) {
            return Err(fault("contains control characters or line breaks"));
        }
        if text.chars().any(char::is_whitespace) {
            return Err(fault("contains whitespace"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(fault("contains non-ASCII characters"));
        }
        Ok(SecretString::from(text))
    }

    fn pin(&self) -> Result<SecretString, SecretFault> {
        let text = self.text().unwrap_or_default().trim();
        if text.len() == PIN_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(SecretString::from(text));
        }
        let wrong = if self.text().is_none() {
            "is not UTF-8 text"
        } else if text.is_empty() {
            "is empty"
        } else {
            "is not six ASCII digits"
        };
        Err(self.fault(
            Reason::InvalidPin,
            wrong,
            "store the six digits as text, leading zeros included",
        ))
    }

    /// A part of a backup, untrimmed: whitespace may belong to it.
    fn backup(&self) -> Result<SecretString, SecretFault> {
        let fault = |wrong: &str| {
            self.fault(
                Reason::InvalidBackup,
                wrong,
                "store it as plain text, or remove spec.backupSecretRef",
            )
        };
        match self.text() {
            None => Err(fault("is not UTF-8 text")),
            Some("") => Err(fault("is empty")),
            Some(text) => Ok(SecretString::from(text)),
        }
    }

    fn text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes).ok()
    }

    fn fault(&self, reason: Reason, wrong: &str, remedy: &str) -> SecretFault {
        let Self {
            what, secret, key, ..
        } = self;
        let message =
            format!("the {what} in Secret \"{secret}\", key \"{key}\", {wrong}: {remedy}");
        SecretFault { reason, message }
    }
}
