//! The two calls to Meta's Graph API: read a phone number, and register it.
//!
//! A call is three pieces: [`request`] builds it (the only place where secrets go into a message), the operator sends
//! it once, with no retry and no redirect, and [`response`] makes a result of the answer ([`codes`] and [`rate_limit`]
//! know Meta's error codes and rate limit headers). A refusal, a rate limit or a lost answer is a result, not an error.
//!
//! What matters most is the line between [`Reason::GraphUnreachable`](crate::api::Reason::GraphUnreachable) (no
//! connection was made, so nothing was sent and nothing was spent) and
//! [`Reason::OutcomeUnknown`](crate::api::Reason::OutcomeUnknown) (the request may have acted). When in doubt it is the
//! latter.
//!
//! The contract: `POST /{version}/{phone-number-id}/register` and `GET /{version}/{phone-number-id}` of Meta's OpenAPI
//! file (facebook/openapi, business-messaging-api v23.0), with error codes from the Cloud API's error code page and the
//! register edge's reference, as the OpenAPI file knows only generic ones.

mod body;
pub mod codes;
pub mod outcome;
pub mod rate_limit;
pub mod request;
pub mod response;

pub use codes::classify;
pub use outcome::{Call, ReadOutcome, RegisterOutcome, RegistrationState};
