//! The observation of a number that was registered: a read from time to time, and what it says about the registration. No call
//! follows from it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_core::ResourceExt as _;

use super::facts::{Facts, wait_after_read};
use crate::api::{Loss, LossPolicy, Observation, ObservationFault, Operation, Reason};
use crate::credentials::{Digests, SecretFault};
use crate::graph::{ReadFields, ReadOutcome, RegistrationState};
use crate::model::decision::{Decision, Inputs, Requeue};
use crate::model::observe::{
    BUSY, BUSY_FOR, CERTAIN_AFTER, LOSS_WINDOW, NEW_INPUTS_WITHIN, Plan, RETRIES, TOLD_AFTER,
};
use crate::model::phase::{Phase, Standing, State};
use crate::model::schedule::{later, plus, whole_seconds, with_jitter};

impl Facts<'_> {
    /// Keeps a number that was registered as it is, and clears the rest of a request that was withdrawn or may not be fulfilled.
    pub(super) fn rest(mut self) -> Decision {
        self.state.record.forget_observation();
        self.clear_what_is_over();
        self.settle(&self.state, Requeue::OnChange)
    }

    /// Observes a number of which nothing else is wanted.
    pub(super) fn observe_only(mut self, interval: Duration) -> Decision {
        self.clear_what_is_over();
        self.observe(interval)
    }

    /// Reads the number when its time has come.
    pub(super) fn observe(&self, interval: Duration) -> Decision {
        let plan = self.plan(interval);
        let waits = plan.at > self.now;
        if waits && !self.lacked_inputs() {
            return self.observe_at(&self.state, plan);
        }
        let digests = match self.observed.inputs {
            Inputs::Unread => return Decision::LoadSecrets,
            Inputs::Faulty(fault) => return self.unobservable(fault, plan, interval),
            Inputs::Ready(digests) => digests,
        };
        if waits && self.refused_token() == Some(&digests.token) {
            return self.observe_at(&self.state, plan);
        }
        if waits {
            let within = NEW_INPUTS_WITHIN.mul_f64(self.observed.jitter.clamp(0.0, 1.0));
            return self.observe_at(&self.state, plan.by(later(self.now, within)));
        }
        if let Some(time) = self.held_until() {
            return self.observe_at(&self.state, Plan { at: time, ..plan });
        }
        match self.observed.reading {
            None => Decision::Read(ReadFields::All),
            Some(reading) => self.heed_observation(reading, digests, plan, interval),
        }
    }

    /// The time until which the number is not read although it is due: in the confirm window of a call, while the token cools down,
    /// and while its limit is nearly used up.
    fn held_until(&self) -> Option<Timestamp> {
        if self.observed.reading.is_some() {
            return None;
        }
        let window = self.window_of(Operation::Register);
        let spread = |end: Timestamp| {
            let wait = Duration::try_from(end.duration_since(self.now)).unwrap_or_default();
            later(self.now, with_jitter(wait, self.observed.jitter))
        };
        let cooldown = self.observed.cooldown.map(|cooldown| cooldown.until);
        let token = cooldown
            .max(self.observed.busy)
            .filter(|end| *end > self.now);
        window.map(|window| window.end).max(token.map(spread))
    }

    fn heed_observation(
        &self,
        reading: &ReadOutcome,
        digests: &Digests,
        plan: Plan,
        interval: Duration,
    ) -> Decision {
        match reading.state {
            RegistrationState::LacksField if reading.fields == ReadFields::All => {
                Decision::Read(ReadFields::Deciding)
            }
            _ if reading.is_definite() && self.observed.details.is_none() => {
                Decision::Read(ReadFields::Optional)
            }
            // One that was lost is adopted, which comes after the finalizer.
            RegistrationState::Registered => {
                let found = || self.found(reading, digests, interval);
                self.finalizer().unwrap_or_else(found)
            }
            RegistrationState::NotRegistered => self.found(reading, digests, interval),
            RegistrationState::Stall(_) if reading.is_definite() => {
                self.found(reading, digests, interval)
            }
            RegistrationState::Stall(reason) => {
                self.refused_to_observe(reason, reading, digests, interval)
            }
            RegistrationState::Wait(reason) => {
                self.observe_later(reason, reading, digests, plan, interval)
            }
            RegistrationState::Unclear(reason) => {
                let reason = reason.unwrap_or(Reason::GraphUnavailable);
                self.observe_later(reason, reading, digests, plan, interval)
            }
            RegistrationState::LacksField => {
                self.observe_later(Reason::InvalidRequest, reading, digests, plan, interval)
            }
        }
    }

    /// Graph has answered about the number.
    fn found(&self, reading: &ReadOutcome, digests: &Digests, interval: Duration) -> Decision {
        let mut state = self.state_with_reading();
        if state.record.phone_number == self.state.record.phone_number {
            // A new trace ID alone is not worth a write.
            state
                .record
                .fbtrace_id
                .clone_from(&self.state.record.fbtrace_id);
        }
        state.record.observation = Some(Observation::default());
        let mut plan = self.next_plan(interval);
        let busy = reading.usage.is_some_and(|usage| usage >= BUSY);
        if busy {
            plan = Plan {
                at: plan.at.max(plus(self.now, BUSY_FOR)),
                ..plan
            };
        }
        match reading.state {
            RegistrationState::Registered => {
                if matches!(state.standing, Standing::Lost(_)) {
                    let unclear = self.called_since_loss();
                    let operation = Operation::Register;
                    self.note_adoption(operation, &mut state, unclear, reading, digests);
                }
                state.record.loss_suspected_time = None;
                state.record.may_be_registered = true;
            }
            RegistrationState::NotRegistered
            | RegistrationState::Stall(_)
            | RegistrationState::Wait(_)
            | RegistrationState::Unclear(_)
            | RegistrationState::LacksField => {
                if state.is_registered() {
                    plan = plan.by(self.suspect(&mut state, reading, interval));
                }
            }
        }
        if state.loss().is_some_and(|loss| loss.recovering) && self.state.loss().is_none() {
            return self.settle(&state, Requeue::After(Duration::ZERO));
        }
        self.observe_at(&state, plan)
    }

    /// A read shows a registered number as not registered. A second one, some time later, makes it a loss. Returns when to read again.
    fn suspect(&self, state: &mut State, reading: &ReadOutcome, interval: Duration) -> Timestamp {
        let since = match &state.record.loss_suspected_time {
            Some(since) => since.0.min(self.now),
            None => whole_seconds(self.now),
        };
        let certain = plus(since, self.certain_after(interval));
        if certain > self.now {
            state.record.loss_suspected_time = Some(Time(since));
            return certain;
        }
        let reason = match reading.state {
            RegistrationState::Stall(reason) => reason,
            _ => Reason::RegistrationLost,
        };
        let now = Time(whole_seconds(self.now));
        let last = state.record.last_loss_time.replace(now.clone());
        state.record.loss_suspected_time = None;
        let repeated = last.is_some_and(|last| plus(last.0, LOSS_WINDOW) > self.now);
        let loss = Loss {
            reason,
            message: reading.message.clone(),
            time: now,
            repeated,
            recovering: false,
        };
        state.phase = Phase::Idle;
        // A PIN that Graph has refused stays refused.
        state.verdict = state.verdict.filter(|verdict| verdict.is_about_pin());
        if reading.state == RegistrationState::NotRegistered {
            state.record.may_be_registered = false;
        }
        state.standing = Standing::Lost(self.recovering(loss));
        Timestamp::MAX
    }

    /// The time from the first read that suspects a loss to the one that makes it certain.
    fn certain_after(&self, interval: Duration) -> Duration {
        let window = self.observed.policy.confirm_window;
        CERTAIN_AFTER.min(interval).max(window)
    }

    /// The loss, with what the spec now says to do about it.
    pub(super) fn recovering(&self, loss: Loss) -> Loss {
        let wanted = self.observed.resource.spec.loss_policy == LossPolicy::Register;
        let recovering = wanted && !loss.repeated && loss.reason == Reason::RegistrationLost;
        Loss { recovering, ..loss }
    }

    /// Graph refuses the read, and would refuse it again. Another token may be tried soon.
    fn refused_to_observe(
        &self,
        reason: Reason,
        reading: &ReadOutcome,
        digests: &Digests,
        interval: Duration,
    ) -> Decision {
        let fault = ObservationFault {
            reason,
            message: reading.message.clone(),
            token_digest: Some(digests.token.clone()),
        };
        self.not_observed(fault, self.next_plan(interval))
    }

    /// A Secret is missing or wrong.
    fn unobservable(&self, fault: &SecretFault, plan: Plan, interval: Duration) -> Decision {
        let fault = ObservationFault {
            reason: fault.reason,
            message: fault.message.clone(),
            token_digest: None,
        };
        let next = self.next_plan(interval);
        // The new token is not there yet: the refusal of the old one is what counts.
        if plan.at > self.now {
            return self.observe_at(&self.state, plan);
        }
        self.not_observed(fault, next)
    }

    /// The read had no usable answer, for a reason that passes. It is repeated a few times; people are notified when the next observation
    /// fails as well.
    fn observe_later(
        &self,
        reason: Reason,
        reading: &ReadOutcome,
        digests: &Digests,
        plan: Plan,
        interval: Duration,
    ) -> Decision {
        let failures = plan.failures.saturating_add(1);
        let (policy, jitter) = (self.observed.policy, self.observed.jitter);
        let mut state = self.state.clone();
        let mut at = self.next_plan(interval).at;
        if reason == Reason::RateLimited {
            self.note_rate_limit(&mut state, reading, digests);
        }
        if !failures.is_multiple_of(RETRIES + 1) {
            let in_a_row = i32::try_from(failures % (RETRIES + 1)).unwrap_or_default();
            let wait = wait_after_read(reading, in_a_row, policy);
            at = at.min(later(self.now, with_jitter(wait, jitter)));
        }
        let plan = Plan {
            at,
            failures,
            ..plan
        };
        if failures >= TOLD_AFTER {
            let known = self.observation_fault().cloned();
            let fault = ObservationFault {
                reason,
                message: reading.message.clone(),
                token_digest: None,
            };
            // The first answer of an outage stands for it: others, with new trace IDs, are not worth a write each.
            let fault = known.filter(|_| !self.lacked_inputs()).unwrap_or(fault);
            state.record.observation = Some(Observation { fault: Some(fault) });
        }
        self.observe_at(&state, plan)
    }

    fn not_observed(&self, fault: ObservationFault, plan: Plan) -> Decision {
        let mut state = self.state.clone();
        let known = state
            .record
            .observation
            .take()
            .and_then(|known| known.fault);
        // The message has a new trace ID each time; that alone is not worth a write.
        let same = known.filter(|known| {
            (known.reason, &known.token_digest) == (fault.reason, &fault.token_digest)
        });
        state.record.observation = Some(Observation {
            fault: Some(same.unwrap_or(fault)),
        });
        self.observe_at(&state, plan)
    }

    /// When to read a number again that was just found registered.
    pub(super) fn until_observed(&self) -> Requeue {
        let interval = self
            .observed
            .policy
            .observe_interval(self.observed.resource);
        interval.map_or(Requeue::OnChange, |interval| {
            Requeue::Observe(self.next_plan(interval))
        })
    }

    fn observe_at(&self, state: &State, plan: Plan) -> Decision {
        let poll = self.secret_poll().filter(|_| self.lacked_inputs());
        self.settle(state, Requeue::Observe(Plan { poll, ..plan }))
    }

    /// Whether a call for a lost number may have registered it again: its answer does not tell.
    fn called_since_loss(&self) -> bool {
        let last = self.attempts().iter().find(|attempt| attempt.counts());
        let loss = self.state.loss().map(|loss| loss.time.0);
        last.zip(loss)
            .is_some_and(|(last, loss)| last.is_unclear() && last.start_time.0 >= loss)
    }

    /// What this process has planned; a shorter interval, a suspected loss or a call without a clear answer may bring it forward.
    fn plan(&self, interval: Duration) -> Plan {
        let next = self.next_plan(interval);
        let suspected = self.state.record.loss_suspected_time.as_ref();
        let known = self.observed.plan.unwrap_or_else(|| {
            suspected.map_or(next, |since| {
                let certain = plus(since.0, self.certain_after(interval));
                next.by(certain.max(self.now))
            })
        });
        let window = self.own_window().filter(|_| self.called_since_loss());
        let unread = window.filter(|window| !self.was_read_since(*window));
        let confirm = unread.map(|window| window.end.max(self.now));
        known.by(confirm.map_or(next.at, |confirm| confirm.min(next.at)))
    }

    fn next_plan(&self, interval: Duration) -> Plan {
        let uid = self.observed.resource.uid().unwrap_or_default();
        Plan::next(&uid, interval, self.now)
    }

    /// Whether the last observation failed for its token, or because of a missing Secret: there may be another one by now.
    fn lacked_inputs(&self) -> bool {
        self.state.record.observation_waits_for_secret()
    }

    /// Why the last observation had no usable answer, as far as people were told.
    fn observation_fault(&self) -> Option<&ObservationFault> {
        let observation = self.state.record.observation.as_ref()?;
        observation.fault.as_ref()
    }

    /// The digest of the token that the last observation was refused with.
    fn refused_token(&self) -> Option<&String> {
        self.observation_fault()?.token_digest.as_ref()
    }

    /// Clears what no longer matters for a number that was registered: holds, and waits and answers of a requested call.
    fn clear_what_is_over(&mut self) {
        self.state.hold = None;
        let withdrawn = self
            .state
            .stall()
            .is_some_and(|stall| stall.request.is_some());
        if withdrawn || self.state.wait().is_some() {
            self.state.phase = Phase::Idle;
        }
    }
}
