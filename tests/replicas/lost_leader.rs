//! A leader that loses its Lease in one way or another, with a call under way: nobody makes a second one, and the work
//! goes on as soon as it may.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::DeleteParams;
use serde_json::json;

use super::stops::{Outage, Stops};
use super::{LEADS, LEASE, LOST, election, free_lease, patch_lease, until_any_registered, with};
use testkit::bed::{Bed, Gates};
use testkit::operator::Operator;
use testkit::simulator::{NumberConfig, Step};

/// The number whose call is under way when the Lease is lost.
const HELD: &str = "6700";

/// No call is given up in a test.
const PATIENT: &str = "--graph-timeout=60s";

/// A bed with two replicas. The first leads, goes through gates, and a call of its is held.
struct Scene {
    bed: Bed,
    stops: Arc<Stops>,
    first: Operator,
    second: Operator,
    _gates: Gates,
}

impl Scene {
    async fn new(held: Step, timeout: &str) -> Self {
        let bed = Bed::new().await;
        bed.secrets().await;
        bed.simulator
            .set(HELD, NumberConfig::fresh().script(vec![held]));
        let stops = Stops::new();
        let gates = bed.gates(Arc::clone(&stops) as _).await;
        let flags = election(&bed);
        let first = gates.operator(&bed, &with(&flags, &[timeout])).await;
        first.until_logged(LEADS).await;
        let second = bed.operator(&with(&flags, &["--graph-timeout=2s"])).await;
        bed.declare("held", HELD).await;
        let calls = bed.simulator.until(HELD, |report| report.held == 1).await;
        calls.expect("the call is held");
        Self {
            bed,
            stops,
            first,
            second,
            _gates: gates,
        }
    }

    /// Declares some numbers and waits until each was registered with one call.
    async fn register_more(&self, from: usize) {
        let ids: Vec<String> = (from..from + 10).map(|n| n.to_string()).collect();
        join_all(ids.iter().map(|id| async move {
            let name = format!("n{id}");
            self.bed.declare(&name, id).await;
            until_any_registered(&self.bed, &name).await;
            let report = self.bed.simulator.number(id);
            assert_eq!(report.counts.register_calls, 1, "{report:#?}");
        }))
        .await;
    }

    /// Lets the held call go; asserts that it was the only one.
    async fn finish(self) {
        self.bed.simulator.release(HELD);
        until_any_registered(&self.bed, "held").await;
        for operator in [self.first, self.second] {
            let (status, log) = operator.terminate().await;
            assert_eq!(status, "0", "{log}");
        }
        assert_eq!(self.bed.posts(HELD), 1);
    }
}

async fn a_lease_that_is_deleted_costs_no_second_call() {
    let scene = Scene::new(Step::wait(), PATIENT).await;
    let leases = scene.bed.api::<Lease>();
    let deleted = leases.delete(LEASE, &DeleteParams::default()).await;
    deleted.expect("the Lease is deleted");
    scene.first.until_logged(LOST).await;
    // Whoever makes it anew goes on.
    scene.register_more(6710).await;
    scene.finish().await;
}

async fn while_a_stranger_holds_the_lease_no_call_begins_and_the_one_under_way_is_recorded() {
    let scene = Scene::new(Step::wait(), PATIENT).await;
    let taken = Timestamp::now();
    let seconds = 8;
    let lease = json!({
        "holderIdentity": "stranger", "acquireTime": format!("{taken:.6}"), "renewTime": format!("{taken:.6}"),
        "leaseDurationSeconds": seconds,
    });
    patch_lease(&scene.bed, lease).await;
    scene.first.until_logged(LOST).await;
    scene.bed.declare("later", "6720").await;
    scene.bed.simulator.release(HELD);
    scene
        .bed
        .until_registered("held", "RegistrationSucceeded")
        .await;
    // The Lease runs out: one of the two takes it and looks at what was left alone meanwhile.
    scene
        .bed
        .until_registered("later", "RegistrationSucceeded")
        .await;
    let report = scene.bed.simulator.number("6720");
    let first_call = report.log.first().expect("a read").time;
    let ends = taken + Duration::from_secs(seconds);
    assert!(first_call >= ends, "{first_call} is before {ends}");
    assert_eq!(report.counts.register_calls, 1);
    scene.finish().await;
}

/// The first leader cannot see that its time is over, so for a while both lead.
async fn two_that_both_take_themselves_for_the_leader_make_one_call() {
    let scene = Scene::new(Step::wait(), PATIENT).await;
    scene.stops.set_outage(Outage::Lease);
    free_lease(&scene.bed).await;
    scene.second.until_logged(LEADS).await;
    scene.register_more(6730).await;
    assert!(!scene.first.log().contains(LOST), "{}", scene.first.log());
    scene.stops.set_outage(Outage::None);
    scene.first.until_logged(LOST).await;
    scene.finish().await;
}

/// The leader cannot write down what Graph has answered; the other one finds out by itself.
async fn a_leader_that_cannot_reach_the_api_server_costs_no_second_call() {
    let scene = Scene::new(Step::wait_after(), "--graph-timeout=4s").await;
    scene.stops.set_outage(Outage::ApiServer);
    scene.bed.simulator.release(HELD);
    scene
        .first
        .until_logged("The outcome is not recorded yet")
        .await;
    free_lease(&scene.bed).await;
    scene.second.until_logged(LEADS).await;
    scene.register_more(6740).await;
    scene.bed.until_registered("held", "OutcomeConfirmed").await;
    scene.stops.set_outage(Outage::None);
    scene.first.until_logged(LOST).await;
    scene.finish().await;
}

/// Nothing is hurried here: the Lease runs out by itself, for its holder as well, who cannot renew it.
async fn a_leader_that_cannot_renew_stops_by_itself() {
    let scene = Scene::new(Step::wait_after(), PATIENT).await;
    scene.stops.set_outage(Outage::Lease);
    tokio::join!(
        scene.first.until_logged(LOST),
        scene.second.until_logged(LEADS)
    );
    assert!(
        scene.first.log().contains("Expired"),
        "{}",
        scene.first.log()
    );
    scene.register_more(6750).await;
    scene.finish().await;
}

/// They wait most of the time, the last one for the 30 s of the Lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_loses_its_lease_costs_no_second_call() {
    tokio::join!(
        a_lease_that_is_deleted_costs_no_second_call(),
        while_a_stranger_holds_the_lease_no_call_begins_and_the_one_under_way_is_recorded(),
        two_that_both_take_themselves_for_the_leader_make_one_call(),
        a_leader_that_cannot_reach_the_api_server_costs_no_second_call(),
        a_leader_that_cannot_renew_stops_by_itself(),
    );
}
