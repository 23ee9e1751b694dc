//! The reason for an error from Graph.
//!
//! The order is `code`, `error_subcode`, `is_transient`, and the HTTP status last: the status for one code differs between
//! Meta's pages and real answers (400 and 401 for 190; 400, 403 and 429 for 4; 500 and 403 for 3), and Meta's error code
//! page recommends to decide by code. Texts matter only within code 100, which Meta uses for everything.

use crate::api::{GraphErrorStatus, Reason};

/// The type of the node that a phone number ID names.
const PHONE_NUMBER: &str = "WhatsAppBusinessPhoneNumber";

/// The texts of code 100 that say what it is about, and their reasons.
const MARKERS: &[(&str, Reason)] = &[
    // "API calls from the server require an appsecret_proof argument"; "Invalid appsecret_proof provided in the API argument".
    ("appsecret_proof", Reason::AppSecretRejected),
    // "Register endpoint is not available for SMB businesses."
    (
        "not available for SMB businesses",
        Reason::BusinessAppNumber,
    ),
    // The system user has the number, but not its account.
    (
        "Unsupported request - method type",
        Reason::PermissionDenied,
    ),
    ("Missing Permission", Reason::PermissionDenied),
];

/// The fields of an error that determine its reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ErrorSignature<'a> {
    pub http_status: u16,
    pub code: Option<i64>,
    pub subcode: Option<i64>,
    pub transient: bool,
    /// The message with its details.
    pub message: Option<&'a str>,
}

/// The reason for an error.
pub(super) fn classify_signature(error: ErrorSignature<'_>) -> Reason {
    match error.code {
        Some(100) => invalid_parameter(error),
        code => code.and_then(known).unwrap_or_else(|| unknown(error)),
    }
}

/// The reason for an error that is stored in a status.
pub fn classify(error: &GraphErrorStatus) -> Reason {
    classify_signature(ErrorSignature {
        http_status: error
            .http_status
            .and_then(|status| u16::try_from(status).ok())
            .unwrap_or(0),
        code: error.code,
        subcode: error.subcode,
        transient: error.transient.unwrap_or(false),
        message: error.message.as_deref(),
    })
}

/// The type of the node that lacks a field which a read asked for, by the text of code 100: "(#100) Tried accessing nonexisting
/// field (FIELD) on node type (NODE)".
pub(super) fn node_lacking_a_field(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("nonexisting field")?;
    let (_, rest) = rest.split_once("on node type (")?;
    let (node, _) = rest.split_once(')')?;
    Some(node)
}

/// Whether this is the type of the node that a phone number ID names.
pub(super) fn is_phone_number(node: &str) -> bool {
    node == PHONE_NUMBER
}

/// The documented codes: in the Cloud API's error code page ("Cloud API"), the reference of the register edge ("register
/// edge"), the Graph API error handling guide ("Graph") and its rate limiting page ("rate limits").
const fn known(code: i64) -> Option<Reason> {
    Some(match code {
        // Cloud API: AuthException. Graph: API session, access token expired or invalid. 104: no token in the request.
        0 | 102 | 104 | 190 => Reason::TokenRejected,
        // Cloud API: API method, permission denied, permission not granted or removed. 5: the app's list of addresses.
        3 | 5 | 10 | 200..=299 | 131_005 => Reason::PermissionDenied,
        // Cloud API: 33 "parameter value is not valid: number deleted"; Graph: 803 "some of the aliases do not exist".
        33 | 803 => Reason::PhoneNumberNotFound,
        // Cloud API: two step verification PIN mismatch.
        133_005 => Reason::PinMismatch,
        // Cloud API: too many PIN guesses; PIN guessed too fast.
        133_008 | 133_009 => Reason::PinLocked,
        // Cloud API: account locked; temporarily blocked for policy violations.
        131_031 | 368 => Reason::AccountLocked,
        // Cloud API: the number must be verified before it is registered.
        133_006 => Reason::OwnershipNotVerified,
        // Cloud API: incorrect certificate.
        131_045 => Reason::CertificateUnavailable,
        // Cloud API: a parameter is missing; a parameter is not valid. Graph: 2500, malformed path.
        131_008 | 131_009 | 2_500 => Reason::InvalidRequest,
        // Cloud API: the number was deleted minutes ago, wait 5 minutes.
        133_015 => Reason::RecentlyDeregistered,
        // Cloud API: incomplete deregistration.
        133_000 => Reason::DeregistrationIncomplete,
        // Register edge, registration guide: 10 requests in 72 hours.
        133_016 => Reason::RegistrationBlocked,
        // Rate limits: app, user, page, application, custom, WhatsApp account, its management; throughput.
        4 | 17 | 32 | 341 | 613 | 80_007 | 80_008 | 130_429 => Reason::RateLimited,
        // Graph: unknown, service. Cloud API: something went wrong, service unavailable, maintenance (131057, 2494100),
        // server temporarily unavailable (133004).
        1 | 2 | 131_000 | 131_016 | 131_057 | 133_004 | 2_494_100 => Reason::GraphUnavailable,
        _ => return None,
    })
}

