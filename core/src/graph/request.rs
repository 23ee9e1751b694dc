//! Builds the requests: the only place where secrets go into a message.
//!
//! The token goes into the `Authorization` header, never into the URL, where proxies would log it.

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use url::Url;
use zeroize::Zeroizing;

use super::outcome::{Call, ReadFields};
use crate::api::DataLocalizationRegion;

/// A request ready to be sent. Its body is zeroed on drop.
pub type GraphRequest = Request<Zeroizing<Vec<u8>>>;

/// The names of the fields that a read asks for. One unknown name makes Graph reject the whole read with code 100.
const fn names(fields: ReadFields) -> &'static str {
    match fields {
        ReadFields::All => {
            "id,display_phone_number,verified_name,quality_rating,code_verification_status,platform_type,status"
        }
        ReadFields::Deciding => "id,status,platform_type",
        ReadFields::Optional => "id,name_status,new_name_status,is_on_biz_app",
    }
}

/// The product and three plain numbers, as the pattern for `User-Agent` in Meta's OpenAPI file requires; without a
/// pre-release tag.
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
    #[error("the base URL cannot have a path")]
    BaseUrl,
    #[error("failed to build the HTTP request")]
    Http(#[from] http::Error),
    #[error("failed to write the body as JSON")]
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

/// Builds the request that reads the number.
pub fn read(base: &Url, call: &Call<'_>, fields: ReadFields) -> Result<GraphRequest, BuildError> {
    let mut url = number_url(base, call, &[])?;
    // Not `query_pairs_mut`, which would encode the commas as %2C.
    url.set_query(Some(&format!("fields={}", names(fields))));
    add_proof(&mut url, call);
    build(Method::GET, &url, call, Zeroizing::default())
}

/// Builds the request that registers the number.
pub fn register(base: &Url, call: &Call<'_>) -> Result<GraphRequest, BuildError> {
    let mut url = number_url(base, call, &["register"])?;
    add_proof(&mut url, call);
    build(Method::POST, &url, call, register_body(call)?)
}

/// Builds the request that takes the number off the Cloud API: it has no body.
pub fn deregister(base: &Url, call: &Call<'_>) -> Result<GraphRequest, BuildError> {
    let mut url = number_url(base, call, &["deregister"])?;
    add_proof(&mut url, call);
    build(Method::POST, &url, call, Zeroizing::default())
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

/// The URL `{base}/{version}/{phone-number-id}`, followed by `rest`.
fn number_url(base: &Url, call: &Call<'_>, rest: &[&str]) -> Result<Url, BuildError> {
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| BuildError::BaseUrl)?
        .pop_if_empty()
        .extend([call.version, call.spec.phone_number_id.as_str()])
        .extend(rest);
    Ok(url)
}

/// Adds the proof as a query parameter, as Graph may ignore it in a JSON body.
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
