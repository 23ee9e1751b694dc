//! The messages of conditions: what happened, what to do, and when the operator tries again.

use jiff::Timestamp;

use super::reason::{Disposition, Reason};
use super::spec::REGISTER_REQUESTED_AT;
use super::text::{MESSAGE, cut, one_line};

/// What to do where nothing is tried until a person has done it. Where the advice says how the operator goes on by
/// itself, or names nothing that it notices, the number has to be asked for.
fn until_a_person(reason: Reason) -> String {
    let ask = format!("set the annotation {REGISTER_REQUESTED_AT}.");
    match reason {
        Reason::OutcomeUnknown | Reason::Registering => {
            format!("Look at the number in WhatsApp Manager, then {ask}")
        }
        Reason::GraphUnavailable | Reason::NotSent => {
            format!("Wait until Graph has recovered, then {ask}")
        }
        _ if reason.disposition() == Disposition::Retry
            || reason == Reason::CertificateUnavailable =>
        {
            format!("{} Then {ask}", reason.advice())
        }
        _ => reason.advice().to_owned(),
    }
}

/// A message for people: what happened, what to do, and when the operator comes back; never, where it stalls.
pub fn explain(what: &str, reason: Reason, next: Option<Timestamp>) -> String {
    let what = what.trim_end_matches('.');
    let mut letters = what.chars();
    let first = letters
        .next()
        .map(|c| c.to_uppercase().to_string())
        .unwrap_or_default();
    let what = one_line(&format!("{first}{}", letters.as_str()));
    let rest = match next {
        Some(next) => format!(". {} Next attempt at {next}.", reason.advice()),
        None => format!(
            ". {} Nothing is tried again until then.",
            until_a_person(reason)
        ),
    };
    // Where Graph says much, it is not at the cost of what to do.
    cut(&what, MESSAGE.saturating_sub(rest.chars().count())) + &rest
}
