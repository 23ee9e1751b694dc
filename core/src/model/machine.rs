//! One reconciliation as a machine without I/O: [`Machine::step`] takes the result of the last effect, and returns the next effect.
//!
//! Everything that the protocol asks for around the decisions is here: the claim before the call, the doubt about it, the last
//! check, the record. The driver of the machine performs its effects, one at a time and in order; a fault is an input. The operator
//! drives it with real effects, the tests with others.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube_core::ResourceExt as _;

use super::apply::{ApplyContext, CallResult, apply_outcome};
use super::cooldown::Cooldown;
use super::decide::decide;
use super::decision::{
    Claim, Decision, Farewell, Finalize, Inputs, Observed, OpenClaim, Requeue, Survey,
};
use super::definition;
use super::ledger::holds_claim;
use super::observe::{BUSY, BUSY_FOR, Plan};
use super::policy::Policy;
use super::refused::RefusedPin;
use super::schedule::plus;
use super::twins::{Peers, blocks_call, declares, registered_meanwhile, told};
use crate::api::{
    LedgerEntry, Operation, Reason, TokenWait, WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus,
};
use crate::credentials::{Digests, SecretFault};
use crate::graph::{ReadFields, ReadOutcome, RegisterOutcome, RegistrationState};

/// The wait for the watch after a resource was found gone or recreated.
const AFTER_GONE: Duration = Duration::from_secs(1);

/// The wait after a record that was not stored, doubled each time up to [`RECORD_CAP`].
const RECORD_BASE: Duration = Duration::from_millis(100);
const RECORD_CAP: Duration = Duration::from_secs(5);

/// How long a write that was not answered is looked for, where nothing else says how long.
const READ_BACK: Duration = Duration::from_secs(30);

/// What the machine asks its driver to do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Lock the number, after giving up the lock held before: a round of decisions begins. Answered by [`Input::Locked`].
    Lock,
    /// After this wait, read the resource from the API server. Answered by [`Input::Newest`].
    ReadResource { wait: Duration },
    /// Read the resource from the API server, again and again until this time of [`Process::uptime`] if it does not answer: that tells
    /// whether the last write is stored. Answered by [`Input::Newest`].
    ReadBack { until: Duration },
    /// Read the Secrets. Answered by [`Input::Secrets`].
    LoadSecrets,
    /// Read these fields of the number from Graph. Answered by [`Input::Reading`].
    ReadNumber(ReadFields),
    /// Write this status on this version of the resource, if it is still the newest. Answered by [`Input::Written`].
    ///
    /// From a claim on, the driver must run to the next [`Effect::Lock`] or [`Effect::End`], even when the reconciliation is
    /// cancelled.
    Write {
        on: Arc<WhatsAppPhoneNumber>,
        status: Box<WhatsAppPhoneNumberStatus>,
        purpose: Purpose,
    },
    /// List the resources of the number from the API server, and before a deregister call read the CRD. Answered by
    /// [`Input::Peers`].
    ListPeers(Operation),
    /// Set or remove the finalizer of this version of the resource, if it is still the newest. Answered by [`Input::Patched`].
    Finalizer {
        on: Arc<WhatsAppPhoneNumber>,
        set: bool,
    },
    /// Make the one call of the claim. Nothing may come between the step that asked for it and the call. Answered by
    /// [`Input::Called`].
    Call(Operation),
    /// The reconciliation is over.
    End(Result<Requeue, Failure>),
}

/// Why a status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It ends a round of decisions.
    Settle,
    /// It claims a call.
    Claim,
    /// It records the outcome of one.
    Record,
    /// It is only tried (`dryRun=All`), to see what the API server would keep of it.
    Try,
}

/// What came of an effect.
#[derive(Clone, Debug)]
pub enum Input {
    Locked,
    /// The newest version; `Ok(None)` where the resource is gone.
    Newest(Result<Option<Arc<WhatsAppPhoneNumber>>, Unavailable>),
    Secrets(Result<Result<Digests, SecretFault>, Unavailable>),
    Reading(Box<ReadOutcome>),
    Written(Result<Arc<WhatsAppPhoneNumber>, WriteFault>),
    /// The resources of the number, or why they are not known.
    Peers(Result<Survey, String>),
    /// The resource with the finalizers that it has now, also where it goes with the last one.
    Patched(Result<Arc<WhatsAppPhoneNumber>, PatchFault>),
    Called(Box<RegisterOutcome>),
}

/// The API server did not answer, or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

/// Why a write is not known to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFault {
    /// Another writer came first: it is not stored.
    Conflict,
    /// The resource is gone.
    Gone,
    /// It failed, or was not answered: it may still be stored later.
    Unclear,
}

