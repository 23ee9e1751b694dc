//! The promises of docs/design/protocol.md as code: I1 to I4 and I6 where something happens; I5 is in `fair`.

use std::sync::Arc;

use super::Checker;
use super::graph::LAG;
use super::state::{Called, Look, Outcome, Run, State, Stored};
use operator_core::api::Reason;
use operator_core::api::conditions;
use operator_core::api::conditions::{is_registered, is_true, reason_of};
use operator_core::api::{
    AttemptOutcome, LedgerEntry, WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus,
};
use operator_core::model::schedule::{META_LIMIT, META_WINDOW, plus};
use testkit::builders::{PIN, TOKEN};
use testkit::world::WINDOW;

impl State {
    /// Takes note of the first broken promise.
    pub(super) fn promise(&mut self, kept: bool, text: impl FnOnce() -> String) {
        if !kept && self.broken.is_none() {
            self.broken = Some(text());
        }
    }
}

impl Checker {
    /// What must hold when a register call reaches Graph. `late`: its process was paused for too long before the send,
    /// which nothing can prevent.
    pub(super) fn called_promises(&self, state: &mut State, run: &Run, late: bool) {
        let id = &run.entry().id;
        let twice = state.history.calls.iter().any(|call| call.id == *id);
        state.promise(!twice, || format!("I2: two calls for {id}"));
        if !run.is_requested() {
            looked(state, run);
        }
        let history = &state.history;
        let unknown = history.unseen.contains(&run.uid())
            // What a process that died had under way for a resource that is gone.
            || history.forgotten.contains(&run.uid());
        if late || unknown {
            return;
        }
        alone(state, run);
        self.in_budget(state, run);
        if run.is_requested() {
            asked_once(state, run);
        } else {
            unregistered(state, run);
        }
    }

    /// I3: never more automatic calls in 72 hours than the limit, and never an eleventh.
    fn in_budget(&self, state: &mut State, run: &Run) {
        let now = state.now();
        let fresh = |call: &&Called| u64::from(now - call.at.0) < META_WINDOW.as_secs();
        let made = settled_calls(state).filter(fresh).count();
        let limit = match run.is_requested() {
            true => META_LIMIT,
            false => super::ATTEMPT_LIMIT,
        };
        state.promise(made < limit, || {
            format!("I3: {made} calls in 72 hours before this one")
        });
    }
}

/// I1: an automatic call follows a read of the same pass, which did not and could not yet show a registration.
fn looked(state: &mut State, run: &Run) {
    let Some((at, look)) = run.reading else {
        return state.promise(false, || "I1: an automatic call without a look".to_owned());
    };
    let shown = state.graph.since.is_some_and(|since| since.0 + LAG <= at.0);
    state.promise(!shown && look != Look::Registered, || {
        "I1: a call although the read before it showed the registration".to_owned()
    });
    let known = run.held.as_ref().map(|held| is_registered(held.status()));
    state.promise(known != Some(true), || {
        "I1: an automatic call for what is known to be registered".to_owned()
    });
}

/// I1, all in all: where an own call has registered the number, no automatic one follows, by whichever process.
fn unregistered(state: &mut State, run: &Run) {
    let by = state.graph.by.clone();
    let known = by.filter(|by| settled_calls(state).any(|c| c.id == *by && !c.shows_late));
    state.promise(known.is_none(), || {
        format!(
            "I1: {} is sent although {} has registered the number",
            run.entry().id,
            known.unwrap_or_default()
        )
    });
}

/// I2: no call beside another open claim of the resource, and none for the number before an earlier one is settled.
fn alone(state: &mut State, run: &Run) {
    let stored = state.server.objects[run.name].clone();
    let own = stored.filter(|stored| stored.uid() == run.uid());
    let own = own.as_ref().map(Stored::attempts).unwrap_or_default();
    let mut open = own.iter();
    let other = open.any(|a| a.is_open() && a.id != run.entry().id);
    state.promise(!other, || {
        format!("I2: {} beside an open claim", run.entry().id)
    });
    let now = state.now();
    let unsettled = |call: &&Called| {
        // Protocol, "Reading the number": what a read shows as registered is settled, and a request may follow at once.
        let confirmed = |a: &LedgerEntry| a.outcome() == Some(AttemptOutcome::Succeeded);
        let open = matches!(
            call.outcome,
            Outcome::NoAnswer | Outcome::Fault | Outcome::Rejected
        ) && !own.iter().any(|a| a.id == call.id && confirmed(a));
        u64::from(now - call.at.0) < WINDOW.as_secs() && (open || call.uid != run.uid())
    };
    let earlier = settled_calls(state).find(unsettled);
    let earlier = earlier.map(|call| call.id.clone());
    state.promise(earlier.is_none(), || {
        format!(
            "I2: {} in the confirm window of {earlier:?}",
            run.entry().id
        )
    });
}

