//! A resource with its Secrets, which the fuzz targets share.

use operator_core::api::{WhatsAppPhoneNumber, WhatsAppPhoneNumberSpec};
use operator_core::credentials::{Backup, CallInputs};
use serde_json::json;
use testkit::untrusted_input::player::Player;

/// The access token: as Meta's begin.
pub const TOKEN: &str = "EAAGtesttoken0123456789abcdefghij";
/// The PIN.
pub const PIN: &str = "493817";
/// The password of the backup.
pub const PASSWORD: &str = "pa\"ss/wörd & more";
/// The data of the backup.
pub const DATA: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo+/w==";
/// The app secret.
pub const APP_SECRET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// The secrets that may stand nowhere; the PIN is looked for as a number of its own.
pub const SECRETS: &[&str] = &[TOKEN, PASSWORD, DATA, APP_SECRET];

/// Everything that a call can be made of.
pub fn inputs() -> CallInputs {
    CallInputs {
        token: TOKEN.into(),
        pin: PIN.into(),
        backup: Some(Backup {
            password: PASSWORD.into(),
            data: DATA.into(),
        }),
        app_secret: Some(APP_SECRET.into()),
    }
}

/// A spec that refers to everything.
pub fn spec() -> WhatsAppPhoneNumberSpec {
    serde_json::from_value(json!({
        "phoneNumberID": "106540352242922",
        "tokenSecretRef": {"name": "meta"},
        "pinSecretRef": {"name": "number"},
        "backupSecretRef": {"name": "backup"},
        "appSecretRef": {"name": "app"},
    }))
    .expect("a complete spec")
}

/// A player of a resource that nobody has seen.
pub fn player() -> Player {
    let mut resource = WhatsAppPhoneNumber::new("support", spec());
    resource.metadata.generation = Some(1);
    Player::new(resource, Ok(inputs().digests(&spec())))
}

/// Takes a number off the front.
pub fn take(data: &mut &[u8]) -> u8 {
    let Some((first, rest)) = data.split_first() else {
        return 0;
    };
    *data = rest;
    *first
}
