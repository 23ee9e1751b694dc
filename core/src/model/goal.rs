//! The current goal for a number: a total function of the resource, its state, its peers and the settings.

use std::time::Duration;

use super::phase::{Standing, State};
use super::policy::Policy;
use super::twins::Peers;
use crate::api::WhatsAppPhoneNumber;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal<'a> {
    /// The resource is being deleted, and the number stays as it is.
    Retain,
    /// The resource is being deleted, and its number is to be taken off the Cloud API first.
    Deregister,
    /// No call is made.
    Suspend,
    /// The number was registered, nothing else is requested, and it is not observed.
    Rest,
    /// The number was registered: it is read once in each such interval.
    Observe(Duration),
    /// Another resource of the number takes precedence, by its name.
    Yield(&'a str),
    /// The number is to be registered.
    Register,
    /// The registration was lost, and the number is to be registered again.
    Recover,
    /// A register call is requested, by this value of the annotation.
    Call(&'a str),
}

/// Returns the goal for a resource.
pub fn goal<'a>(
    resource: &'a WhatsAppPhoneNumber,
    state: &State,
    peers: &'a Peers,
    policy: &Policy,
) -> Goal<'a> {
    if resource.metadata.deletion_timestamp.is_some() {
        let held = resource.has_finalizer();
        return if held { Goal::Deregister } else { Goal::Retain };
    }
    if resource.spec.suspend {
        return Goal::Suspend;
    }
    let request = request(resource, state);
    match (&state.standing, request, &peers.owner) {
        (Standing::Lost(loss), None, None) if loss.recovering => Goal::Recover,
        (Standing::Registered(_) | Standing::Lost(_), None, _) => {
            let interval = policy.observe_interval(resource);
            interval.map_or(Goal::Rest, Goal::Observe)
        }
        (_, _, Some(owner)) => Goal::Yield(owner),
        (_, Some(request), None) => Goal::Call(request),
        (Standing::Unregistered, None, None) => Goal::Register,
    }
}

/// The value of the annotation that requests a register call, if it is not handled yet.
fn request<'a>(resource: &'a WhatsAppPhoneNumber, state: &State) -> Option<&'a str> {
    let handled = state.record.last_handled_register_request.as_deref();
    let value = resource.register_request()?;
    (Some(value) != handled).then_some(value)
}
