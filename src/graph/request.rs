//! Builds the two requests. Pure, and the only place where secrets go into a message.
//!
//! The token goes into the `Authorization` header, never into the URL, where proxies would log it.

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use url::Url;
use zeroize::Zeroizing;

use super::Call;
use crate::api::DataLocalizationRegion;

/// A request ready to be sent; its body is cleared when it is dropped.
pub type GraphRequest = Request<Zeroizing<Vec<u8>>>;

/// The fields that a read asks for. Short and known: one unknown name makes Graph refuse the whole read with code 100.
const READ_FIELDS: &str = "id,display_phone_number,verified_name,quality_rating,code_verification_status,platform_type,status";

/// Product and three plain numbers, as the pattern for `User-Agent` in Meta's OpenAPI file wants; a pre-release tag is left
/// out.
const USER_AGENT_VALUE: HeaderValue = HeaderValue::from_static(concat!(
    "whatsapp-operator/",
    env!("CARGO_PKG_VERSION_MAJOR"),
    ".",
    env!("CARGO_PKG_VERSION_MINOR"),
    ".",
    env!("CARGO_PKG_VERSION_PATCH"),
));

/// The request cannot be built from these inputs; nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The operator's base URL takes no path.
    #[error("the base URL takes no path")]
    BaseUrl,
    /// A part of the URL or a header holds something that HTTP does not allow.
    #[error("the inputs cannot go into an HTTP request")]
    Http(#[from] http::Error),
    /// The body cannot be written as JSON.
    #[error("the inputs cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// The body of a register call: the documented fields in the documented order, and no others.
#[derive(Serialize)]
struct RegisterBody<'a> {
    messaging_product: &'static str,
    pin: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    backup: Option<BackupBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_localization_region: Option<DataLocalizationRegion>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta_store_retention_minutes: Option<i32>,
}

#[derive(Serialize)]
struct BackupBody<'a> {
    password: &'a str,
    data: &'a str,
}

/// The request that reads the number.
///
/// # Errors
/// When the inputs cannot go into an HTTP request.
pub fn read(base: &Url, call: &Call<'_>) -> Result<GraphRequest, BuildError> {
    let mut url = number_url(base, call, &[])?;
    // By hand: the encoder of `url` would write the commas as %2C.
    url.set_query(Some(&format!("fields={READ_FIELDS}")));
    add_proof(&mut url, call);
    build(Method::GET, &url, call, Zeroizing::default())
}

/// The request that registers the number.
///
/// # Errors
/// When the inputs cannot go into an HTTP request.
pub fn register(base: &Url, call: &Call<'_>) -> Result<GraphRequest, BuildError> {
    let mut url = number_url(base, call, &["register"])?;
    add_proof(&mut url, call);
    build(Method::POST, &url, call, register_body(call)?)
}

fn register_body(call: &Call<'_>) -> Result<Zeroizing<Vec<u8>>, BuildError> {
    let backup = call.inputs.backup.as_ref().map(|backup| BackupBody {
        password: backup.password.expose_secret(),
        data: backup.data.expose_secret(),
    });
    let body = RegisterBody {
        messaging_product: "whatsapp",
        pin: call.inputs.pin.expose_secret(),
        backup,
        data_localization_region: call.spec.data_localization_region,
        meta_store_retention_minutes: call.spec.meta_store_retention_minutes,
    };
    Ok(Zeroizing::new(serde_json::to_vec(&body)?))
}

/// `{base}/{version}/{phone-number-id}` and what follows it.
fn number_url(base: &Url, call: &Call<'_>, rest: &[&str]) -> Result<Url, BuildError> {
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| BuildError::BaseUrl)?
        .pop_if_empty()
        .extend([call.version, call.spec.phone_number_id.as_str()])
        .extend(rest);
    Ok(url)
}

/// As a query parameter: in a JSON body it may be ignored.
fn add_proof(url: &mut Url, call: &Call<'_>) {
    if let Some(proof) = call.inputs.appsecret_proof() {
        let old = url
            .query()
            .map(|query| format!("{query}&"))
            .unwrap_or_default();
        url.set_query(Some(&format!(
            "{old}appsecret_proof={}",
            proof.expose_secret()
        )));
    }
}

fn build(
    method: Method,
    url: &Url,
    call: &Call<'_>,
    body: Zeroizing<Vec<u8>>,
) -> Result<GraphRequest, BuildError> {
    let bearer = Zeroizing::new(format!("Bearer {}", call.inputs.token.expose_secret()));
    let mut authorization = HeaderValue::from_str(&bearer).map_err(http::Error::from)?;
    authorization.set_sensitive(true);

    let mut request = Request::builder()
        .method(method)
        .uri(url.as_str())
        .header(AUTHORIZATION, authorization)
        .header(USER_AGENT, USER_AGENT_VALUE)
        .header(ACCEPT, HeaderValue::from_static("application/json"));
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Ok(request.body(body)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::WhatsAppPhoneNumberSpec;
    use crate::secrets::fixtures::{TOKEN, inputs, spec};
    use crate::secrets::{Backup, CallInputs};

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
        let request = read(&base(), &call(&spec(), &inputs())).expect("a request");
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
        let proof =
            "appsecret_proof=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let (spec, base) = (spec(), base());
        let registered = register(&base, &call(&spec, &inputs)).expect("a request");
        assert_eq!(registered.uri().query(), Some(proof));
        let looked_at = read(&base, &call(&spec, &inputs)).expect("a request");
        assert_eq!(
            looked_at.uri().query(),
            Some(format!("fields={READ_FIELDS}&{proof}").as_str())
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
        let request = read(&base(), &call(&spec(), &inputs())).expect("a request");
        assert!(!format!("{request:?}").contains(TOKEN));
    }
}
