//! From the Secrets that a resource names to the inputs of a call. Pure: the caller brings the Secrets' data.
//!
//! The secrets leave the API object here and become visible again only in `graph::request`, `digest` and `redact`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use secrecy::SecretString;

use crate::api::{BackupSecretRef, Reason, WhatsAppPhoneNumberSpec};

/// Longer than any token or app secret: whoever stores more has stored something else.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// How many digits a PIN has.
const PIN_DIGITS: usize = 6;

/// What a Secret holds: `data` of the API object.
pub type SecretData = BTreeMap<String, ByteString>;

/// The secrets that calls for one number are made of. It has no `Debug`, so that none can print it.
pub struct CallInputs {
    /// The access token.
    pub token: SecretString,
    /// The six digits of two-step verification.
    pub pin: SecretString,
    /// The backup of an on-premises account.
    pub backup: Option<Backup>,
    /// The app secret, which the `appsecret_proof` is made with.
    pub app_secret: Option<SecretString>,
}

/// The backup of an on-premises account.
pub struct Backup {
    /// The password of the backup.
    pub password: SecretString,
    /// The backup itself.
    pub data: SecretString,
}

/// Why the Secrets make no call. The message names Secret and key and says what to do, never what the Secret holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFault {
    /// The reason for the conditions.
    pub reason: Reason,
    /// One line for people.
    pub message: String,
}

/// One value that the spec refers to, and what stands there.
struct Value<'a> {
    /// What it is for people, for example `access token`.
    what: &'static str,
    secret: &'a str,
    key: &'a str,
    bytes: &'a [u8],
}

/// The names of the Secrets that the resource refers to, each once.
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
    /// Takes the inputs out of the Secrets; `get` gives the data of a Secret by its name.
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
                "Secret \"{secret}\", which spec.{field} names, does not exist in this namespace: create it with the {what} under key \"{key}\""
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

    /// An access token or app secret. It goes into a header, so printable ASCII is all that can be right.
    fn token(&self) -> Result<SecretString, SecretFault> {
        let fault = |wrong: &str| {
            self.fault(
                Reason::InvalidToken,
                wrong,
                &format!("store the {} alone, as plain text", self.what),
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
            return Err(fault("holds control characters or several lines"));
        }
        if text.chars().any(char::is_whitespace) {
            return Err(fault("has blanks inside"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(fault("holds characters that are not ASCII"));
        }
        Ok(SecretString::from(text))
    }

    fn pin(&self) -> Result<SecretString, SecretFault> {
        let text = self.text().unwrap_or_default().trim();
        if text.len() == PIN_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(SecretString::from(text));
        }
        let wrong = if text.is_empty() && !self.bytes.is_empty() && self.text().is_none() {
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

    /// A part of a backup, taken as it is: nobody knows whether white space belongs to it.
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
