//! Numbers that are registered, and from then on observed or taken off, each with a Graph of its own kind of fault.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::api::ListParams;
use operator_core::api::WhatsAppPhoneNumberStatus;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::time::Instant;

use super::leaving::Told;
use super::numbers::{self, AT_ONCE, SEED};
use super::oracle::Held;
use super::scenario::{Scenario, Start};
use super::trace::{self, Call};
use super::verdict::{by_number, lost_writes, steps};
use super::{TIMEOUT, draw, leaving, observed};
use testkit::bed::{Bed, DEADLINE};
use testkit::from_environment;
use testkit::operator::{Farewell, Operator};
use testkit::simulator::{NumberConfig, NumberReport, Trigger};

/// `--deregister-deadline`: most of what a script can do passes before.
const DEREGISTER_DEADLINE: Duration = Duration::from_secs(25);

/// Times are kept in whole seconds.
pub const ROUNDING: Duration = Duration::from_secs(1);

/// After so many reads without a fault an observed number has come to rest.
const READS_AT_REST: usize = 8;

/// How often everything is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How many numbers are shown in full when something is wrong.
const SHOWN: usize = 5;

/// A number, what becomes of it, and what Graph does from then on.
struct Life {
    scenario: Scenario,
    leaves: bool,
    now: NumberConfig,
}

/// Everything that is known of a number at the end.
pub struct Case<'a> {
    life: &'a Life,
    pub report: NumberReport,
    pub calls: Vec<Call>,
    /// Of one that is observed.
    pub status: WhatsAppPhoneNumberStatus,
    /// What was told of one that leaves.
    pub told: Vec<Told>,
    /// Whether that was before the deadline.
    pub early: bool,
    /// Whether the API server left a write unanswered.
    pub lost_writes: bool,
    lines: &'a [&'a str],
    /// How often the operator gave up on an answer that was given in time.
    given_up: usize,
}

/// A guarantee: its name, and how it is looked for.
pub type Guarantee = (&'static str, fn(&Case<'_>) -> Held);

