//! Two and three operators at once and no leader: the claim alone keeps them apart.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use super::stops::{Flow, Stops};
use super::until_any_registered;
use super::witness::Witness;
use testkit::bed::{Bed, DEADLINE};
use testkit::gateway::Kind;
use testkit::operator::Operator;
use testkit::simulator::{NumberConfig, Step};

/// How long Graph takes for each call: enough for another operator to come in between.
const LATENCY: Duration = Duration::from_millis(50);

/// What a killed operator was at is settled soon; a claim may still take its time on a busy machine.
const SOON: [&str; 1] = ["--graph-timeout=4s"];

/// A bed with so many fresh numbers that nobody has declared yet.
struct Race {
    bed: Bed,
    ids: Vec<String>,
    witness: Witness,
}

impl Race {
    async fn new(numbers: usize) -> Self {
        let bed = Bed::new().await;
        bed.secrets().await;
        let ids: Vec<String> = (0..numbers).map(|n| format!("6{n:03}")).collect();
        for id in &ids {
            bed.simulator
                .set(id, NumberConfig::fresh().latency(LATENCY));
        }
        let witness = Witness::of(&bed);
        Self { bed, ids, witness }
    }

    async fn declare(&self) {
        join_all(self.ids.iter().map(|id| async move {
            self.bed.declare(&format!("n{id}"), id).await;
        }))
        .await;
    }

    /// Waits until Graph has registered so many.
    async fn until_registered(&self, wanted: usize) {
        let deadline = Instant::now() + DEADLINE;
        let registered = || self.bed.simulator.totals().registered;
        while registered() < wanted {
            assert!(Instant::now() < deadline, "{} of {wanted}", registered());
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until every number is settled; asserts that each took one call.
    async fn finish(self) {
        for id in &self.ids {
            until_any_registered(&self.bed, &format!("n{id}")).await;
        }
        for id in &self.ids {
            let report = self.bed.simulator.number(id);
            assert_eq!(report.counts.register_calls, 1, "{report:#?}");
        }
        assert!(self.bed.simulator.violations().is_empty());
        self.witness.assert_none_flipped();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_make_one_call_for_each_of_sixty_numbers() {
    let race = Race::new(60).await;
    let _operators = join_all([race.bed.operator(&[]), race.bed.operator(&[])]).await;
    race.declare().await;
    race.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_that_start_together_make_one_call_for_each_number() {
    let race = Race::new(60).await;
    race.declare().await;
    let _operators = join_all([race.bed.operator(&[]), race.bed.operator(&[])]).await;
    race.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_operators_that_are_killed_in_turn_make_one_call_for_each_number() {
    let race = Race::new(40).await;
    race.declare().await;
    let launch = || race.bed.operator(&SOON);
    let mut operators: Vec<Operator> = join_all([launch(), launch(), launch()]).await;
    for turn in 0..3 {
        race.until_registered(40 * (turn + 1) / 5).await;
        let operator = operators.remove(0);
        // Two without any notice, one in the orderly way.
        match turn {
            1 => drop(operator.terminate().await),
            _ => operator.kill().await,
        }
        operators.push(launch().await);
    }
    race.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_whose_watches_come_and_go_makes_no_second_call() {
    let race = Race::new(60).await;
    let stops = Stops::new();
    let gates = race.bed.gates(Arc::clone(&stops) as _).await;
    let (_late, _other) = tokio::join!(gates.operator(&race.bed, &[]), race.bed.operator(&[]));
    let tides = async {
        loop {
            for flow in [Flow::Shut, Flow::Open] {
                stops.set_flow(flow);
                sleep(Duration::from_millis(400)).await;
            }
        }
    };
    tokio::select! {
        () = tides => {}
        () = async { race.declare().await; race.finish().await } => {}
    }
}

/// The worst that a cache can do: the operator learns of each number when another one has registered it already, sees it
/// as it was in the beginning, and Graph's reads lag. Only the version in the claim is left to stop it.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_decides_on_old_versions_loses_every_claim() {
    let race = Race::new(20).await;
    for id in &race.ids {
        race.bed.simulator.script(id, vec![Step::lag(100)]);
    }
    let stops = Stops::new();
    let gates = race.bed.gates(Arc::clone(&stops) as _).await;
    let late = gates.operator(&race.bed, &[]).await;
    // Before its first claim a process tries another write, which would be the one that loses.
    race.bed.declare("first", "990001").await;
    until_any_registered(&race.bed, "first").await;
    stops.set_flow(Flow::Shut);
    race.declare().await;
    let _other = race.bed.operator(&[]).await;
    for id in &race.ids {
        until_any_registered(&race.bed, &format!("n{id}")).await;
    }
    stops.set_flow(Flow::OnlyAdded);
    stops.until_answered(Kind::Claim, 409, race.ids.len()).await;
    stops.set_flow(Flow::Open);
    let (status, log) = late.terminate().await;
    assert_eq!(status, "0", "{log}");
    race.finish().await;
}

/// A cache that stands still shows the same version again after a conflict. Graph is not asked again for that one.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_decides_on_an_old_version_looks_at_the_newest_before_it_asks_graph_again()
{
    let race = Race::new(10).await;
    let stops = Stops::new();
    let gates = race.bed.gates(Arc::clone(&stops) as _).await;
    let late = gates.operator(&race.bed, &[]).await;
    stops.set_flow(Flow::Shut);
    race.declare().await;
    let _other = race.bed.operator(&[]).await;
    for id in &race.ids {
        until_any_registered(&race.bed, &format!("n{id}")).await;
    }
    let reads = |id: &String| race.bed.simulator.number(id).counts.reads;
    let before: usize = race.ids.iter().map(reads).sum();
    stops.set_flow(Flow::OnlyAdded);
    let numbers = race.ids.len();
    stops.until_answered(Kind::Status, 409, numbers).await;
    stops.until_answered(Kind::ReadResource, 200, numbers).await;
    stops.set_flow(Flow::Open);
    let (status, log) = late.terminate().await;
    assert_eq!(status, "0", "{log}");
    let after: usize = race.ids.iter().map(reads).sum();
    assert_eq!(after - before, numbers, "{log}");
    race.finish().await;
}
