//! What people see of a [`State`]: its conditions and messages. They are a function of the named fields of the status; only the time
//! at which a condition last flipped is its own.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::phase::{Phase, Standing, State};
use super::schedule::whole_seconds;
use crate::api::conditions::{self, FALSE, TRUE, Truth, UNKNOWN};
use crate::api::text::{MESSAGE, cut, one_line};
use crate::api::{
    Disposition, Hold, Loss, Observation, Operation, REGISTER_REQUESTED_AT, Reason, Registration,
    Source, Stall, Wait, WhatsAppPhoneNumberStatus, explain, explain_requested, explain_secret,
    explain_unmet, explain_unobserved,
};

/// What conditions say, as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The number is registered.
    Registered,
    /// A register call is claimed and may be in flight.
    Registering,
    /// The operator is finding out whether the number is registered.
    Confirming,
    /// Not registered; the operator retries automatically.
    Waiting,
    /// Not registered; the operator does not retry until something changes.
    Stalled,
    /// Not registered, and no call is wanted.
    Suspended,
    /// The resource is being deleted, and the number is being taken off.
    Leaving,
    /// The resource is being deleted, and Graph refuses to take the number off.
    NotLeaving,
}

/// A view, with the reason and the message to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub view: View,
    pub reason: Reason,
    /// What happened, why, and what to do next, in one line.
    pub message: String,
}

/// What a state shows; nothing of a resource that was not reconciled yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The conditions `Registered` and `Ready`.
    pub ready: Option<Summary>,
    /// The conditions `Failed`, `Reconciling` and `Stalled`.
    pub failed: Option<Summary>,
    /// The condition `Observed`.
    pub observed: Option<Observed>,
}

/// What an observation shows: its reason, and its message to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Whether it had a usable answer.
    pub usable: bool,
    pub reason: Reason,
    pub message: String,
}

/// Writes a state as a status for this generation.
pub fn render(state: &State, generation: i64, now: Timestamp) -> WhatsAppPhoneNumberStatus {
    let State {
        standing,
        phase,
        verdict,
        hold,
        record,
    } = state.clone();
    let (wait, stall) = match phase {
        Phase::Unconfirmed(wait) | Phase::Waiting(wait) => (Some(wait), None),
        Phase::Stalled(stall) => (None, Some(stall)),
        Phase::Idle | Phase::InFlight(_) => (None, None),
    };
    let (registration, loss) = match standing {
        Standing::Registered(registration) => (Some(registration), None),
        Standing::Lost(loss) => (None, Some(loss)),
        Standing::Unregistered => (None, None),
    };
    WhatsAppPhoneNumberStatus {
        observed_generation: generation,
        conditions: render_conditions(state, generation, now),
        next_attempt_time: next_attempt(state),
        registration,
        loss,
        wait,
        stall,
        verdict,
        hold,
        ..record
    }
}

/// The time of the next automatic attempt; none while the operator waits for a change.
fn next_attempt(state: &State) -> Option<Time> {
    let own = state.wait().map(|wait| &wait.until);
    let next = match &state.hold {
        None => own,
        Some(hold) => {
            let until = hold.until.as_ref();
            until.and_then(|until| own.into_iter().chain([until]).max_by_key(|time| time.0))
        }
    };
    next.cloned()
}

impl Shown {
    pub fn of(state: &State) -> Self {
        let progress = match (&state.phase, &state.hold) {
            (Phase::InFlight(claim), _) => Some(Summary::in_flight(claim.operation)),
            (_, Some(hold)) => Some(Summary::held(hold, state)),
            (Phase::Idle, None) => None,
            (Phase::Unconfirmed(wait), None) => Some(Summary::confirming(wait)),
            (Phase::Waiting(wait), None) => Some(Summary::waiting(wait)),
            (Phase::Stalled(stall), None) => Some(Summary::stalled(stall, &state.standing)),
        };
        let standing = match &state.standing {
            Standing::Registered(registration) => Some(Summary::registered(registration)),
            Standing::Lost(loss) => Some(Summary::lost(loss, progress.as_ref())),
            Standing::Unregistered => None,
        };
        let over_standing = progress.clone().filter(|summary| {
            matches!(
                summary.view,
                View::Suspended | View::Leaving | View::NotLeaving
            )
        });
        Self {
            ready: over_standing
                .or_else(|| standing.clone())
                .or_else(|| progress.clone()),
            failed: progress.or(standing),
            observed: state.record.observation.as_ref().map(Observed::of),
        }
    }
}

impl Summary {
    fn new(view: View, reason: Reason, message: String) -> Self {
        Self {
            view,
            reason,
            message: cut(&one_line(&message), MESSAGE),
        }
    }

