//! Two replicas and numbers that are observed: one replica reads, and what it finds is told once, whoever leads next.

use std::sync::Arc;

use operator_core::api::{WhatsAppPhoneNumberStatus, conditions};

use super::stops::Stops;
use super::{LEADS, LOST, election, free_lease, with};
use testkit::bed::{Bed, is};
use testkit::gateway::Kind;
use testkit::simulator::NumberConfig;

/// A suspected loss is certain after three seconds.
const OFTEN: [&str; 2] = ["--observe-interval=1s", "--confirm-window=3s"];

/// Found by the first leader, and suspected by the first and found by the second.
const FOUND: (&str, &str) = ("found", "6801");
const SUSPECTED: (&str, &str) = ("suspected", "6802");

fn lost(status: &WhatsAppPhoneNumberStatus) -> bool {
    is(status, conditions::REGISTERED, "False", "RegistrationLost")
}

/// How many reads have gone through the gate of a replica.
fn reads(stops: &Stops) -> usize {
    stops.answered(Kind::GraphRead, 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_alone_observes_and_a_loss_is_told_once() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let flags = election(&bed);
    let flags = with(&flags, &OFTEN);
    let stops = [Stops::new(), Stops::new()];
    let [first_gates, second_gates] = [
        bed.gates(Arc::clone(&stops[0]) as _).await,
        bed.gates(Arc::clone(&stops[1]) as _).await,
    ];
    let first = first_gates.operator(&bed, &flags).await;
    first.until_logged(LEADS).await;
    let second = second_gates.operator(&bed, &flags).await;
    for (name, id) in [FOUND, SUSPECTED] {
        bed.simulator.set(id, NumberConfig::registered());
        bed.declare(name, id).await;
        let observed =
            |status: &_| is(status, conditions::OBSERVED, "True", "ObservationSucceeded");
        bed.until(name, "observed", observed).await;
    }
    bed.simulator.set(FOUND.1, NumberConfig::fresh());
    bed.until(FOUND.0, "lost", lost).await;
    bed.until_event(FOUND.0, "RegistrationLost").await;
    bed.simulator.set(SUSPECTED.1, NumberConfig::fresh());
    bed.until(SUSPECTED.0, "suspected", |status| {
        status.loss_suspected_time.is_some()
    })
    .await;
    assert_eq!(reads(&stops[1]), 0, "{}", second.log());

    free_lease(&bed).await;
    second.until_logged(LEADS).await;
    first.until_logged(LOST).await;
    bed.until(SUSPECTED.0, "lost", lost).await;
    bed.until_event(SUSPECTED.0, "RegistrationLost").await;
    let before = reads(&stops[0]);
    // The second leader has seen each of them several times.
    let times = reads(&stops[1]) + 8;
    stops[1].until_answered(Kind::GraphRead, 200, times).await;
    assert_eq!(reads(&stops[0]), before, "{}", first.log());
    for (name, id) in [FOUND, SUSPECTED] {
        let events = bed.events(name).await;
        let told = events
            .iter()
            .filter(|event| event.reason.as_deref() == Some("RegistrationLost"));
        assert_eq!(told.count(), 1, "{events:#?}");
        assert_eq!(bed.posts(id), 0);
    }
    let total = first.metric("registrations_lost_total").await
        + second.metric("registrations_lost_total").await;
    assert_eq!(total, 2.0, "{}", second.log());
}
