//! The machine, effect by effect: what follows when the API server refuses, is silent or lies.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use operator_core::api::{
    AttemptEnd, AttemptOutcome, DeletionPolicy, Operation, Reason, WhatsAppPhoneNumber,
};
use operator_core::graph::{ReadOutcome, RegistrationState};
use operator_core::model::machine::{
    Effect, Failure, Input, Machine, PatchFault, Purpose, Unavailable, WriteFault,
};
use operator_core::model::{FarewellOutcome, Requeue, Survey};
use testkit::builders::{registered, resource};
use testkit::world::*;

/// A machine with its process, its API server's newest version, and what it asked for last.
struct Run {
    world: World,
    machine: Machine,
    effect: Effect,
    /// The resource as the API server has it.
    stored: WhatsAppPhoneNumber,
}

impl Run {
    fn begin(mut world: World) -> Self {
        world.definition_tried = true;
        let mut stored = world.resource.clone();
        stored.metadata.uid = Some("uid-1".to_owned());
        Self {
            machine: Machine::new(Arc::new(stored.clone())),
            world,
            effect: Effect::Lock,
            stored,
        }
    }

    fn tell(&mut self, input: Input) -> &Effect {
        self.effect = self.machine.step(input, &mut self.world);
        &self.effect
    }

    fn newest(&self) -> Input {
        Input::Newest(Ok(Some(Arc::new(self.stored.clone()))))
    }

    /// Takes the write that was asked for.
    fn store(&mut self) -> Input {
        let Effect::Write { status, .. } = &self.effect else {
            panic!("{:?}", self.effect);
        };
        self.stored.status = Some((**status).clone());
        Input::Written(Ok(Arc::new(self.stored.clone())))
    }

    /// Goes on to the first write.
    fn until_write(mut self) -> Self {
        self.tell(Input::Locked);
        assert!(matches!(self.effect, Effect::LoadSecrets));
        let secrets = self.world.secrets.clone();
        self.tell(Input::Secrets(Ok(secrets)));
        assert!(matches!(self.effect, Effect::ReadNumber(_)));
        let reading = self.world.reading.clone();
        self.tell(Input::Reading(Box::new(reading)));
        self
    }

    /// Goes on to the write of the claim.
    fn until_claim(self) -> Self {
        let run = self.until_write();
        run.expect_write(Purpose::Claim);
        run
    }

    /// Goes on to the call.
    fn until_call(mut self) -> Self {
        let held = self.store();
        self.tell(held);
        assert!(matches!(self.effect, Effect::Call(Operation::Register)));
        self
    }

    fn expect_write(&self, expected: Purpose) {
        match &self.effect {
            Effect::Write { purpose, .. } if *purpose == expected => {}
            effect => panic!("{effect:?}"),
        }
    }

    fn expect_read(&self, expected: u64) {
        match self.effect {
            Effect::ReadResource { wait } if wait == Duration::from_millis(expected) => {}
            ref effect => panic!("{effect:?} instead of a read after {expected} ms"),
        }
    }

    fn expect_read_back(&self) {
        assert!(
            matches!(self.effect, Effect::ReadBack { .. }),
            "{:?}",
            self.effect
        );
    }

    fn expect_finalizer_off(&self) {
        assert!(
            matches!(self.effect, Effect::Finalizer { set: false, .. }),
            "{:?}",
            self.effect
        );
    }

    fn expect_end(&self, expected: Result<Requeue, Failure>) {
        match &self.effect {
            Effect::End(end) if *end == expected => {}
            effect => panic!("{effect:?} instead of {expected:?}"),
        }
    }

    /// The outcome of the newest attempt, as it is about to be recorded.
    fn recorded(&self) -> (Option<AttemptOutcome>, Option<Reason>) {
        let Effect::Write {
            status,
            purpose: Purpose::Record,
            ..
        } = &self.effect
        else {
            panic!("{:?}", self.effect);
        };
        (
            status.attempts[0].outcome(),
            status.attempts[0].known_reason(),
        )
    }

