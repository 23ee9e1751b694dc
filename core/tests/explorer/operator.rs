//! One operator process, effect by effect: the real machine, around it a memory that is told the time. What comes of an effect
//! is taken in at once, but where something else may happen before.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::graph::Effect as Arrival;
use super::server::Refused;
use super::state::{
    Look, Moment, NAMES, Next, Operator, Outcome, Print, Run, Seconds, State, Step, Stored,
};
use super::{Checker, Mutant, time};
use operator_core::api::{DeletionPolicy, Reason, WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use operator_core::credentials::Digests;
use operator_core::graph::ReadFields;
use operator_core::model::ledger::holds_claim;
use operator_core::model::machine::{
    Effect, Failure, Input, Machine, Note, PatchFault, Process, Purpose, Unavailable, WriteFault,
};
use operator_core::model::observe::Plan;
use operator_core::model::twins::KnownCall;
use operator_core::model::{ApplyContext, CallResult, Cooldown, apply_outcome};
use operator_core::model::{FarewellOutcome, OpenClaim, Peers, Policy, Requeue, Survey};
use testkit::world::TTL;

/// The wait after a reconciliation that failed: `FAILURE_BASE` in `watches`, in whole seconds.
const AFTER_FAILURE: Seconds = 1;

/// More claims than any history within the bounds needs.
const CLAIMS_MAX: u8 = 20;

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fate {
    Answered,
    /// It was done, and the answer was lost.
    Unheard,
    /// It was never done, and not answered.
    Dropped,
    /// It is not answered, and done later.
    Late,
}

impl Checker {
    /// A round of decisions begins, in which the number is read with this result.
    pub(super) fn look(&self, state: &mut State, who: usize, name: usize, look: Look) {
        let operator = &mut state.operators[who];
        let run = match std::mem::take(&mut operator.step) {
            Step::Again(run) => run,
            _ => {
                operator.pending[name] = false;
                operator.wakes[name] = None;
                let Some(cached) = operator.cache[name].clone() else {
                    return;
                };
                let machine = Machine::new(self.seen(&cached));
                Box::new(Run {
                    machine,
                    ..Run::new(name, cached)
                })
            }
        };
        self.go_on(state, who, run, Input::Locked, Some(look));
    }

    /// Goes on with what came of the last effect, up to the next point at which something else may happen.
    pub(super) fn go_on(
        &self,
        state: &mut State,
        who: usize,
        mut run: Box<Run>,
        mut input: Input,
        mut look: Option<Look>,
    ) {
        loop {
            let effect = self.tell(state, who, &mut run, input);
            let name = run.name;
            input = match effect {
                Effect::Lock => {
                    state.operators[who].step = Step::Again(run.again());
                    return;
                }
                // The outcome is written on the newest version, whatever that is by then.
                Effect::ReadResource { .. } if run.outcome.is_some() => {
                    run.newest = None;
                    run.next = Next::Perform(effect);
                    state.operators[who].step = Step::Recording(run);
                    return;
                }
                Effect::ReadResource { .. } => {
                    let newest = state.server.objects[name].clone();
                    run.view = newest.clone().unwrap_or(run.view);
                    Input::Newest(Ok(self.shown(&run, newest)))
                }
                Effect::LoadSecrets => {
                    run.pin = Some(state.pin);
                    Input::Secrets(Ok(Ok(self.digests(state.pin).clone())))
                }
                Effect::ReadNumber(ReadFields::Optional) => {
                    Input::Reading(Box::new(self.details.clone()))
                }
                Effect::ReadNumber(_) => {
                    let Some(mut look) = look.take() else {
                        state.broken = Some("the number is read again in a round".to_owned());
                        return;
                    };
                    if self.is(Mutant::NoLook) {
                        look = Look::NotRegistered;
                    }
                    run.reading = Some((state.moment(), look));
                    let reading = Input::Reading(Box::new(self.reading(look).clone()));
                    if state.left.time_may_pass() {
                        run.next = Next::Hear(reading);
                        state.operators[who].step = Step::Looked(run);
                        return;
                    }
                    reading
                }
                Effect::Write {
                    status,
                    purpose: Purpose::Settle,
                    ..
                } => {
                    super::promises::settles(state, who, &run, &status);
                    self.write(state, &run.view, name, *status)
                }
                Effect::Write {
                    ref status,
                    purpose: Purpose::Claim,
                    ..
                } => {
                    state.claims += 1;
                    let few = state.claims < CLAIMS_MAX;
                    state.promise(few, || "I5: claims without end".to_owned());
                    run.claim = Some(Print((**status).clone()));
                    run.started = state.moment();
                    run.next = Next::Perform(effect);
                    state.operators[who].step = Step::Claiming(run);
                    return;
                }
                Effect::ReadBack { .. } => {
                    state.operators[who].step = Step::Doubting(run);
                    return;
                }
                Effect::Finalizer { .. } => {
                    run.next = Next::Perform(effect);
                    state.operators[who].step = Step::Finalizing(run);
                    return;
                }
                Effect::ListPeers(_) if state.left.has(state.left.lost) => {
                    state.operators[who].step = Step::Listing(run);
                    return;
                }
                Effect::ListPeers(_) => Input::Peers(Ok(self.survey(state, &run))),
                Effect::Call(_) => {
                    super::promises::checked(state, who, &run);
                    let cached = &state.operators[who].cache[1 - name];
                    if cached.is_none() && state.server.objects[1 - name].is_some() {
                        state.history.unseen.insert(run.uid());
                    }
                    state.operators[who].step = Step::Checked(run, state.moment());
                    return;
                }
                Effect::Write { .. } => {
                    run.outcome = run.outcome.or(Some(Outcome::NotSent));
                    run.newest = run.newest.or_else(|| run.held.clone());
                    run.next = Next::Perform(effect);
                    state.operators[who].step = Step::Recording(run);
                    return;
                }
                Effect::End(end) => return self.end(state, who, &run, end),
            };
        }
    }

    /// Takes in what came of the last effect.
    pub(super) fn hear(&self, state: &mut State, who: usize, mut run: Box<Run>) {
        if let Next::Hear(input) = std::mem::replace(&mut run.next, Next::Nothing) {
            self.go_on(state, who, run, input, None);
        }
    }

    fn tell(&self, state: &mut State, who: usize, run: &mut Run, input: Input) -> Effect {
        let mut host = Host {
            checker: self,
            now: state.now(),
            claims: state.claims,
            operator: &mut state.operators[who],
            found: None,
            farewell: None,
        };
        let effect = run.machine.step(input, &mut host);
        let (farewell, found) = (host.farewell, host.found);
        run.found = found.or(run.found.take());
        if let Some(told) = farewell {
            super::promises::lets_go(state, run, told);
        }
        effect
    }

    fn end(&self, state: &mut State, who: usize, run: &Run, end: Result<Requeue, Failure>) {
        let (now, name) = (state.now(), run.name);
        super::promises::ends(state, run, end);
        let wake = match end {
            Ok(requeue) => requeue.wait(time(now)).map(|wait| now + seconds(wait)),
            Err(Failure::Gone) => None,
            Err(Failure::Effect | Failure::Contended) => Some(now + AFTER_FAILURE),
            Err(Failure::Unsettled) => {
                state.broken = Some("a reconciliation does not settle".to_owned());
                None
            }
        };
        state.operators[who].step = Step::Idle;
        state.operators[who].wakes[name] = wake.map(Moment);
    }

    fn write(
        &self,
        state: &mut State,
        on: &Stored,
        name: usize,
        status: WhatsAppPhoneNumberStatus,
    ) -> Input {
        let written = state.server.write(name, on, status);
        if let Ok(after) = &written {
            super::promises::wrote(state, name, on, after);
        }
        Input::Written(
            written
                .map(|after| after.shared())
                .map_err(|refused| match refused {
                    Refused::Conflict => WriteFault::Conflict,
                    Refused::NotFound => WriteFault::Gone,
                }),
        )
    }

    /// Sets the finalizer, or takes it off.
    pub(super) fn finalize(&self, state: &mut State, who: usize, mut run: Box<Run>, fate: Fate) {
        let Next::Perform(Effect::Finalizer { set, .. }) =
            std::mem::replace(&mut run.next, Next::Nothing)
        else {
            return;
        };
        let patched = match fate {
            Fate::Answered | Fate::Unheard => {
                state.server.patch_finalizer(run.name, &run.view, set)
            }
            Fate::Dropped | Fate::Late => Err(Refused::Conflict),
        };
        let input = match patched {
            _ if fate != Fate::Answered => Err(PatchFault::Unclear),
            Ok(after) => {
                run.view = after.clone();
                Ok(after.shared())
            }
            Err(Refused::Conflict) => Err(PatchFault::NotStored),
            Err(Refused::NotFound) => Err(PatchFault::Gone),
        };
        self.go_on(state, who, run, Input::Patched(input), None);
    }

    /// Lists the other resources of the number.
    pub(super) fn list(&self, state: &mut State, who: usize, run: Box<Run>, answered: bool) {
        let survey = self.survey(state, &run);
        let answer = answered.then_some(survey).ok_or("no answer".to_owned());
        self.go_on(state, who, run, Input::Peers(answer), None);
    }

    fn survey(&self, state: &State, run: &Run) -> Survey {
        let blind = self.is(Mutant::NoLastSurvey) && run.held.is_some();
        let all = state.server.objects.iter().flatten().filter(|_| !blind);
        Survey {
            peers: all.map(|stored| stored.resource().clone()).collect(),
            definition_deleted: false,
        }
    }

    /// What the machine is shown of the version that its watch has brought.
    fn seen(&self, cached: &Stored) -> Arc<WhatsAppPhoneNumber> {
        let mut seen = cached.shared();
        let Some(mutant) = self.mutant else {
            return seen;
        };
        let WhatsAppPhoneNumber { spec, status, .. } = Arc::make_mut(&mut seen);
        let status = status.get_or_insert_default();
        match mutant {
            Mutant::WishForgotten => spec.deletion_policy = DeletionPolicy::Deregister,
            Mutant::OneAnswer => status.loss_suspected_time = Some(Time(time(0))),
            Mutant::LossForgotten => (status.loss, status.registration_time) = (None, None),
            Mutant::FirstLossForgotten => status.last_loss_time = None,
            _ => {}
        }
        seen
    }

    /// What the machine is shown of the newest version.
    fn shown(&self, run: &Run, newest: Option<Stored>) -> Option<Arc<WhatsAppPhoneNumber>> {
        let mut shown = newest?.shared();
        if self.is(Mutant::ActsOnRecreated) {
            Arc::make_mut(&mut shown)
                .metadata
                .uid
                .clone_from(&run.machine.resource().metadata.uid);
        }
        Some(shown)
    }

    /// The claim's write.
    pub(super) fn claim(&self, state: &mut State, who: usize, mut run: Box<Run>, fate: Fate) {
        let (name, mut on) = (run.name, run.view.clone());
        let Some(Print(mut status)) = run.claim.clone() else {
            return;
        };
        if self.is(Mutant::NoFence) {
            on = state.server.objects[name].clone().unwrap_or(on);
        }
        if self.is(Mutant::RequestNotStored) {
            let before = run.view.status().last_handled_register_request.clone();
            status.last_handled_register_request = before;
        }
        let unclear = Input::Written(Err(WriteFault::Unclear));
        let answer = match fate {
            Fate::Answered => self.write(state, &on, name, status),
            Fate::Unheard => {
                self.write(state, &on, name, status);
                unclear
            }
            Fate::Dropped => unclear,
            Fate::Late => {
                state.server.late = Some((name, on, Print(status)));
                unclear
            }
        };
        if matches!(answer, Input::Written(Ok(_))) {
            let held = state.server.objects[name].clone();
            return self.hold(state, who, run, held, |held| Input::Written(Ok(held)));
        }
        run.next = Next::Nothing;
        self.go_on(state, who, run, answer, None);
    }

    /// The claim is stored, as the process is about to learn.
    fn hold(
        &self,
        state: &mut State,
        who: usize,
        mut run: Box<Run>,
        held: Option<Stored>,
        input: impl FnOnce(Arc<WhatsAppPhoneNumber>) -> Input,
    ) {
        let Some(stored) = held else { return };
        let mut shown = stored.shared();
        if self.is(Mutant::NotRegisteredMeanwhile) {
            super::promises::as_if_unregistered(&mut shown);
        }
        run.next = Next::Hear(input(shown));
        run.held = Some(stored);
        state.operators[who].step = Step::Held(run);
    }

    /// A write was not answered with success: the newest version settles it.
    pub(super) fn read_back(
        &self,
        state: &mut State,
        who: usize,
        mut run: Box<Run>,
        answered: bool,
    ) {
        if !answered {
            return self.go_on(state, who, run, Input::Newest(Err(Unavailable)), None);
        }
        let newest = state.server.objects[run.name].clone();
        let claimed = newest.as_ref().filter(|_| run.claim.is_some());
        let holds = claimed.is_some_and(|newest| {
            holds_claim(newest.resource(), run.view.resource(), &run.entry().id)
        });
        if holds {
            return self.hold(state, who, run, newest, |held| {
                Input::Newest(Ok(Some(held)))
            });
        }
        let gone = newest.is_none();
        run.newest.clone_from(&newest);
        let shown = self.shown(&run, newest);
        self.go_on(state, who, run, Input::Newest(Ok(shown)), None);
        if gone {
            // Until its watch brings the deletion, the process claims in vain, as often as there is time for it:
            // once is enough here.
            super::memory::sync(state, who);
        }
    }

    /// The one call, if it arrives.
    pub(super) fn send(
        &self,
        state: &mut State,
        who: usize,
        mut run: Box<Run>,
        checked: Moment,
        arrival: Arrival,
    ) {
        let outcome = self.arrive(state, &run, checked, arrival);
        run.outcome = Some(outcome);
        let called = self.outcome(run.operation(), outcome).clone();
        let called = Input::Called(Box::new(called));
        self.go_on(state, who, run, called, None);
    }

    /// One try to record the outcome.
    pub(super) fn record(&self, state: &mut State, who: usize, mut run: Box<Run>, heard: bool) {
        let name = run.name;
        let mut effect = match std::mem::replace(&mut run.next, Next::Nothing) {
            Next::Perform(effect) => effect,
            Next::Hear(_) | Next::Nothing => return,
        };
        if matches!(effect, Effect::ReadResource { .. }) {
            run.newest = state.server.objects[name].clone();
            let newest = run.newest.as_ref().map(Stored::shared);
            effect = self.tell(state, who, &mut run, Input::Newest(Ok(newest)));
        }
        let input = match effect {
            Effect::Write { status, .. } => {
                let on = run.newest.clone().unwrap_or_else(|| run.view.clone());
                let status = match self.is(Mutant::Overwrites) {
                    true => self.overwriting(state, &run),
                    false => *status,
                };
                match self.write(state, &on, name, status) {
                    Input::Written(Ok(after)) if heard => {
                        run.newest = state.server.objects[name].clone();
                        Input::Written(Ok(after))
                    }
                    _ => Input::Written(Err(WriteFault::Unclear)),
                }
            }
            // It was recorded before, or the resource is gone.
            Effect::Lock => {
                state.operators[who].step = Step::Again(run.again());
                return;
            }
            Effect::End(end) => return self.end(state, who, &run, end),
            effect => {
                state.broken = Some(format!("{effect:?} instead of a record"));
                return;
            }
        };
        self.go_on(state, who, run, input, None);
    }

    /// The outcome in the status of the claim, instead of the newest.
    fn overwriting(&self, state: &State, run: &Run) -> WhatsAppPhoneNumberStatus {
        let status = run.claim.clone().unwrap_or_default().0;
        let result = CallResult {
            operation: run.operation(),
            id: &run.entry().id,
            outcome: self.outcome(run.operation(), run.outcome.unwrap_or(Outcome::NotSent)),
            handled_before: run.view.status().last_handled_register_request.as_deref(),
        };
        let context = ApplyContext {
            policy: &self.policy,
            cooldown: None,
            generation: status.observed_generation.max(0),
            jitter: 0.0,
            now: time(state.now()),
        };
        apply_outcome(&status, &result, &context)
    }
}

/// A process as its machine sees it.
struct Host<'a> {
    checker: &'a Checker,
    now: Seconds,
    claims: u8,
    operator: &'a mut Operator,
    /// What the machine has been told at the beginning of a round.
    found: Option<(Peers, OpenClaim)>,
    farewell: Option<FarewellOutcome>,
}