/// Protocol, "What makes it try again": one value of the annotation gives at most one call that may have acted.
fn asked_once(state: &mut State, run: &Run) {
    let request = &run.entry().request;
    let mut calls = state.history.calls.iter();
    let before = calls.any(|call| call.uid == run.uid() && call.request == *request);
    state.promise(!before, || format!("two calls for {request:?}"));
}

/// The calls that others can know of: not those that were sent too late, nor those whose ledger was deleted before a
/// process started that never saw it (protocol, "Schedule and budget": "wiped status or a restart after deletion loses it").
fn settled_calls(state: &State) -> impl Iterator<Item = &Called> {
    let calls = state.history.calls.iter();
    calls.filter(|call| {
        !call.late
            && !state.history.forgotten.contains(&call.uid)
            && !state.history.unseen.contains(&call.uid)
    })
}

/// What must hold of a write to a status.
pub(super) fn wrote(state: &mut State, _name: usize, before: &Stored, after: &Stored) {
    let now = super::time(state.now());
    let (old, new) = (before.status(), after.status());
    let kept = !is_registered(old) || is_registered(new);
    state.promise(kept, || "I4: a success is taken back".to_owned());
    for ended in old.attempts.iter().filter(|a| !a.is_open()) {
        let found = new.attempts.iter().find(|a| a.id == ended.id);
        let succeeded = ended.outcome() == Some(AttemptOutcome::Succeeded);
        let outdated = plus(ended.time(now), META_WINDOW) <= now;
        let lost = found.map_or(!outdated, |a| a.outcome() != ended.outcome());
        state.promise(!(succeeded && lost), || {
            format!("I4: the success of {} is lost", ended.id)
        });
        let reopened = found.is_some_and(LedgerEntry::is_open);
        state.promise(!reopened, || format!("I4: {} is open again", ended.id));
    }
    if let Some(claim) = new.attempts.first().filter(|a| a.is_open()) {
        claimed(state, before, after, claim);
    }
    let text = shown(new);
    let secret = text.contains(TOKEN) || text.contains(PIN);
    state.promise(!secret, || "I6: a secret stands in a status".to_owned());
    note_stall(state, after);
}

/// I2 and I4 of a claim.
fn claimed(state: &mut State, before: &Stored, after: &Stored, claim: &LedgerEntry) {
    let old = before.status();
    if old.attempts.iter().any(|a| a.id == claim.id) {
        return;
    }
    let open = old.attempts.iter().any(LedgerEntry::is_open);
    state.promise(!open, || {
        format!("I2: {} is claimed beside an open claim", claim.id)
    });
    let stalled = state.history.stalled.get(&after.uid());
    let same = stalled.is_some() && stalled == after.status().pin_digest.as_ref();
    state.promise(!same || claim.request.is_some(), || {
        format!(
            "I4: {} although nothing has changed since it stalled",
            claim.id
        )
    });
    if !same {
        state.history.stalled.remove(&after.uid());
    }
}

fn note_stall(state: &mut State, after: &Stored) {
    let status = after.status();
    let reason = reason_of(status, conditions::STALLED);
    let by_graph = is_true(status, conditions::STALLED)
        && reason.is_some_and(|reason| reason != Reason::DuplicatePhoneNumber);
    if is_registered(status) {
        state.history.stalled.remove(&after.uid());
    } else if let (true, Some(digest)) = (by_graph, &status.pin_digest) {
        let stalled = &mut state.history.stalled;
        stalled.insert(after.uid(), digest.clone());
    }
}

/// Every text of a status that can hold words from outside.
fn shown(status: &WhatsAppPhoneNumberStatus) -> String {
    let mut text: String = status
        .conditions
        .iter()
        .map(|c| c.message.as_str())
        .collect();
    text.extend(status.registration.as_ref().map(|r| r.message.as_str()));
    text.extend(status.wait.as_ref().map(|wait| wait.message.as_str()));
    text.extend(status.stall.as_ref().map(|stall| stall.message.as_str()));
    text.extend(status.hold.as_ref().map(|hold| hold.message.as_str()));
    let error = status.last_error.as_ref();
    text.extend(error.and_then(|error| error.message.as_deref()));
    text.extend(status.fbtrace_id.as_deref());
    text.extend(status.inputs_digest.as_deref());
    text.extend(status.pin_digest.as_deref());
    text.extend(status.token_digest.as_deref());
    text
}

/// For the model without that line of defence: what the process takes the number for.
pub(super) fn as_if_unregistered(resource: &mut Arc<WhatsAppPhoneNumber>) {
    if let Some(status) = &mut Arc::make_mut(resource).status {
        status.registration = None;
    }
}