    /// Somebody deletes the resource, which has the finalizer.
    fn leave(&mut self) {
        self.world.patch_finalizer_by_hand();
        self.world.delete();
        self.stored.metadata.finalizers = self.world.resource.metadata.finalizers.clone();
        self.stored.metadata.deletion_timestamp =
            self.world.resource.metadata.deletion_timestamp.clone();
    }

    fn recreate(&mut self) {
        self.stored.metadata.uid = Some("uid-2".to_owned());
    }
}

const NOT_SENT: (Option<AttemptOutcome>, Option<Reason>) =
    (Some(AttemptOutcome::NotSent), Some(Reason::NotSent));

/// How long a deletion may wait.
const DEADLINE: Duration = Duration::from_secs(3_600);

const AFTER_GONE: Result<Requeue, Failure> = Ok(Requeue::After(Duration::from_secs(1)));

#[test]
fn an_outdated_version_is_refreshed_first() {
    let stale = || {
        let mut world = World::new();
        world.stale = true;
        let mut run = Run::begin(world);
        run.tell(Input::Locked);
        run.expect_read(0);
        run
    };
    let mut run = stale();
    let newest = run.newest();
    assert!(matches!(run.tell(newest), Effect::LoadSecrets));
    let mut run = stale();
    run.tell(Input::Newest(Ok(None)));
    run.expect_end(Err(Failure::Gone));
    let mut run = stale();
    run.tell(Input::Newest(Err(Unavailable)));
    run.expect_end(Err(Failure::Effect));
    let mut run = stale();
    run.recreate();
    let newest = run.newest();
    run.tell(newest);
    run.expect_end(AFTER_GONE);
}

#[test]
fn a_status_that_is_not_stored_fails_the_reconciliation() {
    let settling = || {
        let mut run = Run::begin(World::new());
        run.tell(Input::Locked);
        run.tell(Input::Secrets(Ok(Err(missing()))));
        run.expect_write(Purpose::Settle);
        run
    };
    for (fault, failure) in [
        (WriteFault::Conflict, Failure::Effect),
        (WriteFault::Gone, Failure::Gone),
    ] {
        let mut run = settling();
        run.tell(Input::Written(Err(fault)));
        run.expect_end(Err(failure));
    }
    let in_doubt = || {
        let mut run = settling();
        let before = run.stored.clone();
        drop(run.store());
        let written = std::mem::replace(&mut run.stored, before);
        run.tell(Input::Written(Err(WriteFault::Unclear)));
        run.expect_read_back();
        (run, written)
    };
    // The newest version tells.
    let (mut run, _) = in_doubt();
    let newest = run.newest();
    run.tell(newest);
    run.expect_end(Err(Failure::Effect));
    assert_eq!(run.world.found_stored, []);
    let (mut run, _) = in_doubt();
    run.tell(Input::Newest(Err(Unavailable)));
    run.expect_end(Err(Failure::Effect));
    let (mut run, written) = in_doubt();
    run.stored = written;
    let newest = run.newest();
    assert!(matches!(run.tell(newest), Effect::End(Ok(_))));
    assert_eq!(run.world.found_stored, [Purpose::Settle]);
    let mut run = Run::begin(World::new());
    run.tell(Input::Locked);
    run.tell(Input::Secrets(Err(Unavailable)));
    run.expect_end(Err(Failure::Effect));
}