    fn registered(registration: &Registration) -> Self {
        let Registration { reason, message } = registration;
        let text = match reason {
            Reason::OutcomeConfirmed => format!(
                "The number is registered, although the register call had no clear answer. {message}."
            ),
            Reason::AlreadyRegistered => {
                format!(
                    "The number is registered already, so no register call is needed. {message}."
                )
            }
            _ => format!("The number is registered: {message}."),
        };
        Self::new(View::Registered, *reason, text)
    }

    /// Where the number is to be registered again, what stops that is what people can do something about.
    fn lost(loss: &Loss, progress: Option<&Self>) -> Self {
        let what = match loss.reason {
            Reason::RegistrationLost => {
                "The number was registered and no longer is, as two reads show"
            }
            _ => "The number was registered and can no longer be used, as two reads show",
        };
        let stopped = progress.filter(|progress| progress.view == View::Stalled);
        let (view, then) = if let (true, Some(stopped)) = (loss.recovering, stopped) {
            (View::Stalled, stopped.message.clone())
        } else if loss.recovering {
            let then = "The operator registers it again, as spec.lossPolicy says.".to_owned();
            (View::Waiting, then)
        } else if loss.repeated {
            let advice = match loss.reason {
                Reason::RegistrationLost => format!(
                    "Find out who deregistered or moved the number. To have it registered again, set the annotation \
                     {REGISTER_REQUESTED_AT} to a new value; if it is registered elsewhere on purpose, delete this resource."
                ),
                reason => reason.advice().to_owned(),
            };
            let then = format!(
                "It is the second loss in 24 hours, so spec.lossPolicy does not apply. {advice}"
            );
            (View::Stalled, then)
        } else {
            (View::Stalled, loss.reason.advice().to_owned())
        };
        let message = loss.message.trim_end_matches('.');
        // A long text from Graph is cut in favour of what follows.
        let most = MESSAGE.saturating_sub(then.chars().count() + 2);
        let message = cut(&one_line(&format!("{what}. {message}")), most);
        Self::new(view, loss.reason, format!("{message}. {then}"))
    }

    fn in_flight(operation: Operation) -> Self {
        let reason = operation.in_flight();
        let message = format!("A {} is in flight. {}", operation.noun(), reason.advice());
        let view = match operation {
            Operation::Register => View::Registering,
            Operation::Deregister => View::Leaving,
        };
        Self::new(view, reason, message)
    }

    /// While an outcome is being confirmed, a read that failed shows in the message only.
    fn confirming(wait: &Wait) -> Self {
        let reason = match wait.reason.disposition() {
            Disposition::Confirm | Disposition::ConfirmThenStall => wait.reason,
            Disposition::Done
            | Disposition::Retry
            | Disposition::RetryN(_)
            | Disposition::Stall => Reason::OutcomeUnknown,
        };
        Self {
            view: View::Confirming,
            reason,
            ..Self::waiting(wait)
        }
    }

    fn waiting(wait: &Wait) -> Self {
        let message = explain(&wait.message, wait.reason, Some(wait.until.0));
        Self::new(View::Waiting, wait.reason, message)
    }

    fn stalled(stall: &Stall, standing: &Standing) -> Self {
        let registered = matches!(standing, Standing::Registered(_));
        // Nothing but a request leads to another call for it.
        let lost = matches!(standing, Standing::Lost(loss) if !loss.recovering);
        let message = if stall.token_changed {
            format!(
                "Graph rejected the PIN under the previous token, and the operator cannot tell whether the PIN \
                 changed with the token. If the PIN is right now, set the annotation {REGISTER_REQUESTED_AT} \
                 to a new value; else put the right PIN into the Secret."
            )
        } else if stall.reason == Reason::DeregistrationFailed {
            explain(&stall.message, stall.reason, None)
        } else if registered && stall.request.is_some() {
            explain_unmet(&stall.message, stall.reason)
        } else if registered {
            explain_requested(&stall.message, stall.reason, "counts as registered")
        } else if lost && stall.request.is_none() {
            explain_requested(&stall.message, stall.reason, "counts as lost")
        } else {
            explain(&stall.message, stall.reason, None)
        };
        let view = match stall.reason {
            Reason::DeregistrationFailed => View::NotLeaving,
            _ => View::Stalled,
        };
        Self::new(view, stall.reason, message)
    }

    fn held(hold: &Hold, state: &State) -> Self {
        let Hold {
            reason,
            message,
            until,
            since: _,
        } = hold;
        let text = match (reason.source(), until) {
            _ if *reason == Reason::Deregistering => format!(
                "The resource is being deleted, and its number is to be taken off the Cloud API first, which waits: {}. {}",
                message.trim_end_matches('.'),
                reason.advice()
            ),
            (_, Some(until)) => explain(message, *reason, Some(until.0)),
            (Source::Check, None) if reason.is_secret_fault() => explain_secret(message, *reason),
            (Source::Check, None) => format!("{message}. {}", reason.advice()),
            (Source::Read | Source::Call, None) => message.clone(),
        };
        Self::new(view_of(hold, state), *reason, text)
    }
}

