//! What is wanted of a number now: a total function of the resource, its state and its peers.

use super::phase::{Standing, State};
use super::twins::Peers;
use crate::api::WhatsAppPhoneNumber;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal<'a> {
    /// The resource is being deleted, and the number stays as it is.
    Retain,
    /// No call is made.
    Suspend,
    /// The number is registered, and nothing else is asked.
    Rest,
    /// Another resource of the number takes precedence, by its name.
    Yield(&'a str),
    /// The number is to be registered.
    Register,
    /// A register call is requested, by this value of the annotation.
    Call(&'a str),
}

/// Returns the goal for a resource.
pub fn goal<'a>(resource: &'a WhatsAppPhoneNumber, state: &State, peers: &'a Peers) -> Goal<'a> {
    if resource.metadata.deletion_timestamp.is_some() {
        return Goal::Retain;
    }
    if resource.spec.suspend {
        return Goal::Suspend;
    }
    let request = request(resource, state);
    match (&state.standing, request, &peers.owner) {
        (Standing::Registered(_), None, _) => Goal::Rest,
        (_, _, Some(owner)) => Goal::Yield(owner),
        (_, Some(request), None) => Goal::Call(request),
        (Standing::Unregistered, None, None) => Goal::Register,
    }
}

/// The value of the annotation that requests a register call, where it is not handled yet.
fn request<'a>(resource: &'a WhatsAppPhoneNumber, state: &State) -> Option<&'a str> {
    let handled = state.record.last_handled_register_request.as_deref();
    let value = resource.register_request()?;
    (Some(value) != handled).then_some(value)
}
