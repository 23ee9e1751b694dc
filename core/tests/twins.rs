//! Which of several resources of one number takes precedence.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_core::ResourceExt;
use operator_core::api::{
    Hold, LedgerEntry, Observation, ObservationFault, Operation, Reason, Stall,
    WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus,
};
use operator_core::model::Peers;
use operator_core::model::twins::{
    KnownCall, blocks_call, is_called_for, lost_precedence, owner, told,
};
use testkit::builders::{claimed, registered, resource, waiting};
use testkit::world::attempt;

/// In the first minute of resources that were created in the first seconds.
const SOON: Timestamp = Timestamp::UNIX_EPOCH;

/// A change that takes a resource's ability to call.
type Disability = (&'static str, fn(&mut WhatsAppPhoneNumber));

const DISABILITIES: &[Disability] = &[
    ("suspended", |resource| resource.spec.suspend = true),
    ("being deleted", |resource| {
        resource.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    }),
    ("without a Secret", |resource| {
        resource.status.get_or_insert_default().hold =
            Some(Hold::new(Reason::SecretNotFound, String::new()));
    }),
    ("with a token that is rejected", |resource| {
        stall(resource, Reason::TokenRejected);
    }),
    ("without the permission", |resource| {
        stall(resource, Reason::PermissionDenied);
    }),
    (
        "with a token that its observation finds rejected",
        |resource| {
            unobserved(resource, Reason::TokenRejected, Some("token"));
        },
    ),
    ("without a Secret to observe it with", |resource| {
        unobserved(resource, Reason::SecretNotFound, None);
    }),
];

fn unobserved(resource: &mut WhatsAppPhoneNumber, reason: Reason, token: Option<&str>) {
    let fault = ObservationFault {
        reason,
        message: String::new(),
        token_digest: token.map(str::to_owned),
    };
    resource.status.get_or_insert_default().observation = Some(Observation { fault: Some(fault) });
}

fn stall(resource: &mut WhatsAppPhoneNumber, reason: Reason) {
    let status = resource.status.get_or_insert_default();
    status.stall = Some(Stall::new(reason, String::new()));
}

#[test]
fn claimed_then_registered_then_oldest_then_by_name() {
    let order = [
        claimed(resource("c", 3)),
        registered(resource("d", 4)),
        resource("b", 1),
        resource("a", 2),
        resource("z", 2),
    ];
    for (i, own) in order.iter().enumerate() {
        for (j, other) in order.iter().enumerate().filter(|(j, _)| *j != i) {
            let has_precedence = owner(own, [other], SOON).is_some();
            assert_eq!(has_precedence, j < i, "{j} before {i}");
        }
        let first = owner(own, &order, SOON).map(ResourceExt::name_any);
        assert_eq!(first.as_deref(), (i > 0).then_some("c"));
    }
    assert!(owner(&order[3], [], SOON).is_none());
}

#[test]
fn who_cannot_call_holds_nobody_up() {
    for (what, disable) in DISABILITIES {
        for unable in [resource("a", 1), registered(resource("a", 1))] {
            let mut unable = unable;
            let able = resource("b", 2);
            assert!(owner(&able, [&unable], SOON).is_some(), "{what}");
            assert!(!lost_precedence(&able, &unable));
            let before = unable.clone();
            disable(&mut unable);
            assert!(owner(&able, [&unable], SOON).is_none(), "{what}");
            // What its own status says may be over: it looks for itself.
            assert!(owner(&unable, [&able], SOON).is_none(), "{what}");
            assert!(lost_precedence(&before, &unable), "{what} wakes the others");
        }
    }
}

/// Graph's faults pass, and a token that is fine today is no worse for them.
#[test]
fn an_observation_that_fails_in_passing_takes_no_place() {
    let mut elder = registered(resource("a", 1));
    unobserved(&mut elder, Reason::InvalidRequest, None);
    assert!(owner(&resource("b", 2), [&elder], SOON).is_some());
    unobserved(&mut elder, Reason::AccountLocked, Some("token"));
    assert!(owner(&resource("b", 2), [&elder], SOON).is_some());
}

/// The number of a suspended resource was lost: who can call may.
#[test]
fn one_that_is_registered_and_cannot_call_blocks_no_call() {
    let (own, now) = (claimed(resource("own", 2)), Timestamp::UNIX_EPOCH);
    let mut other = registered(resource("a", 1));
    assert!(blocks_call(&own, &other, Duration::ZERO, now));
    other.spec.suspend = true;
    assert!(!blocks_call(&own, &other, Duration::ZERO, now));
}

/// A stall about the number itself keeps its place: there a twin would only spend calls.
#[test]
fn a_stall_about_the_number_keeps_its_place() {
    for reason in [
        Reason::PinMismatch,
        Reason::AccountLocked,
        Reason::OwnershipNotVerified,
        Reason::BusinessAppNumber,
    ] {
        let mut stalled = resource("a", 1);
        stall(&mut stalled, reason);
        assert!(
            owner(&resource("b", 2), [&stalled], SOON).is_some(),
            "{reason}"
        );
    }
}

/// A status that nobody writes holds nobody up for longer than a minute.
#[test]
fn one_that_nobody_has_looked_at_counts_for_its_first_minute() {
    let (unseen, own) = (resource("a", 1), waiting(resource("b", 2)));
    let at = |second| Timestamp::from_second(second).unwrap();
    assert!(owner(&own, [&unseen], at(60)).is_some());
    assert!(owner(&own, [&unseen], at(61)).is_none());
    assert!(
        owner(&unseen, [&own], at(61)).is_none(),
        "it still goes first once it is looked at"
    );
    assert!(owner(&own, [&waiting(unseen.clone())], at(61)).is_some());
    // Both were there before the operator was: the older one, which is about to be looked at as well.
    assert!(owner(&resource("b", 2), [&unseen], at(61)).is_some());
    // Its first look finds that it cannot call.
    let mut stalled = unseen.clone();
    stall(&mut stalled, Reason::TokenRejected);
    assert!(lost_precedence(&unseen, &stalled));
    let mut seen = resource("a", 1);
    seen.status = Some(WhatsAppPhoneNumberStatus {
        observed_generation: 0,
        ..WhatsAppPhoneNumberStatus::default()
    });
    for (owner, is_unseen) in [(unseen, true), (seen, false)] {
        let peers = Peers::of(&own, &[&owner], Vec::new(), at(2));
        assert_eq!(
            (peers.owner.is_some(), peers.owner_is_unseen),
            (true, is_unseen)
        );
    }
}

#[test]
fn another_namespace_is_not_named() {
    let own = resource("own", 2);
    let mut other = resource("secret-project", 1);
    assert_eq!(told(&other, &own), "shop/secret-project");
    other.metadata.namespace = Some("elsewhere".to_owned());
    assert_eq!(told(&other, &own), "another resource");
}

fn called(mut resource: WhatsAppPhoneNumber, id: &str, second: i64) -> WhatsAppPhoneNumber {
    let at = Timestamp::from_second(second).unwrap();
    let entry = attempt(id, at, Reason::GraphUnavailable);
    resource.status.get_or_insert_default().attempts.push(entry);
    resource
}

/// The calls in a status, as a process knows them.
fn known(resource: &WhatsAppPhoneNumber) -> Vec<KnownCall> {
    let entries = resource.attempts().iter();
    entries
        .map(|entry| KnownCall::of(resource, entry))
        .collect()
}

#[test]
fn the_calls_of_a_number_are_those_of_others_and_those_that_a_status_has_lost() {
    let own = called(resource("own", 1), "a", 0);
    let other = called(resource("other", 0), "b", 0);
    let lost = called(resource("own", 1), "c", 0);
    let calls = [&own, &other, &lost].into_iter().flat_map(known).collect();
    let peers = Peers::of(&own, &[&other], calls, SOON);
    let ids: Vec<_> = peers
        .attempts
        .iter()
        .map(|entry| entry.id.as_str())
        .collect();
    assert_eq!(ids, ["b", "c"]);
    assert_eq!(peers.owner.as_deref(), Some("shop/other"));
}

#[test]
fn a_call_without_a_read_that_showed_the_number_does_not_count_elsewhere() {
    let with_seen = |name, seen| {
        let mut resource = called(resource(name, 0), name, 0);
        let status = resource.status.get_or_insert_default();
        status.attempts[0].seen = seen;
        resource
    };
    let others = [
        with_seen("older-entry", None),
        with_seen("seen", Some(true)),
        with_seen("stranger", Some(false)),
    ];
    let mut calls: Vec<_> = others.iter().flat_map(known).collect();
    let gone = with_seen("gone", Some(false));
    // Its own, which its status has lost, or of an earlier resource of its name.
    let own = resource("own", 1);
    let lost = KnownCall {
        resource: own.qualified_name(),
        ..known(&with_seen("lost", Some(false))).remove(0)
    };
    calls.extend(known(&gone).into_iter().chain([lost]));
    let others: Vec<_> = others.iter().collect();
    let peers = Peers::of(&own, &others, calls, SOON);
    let ids = |calls: &[LedgerEntry]| calls.iter().map(|call| call.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&peers.attempts), ["older-entry", "seen", "lost"]);
    assert_eq!(ids(&peers.unseen_attempts), ["stranger", "gone"]);
}

