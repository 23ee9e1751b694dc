//! What Secrets hold: token, PIN, password, data and app secret, divided by a zero byte and a 0xff; a first byte says which
//! are missing.
#![no_main]

use k8s_openapi::ByteString;
use libfuzzer_sys::fuzz_target;
use secrecy::ExposeSecret as _;
use url::Url;
use operator_core::graph::{Call, ReadFields, request};
use operator_core::credentials::Scrubber;
use operator_core::credentials::{CallInputs, SecretData};
use operator_core::api::text::{MESSAGE, TEXT};
use testkit::untrusted_input::check;
use whatsapp_operator_fuzz::{spec, take};

const KEYS: [&str; 5] = ["token", "pin", "password", "data", "appSecret"];

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let missing = take(&mut data);
    let mut values: SecretData = SecretData::new();
    for (at, key) in KEYS.iter().enumerate() {
        let end = data.windows(2).position(|two| two == [0, 0xff]);
        let (value, rest) = match end {
            Some(end) => (&data[..end], &data[end + 2..]),
            None => (data, &data[data.len()..]),
        };
        data = rest;
        if missing >> at & 1 == 0 {
            values.insert((*key).to_owned(), ByteString(value.to_vec()));
        }
    }
    let spec = spec();
    let inputs = match CallInputs::from_secrets(&spec, |_| Some(&values)) {
        Ok(inputs) => inputs,
        Err(fault) => {
            check::line(&fault.message, MESSAGE);
            return;
        }
    };
    let digests = inputs.digests(&spec);
    assert_eq!(digests.token.len() + digests.inputs.len(), 128);
    let call = Call {
        spec: &spec,
        version: "v23.0",
        inputs: &inputs,
    };
    let base = Url::parse("https://graph.facebook.com").expect("a URL");
    // What the Secrets hold was looked at: a request comes of it.
    request::register(&base, &call).expect("a register request");
    request::read(&base, &call, ReadFields::All).expect("a read");
    let token = inputs.token.expose_secret();
    let clean = Scrubber::new(&inputs).scrub(&format!("Malformed access token {token}"));
    check::text(&clean, TEXT);
    if token.len() >= 8 && !"Malformed access token [redacted]".contains(token) {
        check::secrets_absent(&clean, &[token]);
    }
});