#[test]
fn a_claim_in_doubt_is_settled_by_the_newest_version() {
    for fault in [WriteFault::Conflict, WriteFault::Unclear, WriteFault::Gone] {
        let doubt = || {
            let mut run = Run::begin(World::new()).until_claim();
            let before = run.stored.clone();
            let written = run.store();
            drop(written);
            let claimed = std::mem::replace(&mut run.stored, before);
            // A quarter of the claim's time passes before the answer.
            run.world.uptime += TTL / 4;
            match run.tell(Input::Written(Err(fault))) {
                Effect::ReadBack { until } => assert_eq!(*until, TTL / 2),
                effect => panic!("{effect:?}"),
            }
            (run, claimed)
        };
        // My ID there means that I hold the claim, whatever the answer was.
        let (mut run, claimed) = doubt();
        run.stored = claimed;
        let newest = run.newest();
        assert!(matches!(run.tell(newest), Effect::Call(_)), "{fault:?}");
        assert_eq!(run.world.found_stored, [Purpose::Claim]);
        // It is not there.
        let (mut run, _) = doubt();
        let newest = run.newest();
        run.tell(newest);
        match fault {
            WriteFault::Conflict => assert!(matches!(run.effect, Effect::Lock)),
            WriteFault::Unclear | WriteFault::Gone => run.expect_end(Err(Failure::Effect)),
        }
        // Somebody ended it.
        let (mut run, mut claimed) = doubt();
        let status = claimed.status.as_mut().expect("a status");
        status.attempts[0].end = Some(AttemptEnd::unknown(run.world.now));
        run.stored = claimed;
        let newest = run.newest();
        assert!(!matches!(run.tell(newest), Effect::Call(_)), "{fault:?}");
        // Another resource of the name.
        let (mut run, _) = doubt();
        run.recreate();
        let newest = run.newest();
        run.tell(newest);
        match fault {
            WriteFault::Conflict => run.expect_end(AFTER_GONE),
            WriteFault::Unclear | WriteFault::Gone => run.expect_end(Err(Failure::Effect)),
        }
        let (mut run, _) = doubt();
        run.tell(Input::Newest(Ok(None)));
        run.expect_end(AFTER_GONE);
        let (mut run, _) = doubt();
        run.tell(Input::Newest(Err(Unavailable)));
        run.expect_end(Err(Failure::Effect));
    }
}

/// A version that is outdated is not tried again and again.
#[test]
fn a_conflict_of_the_write_that_is_tried_ends_the_reconciliation() {
    let mut run = Run::begin(World::new());
    run.world.definition_tried = false;
    let mut run = run.until_write();
    run.expect_write(Purpose::Try);
    run.tell(Input::Written(Err(WriteFault::Conflict)));
    assert!(matches!(run.effect, Effect::End(Err(Failure::Effect))));
}

#[test]
fn a_second_conflict_ends_the_reconciliation() {
    let mut run = Run::begin(World::new()).until_claim();
    for round in 0..2 {
        run.tell(Input::Written(Err(WriteFault::Conflict)));
        let newest = run.newest();
        run.tell(newest);
        if round == 0 {
            assert!(matches!(run.effect, Effect::Lock));
            run = run.until_claim();
        }
    }
    run.expect_end(Err(Failure::Contended));
}

#[test]
fn half_of_the_claims_time_must_be_left_before_the_call() {
    for (passed, sends) in [(TTL / 2 - Duration::from_millis(1), true), (TTL / 2, false)] {
        let mut run = Run::begin(World::new()).until_claim();
        run.world.uptime += passed;
        let held = run.store();
        run.tell(held);
        match sends {
            true => assert!(matches!(run.effect, Effect::Call(_))),
            false => assert_eq!(run.recorded(), NOT_SENT),
        }
    }
}

#[test]
fn a_number_that_was_registered_meanwhile_is_not_called_for() {
    let mut run = Run::begin(World::new()).until_claim();
    drop(run.store());
    run.stored = registered(run.stored);
    let held = Arc::new(run.stored.clone());
    run.tell(Input::Written(Ok(held)));
    assert_eq!(run.recorded(), NOT_SENT);
}