impl Process for Host<'_> {
    fn policy(&self) -> &Policy {
        &self.checker.policy
    }

    fn now(&self) -> Timestamp {
        time(self.now)
    }

    fn uptime(&self) -> Duration {
        match self.checker.is(Mutant::NoDeadline) {
            true => Duration::ZERO,
            false => Duration::from_secs(self.now.into()),
        }
    }

    fn fresh_id(&mut self) -> String {
        format!("claim-{}", self.claims)
    }

    fn jitter(&mut self) -> f64 {
        0.0
    }

    fn is_stale(&self, resource: &WhatsAppPhoneNumber) -> bool {
        self.operator.memory.is_stale(resource)
    }

    fn peers(&self, resource: &WhatsAppPhoneNumber) -> Peers {
        if self.checker.is(Mutant::OthersForgotten) {
            return Peers::default();
        }
        let name = name_of(resource);
        let other = self.operator.cache[1 - name].as_ref();
        let mut all = self.operator.memory.calls.0.clone();
        if let Some(other) = other.map(Stored::resource) {
            for entry in other.attempts() {
                all.retain(|known| known.entry.id != entry.id);
                all.push(KnownCall::of(other, entry));
            }
        }
        if self.checker.is(Mutant::NoAftermath) {
            all.retain(|known| known.entry.operation.registers());
        }
        let others: Vec<_> = other.map(Stored::resource).into_iter().collect();
        let mut peers = Peers::of(resource, &others, all, self.now());
        if self.checker.is(Mutant::EarlierForgotten) {
            peers.earlier.clear();
        }
        peers
    }

    fn has_peers(&self, resource: &WhatsAppPhoneNumber) -> bool {
        self.operator.cache[1 - name_of(resource)].is_some() && !self.checker.is(Mutant::NoRivals)
    }

    fn open_claim(&mut self, resource: &WhatsAppPhoneNumber) -> OpenClaim {
        let known = match self.operator.memory.open_claim(resource, self.now) {
            OpenClaim::SeenFor(_) if self.checker.is(Mutant::NoAge) => OpenClaim::SeenFor(TTL),
            known => known,
        };
        self.found = Some((self.peers(resource), known));
        known
    }

    fn last_read(&self, resource: &WhatsAppPhoneNumber) -> Option<Timestamp> {
        let read = self.operator.memory.reads.get(&uid_of(resource));
        read.map(|at| time(at.0))
    }

    fn cooldown(&self, _: &str) -> Option<Cooldown> {
        None
    }

    fn plan(&self, resource: &WhatsAppPhoneNumber) -> Option<Plan> {
        let plan = self.operator.memory.plans.get(&uid_of(resource));
        plan.map(|Print(plan)| *plan)
    }

    fn finalizer_refused(&self, resource: &WhatsAppPhoneNumber) -> bool {
        self.checker.is(Mutant::NoFinalizer) && resource.metadata.deletion_timestamp.is_none()
    }

    fn busy(&self, _: &str) -> Option<Timestamp> {
        None
    }

    fn refused_pin(&self, _: &WhatsAppPhoneNumber, _: &Digests) -> Option<Reason> {
        None
    }

    fn dropped_fields(&self) -> Option<String> {
        None
    }

    fn tries_definition(&self) -> bool {
        false
    }

    fn note(&mut self, note: Note<'_>) {
        let (now, memory) = (self.now, &mut self.operator.memory);
        match note {
            Note::Read(resource) => {
                memory.reads.insert(uid_of(resource), Moment(now));
            }
            Note::Written(resource) => memory.wrote(resource),
            Note::Unsent(id) => {
                memory.unsent.insert(id.to_owned());
            }
            Note::Call(resource, entry) => memory.remember(resource, std::slice::from_ref(entry)),
            Note::Planned(resource, plan) => {
                memory.plans.insert(uid_of(resource), Print(plan));
            }
            Note::Farewell(_, farewell) => self.farewell = Some(farewell.outcome),
            Note::Cooldown(_)
            | Note::Unlimited(_)
            | Note::RefusedPin(..)
            | Note::Busy(..)
            | Note::Dropped(_)
            | Note::Tried(_)
            | Note::FinalizerRefused(_)
            | Note::FarewellInDoubt(..)
            | Note::Departed(_)
            | Note::Stored { .. }
            | Note::Outcome(..)
            | Note::Unrecorded => {}
        }
    }
}

/// The place of a resource's name.
fn name_of(resource: &WhatsAppPhoneNumber) -> usize {
    usize::from(resource.metadata.name.as_deref() != Some(NAMES[0]))
}

pub(super) fn uid_of(resource: &WhatsAppPhoneNumber) -> u8 {
    let uid = resource.metadata.uid.as_ref();
    uid.and_then(|uid| uid.parse().ok()).expect("a UID")
}

/// Never earlier.
fn seconds(wait: Duration) -> Seconds {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Seconds::try_from(whole).expect("less than 73 hours")
}
