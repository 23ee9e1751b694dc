//! What `/metrics` says of numbers: the leader names them, a follower only counts them.

use std::time::Duration;

use tokio::time::Instant;

use testkit::bed::{Bed, DEADLINE};
use testkit::operator::Operator;
use testkit::simulator::{NumberConfig, Step};

/// What all metrics of single numbers begin with.
const OF_A_NUMBER: &str = "whatsapp_operator_phone_number_";

/// What every operator here says of the numbers below.
const SUM: &str = "whatsapp_operator_phone_numbers{state=\"Registered\"} 1";

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_names_numbers_and_its_successor_does() {
    let bed = Bed::new().await;
    two_numbers(&bed).await;
    let namespace = format!("--lease-namespace={}", bed.namespace);
    let election = ["--leader-elect=true", namespace.as_str()];
    let leader = bed.operator(&election).await;
    let state = series(&bed, "state", "sales", "Registered");
    let reason = series(&bed, "reason", "sales", "AlreadyRegistered");
    let named = until(&leader, &state).await;
    assert!(named.contains(&reason), "no {reason} in {named}");
    let follower = bed.operator(&election).await;
    let counted = until(&follower, SUM).await;
    assert!(!counted.contains(OF_A_NUMBER), "{counted}");
    leader.terminate().await;
    until(&follower, &state).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registered_numbers_or_all_can_be_left_out() {
    let bed = Bed::new().await;
    two_numbers(&bed).await;
    let operator = bed.operator(&["--metrics-per-number=unregistered"]).await;
    let waits = until(&operator, "_next_attempt_timestamp_seconds{").await;
    let support = series(&bed, "state", "support", "Waiting");
    assert!(waits.contains(&support), "{waits}");
    assert!(!waits.contains("name=\"sales\""), "{waits}");
    let operator = bed.operator(&["--metrics-per-number=none"]).await;
    until(&operator, "whatsapp_operator_leader 1").await;
    let counted = until(&operator, SUM).await;
    assert!(!counted.contains(OF_A_NUMBER), "{counted}");
}

/// One number that is registered, and one that waits for hours.
async fn two_numbers(bed: &Bed) {
    bed.secrets().await;
    bed.simulator.set("1", NumberConfig::registered());
    bed.declare("sales", "1").await;
    let blocked = NumberConfig::fresh().script(vec![Step::error(133_016)]);
    bed.simulator.set("2", blocked);
    bed.declare("support", "2").await;
}

/// The series of a metric whose label has its own name.
fn series(bed: &Bed, metric: &str, name: &str, value: &str) -> String {
    let namespace = &bed.namespace;
    format!(
        "{OF_A_NUMBER}{metric}{{namespace=\"{namespace}\",name=\"{name}\",{metric}=\"{value}\"}} 1\n"
    )
}

/// The text of `/metrics`, once it has this.
async fn until(operator: &Operator, wanted: &str) -> String {
    let url = format!("http://{}/metrics", operator.address());
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = reqwest::get(&url).await.expect("the metrics");
        let text = answer.text().await.expect("the metrics");
        if text.contains(wanted) {
            return text;
        }
        assert!(Instant::now() < deadline, "no {wanted} in {text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