/// An outcome that is being confirmed stays unknown while its token cools down.
fn view_of(hold: &Hold, state: &State) -> View {
    let unconfirmed = matches!(state.phase, Phase::Unconfirmed(_));
    match hold.reason {
        Reason::Suspended => View::Suspended,
        Reason::Deregistered => View::Suspended,
        Reason::Deregistering => View::Leaving,
        Reason::OutcomeUnknown => View::Confirming,
        Reason::RateLimited if unconfirmed => View::Confirming,
        reason if reason.disposition() == Disposition::Stall => View::Stalled,
        _ => View::Waiting,
    }
}

impl Observed {
    fn of(observation: &Observation) -> Self {
        let Some(fault) = &observation.fault else {
            return Self {
                usable: true,
                reason: Reason::ObservationSucceeded,
                message: "The last observation of the number had a usable answer.".to_owned(),
            };
        };
        Self {
            usable: false,
            reason: fault.reason,
            message: explain_unobserved(&fault.message, fault.reason),
        }
    }
}

impl View {
    /// The status of `Registered` and `Ready`.
    const fn registered(self) -> Truth {
        match self {
            Self::Registered | Self::NotLeaving => TRUE,
            Self::Registering | Self::Confirming | Self::Leaving => UNKNOWN,
            Self::Waiting | Self::Stalled | Self::Suspended => FALSE,
        }
    }

    const fn failed(self) -> Truth {
        match self {
            Self::Waiting | Self::Stalled | Self::NotLeaving => TRUE,
            Self::Registered
            | Self::Registering
            | Self::Confirming
            | Self::Suspended
            | Self::Leaving => FALSE,
        }
    }

    const fn reconciling(self) -> bool {
        match self {
            Self::Registering | Self::Confirming | Self::Waiting | Self::Leaving => true,
            Self::Registered | Self::Stalled | Self::Suspended | Self::NotLeaving => false,
        }
    }
}

/// The conditions, in their order; those that other writers added follow.
fn render_conditions(state: &State, generation: i64, now: Timestamp) -> Vec<Condition> {
    let Shown {
        ready,
        failed,
        observed,
    } = Shown::of(state);
    let (ready, failed) = (ready.as_ref(), failed.as_ref());
    let registered = |summary: &Summary| match summary.view {
        View::NotLeaving if !state.is_registered() => UNKNOWN,
        view => view.registered(),
    };
    let reconciling = failed.filter(|summary| summary.view.reconciling());
    // A registered number is not stalled: only `Failed` shows that a requested call failed.
    let stalled = failed.filter(|s| {
        s.view == View::NotLeaving || s.view == View::Stalled && !state.is_registered()
    });
    let shown = |truth, summary: &Summary| (truth, summary.reason, summary.message.clone());
    let observed = observed.map(|o| (if o.usable { TRUE } else { FALSE }, o.reason, o.message));
    let own = [
        (
            conditions::REGISTERED,
            ready.map(|s| shown(registered(s), s)),
        ),
        (conditions::READY, ready.map(|s| shown(registered(s), s))),
        (
            conditions::FAILED,
            failed.map(|s| shown(s.view.failed(), s)),
        ),
        (conditions::RECONCILING, reconciling.map(|s| shown(TRUE, s))),
        (conditions::STALLED, stalled.map(|s| shown(TRUE, s))),
        (conditions::OBSERVED, observed),
    ];
    let known = &state.record.conditions;
    let flipped = |type_: &str, truth: Truth| {
        let same = known.iter().find(|c| c.type_ == type_ && c.status == truth);
        same.map_or_else(
            || Time(whole_seconds(now)),
            |same| same.last_transition_time.clone(),
        )
    };
    let rendered = own.iter().filter_map(|(type_, shown)| {
        let (truth, reason, message) = shown.as_ref()?;
        Some(Condition {
            type_: (*type_).to_owned(),
            status: (*truth).to_owned(),
            reason: reason.to_string(),
            message: message.clone(),
            observed_generation: Some(generation),
            last_transition_time: flipped(type_, truth),
        })
    });
    let foreign = known
        .iter()
        .filter(|condition| own.iter().all(|(type_, _)| *type_ != condition.type_))
        .map(|condition| Condition {
            observed_generation: Some(generation),
            ..condition.clone()
        });
    rendered.chain(foreign).collect()
}
