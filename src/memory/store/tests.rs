//! What wakes, and what is remembered.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::reflector::{self, store::Writer};

use operator_core::api::{
    DEREGISTER_FINALIZER, Hold, Observation, ObservationFault, Operation, Reason, Stall,
};
use testkit::builders::{claimed, registered, resource, spec};

use super::*;

/// An index over one watch that has listed these resources.
fn after(listed: &[WhatsAppPhoneNumber]) -> (ResourceStore, Writer<Watched>, Memory) {
    let (store, writer) = reflector::store();
    let mut watched = (ResourceStore::new(vec![store]), writer, Memory::default());
    list(&mut watched, listed);
    watched
}

/// Lists these resources; returns the names of those to reconcile after the list.
fn list(
    (index, writer, memory): &mut (ResourceStore, Writer<Watched>, Memory),
    listed: &[WhatsAppPhoneNumber],
) -> Vec<String> {
    let applied = listed.iter().cloned().map(|resource| {
        let watched: Watched = DeserializeGuard(Ok(resource));
        Event::InitApply(watched)
    });
    let events = std::iter::once(Event::Init).chain(applied);
    let mut woken = Vec::new();
    for event in events.chain([Event::InitDone]) {
        woken = index.observe(0, &event, memory);
        writer.apply_watcher_event(&event);
    }
    woken.into_iter().map(|wake| wake.key.name).collect()
}

fn with_uid(mut resource: WhatsAppPhoneNumber, uid: &str) -> WhatsAppPhoneNumber {
    resource.metadata.uid = Some(uid.to_owned());
    resource
}

/// A resource with a call of now.
fn called(name: &str, uid: &str) -> WhatsAppPhoneNumber {
    let mut resource = with_uid(claimed(resource(name, 1)), uid);
    let status = resource.status.get_or_insert_default();
    status.attempts[0].start_time = Time(Timestamp::now());
    resource
}

#[test]
fn the_calls_of_a_resource_that_is_gone_are_remembered() {
    let number = spec().phone_number_id;
    let mut watched = after(&[called("first", "a")]);
    assert!(watched.2.history.of(&number).is_empty());
    list(&mut watched, &[]);
    assert_eq!(watched.2.history.of(&number).len(), 1);
}

#[test]
fn the_calls_that_a_status_has_lost_are_remembered() {
    let number = spec().phone_number_id;
    let mut watched = after(&[called("first", "a")]);
    list(&mut watched, &[with_uid(resource("first", 1), "a")]);
    assert_eq!(watched.2.history.of(&number).len(), 1);
}

/// The watch was down during a deletion: the list that follows shows the next resource of the name only.
#[test]
fn a_call_that_no_watch_has_shown_is_remembered_by_name() {
    let old = with_uid(resource("number", 1), "a");
    let mut watched = after(std::slice::from_ref(&old));
    let mut made = called("number", "a").attempts().to_vec();
    made[0].operation = Operation::Deregister;
    watched.2.history.note(&old, &made);
    let again = with_uid(resource("number", 2), "b");
    list(&mut watched, std::slice::from_ref(&again));
    let earlier = |resource| watched.2.peers(resource, &[], &[]).earlier.len();
    assert_eq!((earlier(&again), earlier(&old)), (1, 0));
}

/// Its label was taken off and put back: it is the same resource.
#[test]
fn what_comes_back_has_no_earlier_resource() {
    let mut leaving = called("number", "a");
    let status = leaving.status.get_or_insert_default();
    status.attempts[0].operation = Operation::Deregister;
    let mut watched = after(std::slice::from_ref(&leaving));
    list(&mut watched, &[]);
    list(&mut watched, std::slice::from_ref(&leaving));
    assert!(watched.2.peers(&leaving, &[], &[]).earlier.is_empty());
}

