//! The calls to Meta's Graph API: read a phone number, register it, and deregister it.
//!
//! A call has three parts: [`request`] builds it (the only place where secrets go into a request), the operator sends
//! it once, without retries and redirects, and [`response`] turns the answer into an outcome ([`codes`] and
//! [`rate_limit`] know Meta's error codes and rate limit headers). A rejection, a rate limit or a lost answer is an
//! outcome, not an error.
//!
//! The most important distinction is that between [`Reason::GraphUnreachable`](crate::api::Reason::GraphUnreachable) (no
//! connection was made, so nothing was sent or spent) and
//! [`Reason::OutcomeUnknown`](crate::api::Reason::OutcomeUnknown) (the request may have taken effect). In doubt it is the
//! latter.
//!
//! The contract: `POST /{version}/{phone-number-id}/register`, `…/deregister` and `GET /{version}/{phone-number-id}` of Meta's
//! OpenAPI file (facebook/openapi, business-messaging-api v23.0), with error codes from the Cloud API's error code page and the
//! register edge's reference, as the OpenAPI file knows only generic ones.

mod body;
pub mod codes;
pub mod outcome;
pub mod rate_limit;
pub mod request;
pub mod response;

pub use codes::classify;
pub use outcome::{Call, ReadFields, ReadOutcome, RegisterOutcome, RegistrationState};
