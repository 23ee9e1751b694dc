//! What is known of a number, read from the status in one place: [`State::parse`], and back, [`super::render`].
//!
//! Only the named fields of the status are read, never its conditions. The *phase* is what became of the last call or read. A
//! *hold* is a reason not to call that neither gave: the spec, a Secret, another resource, the budget, a token that cools down. It
//! lies over the phase while it lasts, and takes nothing from it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::ledger;
use super::schedule::whole_seconds;
use crate::api::{
    Hold, LedgerEntry, Loss, Reason, Registration, Stall, Wait, WhatsAppPhoneNumberStatus,
};

/// A parsed status.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub standing: Standing,
    pub phase: Phase,
    /// Graph's reason against another call with the inputs of the last one. It outlasts a requested call that fails for a
    /// reason that passes.
    pub verdict: Option<Reason>,
    pub hold: Option<Hold>,
    /// All else: the ledger, the digests, and what is only shown. The fields that hold the above are empty here.
    pub record: WhatsAppPhoneNumberStatus,
}

/// Whether the number is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    Unregistered,
    Registered(Registration),
    /// It was, and reads have shown that it no longer is.
    Lost(Loss),
}

/// What became of the last call or read; of a registered number: of the last requested call.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Nothing that still matters.
    Idle,
    /// The call of this claim may be in flight.
    InFlight(Box<LedgerEntry>),
    /// The last call has no readable outcome; reads are to confirm it.
    Unconfirmed(Wait),
    /// It failed for a reason that passes. After a 5xx that may be wrong, and the number is read in the confirm window as well, but
    /// what Graph said is what people see.
    Waiting(Wait),
    /// It failed for a reason that stays until something changes.
    Stalled(Stall),
}

impl State {
    /// Reads a status.
    pub fn parse(status: &WhatsAppPhoneNumberStatus) -> Self {
        Self::of_fields(status).or_from_the_record()
    }

    /// Reads the fields of a status, ignoring everything else in it: between the end of a call and what follows from it, there are none.
    pub(super) fn of_fields(status: &WhatsAppPhoneNumberStatus) -> Self {
        let mut record = status.clone();
        record.next_attempt_time = None;
        let standing = match (record.registration.take(), record.loss.take()) {
            (_, Some(loss)) => Standing::Lost(loss),
            (Some(registration), None) => Standing::Registered(registration),
            (None, None) => Standing::Unregistered,
        };
        let ended = Phase::ended(record.wait.take(), record.stall.take());
        Self {
            standing,
            phase: Phase::in_flight(&record.attempts).unwrap_or(ended),
            verdict: record.verdict.take(),
            hold: record.hold.take(),
            record,
        }
    }

    /// A status without any of the fields comes from another version, or from an API server whose CRD does not know them. What
    /// matters most follows from the rest: no call for a number that was registered, and none against the last verdict.
    fn or_from_the_record(mut self) -> Self {
        let bare = matches!(self.phase, Phase::Idle)
            && self.standing == Standing::Unregistered
            && self.verdict.is_none()
            && self.hold.is_none();
        if bare && self.record.registration_time.is_some() {
            self.standing = Standing::Registered(Registration {
                reason: Reason::AlreadyRegistered,
                message: "its registrationTime says so".to_owned(),
            });
        } else if bare {
            let last = self.record.attempts.iter().find(|entry| entry.counts());
            self.verdict = last.and_then(LedgerEntry::verdict);
        }
        self
    }

    /// Whether the last read did not say whether the number is registered: its wait is for another read.
    pub fn awaits_read(&self) -> bool {
        self.record.read_failures > 0 || self.record.unclear_reads > 0
    }

    pub fn is_registered(&self) -> bool {
        match self.standing {
            Standing::Registered(_) => true,
            Standing::Unregistered | Standing::Lost(_) => false,
        }
    }

    /// How the registration was lost, if it was.
    pub fn loss(&self) -> Option<&Loss> {
        match &self.standing {
            Standing::Lost(loss) => Some(loss),
            Standing::Unregistered | Standing::Registered(_) => None,
        }
    }

    /// The wait of the phase.
    pub fn wait(&self) -> Option<&Wait> {
        match &self.phase {
            Phase::Unconfirmed(wait) | Phase::Waiting(wait) => Some(wait),
            Phase::Idle | Phase::InFlight(_) | Phase::Stalled(_) => None,
        }
    }

    /// What stalls the resource after its last call or read.
    pub fn stall(&self) -> Option<&Stall> {
        match &self.phase {
            Phase::Stalled(stall) => Some(stall),
            Phase::Idle | Phase::InFlight(_) | Phase::Unconfirmed(_) | Phase::Waiting(_) => None,
        }
    }

    /// Notes that the number is registered, which ends everything but another claim. A call that succeeded begins a new registration;
    /// what a read shows has been so since it was first seen.
    pub fn register(&mut self, reason: Reason, message: String, now: Timestamp) {
        let since = match &self.record.registration_time {
            Some(known) if reason != Reason::RegistrationSucceeded => known.clone(),
            _ => Time(whole_seconds(now)),
        };
        self.record.registration_time = Some(since);
        self.standing = Standing::Registered(Registration { reason, message });
        self.record.loss_suspected_time = None;
        self.record.may_be_registered = true;
        self.phase = Phase::in_flight(&self.record.attempts).unwrap_or(Phase::Idle);
        self.verdict = None;
        self.hold = None;
        self.record.last_error = None;
        self.record.read_failures = 0;
        self.record.unclear_reads = 0;
    }
}

impl State {
    /// Notes that the number was taken off the Cloud API, for a resource that is being deleted.
    pub fn deregister(&mut self, message: String) {
        self.standing = Standing::Unregistered;
        self.record.may_be_registered = false;
        self.phase = Phase::in_flight(&self.record.attempts).unwrap_or(Phase::Idle);
        self.hold = Some(Hold::new(Reason::Deregistered, message));
        self.record.last_error = None;
        self.record.read_failures = 0;
        self.record.unclear_reads = 0;
    }
}

impl Phase {
    fn in_flight(attempts: &[LedgerEntry]) -> Option<Self> {
        let open = ledger::open(attempts)?;
        Some(Self::InFlight(Box::new(open.clone())))
    }

    fn ended(wait: Option<Wait>, stall: Option<Stall>) -> Self {
        match (wait, stall) {
            (_, Some(stall)) => Self::Stalled(stall),
            (Some(wait), None) if wait.confirming => Self::Unconfirmed(wait),
            (Some(wait), None) => Self::Waiting(wait),
            (None, None) => Self::Idle,
        }
    }

    /// The phase of a wait, in which reads are to confirm the outcome of the last call, or not.
    pub fn waits(wait: Wait, confirming: bool) -> Self {
        let wait = Wait { confirming, ..wait };
        Self::ended(Some(wait), None)
    }
}
