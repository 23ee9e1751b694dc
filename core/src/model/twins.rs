//! Peers: several resources with one phone number ID. Which one takes precedence, and which calls block others.

use std::cmp::Reverse;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_core::ResourceExt as _;

use super::ledger::others_window;
use super::schedule::plus;
use crate::api::{LedgerEntry, ObservationFault, WhatsAppPhoneNumber};

/// The knowledge about a phone number beyond the resource itself.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    /// The resource of the same phone number ID that takes precedence over this one, by the name that may be shown: who sees this
    /// one need not see another namespace.
    pub owner: Option<String>,
    /// Whether the operator has not looked at that one yet: it may never do anything.
    pub owner_is_unseen: bool,
    /// The calls for other resources of the number, including deleted ones that this process remembers, and
    /// those for this resource that its status has lost.
    pub attempts: Vec<LedgerEntry>,
    /// Those for resources of other names, gone or not, whose token was not shown the number before. Who may not see it spends none of
    /// its budget, so only the confirm window goes by them.
    pub unseen_attempts: Vec<LedgerEntry>,
    /// Whether another resource names the number that is not being deleted.
    pub declared: bool,
    /// The deregister calls for earlier resources of this name.
    pub earlier: Vec<LedgerEntry>,
}

/// A call for a number, and the resource that it was made for.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownCall {
    /// The namespace and the name of the resource.
    pub resource: String,
    pub uid: String,
    pub entry: LedgerEntry,
}

impl KnownCall {
    pub fn of(resource: &WhatsAppPhoneNumber, entry: &LedgerEntry) -> Self {
        Self {
            resource: resource.qualified_name(),
            uid: resource.uid().unwrap_or_default(),
            entry: entry.clone(),
        }
    }
}

/// How long a resource counts as able to call although the operator has not looked at it.
pub const UNSEEN: Duration = Duration::from_secs(60);

/// Returns the resource that takes precedence over `own` among the others with its phone number ID, if one does: the one with an
/// open claim; else, among those that can call, the registered one, else the oldest, else the first by namespace and name; then the
/// rest in this order.
///
/// `own` counts as able to call: its status may be outdated, and only a look at its Secrets shows that. If it is not, it makes no
/// call anyway. Another one that nobody has looked at counts as able for its first minute, and for an own one that is as new to
/// the operator.
pub fn owner<'a>(
    own: &WhatsAppPhoneNumber,
    others: impl IntoIterator<Item = &'a WhatsAppPhoneNumber>,
    now: Timestamp,
) -> Option<&'a WhatsAppPhoneNumber> {
    let is_new = |other: &WhatsAppPhoneNumber| {
        let created = other.creation_timestamp();
        created.is_none_or(|created| plus(created.0, UNSEEN) > now)
    };
    let able = |other: &WhatsAppPhoneNumber| {
        let expected = !is_unseen(other) || is_unseen(own) || is_new(other);
        rank(other, expected && can_call(other))
    };
    let first = others.into_iter().min_by_key(|other| able(other))?;
    (able(first) < rank(own, true)).then_some(first)
}

impl Peers {
    /// The peers of a resource, from the other resources of its number and all known calls of the number.
    pub fn of(
        resource: &WhatsAppPhoneNumber,
        others: &[&WhatsAppPhoneNumber],
        calls: Vec<KnownCall>,
        now: Timestamp,
    ) -> Self {
        let (name, uid) = (resource.qualified_name(), resource.uid());
        let (mut attempts, mut unseen_attempts, mut earlier) = (Vec::new(), Vec::new(), Vec::new());
        for KnownCall {
            resource: of,
            uid: its,
            entry,
        } in calls
        {
            let is_earlier = of == name && Some(&its) != uid.as_ref();
            if is_earlier && !entry.operation.registers() {
                earlier.push(entry.clone());
            }
            if resource.attempts().iter().any(|known| known.id == entry.id) {
                continue;
            }
            match entry.seen == Some(false) && of != name {
                true => unseen_attempts.push(entry),
                false => attempts.push(entry),
            }
        }
        let owner = owner(resource, others.iter().copied(), now);
        Self {
            owner: owner.map(|owner| told(owner, resource)),
            owner_is_unseen: owner.is_some_and(is_unseen),
            attempts,
            unseen_attempts,
            declared: others.iter().any(|other| declares(other)),
            earlier,
        }
    }
}

/// Whether a resource wants its number to stay as it is: one that is being deleted does not.
pub fn declares(resource: &WhatsAppPhoneNumber) -> bool {
    resource.metadata.deletion_timestamp.is_none()
}

