//! Which of several resources with one phone number ID goes ahead. Pure.

use std::cmp::Reverse;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use crate::api::{RegisterAttempt, WhatsAppPhoneNumber};
use crate::conditions::is_registered;

/// The resource that goes ahead of `own` among the others with its phone number ID, if one does: the one that is
/// registered, else the one with an open claim, else the oldest, else the first by namespace and name.
pub fn ahead<'a>(
    own: &WhatsAppPhoneNumber,
    others: impl IntoIterator<Item = &'a WhatsAppPhoneNumber>,
) -> Option<&'a WhatsAppPhoneNumber> {
    let first = others.into_iter().min_by_key(|other| rank(other))?;
    (rank(first) < rank(own)).then_some(first)
}

/// Whether somebody may be making a register call for the resource.
pub fn has_open_claim(resource: &WhatsAppPhoneNumber) -> bool {
    let attempts = resource
        .status
        .as_ref()
        .map(|status| status.attempts.as_slice());
    attempts
        .unwrap_or_default()
        .iter()
        .any(RegisterAttempt::is_open)
}

/// The smaller, the further ahead.
fn rank(
    resource: &WhatsAppPhoneNumber,
) -> (Reverse<bool>, Reverse<bool>, Option<Time>, String, String) {
    (
        Reverse(resource.status.as_ref().is_some_and(is_registered)),
        Reverse(has_open_claim(resource)),
        resource.creation_timestamp(),
        resource.namespace().unwrap_or_default(),
        resource.name_any(),
    )
}
