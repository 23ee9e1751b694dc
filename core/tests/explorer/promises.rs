//! The promises of docs/design/protocol.md as code: I1 to I4, I6 and I7 where something happens; I5 is in `fair`.

use std::sync::Arc;
use std::time::Duration;

use super::graph::LAG;
use super::state::{Called, Look, Outcome, Run, State, Stored};
use super::{Checker, DEADLINE};
use operator_core::api::conditions;
use operator_core::api::conditions::{is_registered, is_true, reason_of};
use operator_core::api::{
    AttemptOutcome, DeletionPolicy, LedgerEntry, LossPolicy, Operation, Reason,
    WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus,
};
use operator_core::model::machine::Failure;
use operator_core::model::observe::LOSS_WINDOW;
use operator_core::model::schedule::{AFTER_DEREGISTRATION, META_LIMIT, META_WINDOW, plus};
use operator_core::model::{FarewellOutcome, Requeue};
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
    /// What must hold when a call reaches Graph. `late`: its process was paused for too long before the send, which nothing can
    /// prevent. All else that a deregister call has to keep is in [`checked`].
    pub(super) fn called_promises(&self, state: &mut State, run: &Run, late: bool) {
        let id = &run.entry().id;
        let twice = state.history.calls.iter().any(|call| call.id == *id);
        state.promise(!twice, || format!("I2: two calls for {id}"));
        if !run.operation().registers() {
            return;
        }
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
    let by = state.graph.since.and(state.graph.by.clone());
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

/// The register calls that others can know of: not those that were sent too late, nor those whose ledger was deleted before a
/// process started that never saw it (protocol, "Schedule and budget": "wiped status or a restart after deletion loses it").
fn settled_calls(state: &State) -> impl Iterator<Item = &Called> {
    let calls = state.history.calls.iter();
    calls.filter(|call| {
        call.registers
            && !call.late
            && !state.history.forgotten.contains(&call.uid)
            && !state.history.unseen.contains(&call.uid)
    })
}

/// What must hold when nothing speaks against a call any more, as far as its process can know: nothing comes between this and the
/// call but time.
pub(super) fn checked(state: &mut State, who: usize, run: &Run) {
    match run.operation() {
        Operation::Register => {
            wanted(state, run);
            let listed = state.operators[who].cache.iter().flatten().count() > 1;
            away_for_long(state, who, listed, &run.entry().id);
        }
        Operation::Deregister => {
            asked_for(state, run);
            undeclared(state, run);
            alone_in_leaving(state, who, run);
            let limit = Operation::Deregister.limit();
            let made = known(state, who, true, META_WINDOW.as_secs(), |call| {
                !call.registers
            });
            let made = made.len();
            state.promise(made < limit, || {
                format!("I3: {made} deregister calls in 72 hours before this one")
            });
        }
    }
}

/// I7: no register call that nobody asked for. A number that was registered for this resource is registered again only where its spec
/// says so, and once in 24 hours.
fn wanted(state: &mut State, run: &Run) {
    let status = run.view.status();
    let was_registered = status.registration.is_some() || status.loss.is_some();
    if run.is_requested() || !was_registered {
        return;
    }
    let id = &run.entry().id;
    let wanted = run.view.resource().spec.loss_policy == LossPolicy::Register;
    state.promise(wanted, || {
        format!("I7: {id} for a number that was registered, and nobody asked for it")
    });
    let losses = state.history.losses.get(&run.uid());
    let again = losses.is_some_and(|losses| match losses {
        [Some(last), Some(before)] => u64::from(last.0 - before.0) < LOSS_WINDOW.as_secs(),
        _ => false,
    });
    state.promise(!again, || format!("I7: {id} for a second loss in 24 hours"));
}

/// I7: no deregister call that nobody asked for.
fn asked_for(state: &mut State, run: &Run) {
    let resource = run.view.resource();
    let held = run.view.leaves() && resource.has_finalizer();
    let asked = held && deregisters(resource) && !resource.spec.suspend;
    state.promise(asked, || format!("I7: nobody asked for {}", run.entry().id));
    let look = run.reading.map(|(_, look)| look);
    state.promise(look == Some(Look::Registered), || {
        format!(
            "I1: {} after the number was read as {look:?}",
            run.entry().id
        )
    });
}

/// I1': no deregister call for a number that another resource names.
fn undeclared(state: &mut State, run: &Run) {
    let mut others = state.server.objects.iter().flatten();
    let declared = others.any(|other| other.uid() != run.uid() && !other.leaves());
    state.promise(!declared, || {
        format!(
            "I1': {} although another resource names the number",
            run.entry().id
        )
    });
}

/// I2 of a deregister call: none beside another open claim, none before an earlier call is settled, none after one that has taken the
/// number off; and none for a name for which one has or may have acted in the last 72 hours.
fn alone_in_leaving(state: &mut State, who: usize, run: &Run) {
    let id = &run.entry().id;
    let stored = state.server.objects[run.name].clone();
    let own = stored.filter(|stored| stored.uid() == run.uid());
    let own = own.as_ref().map(Stored::attempts).unwrap_or_default();
    let other = own.iter().any(|a| a.is_open() && a.id != *id);
    state.promise(!other, || format!("I2: {id} beside an open claim"));
    let uid = run.uid();
    let unsettled = |call: &Called| call.uid != uid || !call.registers;
    let recent = known(state, who, true, WINDOW.as_secs(), unsettled);
    state.promise(recent.is_empty(), || {
        format!("I2: {id} in the confirm window of {recent:?}")
    });
    let again = known(state, who, true, META_WINDOW.as_secs(), |call| {
        let refused = call.outcome == Outcome::Refused;
        !call.registers && !refused && call.name == run.name && call.uid != uid
    });
    state.promise(again.is_empty(), || {
        format!("{id} after {again:?} for an earlier resource of this name")
    });
    let by = state.graph.gone.and(state.graph.by.clone());
    let acted = known(state, who, true, META_WINDOW.as_secs(), |call| {
        Some(&call.id) == by.as_ref() && !call.shows_late
    });
    state.promise(acted.is_empty(), || {
        format!("I1: {id} is sent although {by:?} has taken the number off")
    });
}

/// I2: nobody registers or adopts a number for five minutes after a deregister call.
fn away_for_long(state: &mut State, who: usize, listed: bool, what: &str) {
    let time = AFTER_DEREGISTRATION.as_secs();
    let recent = known(state, who, listed, time, |call| !call.registers);
    state.promise(recent.is_empty(), || {
        format!("I2: {what} moments after {recent:?} has taken the number off")
    });
}

/// The claims of the calls of some kind in the last so many seconds that a process can know of: it has seen them, or has just listed
/// them.
fn known(
    state: &State,
    who: usize,
    listed: bool,
    seconds: u64,
    kind: impl Fn(&Called) -> bool,
) -> Vec<String> {
    let (operator, now) = (&state.operators[who], state.now());
    let objects = state.server.objects.iter().filter(|_| listed);
    let stored: Vec<_> = operator.cache.iter().chain(objects).flatten().collect();
    let seen = |call: &&Called| {
        let is = |entry: &LedgerEntry| entry.id == call.id;
        let mut ledgers = stored.iter().map(|stored| stored.attempts());
        operator.memory.calls.0.iter().any(|call| is(&call.entry))
            || ledgers.any(|ledger| ledger.iter().any(is))
    };
    let recent = |call: &&Called| u64::from(now - call.at.0) < seconds && !call.outlived;
    let calls = state.history.calls.iter().filter(recent).filter(seen);
    let calls = calls.filter(|call| kind(call));
    calls.map(|call| call.id.clone()).collect()
}

/// Whether the number is to be taken off with the resource.
fn deregisters(resource: &WhatsAppPhoneNumber) -> bool {
    resource.spec.deletion_policy == DeletionPolicy::Deregister
}

/// What must hold of a status that ends a round.
pub(super) fn settles(
    state: &mut State,
    who: usize,
    run: &Run,
    status: &WhatsAppPhoneNumberStatus,
) {
    let adopts = status.registration.is_some() && run.view.status().registration.is_none();
    if !adopts {
        return;
    }
    away_for_long(state, who, false, "the number is adopted");
    let resource = run.view.resource();
    let held = run.view.leaves() || !deregisters(resource) || resource.has_finalizer();
    state.promise(held, || {
        "the number is adopted without the finalizer".to_owned()
    });
}

/// What must hold when the finalizer of a resource has come off that was being deleted: what is told of its number is so.
pub(super) fn lets_go(state: &mut State, run: &Run, told: FarewellOutcome) {
    let (since, by, own) = (state.graph.since, state.graph.by.clone(), run.uid());
    let mut calls = state.history.calls.iter();
    let by_own = calls.find(|call| call.uid == own && Some(&call.id) == by.as_ref());
    let by_own = by_own.is_some_and(|call| !call.outlived);
    // What somebody else has registered since, no look was taken for.
    let shown = run.reading.map(|(at, _)| at);
    let registered = match (since, shown) {
        (Some(since), Some(at)) => since.0 + LAG <= at.0,
        (Some(_), None) => by_own,
        (None, _) => false,
    };
    state.promise(
        !(registered && told == FarewellOutcome::Deregistered),
        || "the number is told to be off, and is registered".to_owned(),
    );
    let off = since.is_none() && by_own;
    state.promise(!(off && told == FarewellOutcome::LeftRegistered), || {
        "the number is told to be registered, and was taken off for this resource".to_owned()
    });
}

/// I5: no reconciliation leaves the finalizer on a resource whose deletion has taken as long as it may, but for an open claim.
pub(super) fn ends(state: &mut State, run: &Run, end: Result<Requeue, Failure>) {
    let (now, known) = (super::time(state.now()), run.machine.resource());
    let newest = state.server.objects[run.name].as_ref();
    let newest = newest.map(Stored::resource).filter(|newest| {
        (&newest.metadata.uid, &newest.metadata.resource_version)
            == (&known.metadata.uid, &known.metadata.resource_version)
    });
    let overdue = newest.is_some_and(|newest| {
        let deleted = newest.metadata.deletion_timestamp.as_ref();
        let open = newest.attempts().iter().any(LedgerEntry::is_open);
        let over = deleted.is_some_and(|deleted| plus(deleted.0, DEADLINE) <= now);
        over && newest.has_finalizer() && !open
    });
    // A round that follows at once may still take it off.
    let follows = end.is_ok_and(|requeue| requeue.wait(now) == Some(Duration::ZERO));
    state.promise(!overdue || follows || end.is_err(), || {
        "I5: the deletion waits for longer than it may".to_owned()
    });
}

/// A loss is found: by two reads, so that one that is wrong makes none.
fn lost(state: &mut State, old: &WhatsAppPhoneNumberStatus, after: &Stored) {
    let now = super::time(state.now());
    let suspected = old.loss_suspected_time.as_ref();
    let first = suspected.map_or(now, |since| since.0);
    let since = state.graph.since.map(|since| super::time(since.0 + LAG));
    let registered = since.is_some_and(|since| since <= first);
    state.promise(!registered || state.history.lies > 1, || {
        "a loss is found of a number that is registered".to_owned()
    });
    let moment = state.moment();
    let losses = state.history.losses.entry(after.uid()).or_default();
    *losses = [Some(moment), losses[0]];
}

/// What must hold of a write to a status.
pub(super) fn wrote(state: &mut State, _name: usize, before: &Stored, after: &Stored) {
    let now = super::time(state.now());
    let (old, new) = (before.status(), after.status());
    let kept = !is_registered(old) || is_registered(new) || new.loss.is_some() || before.leaves();
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
    if old.loss.is_none() && new.loss.is_some() {
        lost(state, old, after);
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
    if !claim.operation.registers() {
        let failed = old.stall.as_ref();
        let failed = failed.is_some_and(|stall| stall.reason == Reason::DeregistrationFailed);
        return state.promise(!failed, || {
            format!("I4: {} although Graph keeps the number", claim.id)
        });
    }
    let resource = before.resource();
    let unheld = deregisters(resource) && !resource.has_finalizer();
    state.promise(!unheld, || {
        format!("{} is claimed without the finalizer", claim.id)
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