/// The name of another resource for messages about `own`; none if it is in another namespace.
pub fn told(other: &WhatsAppPhoneNumber, own: &WhatsAppPhoneNumber) -> String {
    if other.namespace() == own.namespace() {
        other.qualified_name()
    } else {
        "another resource".to_owned()
    }
}

/// Whether another resource of the number, in its version from the API server, blocks the call for `held`: a call for
/// it is in flight or was made within the confirm window, or it is registered and takes precedence by that. One that cannot call
/// stays registered when the number is lost; that of `held` was read moments ago.
pub fn blocks_call(
    held: &WhatsAppPhoneNumber,
    other: &WhatsAppPhoneNumber,
    window: Duration,
    now: Timestamp,
) -> bool {
    let adopts = was_registered(other) && can_call(other) && !was_registered(held);
    adopts || is_called_for(other, window, now)
}

/// Whether a late outcome has registered the number since the claim was decided on; a requested call is made all the
/// same.
pub fn registered_meanwhile(held: &WhatsAppPhoneNumber, claim: &LedgerEntry) -> bool {
    claim.operation.registers() && claim.request.is_none() && registered(held)
}

/// Whether a register call for the resource is in flight, or was made within the confirm window.
pub fn is_called_for(resource: &WhatsAppPhoneNumber, window: Duration, now: Timestamp) -> bool {
    let unsettled = others_window(resource.attempts(), window, now);
    has_open_claim(resource) || unsettled.is_some_and(|window| window.end > now)
}

/// Whether the ledger of the resource has an open claim.
pub fn has_open_claim(resource: &WhatsAppPhoneNumber) -> bool {
    resource.attempts().iter().any(LedgerEntry::is_open)
}

fn registered(resource: &WhatsAppPhoneNumber) -> bool {
    resource
        .status
        .as_ref()
        .is_some_and(|status| status.registration.is_some())
}

/// Whether the operator has not looked at the resource yet.
fn is_unseen(resource: &WhatsAppPhoneNumber) -> bool {
    let status = resource.status.as_ref();
    status.is_none_or(|status| status.observed_generation < 0)
}

/// A lost number keeps its place: there another resource would only spend calls.
fn was_registered(resource: &WhatsAppPhoneNumber) -> bool {
    let status = resource.status.as_ref();
    registered(resource) || status.is_some_and(|status| status.loss.is_some())
}

/// Whether a call can be made for the resource, as far as its spec and its status show. A resource without access to a number, or without
/// Secrets for it, blocks no other. A stall about the number itself keeps its precedence: another resource would only spend calls.
fn can_call(resource: &WhatsAppPhoneNumber) -> bool {
    let status = resource.status.as_ref();
    let hold = status.and_then(|status| status.hold.as_ref());
    let stall = status.and_then(|status| status.stall.as_ref());
    // Of a number that was registered, only the observation tells of its Secrets and of its token.
    let observation = status.and_then(|status| status.observation.as_ref());
    let fault = observation.and_then(|observation| observation.fault.as_ref());
    let refused =
        |fault: &ObservationFault| fault.token_digest.is_some() && fault.reason.is_about_caller();
    !resource.spec.suspend
        && resource.metadata.deletion_timestamp.is_none()
        && !hold.is_some_and(|hold| hold.reason.is_secret_fault())
        && !stall.is_some_and(|stall| stall.reason.is_about_caller())
        && !fault.is_some_and(|fault| fault.reason.is_secret_fault() || refused(fault))
}

/// Whether peers may take precedence over a resource for the first time: it was claimed, able to call or registered, and no longer
/// is.
pub fn lost_precedence(before: &WhatsAppPhoneNumber, after: &WhatsAppPhoneNumber) -> bool {
    precedence(after, can_call(after)) > precedence(before, can_call(before))
}

/// Whether a resource holds an open claim, whether it can call, and whether it is registered; the smaller takes precedence.
type Precedence = (Reverse<bool>, Reverse<bool>, Reverse<bool>);

fn precedence(resource: &WhatsAppPhoneNumber, can_call: bool) -> Precedence {
    (
        Reverse(has_open_claim(resource)),
        Reverse(can_call),
        Reverse(was_registered(resource)),
    )
}

/// The smaller takes precedence.
fn rank(
    resource: &WhatsAppPhoneNumber,
    can_call: bool,
) -> (Precedence, Option<Time>, String, String) {
    (
        precedence(resource, can_call),
        resource.creation_timestamp(),
        resource.namespace().unwrap_or_default(),
        resource.name_any(),
    )
}