#[test]
fn a_list_that_shows_a_resource_made_anew_wakes_the_others_of_its_number() {
    let first = with_uid(resource("first", 1), "a");
    let second = with_uid(resource("second", 2), "b");
    let mut watched = after(&[first.clone(), second.clone()]);
    assert!(list(&mut watched, &[first, second.clone()]).is_empty());
    // It is younger now than the second one, over which it took precedence.
    let recreated = with_uid(resource("first", 3), "c");
    assert_eq!(
        list(&mut watched, &[recreated, second]),
        ["first", "second"]
    );
}

#[test]
fn who_may_wait_for_a_secret_is_woken() {
    let refused = |name: &str, fault: Option<&str>| {
        let mut resource = registered(resource(name, 1));
        let status = resource.status.get_or_insert_default();
        status.observation = Some(Observation {
            fault: fault.map(|token| ObservationFault {
                reason: Reason::TokenRejected,
                message: String::new(),
                token_digest: Some(token.to_owned()),
            }),
        });
        resource
    };
    let with = |name: &str, edit: fn(&mut WhatsAppPhoneNumber)| {
        let mut resource = registered(resource(name, 1));
        edit(&mut resource);
        resource
    };
    let resources = [
        resource("new", 1),
        refused("refused", Some("sha256")),
        refused("observed", None),
        with("requested", |resource| {
            let stall = Stall::new(Reason::PermissionDenied, String::new());
            resource.status.get_or_insert_default().stall = Some(stall);
        }),
        with("held", |resource| {
            let hold = Hold::new(Reason::SecretNotFound, String::new());
            resource.status.get_or_insert_default().hold = Some(hold);
        }),
        with("deleted", |resource| {
            resource.metadata.deletion_timestamp = Some(Time(Timestamp::now()));
            resource.metadata.finalizers = Some(vec![DEREGISTER_FINALIZER.to_owned()]);
        }),
        with("blocked", |resource| {
            let hold = Hold::new(Reason::RegistrationBlocked, String::new());
            resource.status.get_or_insert_default().hold = Some(hold);
        }),
    ];
    let (index, ..) = after(&resources);
    let woken = index.wake_waiting(0).into_iter();
    let woken: Vec<_> = woken.map(|wake| wake.key.name).collect();
    let woken: BTreeSet<_> = woken.iter().map(String::as_str).collect();
    let expected = ["refused", "requested", "held", "deleted"];
    assert_eq!(woken, BTreeSet::from(expected));
}

/// A namespace that counts as not watched holds up no twin elsewhere, so those are looked at then.
#[test]
fn the_twins_in_other_watches_are_woken() {
    let (first, _first_writer) = reflector::store::<Watched>();
    let (second, _second_writer) = reflector::store::<Watched>();
    let index = ResourceStore::new(vec![first, second]);
    let memory = Memory::default();
    let come = |watch: usize, name: &str, number: &str| {
        let mut resource = resource(name, 1);
        resource.spec.phone_number_id = number.to_owned();
        let event = Event::Apply(DeserializeGuard(Ok(resource)));
        index.observe(watch, &event, &memory);
    };
    come(0, "twin", "1");
    come(0, "other", "2");
    come(1, "elder", "1");
    come(1, "elder-twin", "1");
    let woken: Vec<_> = index.wake_twins(1).into_iter().collect();
    let names: BTreeSet<_> = woken.iter().map(|wake| wake.key.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["twin"]));
}

#[test]
fn a_claim_that_ended_without_success_wakes_the_others_of_its_number() {
    let elder = with_uid(resource("elder", 1), "a");
    let younger = with_uid(resource("younger", 2), "b");
    let mut watched = after(&[elder.clone(), claimed(younger.clone())]);
    assert_eq!(list(&mut watched, &[elder, younger]), ["younger", "elder"]);
}