#[test]
fn a_number_is_called_for_until_the_confirm_window_is_over() {
    let window = Duration::from_secs(120);
    let called = called(resource("own", 1), "a", 1_000);
    for (second, expected) in [(1_000, true), (1_119, true), (1_120, false), (9_000, false)] {
        let now = Timestamp::from_second(second).unwrap();
        assert_eq!(is_called_for(&called, window, now), expected, "{second}");
    }
    let open = claimed(resource("own", 1));
    assert!(is_called_for(
        &open,
        window,
        Timestamp::from_second(900_000).unwrap()
    ));
}

/// A call that this process made counts for the next resource of the name, not as an earlier one for the resource that it was made for,
/// which the watch may lose from sight for a while.
#[test]
fn an_earlier_resource_has_the_name_and_another_uid() {
    let with_uid = |uid: &str| {
        let mut resource = called(resource("own", 1), "call", 0);
        resource.metadata.uid = Some(uid.to_owned());
        resource.status.get_or_insert_default().attempts[0].operation = Operation::Deregister;
        resource
    };
    let calls = known(&with_uid("a"));
    for (uid, earlier) in [("a", 0), ("b", 1)] {
        let mut own = with_uid(uid);
        own.status = None;
        let peers = Peers::of(&own, &[], calls.clone(), SOON);
        assert_eq!(peers.earlier.len(), earlier, "{uid}");
        assert_eq!(peers.attempts.len(), 1, "{uid}");
    }
    let mut other = resource("other", 1);
    other.metadata.uid = Some("b".to_owned());
    assert!(Peers::of(&other, &[], calls, SOON).earlier.is_empty());
    // A register call has taken no number off.
    let registered = known(&called(resource("own", 1), "call", 0));
    let mut own = with_uid("b");
    own.status = None;
    assert!(Peers::of(&own, &[], registered, SOON).earlier.is_empty());
}