/// Code 100, which Graph uses for anything from a wrong ID to a missing `appsecret_proof`.
fn invalid_parameter(error: ErrorSignature<'_>) -> Reason {
    match error.subcode {
        // "Unsupported post request. Object with ID ... does not exist", or the token may not see it.
        Some(33) => return Reason::PhoneNumberNotFound,
        // "Cannot create certificate": seen on register, reported by users of open source inboxes.
        Some(2_388_001) => return Reason::CertificateUnavailable,
        _ => {}
    }
    let message = error.message.unwrap_or_default();
    let marked = MARKERS.iter().find(|(text, _)| message.contains(text));
    match (marked, node_lacking_a_field(message)) {
        (Some((_, reason)), _) => *reason,
        // The ID is that of something else.
        (None, Some(node)) if !is_phone_number(node) => Reason::PhoneNumberNotFound,
        (None, _) => Reason::InvalidRequest,
    }
}

/// An undocumented code, or none.
const fn unknown(error: ErrorSignature<'_>) -> Reason {
    match error.http_status {
        429 => Reason::RateLimited,
        _ if error.transient => Reason::GraphUnavailable,
        500.. => Reason::GraphUnavailable,
        400..500 => Reason::InvalidRequest,
        // An error with a success status: the call did not take effect, as far as is known.
        _ => Reason::RegistrationRejected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(http_status: u16, code: i64, subcode: Option<i64>) -> Reason {
        classify_signature(ErrorSignature {
            http_status,
            code: Some(code),
            subcode,
            ..ErrorSignature::default()
        })
    }

    fn is_known(code: i64) -> bool {
        code == 100 || known(code).is_some()
    }

    /// The codes of each reason: reason, HTTP status as documented, codes.
    const TABLE: &[(Reason, u16, &[i64])] = &[
        (Reason::TokenRejected, 401, &[0, 102, 104, 190]),
        (
            Reason::PermissionDenied,
            403,
            &[3, 5, 10, 200, 230, 299, 131_005],
        ),
        (Reason::PhoneNumberNotFound, 400, &[33, 803]),
        (Reason::PinMismatch, 400, &[133_005]),
        (Reason::PinLocked, 400, &[133_008, 133_009]),
        (Reason::AccountLocked, 403, &[131_031, 368]),
        (Reason::OwnershipNotVerified, 400, &[133_006]),
        (Reason::CertificateUnavailable, 500, &[131_045]),
        (
            Reason::InvalidRequest,
            400,
            &[100, 131_008, 131_009, 2_500, 136_024, 300, 199],
        ),
        (Reason::RecentlyDeregistered, 400, &[133_015]),
        (Reason::DeregistrationIncomplete, 500, &[133_000]),
        (Reason::RegistrationBlocked, 400, &[133_016]),
        (
            Reason::RateLimited,
            400,
            &[4, 17, 32, 341, 613, 80_007, 80_008, 130_429],
        ),
        (
            Reason::GraphUnavailable,
            500,
            &[1, 2, 131_000, 131_016, 131_057, 133_004, 2_494_100, 987_654],
        ),
    ];

    #[test]
    fn every_row_of_the_table() {
        for (expected, http_status, codes) in TABLE {
            for code in *codes {
                assert_eq!(reason(*http_status, *code, None), *expected, "code {code}");
            }
        }
    }

    #[test]
    fn a_known_code_counts_more_than_status_and_transience() {
        for (expected, _, codes) in TABLE {
            for code in codes.iter().filter(|code| is_known(**code)) {
                for http_status in [200, 400, 401, 403, 404, 422, 429, 500, 503] {
                    let error = ErrorSignature {
                        http_status,
                        code: Some(*code),
                        subcode: Some(1),
                        transient: true,
                        message: None,
                    };
                    assert_eq!(
                        classify_signature(error),
                        *expected,
                        "code {code} with HTTP {http_status}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_request_that_graph_calls_invalid_is_so_with_any_status() {
        for code in [131_008, 131_009, 2_500] {
            assert_eq!(reason(500, code, None), Reason::InvalidRequest);
        }
    }

    #[test]
    fn subcodes_of_100() {
        assert_eq!(reason(400, 100, Some(33)), Reason::PhoneNumberNotFound);
        assert_eq!(
            reason(400, 100, Some(2_388_001)),
            Reason::CertificateUnavailable
        );
        assert_eq!(reason(400, 100, Some(2_388_092)), Reason::InvalidRequest);
        assert_eq!(reason(422, 100, None), Reason::InvalidRequest);
    }

    #[test]
    fn texts_of_100() {
        let of_text = |message| {
            classify_signature(ErrorSignature {
                http_status: 400,
                code: Some(100),
                message: Some(message),
                ..ErrorSignature::default()
            })
        };
        for (message, expected) in [
            (
                "API calls from the server require an appsecret_proof argument",
                Reason::AppSecretRejected,
            ),
            (
                "Invalid appsecret_proof provided in the API argument",
                Reason::AppSecretRejected,
            ),
            (
                "(#100) Register endpoint is not available for SMB businesses.",
                Reason::BusinessAppNumber,
            ),
            (
                "Unsupported request - method type: post",
                Reason::PermissionDenied,
            ),
            ("(#100) Missing Permission", Reason::PermissionDenied),
            (
                "(#100) Tried accessing nonexisting field (status) on node type (WhatsAppBusinessAccount)",
                Reason::PhoneNumberNotFound,
            ),
            (
                "(#100) Tried accessing nonexisting field (quality_rating) on node type (WhatsAppBusinessPhoneNumber)",
                Reason::InvalidRequest,
            ),
            ("(#100) Invalid parameter", Reason::InvalidRequest),
            (
                "nonexisting field (x) on node type (",
                Reason::InvalidRequest,
            ),
        ] {
            assert_eq!(of_text(message), expected, "{message}");
        }
    }

    #[test]
    fn a_text_counts_within_code_100_only() {
        let error = |code, subcode| {
            classify_signature(ErrorSignature {
                http_status: 400,
                code,
                subcode,
                message: Some("appsecret_proof"),
                transient: false,
            })
        };
        assert_eq!(error(Some(190), None), Reason::TokenRejected);
        assert_eq!(error(None, None), Reason::InvalidRequest);
        assert_eq!(error(Some(100), Some(33)), Reason::PhoneNumberNotFound);
    }

    #[test]
    fn unknown_codes_by_transience_then_status() {
        let unknown = |http_status, transient| {
            classify_signature(ErrorSignature {
                http_status,
                code: Some(999_999),
                transient,
                ..ErrorSignature::default()
            })
        };
        assert_eq!(unknown(400, false), Reason::InvalidRequest);
        assert_eq!(unknown(400, true), Reason::GraphUnavailable);
        assert_eq!(unknown(503, false), Reason::GraphUnavailable);
        assert_eq!(unknown(429, true), Reason::RateLimited);
        assert_eq!(unknown(200, false), Reason::RegistrationRejected);
        assert_eq!(
            reason(400, i64::MIN, Some(i64::MAX)),
            Reason::InvalidRequest
        );
    }
}
