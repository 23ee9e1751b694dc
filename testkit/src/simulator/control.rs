//! The control endpoint `/_simulator/…`: what people and other processes set and see.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::config::Defaults;
use super::server::App;

/// A JSON answer, or an error as `{"error": "what is wrong"}`.
type Answered = Result<Json, Complaint>;

/// JSON with HTTP 200.
struct Json(Value);

/// Why a request cannot be served.
struct Complaint(StatusCode, String);

/// The body of `POST clock`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_seconds: u64,
}

/// The routes, below `/_simulator`.
pub fn router() -> Router<App> {
    Router::new()
        .route("/numbers", get(numbers))
        .route("/numbers/{id}", get(number).put(configure).delete(delete))
        .route("/numbers/{id}/release", post(release))
        .route("/clock", post(advance))
        .route("/defaults", put(set_defaults).get(defaults))
        .route("/violations", get(violations))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
}

async fn numbers(State(app): State<App>) -> Answered {
    answer(&json!({"totals": app.world.totals(), "numbers": app.world.all()}))
}

async fn number(State(app): State<App>, Path(id): Path<String>) -> Answered {
    answer(&app.world.number(&id).ok_or_else(|| no_number(&id))?)
}

async fn configure(State(app): State<App>, Path(id): Path<String>, body: Bytes) -> Answered {
    let config = parse(&body)?;
    let bad = |text| Complaint(StatusCode::BAD_REQUEST, text);
    app.world.configure(&id, config).map_err(bad)?;
    number(State(app), Path(id)).await
}

async fn delete(State(app): State<App>, Path(id): Path<String>) -> Answered {
    if app.world.delete(&id) {
        answer(&json!({"deleted": id}))
    } else {
        Err(no_number(&id))
    }
}

async fn release(State(app): State<App>, Path(id): Path<String>) -> Answered {
    answer(&json!({"released": app.world.release(&id)}))
}

async fn advance(State(app): State<App>, body: Bytes) -> Answered {
    let wanted: Advance = parse(&body)?;
    answer(&json!({"now": app.world.advance(Duration::from_secs(wanted.advance_seconds))}))
}

async fn defaults(State(app): State<App>) -> Answered {
    answer(&app.world.defaults())
}

/// Replaces all defaults: what is not said is as in a new simulator.
async fn set_defaults(State(app): State<App>, body: Bytes) -> Answered {
    app.world.set_defaults(parse::<Defaults>(&body)?);
    defaults(State(app)).await
}

async fn violations(State(app): State<App>) -> Answered {
    answer(&app.world.violations())
}

async fn unknown(method: Method, uri: Uri) -> Complaint {
    let text = format!(
        "{method} {uri} is unknown. Known: GET numbers; GET, PUT, DELETE numbers/ID; \
         POST numbers/ID/release; POST clock; GET, PUT defaults; GET violations"
    );
    Complaint(StatusCode::NOT_FOUND, text)
}

fn answer(value: &impl Serialize) -> Answered {
    let failed =
        |error: serde_json::Error| Complaint(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    serde_json::to_value(value).map(Json).map_err(failed)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Complaint> {
    let bad = |error| {
        Complaint(
            StatusCode::BAD_REQUEST,
            format!("failed to read the body: {error}"),
        )
    };
    serde_json::from_slice(body).map_err(bad)
}

fn no_number(id: &str) -> Complaint {
    let text = format!("the number {id:?} was neither set nor called; PUT it first");
    Complaint(StatusCode::NOT_FOUND, text)
}

// === impl Json ===

impl IntoResponse for Json {
    fn into_response(self) -> Response {
        let body = format!("{:#}\n", self.0);
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

// === impl Complaint ===

impl IntoResponse for Complaint {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}
