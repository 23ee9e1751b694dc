//! Which of several resources of one number takes precedence.

use std::time::Duration;

use jiff::Timestamp;
use kube_core::ResourceExt;
use operator_core::api::{Reason, WhatsAppPhoneNumber};
use operator_core::model::Peers;
use operator_core::model::twins::{is_called_for, owner};
use testkit::builders::{claimed, registered, resource};
use testkit::world::attempt;

#[test]
fn registered_then_claimed_then_oldest_then_by_name() {
    let order = [
        registered(resource("d", 4)),
        claimed(resource("c", 3)),
        resource("b", 1),
        resource("a", 2),
        resource("z", 2),
    ];
    for (i, own) in order.iter().enumerate() {
        for (j, other) in order.iter().enumerate().filter(|(j, _)| *j != i) {
            let has_precedence = owner(own, [other]).is_some();
            assert_eq!(has_precedence, j < i, "{j} before {i}");
        }
        let first = owner(own, &order).map(ResourceExt::name_any);
        assert_eq!(first.as_deref(), (i > 0).then_some("d"));
    }
    assert!(owner(&order[3], []).is_none());
}

fn called(mut resource: WhatsAppPhoneNumber, id: &str, second: i64) -> WhatsAppPhoneNumber {
    let at = Timestamp::from_second(second).unwrap();
    let entry = attempt(id, at, Reason::GraphUnavailable);
    resource.status.get_or_insert_default().attempts.push(entry);
    resource
}

#[test]
fn the_calls_of_a_number_are_those_of_others_and_those_that_a_status_has_lost() {
    let own = called(resource("own", 1), "a", 0);
    let other = called(resource("other", 0), "b", 0);
    let lost = called(resource("own", 1), "c", 0);
    let calls = [&own, &other, &lost]
        .into_iter()
        .flat_map(|resource| resource.attempts().to_vec())
        .collect();
    let peers = Peers::of(&own, &[&other], calls);
    let ids: Vec<_> = peers
        .attempts
        .iter()
        .map(|entry| entry.id.as_str())
        .collect();
    assert_eq!(ids, ["b", "c"]);
    assert_eq!(peers.owner.as_deref(), Some("shop/other"));
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
