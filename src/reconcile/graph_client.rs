//! Sends a request: once, with one time limit for all of it, no retry and no redirect.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::{Body, Client, Response, redirect, retry};
use url::Url;

use operator_core::credentials::Scrubber;
use operator_core::graph::request::{self, BuildError, GraphRequest};
use operator_core::graph::response::{self, Answer, Exchange};
use operator_core::graph::{Call, ReadFields, ReadOutcome, RegisterOutcome};

use crate::config::{GraphSettings, check_base_url, is_loopback};
use crate::telemetry::Chain;

/// As much of a body as is read: Graph's answers are far shorter.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// A connection must be established within this time, or within a third of the whole timeout if that is less.
const MAX_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// No client can be built from the settings.
#[derive(Debug, thiserror::Error)]
pub enum GraphClientError {
    #[error("the Graph base URL cannot be used: {0}")]
    BaseUrl(&'static str),
    #[error("the Graph timeout must be longer than zero")]
    Timeout,
    #[error(
        "failed to create the HTTP client for the Graph API (root certificates must be installed: package ca-certificates, or SSL_CERT_FILE)"
    )]
    Http(#[source] reqwest::Error),
}

/// Calls Meta's Graph API.
#[derive(Clone, Debug)]
pub struct GraphClient {
    http: Client,
    base_url: Url,
}

// === impl GraphClient ===

impl GraphClient {
    /// A client for these settings.
    pub fn new(settings: &GraphSettings) -> Result<Self, GraphClientError> {
        check_base_url(&settings.base_url, settings.allow_insecure)
            .map_err(GraphClientError::BaseUrl)?;
        if settings.timeout.is_zero() {
            return Err(GraphClientError::Timeout);
        }
        Ok(Self {
            http: http_client(settings).map_err(GraphClientError::Http)?,
            base_url: settings.base_url.clone(),
        })
    }

    /// Reads these fields of the number.
    pub async fn read(&self, call: &Call<'_>, fields: ReadFields) -> ReadOutcome {
        let request = request::read(&self.base_url, call, fields);
        let exchange = self.send(request).await;
        let scrubber = Scrubber::new(call.inputs);
        response::read_outcome(&exchange, fields, &scrubber, Timestamp::now())
    }

    /// Registers the number: at most one POST.
    pub async fn register(&self, call: &Call<'_>) -> RegisterOutcome {
        let request = request::register(&self.base_url, call);
        let exchange = self.send(request).await;
        response::register_outcome(&exchange, &Scrubber::new(call.inputs), Timestamp::now())
    }

    /// Takes the number off the Cloud API: at most one POST.
    pub async fn deregister(&self, call: &Call<'_>) -> RegisterOutcome {
        let request = request::deregister(&self.base_url, call);
        let exchange = self.send(request).await;
        response::deregister_outcome(&exchange, &Scrubber::new(call.inputs), Timestamp::now())
    }

    async fn send(&self, request: Result<GraphRequest, BuildError>) -> Exchange {
        let request = match request {
            Ok(request) => request.map(|body| Body::from(Bytes::from_owner(body))),
            Err(error) => return Exchange::NotSent(format!("nothing was sent: {error}")),
        };
        let sent = match reqwest::Request::try_from(request) {
            Ok(request) => self.http.execute(request).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(response) => Exchange::Answered(read_answer(response).await),
            Err(error) => self.without_answer(error),
        }
    }

    /// The vital line: only without a connection is it certain that nothing was sent.
    fn without_answer(&self, error: reqwest::Error) -> Exchange {
        let server = self.base_url.origin().ascii_serialization();
        if error.is_connect() {
            Exchange::NotSent(format!("no connection to {server}: {}", causes(error)))
        } else if error.is_builder() {
            Exchange::NotSent(format!("nothing was sent to {server}: {}", causes(error)))
        } else {
            Exchange::Lost(format!(
                "no answer from {server} to a request that may have arrived: {}",
                causes(error)
            ))
        }
    }
}

fn http_client(settings: &GraphSettings) -> Result<Client, reqwest::Error> {
    let mut builder = Client::builder()
        .http1_only()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        // Verbose, it would log the bytes on the wire.
        .connection_verbose(false)
        .connect_timeout(MAX_CONNECT_TIMEOUT.min(settings.timeout / 3))
        .timeout(settings.timeout)
        // The server may have closed a connection that is reused; a POST on it would have an unclear
        // outcome unnecessarily.
        .pool_max_idle_per_host(0)
        .https_only(settings.base_url.scheme() == "https");
    if is_loopback(&settings.base_url) {
        // A proxy's loopback is that of another machine, and a token must not be sent there unencrypted.
        builder = builder.no_proxy();
        if settings.base_url.scheme() == "http" {
            // A demo or test needs no root certificates, so it does not fail if none are installed.
            builder = builder.tls_certs_only([]);
        }
    }
    builder.build()
}

/// Reads the answer, of the body as much as [`MAX_BODY_BYTES`].
async fn read_answer(mut response: Response) -> Answer {
    let mut answer = Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        ..Answer::default()
    };
    loop {
        match response.chunk().await {
            Ok(None) => return answer,
            Ok(Some(chunk)) => {
                let room = MAX_BODY_BYTES - answer.body.len();
                answer.body.extend(chunk.iter().take(room));
                if chunk.len() > room {
                    answer.fault = Some("is longer than 64 KiB".to_owned());
                    return answer;
                }
            }
            Err(error) => {
                answer.fault = Some(format!("broke off: {}", causes(error)));
                return answer;
            }
        }
    }
}

/// The causes of an error in one line. Without the URL, whose query can hold an `appsecret_proof`.
fn causes(error: reqwest::Error) -> String {
    Chain(&error.without_url()).to_string()
}

#[cfg(test)]
mod tests;