#[test]
fn where_others_are_known_they_are_listed_before_the_call() {
    let listed = |peers: Result<Vec<WhatsAppPhoneNumber>, String>| {
        let mut world = World::new();
        world.known_peers = true;
        let mut run = Run::begin(world).until_claim();
        let held = run.store();
        assert!(matches!(run.tell(held), Effect::ListPeers(_)));
        let own = run.stored.clone();
        run.tell(Input::Peers(peers.map(|mut peers| {
            peers.push(own);
            Survey {
                peers,
                ..Survey::default()
            }
        })));
        run
    };
    let other = resource("bremen", 0);
    for peers in [vec![], vec![other.clone()]] {
        assert!(matches!(listed(Ok(peers)).effect, Effect::Call(_)));
    }
    assert_eq!(listed(Ok(vec![registered(other)])).recorded(), NOT_SENT);
    assert_eq!(listed(Err("no answer".to_owned())).recorded(), NOT_SENT);
}

/// The others may have changed since they were listed before the claim.
#[test]
fn the_others_are_listed_again_between_claim_and_deregister_call() {
    let mut registered = World::new();
    registered.resource.spec.deletion_policy = DeletionPolicy::Deregister;
    registered.pass();
    registered.reading = reading(RegistrationState::Registered);
    registered.wait(hours(100));
    registered.delete();
    let claimed = || {
        let mut world = World::new();
        world.resource = registered.resource.clone();
        world.reading = registered.reading.clone();
        world.wait(hours(100));
        let mut run = Run::begin(world);
        run.tell(Input::Locked);
        loop {
            let input = match &run.effect {
                Effect::LoadSecrets => Input::Secrets(Ok(run.world.secrets.clone())),
                Effect::ReadNumber(fields) => Input::Reading(Box::new(ReadOutcome {
                    fields: *fields,
                    ..run.world.reading.clone()
                })),
                Effect::ListPeers(Operation::Deregister) => Input::Peers(Ok(Survey::default())),
                Effect::Write {
                    purpose: Purpose::Settle,
                    ..
                } => run.store(),
                _ => break,
            };
            if let Effect::End(Ok(_)) = run.tell(input) {
                run.world.wait(secs(10));
                run.machine = Machine::new(Arc::new(run.stored.clone()));
                run.tell(Input::Locked);
            }
        }
        run.expect_write(Purpose::Claim);
        let held = run.store();
        let effect = run.tell(held);
        assert!(matches!(effect, Effect::ListPeers(Operation::Deregister)));
        run
    };
    let other = |deleted: bool| {
        let mut other = resource("bremen", 0);
        other.metadata.deletion_timestamp = deleted.then_some(Time(registered.now));
        Survey {
            peers: vec![other],
            ..Survey::default()
        }
    };
    for survey in [Survey::default(), other(true)] {
        let mut run = claimed();
        let effect = run.tell(Input::Peers(Ok(survey)));
        assert!(matches!(effect, Effect::Call(Operation::Deregister)));
    }
    let definition_deleted = Survey {
        definition_deleted: true,
        ..Survey::default()
    };
    for survey in [
        Ok(other(false)),
        Ok(definition_deleted),
        Err("no answer".to_owned()),
    ] {
        let mut run = claimed();
        run.tell(Input::Peers(survey));
        assert_eq!(run.recorded(), NOT_SENT);
    }
}

/// A claim that is not kept as it was written would not be seen as one by the next process.
#[test]
fn a_claim_that_is_not_kept_as_a_whole_leads_to_no_call() {
    let mut run = Run::begin(World::new()).until_claim();
    drop(run.store());
    let status = run.stored.status.as_mut().expect("a status");
    status.token_digest = None;
    let held = Arc::new(run.stored.clone());
    run.tell(Input::Written(Ok(held)));
    assert_eq!(run.recorded(), NOT_SENT);
}

#[test]
fn an_outcome_is_written_until_it_is_stored() {
    let mut run = Run::begin(World::new()).until_claim().until_call();
    run.tell(Input::Called(Box::new(success())));
    for wait in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
        run.expect_write(Purpose::Record);
        run.tell(Input::Written(Err(WriteFault::Conflict)));
        run.expect_read(wait);
        let newest = run.newest();
        run.tell(newest);
    }
    run.tell(Input::Written(Err(WriteFault::Unclear)));
    run.expect_read(5_000);
    run.tell(Input::Newest(Err(Unavailable)));
    run.expect_read(5_000);
    let newest = run.newest();
    run.tell(newest);
    let written = run.store();
    assert!(matches!(run.tell(written), Effect::Lock));
    // The second round finds the number registered.
    run.tell(Input::Locked);
    run.expect_end(Ok(Requeue::OnChange));
}