/// Why a patch of the finalizer is not known to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchFault {
    /// The API server does not take it: the operator has no permission for it, or an admission rule is against it.
    Refused,
    /// Another writer came first, or the API server turned the patch away: it is not stored.
    NotStored,
    /// The resource is gone.
    Gone,
    /// It failed, or was not answered: it may still be stored later.
    Unclear,
}

/// Why a reconciliation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An effect failed; its driver knows how.
    Effect,
    /// The resource is gone.
    Gone,
    /// Other writers came first, twice.
    Contended,
    /// The decisions did not settle: a bug.
    Unsettled,
}

/// The process that the machine is part of: its clocks and settings, randomness, and what it remembers. None of it is I/O.
pub trait Process {
    fn policy(&self) -> &Policy;
    /// The time of day.
    fn now(&self) -> Timestamp;
    /// The time by a clock that only moves forward.
    fn uptime(&self) -> Duration;
    /// A random ID for a claim.
    fn fresh_id(&mut self) -> String;
    /// A random number from 0 to 1.
    fn jitter(&mut self) -> f64;

    /// Whether this version may be older than the newest that the process knows of.
    fn is_stale(&self, resource: &WhatsAppPhoneNumber) -> bool;
    fn peers(&self, resource: &WhatsAppPhoneNumber) -> Peers;
    /// Whether another resource of the number is known.
    fn has_peers(&self, resource: &WhatsAppPhoneNumber) -> bool;
    fn open_claim(&mut self, resource: &WhatsAppPhoneNumber) -> OpenClaim;
    /// The time of the last read of the number for the resource.
    fn last_read(&self, resource: &WhatsAppPhoneNumber) -> Option<Timestamp>;
    /// The last cool-down of a token, by the token's digest.
    fn cooldown(&self, token: &str) -> Option<Cooldown>;
    /// When the number of the resource is observed next, where that is planned.
    fn plan(&self, resource: &WhatsAppPhoneNumber) -> Option<Plan>;
    /// The time until which the limit of a token, by its digest, is left to calls.
    fn busy(&self, token: &str) -> Option<Timestamp>;
    /// Why Graph has refused this token with this PIN for the number, in a call that the resource does not show.
    fn refused_pin(&self, resource: &WhatsAppPhoneNumber, digests: &Digests) -> Option<Reason>;
    /// The status fields that the API server drops and a decision relies on, if it drops any.
    fn dropped_fields(&self) -> Option<String>;
    /// Whether the API server has refused to patch the finalizer of the resource lately.
    fn finalizer_refused(&self, resource: &WhatsAppPhoneNumber) -> bool;
    /// Whether it is time to try what it drops: before the first claim of the process, and while it drops any.
    fn tries_definition(&self) -> bool;
    fn note(&mut self, note: Note<'_>);
}

/// What a process has to remember or report.
#[derive(Clone, Copy, Debug)]
pub enum Note<'a> {
    /// The number is about to be read for the resource: the answer may be as old as this.
    Read(&'a WhatsAppPhoneNumber),
    /// This version is the newest, by this process or as found.
    Written(&'a WhatsAppPhoneNumber),
    /// The call of this claim will never be made, although the claim may still be stored.
    Unsent(&'a str),
    /// A call for a resource began or ended.
    Call(&'a WhatsAppPhoneNumber, &'a LedgerEntry),
    /// A token cools down.
    Cooldown(&'a TokenWait),
    /// A token, by its digest, has met no rate limit in a read.
    Unlimited(&'a str),
    /// The number of the resource is observed next at this time.
    Planned(&'a WhatsAppPhoneNumber, Plan),
    /// The limit of a token, by its digest, is nearly used up: until then it is left to calls.
    Busy(&'a str, Timestamp),
    /// A call for a number was refused for its PIN.
    RefusedPin(&'a str, &'a RefusedPin),
    /// The API server dropped these fields of a status.
    Dropped(&'a [String]),
    /// It would drop these fields, of all that a decision relies on.
    Tried(&'a [String]),
    /// The API server refuses to patch the finalizer of the resource, or does not keep it.
    FinalizerRefused(&'a WhatsAppPhoneNumber),
    /// This status is stored, after another one, although the answer to its write did not say so.
    Stored {
        before: &'a WhatsAppPhoneNumber,
        after: &'a WhatsAppPhoneNumber,
        purpose: Purpose,
    },
    /// The finalizer of the resource, which is being deleted, is off by a patch of this process; what becomes of its number. It is told
    /// afterwards, as until then the resource may change and something else become of its number; a crash in between loses it, and tells
    /// nothing wrong.
    Farewell(&'a WhatsAppPhoneNumber, &'a Farewell),
    /// The patch was not answered: the finalizer may still come off by it, and this become of the number.
    FarewellInDoubt(&'a WhatsAppPhoneNumber, &'a Farewell),
    /// The resource is gone, or has no finalizer: by a patch of this process that was not answered, or by somebody else.
    Departed(&'a WhatsAppPhoneNumber),
    /// A claim ended with this outcome, which is not recorded yet.
    Outcome(Operation, &'a RegisterOutcome),
    /// The resource is gone: an outcome is not recorded.
    Unrecorded,
}

/// One reconciliation of one resource: a round of decisions, and another one after a claim.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The version that the round began with, then the one that is decided on.
    resource: Arc<WhatsAppPhoneNumber>,
    /// Whether this is the round after a claim.
    second: bool,
    /// The status that was written last.
    written: Box<WhatsAppPhoneNumberStatus>,
    state: State,
}

/// What the machine waits for.
#[derive(Clone, Debug)]
enum State {
    /// The lock of the number.
    Locking,
    /// The newest version of the resource, as the known one may be outdated.
    Refreshing,
    /// What the API server would keep of a status.
    Trying(Box<Round>),
    /// The Secrets or a read of the number.
    Deciding(Box<Round>),
    /// The patch of the finalizer.
    Finalizing(Box<Round>, Finalize),
    /// The newest version, to find out whether the finalizer is off.
    DoubtingFarewell(Farewell),
    /// The write that ends the round.
    Settling(Requeue),
    /// The newest version, to find out whether that is stored.
    DoubtingSettle(Requeue),
    /// The write of the claim.
    Claiming(Box<Call>),
    /// The newest version, to find out whether the claim is stored.
    Doubting(Box<Call>, WriteFault),
    /// The other resources of the number, for the last check before the call.
    Checking(Box<Call>, Arc<WhatsAppPhoneNumber>),
    /// The answer to the call.
    Calling(Box<Call>, Arc<WhatsAppPhoneNumber>),
    /// The write of the outcome, or the newest version to write it on.
    Recording(Box<Record>),
    Ended,
}

/// The findings of one round so far.
#[derive(Clone, Debug)]
struct Round {
    peers: Peers,
    open_claim: OpenClaim,
    jitter: f64,
    inputs: Inputs,
    reading: Option<ReadOutcome>,
    details: Option<ReadOutcome>,
    survey: Option<Result<Survey, String>>,
}

/// A claim and its call.
#[derive(Clone, Debug)]
struct Call {
    claim: Claim,
    /// The time of [`Process::uptime`] after which another process may soon consider the claim abandoned. Its clock started before
    /// the claim was written.
    send_before: Duration,
}

/// An outcome to record.
#[derive(Clone, Debug)]
struct Record {
    call: Call,
    outcome: RegisterOutcome,
    jitter: f64,
    wait: Duration,
    /// The version that it was written on last: where that one is still the newest, the API server refuses the write itself.
    on: Option<String>,
}

impl Machine {
    /// A reconciliation of this version of a resource, which begins with [`Effect::Lock`].
    pub fn new(resource: Arc<WhatsAppPhoneNumber>) -> Self {
        Self {
            resource,
            second: false,
            written: Box::default(),
            state: State::Locking,
        }
    }

    /// The version of the resource that is decided on.
    pub fn resource(&self) -> &Arc<WhatsAppPhoneNumber> {
        &self.resource
    }

    /// Returns the next effect. An input that does not answer the last effect ends the reconciliation.
    pub fn step(&mut self, input: Input, process: &mut impl Process) -> Effect {
        let state = std::mem::replace(&mut self.state, State::Ended);
        match (state, input) {
            (State::Locking, Input::Locked) => self.begin(process),
            (State::Refreshing, Input::Newest(newest)) => self.refreshed(newest, process),
            (State::Deciding(mut round), Input::Secrets(Ok(found))) => {
                round.inputs = found.into();
                self.decide(round, process)
            }
            (State::Deciding(mut round), Input::Reading(reading)) => {
                round.take(*reading, process);
                self.decide(round, process)
            }
            (State::Deciding(mut round), Input::Peers(survey)) => {
                round.survey = Some(survey);
                self.decide(round, process)
            }
            (State::Finalizing(round, finalize), Input::Patched(patched)) => {
                self.finalized(round, finalize, patched, process)
            }
            (State::DoubtingFarewell(farewell), Input::Newest(newest)) => {
                self.doubt_farewell(&farewell, newest, process)
            }
            (State::Trying(round), Input::Written(kept)) => self.tried(round, kept, process),
            (State::Settling(requeue), Input::Written(Ok(after))) => {
                self.settled(after, requeue, process)
            }
            (State::Settling(requeue), Input::Written(Err(WriteFault::Unclear))) => {
                self.state = State::DoubtingSettle(requeue);
                read_back(process)
            }
            (State::DoubtingSettle(requeue), Input::Newest(Ok(Some(newest)))) => {
                self.doubt_settle(newest, requeue, process)
            }
            (State::Claiming(call), Input::Written(Ok(held))) => self.hold(call, held, process),
            (State::Claiming(call), Input::Written(Err(fault))) => {
                let until = call.send_before;
                self.state = State::Doubting(call, fault);
                Effect::ReadBack { until }
            }
            (State::Doubting(call, fault), Input::Newest(newest)) => {
                self.settle_claim(call, fault, newest, process)
            }
            (State::Checking(call, held), Input::Peers(peers)) => {
                self.check_peers(call, held, peers, process)
            }
            (State::Calling(call, held), Input::Called(outcome)) => {
                self.conclude(*call, held, *outcome, process)
            }
            (State::Recording(record), Input::Written(Ok(after))) => {
                drop(record);
                self.check_kept(&after, process);
                self.recorded(after, process)
            }
            (State::Recording(record), Input::Written(Err(_)) | Input::Newest(Err(_))) => {
                self.record_later(record)
            }
            (State::Recording(record), Input::Newest(Ok(newest))) => {
                let newest = newest.filter(|newest| newest.uid() == self.resource.uid());
                let Some(newest) = newest else {
                    process.note(Note::Unrecorded);
                    return gone();
                };
                if newest.resource_version() == record.on && is_overdue(&newest, process) {
                    let status = record.applied_to(&newest.status_or_unseen(), process);
                    return self.go_on_unstored(newest, status, process);
                }
                self.record(record, newest, process)
            }
            (State::Settling(_), Input::Written(Err(WriteFault::Gone))) => {
                Effect::End(Err(Failure::Gone))
            }
            (State::Deciding(_), Input::Secrets(Err(Unavailable)))
            | (State::Settling(_), Input::Written(Err(_)))
            | (State::DoubtingSettle(_), Input::Newest(_)) => Effect::End(Err(Failure::Effect)),
            _ => Effect::End(Err(Failure::Unsettled)),
        }
    }

    // === A round of decisions ===

    fn begin(&mut self, process: &mut impl Process) -> Effect {
        if process.is_stale(&self.resource) {
            self.state = State::Refreshing;
            return Effect::ReadResource {
                wait: Duration::ZERO,
            };
        }
        self.observe(process)
    }

    fn refreshed(
        &mut self,
        newest: Result<Option<Arc<WhatsAppPhoneNumber>>, Unavailable>,
        process: &mut impl Process,
    ) -> Effect {
        if newest
            .as_ref()
            .is_ok_and(|newest| self.has_departed(newest.as_deref()))
        {
            process.note(Note::Departed(&self.resource));
        }
        match newest {
            Err(Unavailable) => Effect::End(Err(Failure::Effect)),
            Ok(None) => Effect::End(Err(Failure::Gone)),
            // Recreated, and possibly for another number, which the lock does not cover.
            Ok(Some(newest)) if newest.uid() != self.resource.uid() => gone(),
            Ok(Some(newest)) => {
                self.resource = newest;
                self.observe(process)
            }
        }
    }

    /// The API server has shown what it would keep of a status with every field. Where it does not try writes, as an admission
    /// webhook can forbid it, only what is written shows it.
    fn tried(
        &mut self,
        round: Box<Round>,
        kept: Result<Arc<WhatsAppPhoneNumber>, WriteFault>,
        process: &mut impl Process,
    ) -> Effect {
        match kept {
            Ok(kept) => {
                let dropped = definition::dropped(&self.written, kept.status.as_ref());
                process.note(Note::Tried(&dropped));
            }
            Err(WriteFault::Unclear) => process.note(Note::Tried(&[])),
            // What was decided is outdated, and so would the claim be.
            Err(WriteFault::Conflict) => return Effect::End(Err(Failure::Effect)),
            Err(WriteFault::Gone) => return Effect::End(Err(Failure::Gone)),
        }
        self.decide(round, process)
    }

    /// Notes the fields of the last write that were not kept. Returns whether there are any.
    fn check_kept(&self, stored: &WhatsAppPhoneNumber, process: &mut impl Process) -> bool {
        let dropped = definition::dropped(&self.written, stored.status.as_ref());
        if !dropped.is_empty() {
            process.note(Note::Dropped(&dropped));
        }
        !dropped.is_empty()
    }

    fn observe(&mut self, process: &mut impl Process) -> Effect {
        let round = Round {
            peers: process.peers(&self.resource),
            open_claim: process.open_claim(&self.resource),
            jitter: process.jitter(),
            inputs: Inputs::Unread,
            reading: None,
            details: None,
            survey: None,
        };
        self.decide(Box::new(round), process)
    }

    fn decide(&mut self, round: Box<Round>, process: &mut impl Process) -> Effect {
        let (fresh_id, dropped) = (process.fresh_id(), process.dropped_fields());
        let mut observed = round.observed(&self.resource, &fresh_id, process);
        observed.dropped_fields = dropped.as_deref();
        let decision = decide(&observed, process.now());
        match decision {
            // Each is asked for at most once.
            Decision::LoadSecrets if matches!(round.inputs, Inputs::Unread) => {
                self.state = State::Deciding(round);
                Effect::LoadSecrets
            }
            Decision::Read(fields) if round.is_new(fields) => {
                process.note(Note::Read(&self.resource));
                self.state = State::Deciding(round);
                Effect::ReadNumber(fields)
            }
            Decision::Survey if round.survey.is_none() => {
                self.state = State::Deciding(round);
                Effect::ListPeers(Operation::Deregister)
            }
            Decision::LoadSecrets | Decision::Read(_) | Decision::Survey => {
                Effect::End(Err(Failure::Unsettled))
            }
            Decision::Finalize(finalize) => self.finalize(round, finalize),
            Decision::Call(_) if process.tries_definition() => self.try_definition(round, process),
            Decision::Settle(..) if dropped.is_some() && process.tries_definition() => {
                self.try_definition(round, process)
            }
            Decision::Call(claim) => self.claim(&round, *claim, process),
            // What was written last time may look undone: the same is not done again and again.
            Decision::Settle(status, requeue) if dropped.is_some() => self.settle(
                &round,
                status,
                requeue.not_before(definition::TRY_EVERY),
                process,
            ),
            Decision::Settle(status, requeue) => self.settle(&round, status, requeue, process),
        }
    }

    /// Has the finalizer set or removed.
    fn finalize(&mut self, round: Box<Round>, finalize: Finalize) -> Effect {
        let set = finalize == Finalize::Set;
        self.state = State::Finalizing(round, finalize);
        let on = Arc::clone(&self.resource);
        Effect::Finalizer { on, set }
    }

    fn finalized(
        &mut self,
        round: Box<Round>,
        finalize: Finalize,
        patched: Result<Arc<WhatsAppPhoneNumber>, PatchFault>,
        process: &mut impl Process,
    ) -> Effect {
        let after = match (patched, &finalize) {
            // A rule of admission has undone the patch.
            (Ok(after), Finalize::LetGo(_)) if after.has_finalizer() => {
                return Effect::End(Err(Failure::Contended));
            }
            (Ok(after), Finalize::LetGo(farewell)) => {
                return self.let_go(farewell, Some(&after), process);
            }
            (Err(PatchFault::Unclear), Finalize::LetGo(farewell)) => {
                self.state = State::DoubtingFarewell(farewell.clone());
                return read_back(process);
            }
            (Err(PatchFault::NotStored | PatchFault::Unclear), _)
            | (Err(PatchFault::Refused), Finalize::LetGo(_)) => {
                return Effect::End(Err(Failure::Effect));
            }
            (Err(PatchFault::Refused), Finalize::Set | Finalize::Clear) => {
                process.note(Note::FinalizerRefused(&self.resource));
                return self.decide(round, process);
            }
            (Err(PatchFault::Gone), _) => {
                process.note(Note::Departed(&self.resource));
                return Effect::End(Err(Failure::Gone));
            }
            (Ok(after), Finalize::Set | Finalize::Clear) => after,
        };
        process.note(Note::Written(&after));
        if after.has_finalizer() != (finalize == Finalize::Set) {
            // An admission webhook may have undone it.
            process.note(Note::FinalizerRefused(&after));
        }
        self.resource = after;
        self.decide(round, process)
    }

    /// A patch that was not answered has taken the finalizer off if the newest version is without it.
    fn doubt_farewell(
        &self,
        farewell: &Farewell,
        newest: Result<Option<Arc<WhatsAppPhoneNumber>>, Unavailable>,
        process: &mut impl Process,
    ) -> Effect {
        match newest {
            Ok(newest) if self.has_departed(newest.as_deref()) => {
                let same = newest.filter(|newest| newest.uid() == self.resource.uid());
                self.let_go(farewell, same.as_deref(), process)
            }
            Ok(_) | Err(Unavailable) => {
                process.note(Note::FarewellInDoubt(&self.resource, farewell));
                Effect::End(Err(Failure::Effect))
            }
        }
    }

    /// Whether the newest version shows that the resource is gone, or free of the finalizer.
    fn has_departed(&self, newest: Option<&WhatsAppPhoneNumber>) -> bool {
        let same = newest.filter(|newest| newest.uid() == self.resource.uid());
        same.is_none_or(|newest| !newest.has_finalizer())
    }

    /// The resource goes, or stays for the finalizers of others.
    fn let_go(
        &self,
        farewell: &Farewell,
        after: Option<&WhatsAppPhoneNumber>,
        process: &mut impl Process,
    ) -> Effect {
        if let Some(after) = after.filter(|after| !after.finalizers().is_empty()) {
            process.note(Note::Written(after));
        }
        process.note(Note::Farewell(&self.resource, farewell));
        Effect::End(Ok(Requeue::OnChange))
    }

    fn try_definition(&mut self, round: Box<Round>, process: &impl Process) -> Effect {
        self.state = State::Trying(round);
        let fullest = Box::new(definition::fullest(process.now()));
        self.write(&Arc::clone(&self.resource), fullest, Purpose::Try)
    }

    fn settle(
        &mut self,
        round: &Round,
        status: Box<WhatsAppPhoneNumberStatus>,
        requeue: Requeue,
        process: &mut impl Process,
    ) -> Effect {
        let limited = RegistrationState::Wait(Reason::RateLimited);
        let mut readings = [&round.reading, &round.details].into_iter().flatten();
        if let Some(wait) = &status.token_wait
            && readings.any(|reading| reading.state == limited)
        {
            process.note(Note::Cooldown(wait));
        }
        if self.resource.status.as_ref() == Some(&*status) {
            return self.end(requeue, process);
        }
        self.state = State::Settling(requeue);
        self.write(&Arc::clone(&self.resource), status, Purpose::Settle)
    }

    fn settled(
        &mut self,
        after: Arc<WhatsAppPhoneNumber>,
        requeue: Requeue,
        process: &mut impl Process,
    ) -> Effect {
        self.check_kept(&after, process);
        process.note(Note::Written(&after));
        self.resource = after;
        self.end(requeue, process)
    }

    /// A status whose write was not answered is stored if the newest version has it.
    fn doubt_settle(
        &mut self,
        newest: Arc<WhatsAppPhoneNumber>,
        requeue: Requeue,
        process: &mut impl Process,
    ) -> Effect {
        if newest.uid() != self.resource.uid() {
            return gone();
        }
        if newest.status.as_ref() == Some(&*self.written) {
            process.note(Note::Stored {
                before: &self.resource,
                after: &newest,
                purpose: Purpose::Settle,
            });
            return self.settled(newest, requeue, process);
        }
        let same = newest.resource_version() == self.resource.resource_version();
        if same && is_overdue(&newest, process) {
            let status = std::mem::take(&mut *self.written);
            return self.go_on_unstored(newest, status, process);
        }
        Effect::End(Err(Failure::Effect))
    }

    /// Decides on a status that was not stored, for a resource that goes now in any case: where its namespace is deleted, the operator
    /// may have lost the right to write a status there for good.
    fn go_on_unstored(
        &mut self,
        mut newest: Arc<WhatsAppPhoneNumber>,
        status: WhatsAppPhoneNumberStatus,
        process: &mut impl Process,
    ) -> Effect {
        Arc::make_mut(&mut newest).status = Some(status);
        self.resource = newest;
        self.observe(process)
    }

    /// Ends a round, and notes when the number is observed next.
    fn end(&self, requeue: Requeue, process: &mut impl Process) -> Effect {
        if let Requeue::Observe(plan) = requeue {
            process.note(Note::Planned(&self.resource, plan));
        }
        Effect::End(Ok(requeue))
    }

    // === The claim ===

    fn claim(&mut self, round: &Round, claim: Claim, process: &mut impl Process) -> Effect {
        if !matches!(round.inputs, Inputs::Ready(_)) {
            return Effect::End(Err(Failure::Unsettled));
        }
        let status = Box::new(claim.status.clone());
        let call = Call {
            send_before: process.uptime() + claim.entry.ttl() / 2,
            claim,
        };
        self.state = State::Claiming(Box::new(call));
        self.write(&Arc::clone(&self.resource), status, Purpose::Claim)
    }

    /// Any answer to the claim but success is settled by the newest version: if that shows the claim's ID, the claim is held.
    fn settle_claim(
        &mut self,
        call: Box<Call>,
        fault: WriteFault,
        newest: Result<Option<Arc<WhatsAppPhoneNumber>>, Unavailable>,
        process: &mut impl Process,
    ) -> Effect {
        let id = &call.claim.entry.id;
        let newest = match newest {
            Ok(Some(newest)) if holds_claim(&newest, &self.resource, id) => {
                process.note(Note::Stored {
                    before: &self.resource,
                    after: &newest,
                    purpose: Purpose::Claim,
                });
                return self.hold(call, newest, process);
            }
            newest => newest,
        };
        process.note(Note::Unsent(id));
        match (fault, newest) {
            (_, Ok(None)) => gone(),
            (WriteFault::Conflict, Ok(Some(newest))) => {
                self.next_round(newest, Err(Failure::Contended))
            }
            (WriteFault::Gone | WriteFault::Unclear, Ok(Some(_))) | (_, Err(Unavailable)) => {
                Effect::End(Err(Failure::Effect))
            }
        }
    }

    /// The claim is stored: no other process makes the call.
    fn hold(
        &mut self,
        call: Box<Call>,
        held: Arc<WhatsAppPhoneNumber>,
        process: &mut impl Process,
    ) -> Effect {
        process.note(Note::Written(&held));
        process.note(Note::Call(&self.resource, &call.claim.entry));
        if self.check_kept(&held, process) {
            let why = "the API server did not keep every field of the claim: its CRD is older";
            return self.not_sent(*call, held, why, process);
        }
        if registered_meanwhile(&held, &call.claim.entry) {
            let why = "the number was registered after the claim was decided on";
            return self.not_sent(*call, held, why, process);
        }
        let operation = call.claim.entry.operation;
        if process.has_peers(&held) || !operation.registers() {
            self.state = State::Checking(call, held);
            return Effect::ListPeers(operation);
        }
        self.send(call, held, process)
    }

    fn check_peers(
        &mut self,
        call: Box<Call>,
        held: Arc<WhatsAppPhoneNumber>,
        peers: Result<Survey, String>,
        process: &mut impl Process,
    ) -> Effect {
        let (now, window) = (process.now(), process.policy().confirm_window);
        let registers = call.claim.entry.operation.registers();
        let blocks = |peer: &&WhatsAppPhoneNumber| {
            let declared = !registers && declares(peer);
            peer.uid() != held.uid() && (declared || blocks_call(&held, peer, window, now))
        };
        let why = match peers {
            Err(why) => format!("failed to list the other resources of the number: {why}"),
            Ok(survey) if survey.definition_deleted => "the CRD itself is being deleted".to_owned(),
            Ok(survey) => match survey.peers.iter().find(blocks) {
                None => return self.send(call, held, process),
                Some(peer) => format!(
                    "of this phone number, {} is registered or names it, or a call for it is in flight or was made moments ago",
                    told(peer, &held)
                ),
            },
        };
        self.not_sent(*call, held, &why, process)
    }

    fn send(
        &mut self,
        call: Box<Call>,
        held: Arc<WhatsAppPhoneNumber>,
        process: &mut impl Process,
    ) -> Effect {
        if process.uptime() >= call.send_before {
            let why =
                "the API server took so long that another process may consider the claim abandoned";
            return self.not_sent(*call, held, why, process);
        }
        let operation = call.claim.entry.operation;
        self.state = State::Calling(call, held);
        Effect::Call(operation)
    }

    // === The record ===

    fn not_sent(
        &mut self,
        call: Call,
        held: Arc<WhatsAppPhoneNumber>,
        why: &str,
        process: &mut impl Process,
    ) -> Effect {
        let outcome = RegisterOutcome::without_answer(Reason::NotSent, why);
        self.conclude(call, held, outcome, process)
    }

    /// Notes the outcome in memory, as the record may follow much later, and begins to record it.
    fn conclude(
        &mut self,
        call: Call,
        held: Arc<WhatsAppPhoneNumber>,
        outcome: RegisterOutcome,
        process: &mut impl Process,
    ) -> Effect {
        let record = Record {
            call,
            outcome,
            jitter: process.jitter(),
            wait: RECORD_BASE,
            on: None,
        };
        let operation = record.call.claim.entry.operation;
        process.note(Note::Outcome(operation, &record.outcome));
        let applied = record.applied_to(&record.call.claim.status, process);
        if let Some(entry) = applied.attempts.first() {
            process.note(Note::Call(&self.resource, entry));
        }
        if let (Reason::RateLimited, Some(wait)) = (record.outcome.reason, &applied.token_wait) {
            process.note(Note::Cooldown(wait));
        }
        if let Some(refused) = RefusedPin::of(&applied) {
            let number = &self.resource.spec.phone_number_id;
            process.note(Note::RefusedPin(number, &refused));
        }
        self.record(Box::new(record), held, process)
    }

    fn record(
        &mut self,
        mut record: Box<Record>,
        newest: Arc<WhatsAppPhoneNumber>,
        process: &mut impl Process,
    ) -> Effect {
        // A status that was wiped since looks unseen, and the request in the resource counts as handled.
        let status = newest.status_or_unseen();
        let applied = record.applied_to(&status, process);
        if applied == status {
            return self.recorded(newest, process);
        }
        record.on = newest.resource_version();
        self.state = State::Recording(record);
        self.write(&newest, Box::new(applied), Purpose::Record)
    }

    /// Another try: on the newest version, until it is stored or the resource is gone.
    fn record_later(&mut self, mut record: Box<Record>) -> Effect {
        let wait = record.wait;
        record.wait = (wait * 2).min(RECORD_CAP);
        self.state = State::Recording(record);
        Effect::ReadResource { wait }
    }

    fn recorded(&mut self, after: Arc<WhatsAppPhoneNumber>, process: &mut impl Process) -> Effect {
        process.note(Note::Written(&after));
        self.next_round(after, Ok(Requeue::After(Duration::ZERO)))
    }

    /// Another round on this version; `otherwise` after the second one.
    fn next_round(
        &mut self,
        newest: Arc<WhatsAppPhoneNumber>,
        otherwise: Result<Requeue, Failure>,
    ) -> Effect {
        if newest.uid() != self.resource.uid() {
            return gone();
        }
        if self.second {
            return Effect::End(otherwise);
        }
        *self = Self {
            second: true,
            ..Self::new(newest)
        };
        Effect::Lock
    }

    fn write(
        &mut self,
        on: &Arc<WhatsAppPhoneNumber>,
        status: Box<WhatsAppPhoneNumberStatus>,
        purpose: Purpose,
    ) -> Effect {
        self.written = status.clone();
        Effect::Write {
            on: Arc::clone(on),
            status,
            purpose,
        }
    }
}

/// A resource that is gone or recreated has to wait for the watch: until then, each read and claim of it fails. The watch also
/// brings the last ledger of the old one, which counts.
fn gone() -> Effect {
    Effect::End(Ok(Requeue::After(AFTER_GONE)))
}

fn read_back(process: &impl Process) -> Effect {
    let until = process.uptime() + READ_BACK;
    Effect::ReadBack { until }
}

/// Whether the deadline of a deletion is over, so that nothing but the finalizer holds the resource.
fn is_overdue(resource: &WhatsAppPhoneNumber, process: &impl Process) -> bool {
    let release = process.policy().release_time(resource);
    release.is_some_and(|release| release <= process.now())
}

// === impl Round ===

impl Round {
    /// Whether the round has no read of these fields yet.
    fn is_new(&self, fields: ReadFields) -> bool {
        let read = self.reading.as_ref().map(|reading| reading.fields);
        match fields {
            ReadFields::All => read.is_none(),
            ReadFields::Deciding => read == Some(ReadFields::All),
            ReadFields::Optional => self.details.is_none(),
        }
    }

    /// Takes the answer to a read, and notes what it says of the token.
    fn take(&mut self, reading: ReadOutcome, process: &mut impl Process) {
        if let Inputs::Ready(digests) = &self.inputs {
            if !reading.is_a_wait() {
                process.note(Note::Unlimited(&digests.token));
            }
            if reading.usage.is_some_and(|usage| usage >= BUSY) {
                process.note(Note::Busy(&digests.token, plus(process.now(), BUSY_FOR)));
            }
        }
        match reading.fields {
            ReadFields::All | ReadFields::Deciding => self.reading = Some(reading),
            ReadFields::Optional => self.details = Some(reading),
        }
    }

    fn observed<'a>(
        &'a self,
        resource: &'a WhatsAppPhoneNumber,
        fresh_id: &'a str,
        process: &'a impl Process,
    ) -> Observed<'a> {
        let digests = match &self.inputs {
            Inputs::Ready(digests) => Some(digests),
            Inputs::Unread | Inputs::Faulty(_) => None,
        };
        Observed {
            resource,
            policy: process.policy(),
            peers: &self.peers,
            open_claim: self.open_claim,
            last_read: process.last_read(resource),
            inputs: &self.inputs,
            cooldown: digests.and_then(|digests| process.cooldown(&digests.token)),
            refused_pin: digests.and_then(|digests| process.refused_pin(resource, digests)),
            reading: self.reading.as_ref(),
            details: self.details.as_ref(),
            survey: self.survey.as_ref(),
            finalizer_refused: process.finalizer_refused(resource),
            plan: process.plan(resource),
            busy: digests.and_then(|digests| process.busy(&digests.token)),
            fresh_id,
            jitter: self.jitter,
            dropped_fields: None,
        }
    }
}

// === impl Record ===

impl Record {
    fn applied_to(
        &self,
        status: &WhatsAppPhoneNumberStatus,
        process: &impl Process,
    ) -> WhatsAppPhoneNumberStatus {
        let result = CallResult {
            operation: self.call.claim.entry.operation,
            id: &self.call.claim.entry.id,
            outcome: &self.outcome,
            handled_before: self.call.claim.handled_before.as_deref(),
        };
        let token = self.call.claim.status.token_digest.as_deref();
        let context = ApplyContext {
            policy: process.policy(),
            generation: status.observed_generation.max(0),
            cooldown: token.and_then(|token| process.cooldown(token)),
            jitter: self.jitter,
            now: process.now(),
        };
        apply_outcome(status, &result, &context)
    }
}
