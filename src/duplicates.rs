//! Several resources with one phone number ID: which goes ahead, and what the calls for one mean for another. Pure.

use std::cmp::Reverse;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use crate::api::{RegisterAttempt, WhatsAppPhoneNumber};
use crate::conditions::is_registered;
use crate::decide::Others;
use crate::index::{Key, attempts, key_of};
use crate::ledger::others_window;
use crate::memory::Memory;

/// The resource that goes ahead of `own` among the others with its phone number ID, if one does: the one that is
/// registered, else the one with an open claim, else the oldest, else the first by namespace and name.
pub fn ahead<'a>(
    own: &WhatsAppPhoneNumber,
    others: impl IntoIterator<Item = &'a WhatsAppPhoneNumber>,
) -> Option<&'a WhatsAppPhoneNumber> {
    let first = others.into_iter().min_by_key(|other| rank(other))?;
    (rank(first) < rank(own)).then_some(first)
}

/// What is known of a number beyond one of its resources.
pub fn known(
    resource: &WhatsAppPhoneNumber,
    others: &[&WhatsAppPhoneNumber],
    memory: &Memory,
) -> Others {
    let ahead = ahead(resource, others.iter().copied()).map(|ahead| {
        let Key { namespace, name } = key_of(ahead);
        format!("{namespace}/{name}")
    });
    let ledgers: Vec<_> = others.iter().flat_map(|other| attempts(other)).collect();
    let mut calls = memory.calls(&resource.spec.phone_number_id, &ledgers);
    let own = attempts(resource);
    calls.retain(|attempt| own.iter().all(|own| own.id != attempt.id));
    Others {
        ahead,
        attempts: calls,
    }
}

/// Whether no call may be made for `held` because of another resource of its number, as the API server has it now: a
/// call for that one is being made, or was made within the confirm window, or it is registered.
pub fn holds_back(
    held: &WhatsAppPhoneNumber,
    other: &WhatsAppPhoneNumber,
    window: Duration,
    now: Timestamp,
) -> bool {
    let adopts = registered(other) && !registered(held);
    adopts || is_called_for(other, window, now)
}

/// Whether the number was registered after the claim was decided on, by a result that came late; what a person asked for
/// is called for nevertheless.
pub fn registered_meanwhile(held: &WhatsAppPhoneNumber, claim: &RegisterAttempt) -> bool {
    claim.request.is_none() && registered(held)
}

/// Whether a register call is being made for the resource, or was made within the confirm window.
pub fn is_called_for(resource: &WhatsAppPhoneNumber, window: Duration, now: Timestamp) -> bool {
    let unsettled = others_window(attempts(resource), window, now);
    has_open_claim(resource) || unsettled.is_some_and(|window| window.end > now)
}

/// Whether somebody may be making a register call for the resource.
pub fn has_open_claim(resource: &WhatsAppPhoneNumber) -> bool {
    attempts(resource).iter().any(RegisterAttempt::is_open)
}

fn registered(resource: &WhatsAppPhoneNumber) -> bool {
    resource.status.as_ref().is_some_and(is_registered)
}

/// Whether others may go ahead of a resource now that did not before: it was registered or claimed, and is so no more.
pub fn falls_back(before: &WhatsAppPhoneNumber, after: &WhatsAppPhoneNumber) -> bool {
    merits(after) > merits(before)
}

/// Whether a resource is registered, and whether it holds an open claim; the smaller, the further ahead.
type Merits = (Reverse<bool>, Reverse<bool>);

fn merits(resource: &WhatsAppPhoneNumber) -> Merits {
    (
        Reverse(registered(resource)),
        Reverse(has_open_claim(resource)),
    )
}

/// The smaller, the further ahead.
fn rank(resource: &WhatsAppPhoneNumber) -> (Merits, Option<Time>, String, String) {
    (
        merits(resource),
        resource.creation_timestamp(),
        resource.namespace().unwrap_or_default(),
        resource.name_any(),
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::api::WhatsAppPhoneNumberStatus;
    use crate::conditions::{Situation, Standing, set};
    use crate::reason::Reason;

    pub(crate) fn resource(name: &str, created: i64) -> WhatsAppPhoneNumber {
        let mut resource = WhatsAppPhoneNumber::new(name, crate::secrets::fixtures::spec());
        let created = Timestamp::from_second(created).unwrap();
        resource.metadata.namespace = Some("shop".to_owned());
        resource.metadata.creation_timestamp = Some(Time(created));
        resource.status = Some(WhatsAppPhoneNumberStatus::unseen());
        resource
    }

    fn registered(mut resource: WhatsAppPhoneNumber) -> WhatsAppPhoneNumber {
        let standing = Standing {
            situation: Situation::Registered,
            reason: Reason::AlreadyRegistered,
            message: String::new(),
        };
        let status = resource.status.get_or_insert_default();
        set(status, &standing, 1, Timestamp::UNIX_EPOCH);
        resource
    }

    pub(crate) fn claimed(mut resource: WhatsAppPhoneNumber) -> WhatsAppPhoneNumber {
        let ttl = Duration::from_secs(60);
        let claim = RegisterAttempt::claim("a", ttl, None, Timestamp::UNIX_EPOCH);
        resource.status.get_or_insert_default().attempts.push(claim);
        resource
    }

    #[test]
    fn registered_then_claimed_then_oldest_then_by_name() {
        let order = [
            registered(resource("d", 4)),
            claimed(resource("c", 3)),
            resource("b", 1),
            resource("a", 2),
            resource("z", 2),
        ];
        for (i, own) in order.iter().enumerate() {
            for (j, other) in order.iter().enumerate().filter(|(j, _)| *j != i) {
                let goes_ahead = ahead(own, [other]).is_some();
                assert_eq!(goes_ahead, j < i, "{j} before {i}");
            }
            let first = ahead(own, &order).map(ResourceExt::name_any);
            assert_eq!(first.as_deref(), (i > 0).then_some("d"));
        }
        assert!(ahead(&order[3], []).is_none());
    }
}
