//! The messages of conditions: what happened, what to do, and when the operator retries.

use jiff::Timestamp;

use super::reason::{Disposition, Reason};
use super::spec::REGISTER_REQUESTED_AT;
use super::text::{MESSAGE, cut, one_line};

/// Returns the advice for a resource that stalls. Where the advice of the reason is to wait for a retry, or names
/// nothing that the operator notices, the user has to request the next attempt.
fn advice_for_stall(reason: Reason) -> String {
    let ask = format!("set the annotation {REGISTER_REQUESTED_AT} to a new value");
    match reason {
        Reason::OutcomeUnknown | Reason::Registering => {
            format!("Check the number in WhatsApp Manager, then {ask}.")
        }
        Reason::GraphUnavailable | Reason::NotSent => {
            format!("Wait until Graph has recovered, then {ask}.")
        }
        Reason::PinLocked => format!(
            "Wait until Meta lifts the lock. Then put the right PIN into the Secret, or {ask} if it is there already."
        ),
        _ if reason.disposition() == Disposition::Retry
            || reason == Reason::CertificateUnavailable =>
        {
            format!("{} Then {ask}.", reason.advice())
        }
        _ => reason.advice().to_owned(),
    }
}

/// The advice for a requested call, which no change of a Secret or the spec repeats.
fn advice_for_request(reason: Reason) -> String {
    match reason {
        Reason::TokenRejected => "Put a valid token of a system user into the Secret.".to_owned(),
        Reason::PinMismatch => {
            "Put the number's PIN into the Secret, or reset it in WhatsApp Manager first. Do not guess: wrong PINs lock the number.".to_owned()
        }
        Reason::InvalidRequest => "Correct what Graph's message names.".to_owned(),
        _ => advice_for_stall(reason),
    }
}

/// Returns the message of a condition: what happened, what to do, and when the next attempt follows, if one does.
pub fn explain(what: &str, reason: Reason, next: Option<Timestamp>) -> String {
    let rest = match next {
        Some(next) if reason == Reason::OutcomeUnknown => {
            format!("{} Next read by {next}.", reason.advice())
        }
        Some(next) => format!("{} Next attempt at {next}.", reason.advice()),
        None => format!(
            "{} No further attempt will be made until then.",
            advice_for_stall(reason)
        ),
    };
    compose(what, &rest)
}

/// Returns the message for a requested call of a registered or lost number that failed, and `still` counts as that: the operator makes
/// another one only on request.
pub fn explain_requested(what: &str, reason: Reason, still: &str) -> String {
    let rest = format!(
        "{} The number still {still}; no further attempt will be made until the annotation {REGISTER_REQUESTED_AT} has a new value.",
        advice_for_request(reason)
    );
    compose(what, &rest)
}

/// Returns the message for a Secret that is missing or wrong, which says itself what to do.
pub fn explain_secret(what: &str, reason: Reason) -> String {
    match reason {
        // No watch tells of a permission: that message says when it is looked at again.
        Reason::SecretForbidden => what.to_owned(),
        _ => compose(what, "The operator notices the change automatically."),
    }
}

/// Returns the message for a number that cannot be observed. No call is needed for that, so nobody is told to request one.
pub fn explain_unobserved(what: &str, reason: Reason) -> String {
    let mend = match reason {
        Reason::PermissionDenied => {
            "Assign the WhatsApp account to the system user and grant whatsapp_business_management."
        }
        Reason::PhoneNumberNotFound => {
            "Compare spec.phoneNumberID with WhatsApp Manager, and assign the WhatsApp account to the system user."
        }
        Reason::AccountLocked => "Check Business Support Home.",
        _ if reason.advice().contains(REGISTER_REQUESTED_AT) => {
            "Correct what Graph's message names."
        }
        _ => reason.advice(),
    };
    let next = match reason.advice().contains(REGISTER_REQUESTED_AT) {
        true => {
            " No register call is needed: the operator reads the number again at the next observation, and within ten minutes after a new token."
        }
        false => "",
    };
    let rest = format!("This changes nothing about its registration. {mend}{next}");
    let what = format!("The number cannot be observed, so a loss would not be noticed. {what}");
    compose(&what, &rest)
}

/// Returns the message for a registered number whose requested call was not made, as a read stood against it.
pub fn explain_unmet(what: &str, reason: Reason) -> String {
    let rest = format!(
        "{} The number still counts as registered; the requested register call was not made. It is made once this \
         changes; to have it tried at once, set the annotation {REGISTER_REQUESTED_AT} to a new value.",
        advice_for_request(reason)
    );
    compose(what, &rest)
}

fn compose(what: &str, rest: &str) -> String {
    let what = what.trim_end_matches('.');
    let mut letters = what.chars();
    let first = letters
        .next()
        .map(|c| c.to_uppercase().to_string())
        .unwrap_or_default();
    let what = one_line(&format!("{first}{}", letters.as_str()));
    let rest = format!(". {rest}");
    // A long text from Graph is cut in favour of the advice.
    cut(&what, MESSAGE.saturating_sub(rest.chars().count())) + &rest
}
