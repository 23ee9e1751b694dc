//! The requests, byte by byte.

use operator_core::api::{DataLocalizationRegion, WhatsAppPhoneNumberSpec};
use operator_core::credentials::{Backup, CallInputs};
use operator_core::graph::request::{GraphRequest, deregister, read, register};
use operator_core::graph::{Call, ReadFields};
use testkit::builders::{TOKEN, inputs, spec};
use url::Url;

fn base() -> Url {
    Url::parse("https://graph.facebook.com").expect("a URL")
}

fn call<'a>(spec: &'a WhatsAppPhoneNumberSpec, inputs: &'a CallInputs) -> Call<'a> {
    Call {
        spec,
        version: "v23.0",
        inputs,
    }
}

fn plain_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
        .split(['-', '+'])
        .next()
        .unwrap_or_default()
}

/// Request line, headers and body as text.
fn golden(request: &GraphRequest) -> String {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        text += &format!("{name}: {}\n", value.to_str().expect("a text"));
    }
    text + &String::from_utf8_lossy(request.body())
}

#[test]
fn read_is_as_documented() {
    let request = read(&base(), &call(&spec(), &inputs()), ReadFields::All).expect("a request");
    let expected = format!(
        "GET https://graph.facebook.com/v23.0/106540352242922?fields=id,display_phone_number,verified_name,quality_rating,code_verification_status,platform_type,status\n\
         authorization: Bearer {TOKEN}\n\
         user-agent: whatsapp-operator/{}\n\
         accept: application/json\n",
        plain_version(),
    );
    assert_eq!(golden(&request), expected);
}

#[test]
fn register_is_as_documented() {
    let request = register(&base(), &call(&spec(), &inputs())).expect("a request");
    let expected = format!(
        "POST https://graph.facebook.com/v23.0/106540352242922/register\n\
         authorization: Bearer {TOKEN}\n\
         user-agent: whatsapp-operator/{}\n\
         accept: application/json\n\
         content-type: application/json\n\
         {{\"messaging_product\":\"whatsapp\",\"pin\":\"493817\"}}",
        plain_version(),
    );
    assert_eq!(golden(&request), expected);
}

#[test]
fn deregister_has_no_body() {
    let mut inputs = inputs();
    let request = deregister(&base(), &call(&spec(), &inputs)).expect("a request");
    let expected = format!(
        "POST https://graph.facebook.com/v23.0/106540352242922/deregister\n\
         authorization: Bearer {TOKEN}\n\
         user-agent: whatsapp-operator/{}\n\
         accept: application/json\n",
        plain_version(),
    );
    assert_eq!(golden(&request), expected);
    inputs.app_secret = Some("Jefe".into());
    let request = deregister(&base(), &call(&spec(), &inputs)).expect("a request");
    let query = request.uri().query().unwrap_or_default();
    assert!(query.starts_with("appsecret_proof="), "{query}");
}

#[test]
fn register_with_everything_keeps_the_documented_order() {
    let mut spec = spec();
    spec.data_localization_region = Some(DataLocalizationRegion::De);
    spec.meta_store_retention_minutes = Some(60);
    let mut inputs = inputs();
    inputs.pin = "000123".into();
    inputs.backup = Some(Backup {
        password: "p\"w".into(),
        data: "AB+/=".into(),
    });
    let request = register(&base(), &call(&spec, &inputs)).expect("a request");
    assert_eq!(
        String::from_utf8_lossy(request.body()),
        r#"{"messaging_product":"whatsapp","pin":"000123","backup":{"password":"p\"w","data":"AB+/="},"data_localization_region":"DE","meta_store_retention_minutes":60}"#
    );
}

#[test]
fn an_app_secret_adds_the_proof_to_the_query() {
    let mut inputs = inputs();
    inputs.token = "what do ya want for nothing?".into();
    inputs.app_secret = Some("Jefe".into());
    let proof = "appsecret_proof=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let (spec, base) = (spec(), base());
    let registered = register(&base, &call(&spec, &inputs)).expect("a request");
    assert_eq!(registered.uri().query(), Some(proof));
    let looked_at = read(&base, &call(&spec, &inputs), ReadFields::All).expect("a request");
    assert_eq!(
        looked_at.uri().query(),
        Some(format!("fields=id,display_phone_number,verified_name,quality_rating,code_verification_status,platform_type,status&{proof}").as_str())
    );
}

#[test]
fn a_path_before_the_version_stays() {
    for base in [
        "http://127.0.0.1:9/mock/graph",
        "http://127.0.0.1:9/mock/graph/",
    ] {
        let base = Url::parse(base).expect("a URL");
        let request = register(&base, &call(&spec(), &inputs())).expect("a request");
        assert_eq!(
            request.uri().path(),
            "/mock/graph/v23.0/106540352242922/register"
        );
    }
}

#[test]
fn debug_output_has_no_token() {
    let request = read(&base(), &call(&spec(), &inputs()), ReadFields::All).expect("a request");
    assert!(!format!("{request:?}").contains(TOKEN));
}
