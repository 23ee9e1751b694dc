//! Which of several resources of one number takes precedence.

use kube_core::ResourceExt;
use operator_core::model::twins::owner;
use testkit::builders::{claimed, registered, resource};

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
