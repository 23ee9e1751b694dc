//! A resource that is renamed in Git while a call for its number is under way: delete and create, in either order. The
//! new one adopts what the old one's call has made.

use std::sync::Arc;

use futures::future::join_all;

use super::stops::{Stop, Stops};
use super::until_any_registered;
use testkit::bed::{Bed, Gates};
use testkit::gateway::Kind;
use testkit::operator::Operator;
use testkit::simulator::{NumberConfig, Step};

/// Where the old resource's call is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    BeforeActing,
    AfterActing,
    BeforeRecord,
}

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Delete,
    Create,
}

/// When the operator is killed and started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Restart {
    No,
    /// The old resource is still there, with its open claim.
    BeforeDeletion,
    /// Nobody remembers the old resource.
    AfterDeletion,
}

impl At {
    const ALL: [Self; 3] = [Self::BeforeActing, Self::AfterActing, Self::BeforeRecord];
}

/// One renaming.
#[derive(Clone, Copy, Debug)]
struct Case {
    at: At,
    order: Order,
    restart: Restart,
}

/// The resources of one renaming, side by side with others in one bed.
struct Number<'a> {
    bed: &'a Bed,
    stops: &'a Stops,
    case: Case,
    id: String,
}

impl Number<'_> {
    fn old_name(&self) -> String {
        format!("old-{}", self.id)
    }

    fn new_name(&self) -> String {
        format!("new-{}", self.id)
    }

    /// Declares the old one and waits until its call is held.
    async fn hold(&self) {
        let script = match self.case.at {
            At::BeforeActing => vec![Step::wait()],
            At::AfterActing => vec![Step::wait_after()],
            At::BeforeRecord => Vec::new(),
        };
        self.bed
            .simulator
            .set(&self.id, NumberConfig::fresh().script(script));
        if self.case.at == At::BeforeRecord {
            self.stops
                .hold(Stop::Before(Kind::Record), &self.old_name());
        }
        self.bed.declare(&self.old_name(), &self.id).await;
        if self.case.at == At::BeforeRecord {
            self.stops.until_held(&self.old_name()).await;
        } else {
            let held = self
                .bed
                .simulator
                .until(&self.id, |report| report.held == 1);
            held.await.expect("the call is held");
        }
    }

    async fn rename(&self) {
        match self.case.order {
            Order::Delete => {
                self.bed.delete(&self.old_name()).await;
                self.bed.declare(&self.new_name(), &self.id).await;
            }
            Order::Create => {
                self.bed.declare(&self.new_name(), &self.id).await;
                self.bed.delete(&self.old_name()).await;
            }
        }
    }

    fn release(&self) {
        self.stops.release(&self.old_name());
        self.bed.simulator.release(&self.id);
    }

    async fn adopted(&self) {
        until_any_registered(self.bed, &self.new_name()).await;
        let report = self.bed.simulator.number(&self.id);
        let counts = report.counts;
        let case = self.case;
        // The documented limit: nobody is left who knows of a call that Graph has not acted on, and its read says so. It
        // is never one for a number that is registered.
        let forgotten = case.at == At::BeforeActing && case.restart == Restart::AfterDeletion;
        let calls = if forgotten { 2 } else { 1 };
        assert_eq!(counts.register_calls, calls, "{case:?}: {report:#?}");
        assert_eq!(
            counts.register_calls_while_registered, 0,
            "{case:?}: {report:#?}"
        );
        if !forgotten {
            self.bed
                .until_registered(&self.new_name(), "AlreadyRegistered")
                .await;
        }
    }
}

/// What an operator runs with.
async fn start(bed: &Bed, gates: &Gates) -> Operator {
    gates.operator(bed, &["--graph-timeout=10s"]).await
}

async fn rename_all(restart: Restart) {
    let bed = Bed::new().await;
    bed.secrets().await;
    let stops = Stops::new();
    let gates = bed.gates(Arc::clone(&stops) as _).await;
    let mut operator = start(&bed, &gates).await;
    let cases = [Order::Delete, Order::Create].into_iter();
    let cases = cases.flat_map(|order| At::ALL.map(|at| Case { at, order, restart }));
    let numbers: Vec<Number<'_>> = cases
        .enumerate()
        .map(|(n, case)| Number {
            bed: &bed,
            stops: &stops,
            case,
            id: format!("66{n:02}"),
        })
        .collect();
    join_all(numbers.iter().map(Number::hold)).await;
    match restart {
        Restart::No => join_all(numbers.iter().map(Number::rename)).await,
        Restart::BeforeDeletion => {
            operator.kill().await;
            operator = start(&bed, &gates).await;
            let renamed = join_all(numbers.iter().map(Number::rename)).await;
            // The call of the old one is remembered: it may still act.
            for number in numbers
                .iter()
                .filter(|number| number.case.at == At::BeforeActing)
            {
                bed.until_waiting(&number.new_name(), "OutcomeUnknown")
                    .await;
            }
            renamed
        }
        Restart::AfterDeletion => {
            operator.kill().await;
            let renamed = join_all(numbers.iter().map(Number::rename)).await;
            operator = start(&bed, &gates).await;
            // The second call of the limit is under way or over before the first one acts.
            for number in numbers
                .iter()
                .filter(|number| number.case.at == At::BeforeActing)
            {
                let called =
                    |report: &testkit::simulator::NumberReport| report.counts.register_calls == 2;
                let called = bed.simulator.until(&number.id, called).await;
                called
                    .expect("the documented limit; if it is gone, mend docs/design/guarantees.md");
            }
            renamed
        }
    };
    numbers.iter().for_each(Number::release);
    join_all(numbers.iter().map(Number::adopted)).await;
    let (status, log) = operator.terminate().await;
    assert_eq!(status, "0", "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_is_renamed_during_its_call_is_adopted() {
    tokio::join!(
        rename_all(Restart::No),
        rename_all(Restart::BeforeDeletion),
        rename_all(Restart::AfterDeletion),
    );
}