/// The changes that a version after another one makes, where this process wrote nothing.
#[track_caller]
fn assert_change(expected: Change, edit: impl FnOnce(&mut WhatsAppPhoneNumber)) {
    let before = claimed(resource("number", 1));
    let mut after = before.clone();
    edit(&mut after);
    let watched = |resource| -> Watched { DeserializeGuard(Ok(resource)) };
    assert_eq!(change(Some(&watched(before)), &watched(after)), expected);
}

#[test]
fn what_a_reconciliation_depends_on_is_a_change() {
    let meta = |edit: fn(&mut ObjectMeta)| {
        assert_change(Change::Resource, |resource| edit(&mut resource.metadata));
    };
    meta(|meta| meta.uid = Some("another".to_owned()));
    meta(|meta| meta.generation = Some(99));
    meta(|meta| meta.annotations = Some([("a".to_owned(), "b".to_owned())].into()));
    meta(|meta| meta.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH)));
    meta(|meta| meta.finalizers = Some(vec!["a/b".to_owned()]));
    assert_change(Change::Status, |resource| resource.status = None);
    assert_change(Change::Status, |resource| {
        resource.status.get_or_insert_default().attempts.clear();
    });
}

#[test]
fn what_a_reconciliation_does_not_depend_on_is_none() {
    assert_change(Change::Nothing, |_| {});
    assert_change(Change::Nothing, |resource| {
        resource.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        resource.metadata.resource_version = Some("2".to_owned());
        let status = resource.status.get_or_insert_default();
        status.conditions.clear();
        status.next_attempt_time = Some(Time(Timestamp::now()));
    });
}

/// What a change of a status wakes once it is time.
fn looks(
    (store, writer, memory): &mut (ResourceStore, Writer<Watched>, Memory),
    changed: WhatsAppPhoneNumber,
) -> Vec<bool> {
    let event = Event::Apply(DeserializeGuard(Ok(changed)));
    let woken = store.observe(0, &event, memory);
    writer.apply_watcher_event(&event);
    let due = woken.iter().map(|wake| {
        assert!(wake.look_after.is_some(), "at once: {wake:?}");
        store.is_worth_the_look(wake, memory)
    });
    due.collect()
}

fn at_version(mut resource: WhatsAppPhoneNumber, version: &str) -> WhatsAppPhoneNumber {
    resource.metadata.resource_version = Some(version.to_owned());
    resource
}

#[test]
fn only_a_status_of_another_writer_is_looked_at() {
    let seen = with_uid(resource("number", 1), "a");
    let mut watched = after(&[at_version(seen.clone(), "1")]);
    let own = at_version(claimed(seen.clone()), "2");
    watched.2.notes.note_written(&own);
    assert_eq!(looks(&mut watched, own), [false; 0]);
    // The watch is faster than the answer to the write.
    let event = Event::Apply(DeserializeGuard(Ok(at_version(seen.clone(), "3"))));
    let woken = watched.0.observe(0, &event, &watched.2);
    watched.1.apply_watcher_event(&event);
    watched.2.notes.note_written(&at_version(seen.clone(), "3"));
    assert!(!watched.0.is_worth_the_look(&woken[0], &watched.2));
    assert_eq!(looks(&mut watched, at_version(claimed(seen), "4")), [true]);
}

#[test]
fn what_cannot_be_parsed_any_more_takes_precedence_over_none_and_its_calls_are_remembered() {
    let number = spec().phone_number_id;
    let second = with_uid(resource("second", 2), "b");
    let (store, _writer, memory) = after(&[called("first", "a"), second]);
    let invalid = serde_json::json!({
        "metadata": {"name": "first", "namespace": called("first", "a").namespace(), "uid": "a"},
        "spec": 1,
    });
    let invalid: Watched = serde_json::from_value(invalid).expect("a guard");
    assert!(invalid.0.is_err());
    let woken = store.observe(0, &Event::Apply(invalid), &memory);
    let names: Vec<_> = woken.into_iter().map(|wake| wake.key.name).collect();
    assert_eq!(names, ["first", "second"]);
    assert_eq!(memory.history.of(&number).len(), 1);
}