#[test]
fn an_outcome_that_is_stored_already_is_not_written_again() {
    let mut run = Run::begin(World::new()).until_claim().until_call();
    run.tell(Input::Called(Box::new(unknown())));
    drop(run.store());
    run.tell(Input::Written(Err(WriteFault::Unclear)));
    let newest = run.newest();
    assert!(matches!(run.tell(newest), Effect::Lock));
}

#[test]
fn an_outcome_of_a_resource_that_is_gone_is_dropped() {
    for gone in [true, false] {
        let mut run = Run::begin(World::new()).until_claim().until_call();
        run.tell(Input::Called(Box::new(success())));
        run.tell(Input::Written(Err(WriteFault::Gone)));
        run.recreate();
        let newest = if gone {
            Input::Newest(Ok(None))
        } else {
            run.newest()
        };
        run.tell(newest);
        run.expect_end(AFTER_GONE);
    }
}

/// A resource that is being deleted and goes now, as it is suspended.
fn letting_go() -> Run {
    let mut world = World::new();
    world.patch_finalizer_by_hand();
    world.resource.spec.suspend = true;
    world.delete();
    let mut run = Run::begin(world);
    run.tell(Input::Locked);
    run.expect_finalizer_off();
    run
}

#[test]
fn what_becomes_of_a_number_is_told_after_its_finalizer_came_off() {
    for others in [vec![], vec!["somebody.example/else".to_owned()]] {
        let mut run = letting_go();
        let (noted, stays) = (run.world.noted, !others.is_empty());
        run.stored.metadata.finalizers = Some(others);
        let after = Arc::new(run.stored.clone());
        run.tell(Input::Patched(Ok(after)));
        run.expect_end(Ok(Requeue::OnChange));
        assert!(run.world.farewell.is_some());
        // Of a resource that is gone, nothing is to be remembered.
        assert_eq!(run.world.noted, noted + u32::from(stays));
    }
    let mut run = letting_go();
    let kept = Arc::new(run.stored.clone());
    run.tell(Input::Patched(Ok(kept)));
    run.expect_end(Err(Failure::Contended));
    assert!(run.world.farewell.is_none());
    for fault in [PatchFault::Refused, PatchFault::NotStored] {
        let mut run = letting_go();
        run.tell(Input::Patched(Err(fault)));
        run.expect_end(Err(Failure::Effect));
        assert!(run.world.farewell.is_none(), "{fault:?}");
    }
    // By an earlier patch of this process, which knows that, or by somebody else, who knows better.
    let mut run = letting_go();
    run.tell(Input::Patched(Err(PatchFault::Gone)));
    run.expect_end(Err(Failure::Gone));
    assert!(run.world.farewell.is_none() && run.world.departed);
}

#[test]
fn a_farewell_in_doubt_is_told_if_the_finalizer_is_found_off() {
    let in_doubt = || {
        let mut run = letting_go();
        run.tell(Input::Patched(Err(PatchFault::Unclear)));
        run.expect_read_back();
        run
    };
    let (mut gone, mut without, mut recreated) = (in_doubt(), in_doubt(), in_doubt());
    gone.tell(Input::Newest(Ok(None)));
    without.stored.metadata.finalizers = Some(vec!["somebody.example/else".to_owned()]);
    recreated.recreate();
    for run in [&mut without, &mut recreated] {
        let newest = run.newest();
        run.tell(newest);
    }
    for run in [gone, without, recreated] {
        run.expect_end(Ok(Requeue::OnChange));
        assert!(run.world.farewell.is_some());
    }
    // It may still land.
    let (mut there, mut unread) = (in_doubt(), in_doubt());
    let newest = there.newest();
    there.tell(newest);
    unread.tell(Input::Newest(Err(Unavailable)));
    for run in [there, unread] {
        run.expect_end(Err(Failure::Effect));
        assert!(run.world.farewell.is_none());
        assert_eq!(run.world.farewells_in_doubt, 1);
    }
}