/// What was counted by the operator.
struct Metrics {
    farewells: BTreeMap<Told, f64>,
    losses: f64,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_registered_number_keeps_to_the_guarantees_whatever_its_graph_does() {
    let seed = from_environment("GRAPH_FAULTS_SEED", SEED);
    let numbers = from_environment("GRAPH_FAULTS_NUMBERS", 100);
    println!("GRAPH_FAULTS_SEED={seed} GRAPH_FAULTS_NUMBERS={numbers}");
    let started = Instant::now();
    let lives: Vec<Life> = (0..numbers).map(|place| Life::drawn(seed, place)).collect();
    let scenarios: Vec<Scenario> = lives.iter().map(|life| life.scenario.clone()).collect();
    let bed = Bed::new().await;
    let operator = begin(&bed, &lives).await;
    let turned = Timestamp::now();
    turn(&bed, &lives).await;
    numbers::while_releasing(&bed, &scenarios, at_rest(&bed, &lives)).await;
    let statuses = numbers::statuses(&bed).await;
    let metrics = Metrics::of(&operator).await;
    let written = numbers::everything_written(&bed).await;
    let (exit, log) = operator.terminate().await;
    assert_eq!(exit, "0");
    let lines = by_number(&log);
    let mut told: BTreeMap<String, Vec<(Told, bool)>> = BTreeMap::new();
    for farewell in Farewell::all(&log) {
        let early = farewell.time < turned + DEREGISTER_DEADLINE - ROUNDING;
        let known = told.entry(farewell.number.clone()).or_default();
        known.push((Told::of(&farewell), early));
    }
    let cases = lives.iter().map(|life| {
        let Scenario { id, .. } = &life.scenario;
        let lines = lines.get(life.scenario.name().as_str());
        let report = bed.simulator.number(id);
        let told = told.get(id).map_or(&[][..], Vec::as_slice);
        let lines = lines.map_or(&[][..], Vec::as_slice);
        Case::of(life, report, statuses.get(id), told, lines)
    });
    let cases: Vec<Case<'_>> = cases.collect();
    println!("{}", figures(&cases, &metrics));
    assert_judgeable(&cases);
    let mut violations = violations(&cases);
    violations.extend(metrics.differs_from(&cases));
    violations.extend(numbers::no_secret_and_no_panic(&written, &log));
    println!("{:?}", started.elapsed());
    assert!(
        violations.is_empty(),
        "{} violations; again with GRAPH_FAULTS_SEED={seed} GRAPH_FAULTS_NUMBERS={numbers}:\n{}",
        violations.len(),
        violations.join("\n")
    );
}

/// Declares the numbers, which Graph has registered, and waits until each is adopted.
async fn begin(bed: &Bed, lives: &[Life]) -> Operator {
    let sound = |life: &Life| Scenario {
        script: Vec::new(),
        ..life.scenario.clone()
    };
    numbers::prepare(bed, &lives.iter().map(sound).collect::<Vec<_>>()).await;
    let deadline = format!("--deregister-deadline={}s", DEREGISTER_DEADLINE.as_secs());
    let operator = numbers::start(bed, &["--observe-interval=1s", &deadline]).await;
    let declared = stream::iter(lives.iter().enumerate()).for_each_concurrent(
        AT_ONCE,
        |(place, life)| async move {
            let mut more = numbers::secret_refs(place, &life.scenario);
            if life.leaves {
                more["deletionPolicy"] = json!("Deregister");
                more["observeInterval"] = json!("0s");
            }
            bed.declare_with(&life.scenario.name(), &life.scenario.id, more)
                .await;
        },
    );
    declared.await;
    for life in lives {
        bed.until_registered(&life.scenario.name(), "AlreadyRegistered")
            .await;
    }
    operator
}

/// From now on Graph is as each number has it, and some resources are deleted.
async fn turn(bed: &Bed, lives: &[Life]) {
    let turned = stream::iter(lives).for_each_concurrent(AT_ONCE, |life| async move {
        bed.simulator.set(&life.scenario.id, life.now.clone());
        if life.leaves {
            bed.delete(&life.scenario.name()).await;
        }
    });
    turned.await;
}

/// Waits until all that leave are gone, which takes no longer than the deadline and `ttlSeconds` of a claim that is open then, and all that
/// are observed have come to rest.
async fn at_rest(bed: &Bed, lives: &[Life]) {
    let deadline = Instant::now() + DEREGISTER_DEADLINE + 2 * TIMEOUT + DEADLINE / 3;
    let staying = lives.iter().filter(|life| !life.leaves).count();
    while resources(bed).await > staying {
        assert!(
            Instant::now() < deadline,
            "{} do not go",
            resources(bed).await - staying
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let deadline = Instant::now() + DEADLINE;
    let restless =
        |life: &&Life| !life.leaves && !is_at_rest(&bed.simulator.number(&life.scenario.id));
    while let Some(life) = lives.iter().find(restless) {
        let report = || bed.simulator.number(&life.scenario.id);
        assert!(Instant::now() < deadline, "not at rest: {:#?}", report());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn resources(bed: &Bed) -> usize {
    let list = bed.numbers().list_metadata(&ListParams::default()).await;
    list.expect("the numbers").items.len()
}

/// Whether the script of an observed number is over, or will not go on: a token that was limited is left to calls.
fn is_at_rest(report: &NumberReport) -> bool {
    let last = report.log.iter().rposition(|call| call.step.is_some());
    let after = &report.log[last.map_or(0, |last| last + 1)..];
    let reads = after
        .iter()
        .filter(|call| !trace::is_optional(call))
        .count();
    let limited = report
        .log
        .iter()
        .any(|call| call.step.as_deref() == Some("rate_limited"));
    report.in_flight == 0 && (limited || report.script.is_empty() && reads >= READS_AT_REST)
}

/// What is broken, one line each, with the whole story of the first numbers.
fn violations(cases: &[Case<'_>]) -> Vec<String> {
    let broken = cases.iter().map(|case| (case, case.broken()));
    let broken: Vec<_> = broken.filter(|(_, broken)| !broken.is_empty()).collect();
    let stories = broken.iter().take(SHOWN).map(|(case, _)| case.story());
    let lines = broken.iter().flat_map(|(_, broken)| broken.clone());
    stories.chain(lines).collect()
}

/// What was done, so that a run that tests little is seen.
fn figures(cases: &[Case<'_>], metrics: &Metrics) -> String {
    let calls = || cases.iter().flat_map(|case| &case.calls);
    format!(
        "{} numbers, {} calls\nsteps on reads: {:?}\nsteps on deregister calls: {:?}\ntold: {:?}, {} losses",
        cases.len(),
        calls().count(),
        steps(calls().filter(|call| !call.is_deregister())),
        steps(calls().filter(|call| call.is_deregister())),
        metrics.farewells,
        metrics.losses,
    )
}

/// Fails where the machine was so busy that the run says little.
fn assert_judgeable(cases: &[Case<'_>]) {
    let sum = |count: fn(&Case<'_>) -> usize| cases.iter().map(count).sum::<usize>();
    let (calls, given_up) = (sum(|case| case.calls.len()), sum(|case| case.given_up));
    let leaving = sum(|case| usize::from(case.life.leaves));
    let in_time = sum(|case| usize::from(case.early));
    assert!(
        given_up * 4 <= calls && in_time * 2 >= leaving,
        "of {calls} calls the operator gave up on {given_up} that were answered in time, and of {leaving} numbers that leave {in_time} \
         did so before the deadline: the machine is too busy"
    );
}

// === impl Life ===

impl Life {
    /// The life of a number by the seed and its place; every other one leaves.
    fn drawn(seed: u64, place: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed.wrapping_mul(1_000_033).wrapping_add(place));
        let leaves = place.is_multiple_of(2);
        let mut scenario = Scenario {
            id: format!("9{place:05}"),
            start: Start::Registered,
            script: Vec::new(),
            late: dice.random(),
            token_key: format!("token-{place:05}"),
        };
        let operations: &[Trigger] = if leaves {
            &[Trigger::Read, Trigger::Deregister]
        } else {
            &[Trigger::Read]
        };
        scenario.script = draw::script(&mut dice, &scenario, operations);
        let fresh = NumberConfig::fresh;
        let others = [
            fresh(),
            fresh().status("DISCONNECTED"),
            fresh().status("BANNED"),
            fresh().status("DELETED"),
            fresh().status("MIGRATED"),
        ];
        let stays = dice.random_bool(if leaves { 0.9 } else { 0.5 });
        let now = match stays {
            true => NumberConfig::default(),
            false => others.choose(&mut dice).expect("a state").clone(),
        };
        Self {
            now: now.script(scenario.script.clone()),
            scenario,
            leaves,
        }
    }
}

// === impl Case ===

impl<'a> Case<'a> {
    fn of(
        life: &'a Life,
        report: NumberReport,
        status: Option<&WhatsAppPhoneNumberStatus>,
        farewells: &[(Told, bool)],
        lines: &'a [&'a str],
    ) -> Self {
        let mut calls = trace::of(&life.scenario, &report);
        let given_up = trace::reconcile(&mut calls, lines);
        Self {
            life,
            report,
            calls,
            status: status.cloned().unwrap_or_default(),
            told: farewells.iter().map(|(told, _)| *told).collect(),
            early: farewells.iter().any(|(_, early)| *early),
            lost_writes: lost_writes(lines),
            lines,
            given_up,
        }
    }

    fn broken(&self) -> Vec<String> {
        let guarantees = match self.life.leaves {
            true => leaving::GUARANTEES,
            false => observed::GUARANTEES,
        };
        let broken = |(name, guarantee): &Guarantee| {
            let what = guarantee(self).err()?;
            Some(format!("{}: {name}: {what}", self.report.id))
        };
        guarantees.iter().filter_map(broken).collect()
    }

    fn story(&self) -> String {
        let Scenario { late, script, .. } = &self.life.scenario;
        format!(
            "{:#?}\nlate: {late}, script: {script:?}\ntold: {:?}, status: {}\nlog:\n{}",
            self.calls,
            self.told,
            serde_json::to_string_pretty(&self.status).expect("JSON"),
            self.lines.join("\n")
        )
    }
}

// === impl Told ===

impl Told {
    fn of(farewell: &Farewell) -> Self {
        match farewell.reason.as_str() {
            "Deregistered" => Self::Deregistered,
            "LeftRegistered" => Self::LeftRegistered,
            _ => Self::InDoubt,
        }
    }

    /// The label of the metric.
    fn label(self) -> &'static str {
        match self {
            Self::Deregistered => "deregistered",
            Self::LeftRegistered => "left_registered",
            Self::InDoubt => "in_doubt",
        }
    }
}

// === impl Metrics ===

impl Metrics {
    async fn of(operator: &Operator) -> Self {
        let mut farewells = BTreeMap::new();
        for told in [Told::Deregistered, Told::LeftRegistered, Told::InDoubt] {
            let series = format!("deregistrations_total{{outcome=\"{}\"", told.label());
            farewells.insert(told, operator.metric(&series).await);
        }
        let losses = operator.metric("registrations_lost_total").await;
        Self { farewells, losses }
    }

    /// Whether the counts add up to what was told.
    fn differs_from(&self, cases: &[Case<'_>]) -> Option<String> {
        let told = |kind| {
            cases
                .iter()
                .flat_map(|case| &case.told)
                .filter(move |told| **told == kind)
        };
        let same = |(kind, counted): (&Told, &f64)| told(*kind).count() as f64 == *counted;
        let lost = cases
            .iter()
            .filter(|case| case.status.last_loss_time.is_some());
        let losses = lost.count()..=cases.iter().map(observed::losses).sum();
        let right = self.farewells.iter().all(same) && losses.contains(&(self.losses as usize));
        (!right).then(|| {
            format!(
                "counted are {:?} and {} losses, of {losses:?}",
                self.farewells, self.losses
            )
        })
    }
}