/// The next round reads the resource, as the one before failed.
#[test]
fn a_resource_that_is_found_gone_or_free_has_departed() {
    let read = |change: fn(&mut Run) -> Input| {
        let mut world = World::new();
        world.patch_finalizer_by_hand();
        world.resource.spec.suspend = true;
        world.delete();
        world.stale = true;
        let mut run = Run::begin(world);
        run.tell(Input::Locked);
        run.expect_read(0);
        let newest = change(&mut run);
        run.tell(newest);
        run.world.departed
    };
    assert!(read(|_| Input::Newest(Ok(None))));
    assert!(read(|run| {
        run.recreate();
        run.newest()
    }));
    assert!(read(|run| {
        run.stored.metadata.finalizers = Some(vec!["somebody.example/else".to_owned()]);
        run.newest()
    }));
    assert!(!read(|run| run.newest()));
    assert!(!read(|_| Input::Newest(Err(Unavailable))));
}

/// Where a namespace is deleted, the right to write a status may be gone for good.
#[test]
fn past_the_deadline_a_status_that_cannot_be_stored_holds_nothing() {
    let mut run = Run::begin(World::new()).until_claim().until_call();
    run.tell(Input::Called(Box::new(success())));
    run.tell(Input::Written(Err(WriteFault::Unclear)));
    run.expect_read(100);
    run.leave();
    let newest = run.newest();
    run.tell(newest);
    run.expect_write(Purpose::Record);
    run.tell(Input::Written(Err(WriteFault::Unclear)));
    run.world.wait(DEADLINE);
    let newest = run.newest();
    run.tell(newest);
    run.expect_finalizer_off();
    run.stored.metadata.finalizers = None;
    let after = Arc::new(run.stored.clone());
    run.tell(Input::Patched(Ok(after)));
    let farewell = run.world.farewell.expect("a farewell");
    assert_eq!(farewell.outcome, FarewellOutcome::LeftRegistered);

    // The process that claimed the call is gone.
    let mut run = Run::begin(World::new()).until_claim();
    drop(run.store());
    run.world.claims_are_old = true;
    run.leave();
    for overdue in [false, true] {
        run.machine = Machine::new(Arc::new(run.stored.clone()));
        run.tell(Input::Locked);
        run.expect_write(Purpose::Settle);
        run.tell(Input::Written(Err(WriteFault::Unclear)));
        let newest = run.newest();
        run.tell(newest);
        if !overdue {
            run.expect_end(Err(Failure::Effect));
            run.world.wait(DEADLINE);
        }
    }
    run.expect_finalizer_off();
    run.stored.metadata.finalizers = None;
    let after = Arc::new(run.stored.clone());
    run.tell(Input::Patched(Ok(after)));
    let farewell = run.world.farewell.expect("a farewell");
    // Only a deregister call could have taken it off.
    assert_eq!(farewell.outcome, FarewellOutcome::LeftRegistered);
}

#[test]
fn what_answers_no_effect_ends_the_reconciliation() {
    for input in [
        Input::Called(Box::new(success())),
        Input::Written(Err(WriteFault::Conflict)),
        Input::Newest(Ok(None)),
        Input::Peers(Ok(Survey::default())),
        Input::Secrets(Err(Unavailable)),
    ] {
        let mut run = Run::begin(World::new());
        run.tell(input);
        run.expect_end(Err(Failure::Unsettled));
        // And stays ended.
        run.tell(Input::Locked);
        run.expect_end(Err(Failure::Unsettled));
    }
}

fn missing() -> operator_core::credentials::SecretFault {
    operator_core::credentials::SecretFault {
        reason: Reason::SecretNotFound,
        message: "the Secret meta does not exist".to_owned(),
    }
}
