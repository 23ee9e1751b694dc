//! Numbers whose Graph never gets well, over more than two of Meta's windows.
//!
//! The operator's clock is the real one, so the test travels: it stops the operator, puts every time in the statuses
//! back by some hours, moves the simulator's clock ahead by as many, and starts the operator again. To everybody it
//! looks as if the operator had been down for so long.

use std::time::Duration;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::{ListParams, PostParams};
use operator_core::api::WhatsAppPhoneNumberStatus;
use operator_core::api::conditions;
use operator_core::api::conditions::{find, is_true};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::time::Instant;

use super::oracle::most_in_a_window;
use testkit::bed::{Bed, PIN};
use testkit::operator::Operator;
use testkit::simulator::{Action, ErrorStep, NumberConfig, Operation, Step};

/// Meta's limit, which no annotation lifts.
const META_LIMIT: usize = 10;

/// More than two windows of 72 hours.
const JOURNEY: Duration = Duration::from_secs(150 * 3_600);

/// Longer than any call of the test and shorter than any wait that outlasts it.
const AT_REST: Duration = Duration::from_secs(10);

/// Some numbers make all their calls in one stay.
const DEADLINE: Duration = Duration::from_secs(120);

/// A number whose register calls always fail so.
struct Patient {
    name: String,
    id: String,
    steps: Vec<Step>,
}

/// How an operator is set up and how far it travels at a time.
struct Journey {
    bed: Bed,
    limit: usize,
    flags: Vec<String>,
    patients: Vec<Patient>,
    travelled: Duration,
}

/// Two operators side by side: one makes its calls in bursts, the other with hours between them.
#[tokio::test(flavor = "multi_thread")]
async fn no_window_of_72_hours_sees_more_calls_than_the_limit() {
    let bursts = async {
        let journey = Journey::begin(3, ["--retry-base=200ms", "--retry-cap=200ms"]).await;
        journey.make(10..30).await;
    };
    let growing = async {
        let journey = Journey::begin(2, ["--retry-base=1h", "--retry-cap=6h"]).await;
        journey.make(12..24).await;
    };
    tokio::join!(bursts, growing);
}

fn patients() -> Vec<Patient> {
    let error = |code, http_status| {
        Step::new(Action::Error(ErrorStep {
            code,
            http_status: Some(http_status),
            ..ErrorStep::default()
        }))
    };
    let html = Step::new(Action::Html { http_status: None });
    let cut = Step::new(Action::Truncated { bytes: None });
    let limited = Step::new(Action::RateLimited {
        regain_minutes: None,
        retry_after: Some("1".to_owned()),
        http_status: None,
        code: None,
    });
    let kinds = [
        ("server-error", Step::server_error()),
        ("lost", Step::hang_up_before()),
        ("page", html),
        ("cut", cut),
        ("maintenance", error(131_057, 400)),
        ("deregistered", error(133_015, 400)),
        ("limited", limited),
    ];
    let mut dice = StdRng::seed_from_u64(72);
    // Register calls only: a call that a person asks for makes no read, and a step for a read would let it pass.
    let mix = (0..200).map(|_| kinds.choose(&mut dice).expect("a kind").1.clone());
    let mixed = ("mixed", mix.collect());
    let single = kinds
        .iter()
        .map(|(name, step)| (*name, vec![step.clone().times(1_000)]));
    let all = single.chain([mixed]).enumerate();
    all.map(|(place, (name, steps))| Patient {
        name: name.to_owned(),
        id: format!("8{place:03}"),
        steps,
    })
    .collect()
}

// === impl Journey ===

impl Journey {
    async fn begin(limit: usize, waits: [&str; 2]) -> Self {
        let bed = Bed::new().await;
        let patients = patients();
        for Patient { name, id, steps } in &patients {
            bed.simulator
                .set(id, NumberConfig::fresh().script(steps.clone()));
            // A token of its own, so that a rate limit stops no other.
            let token = format!("EAApatient{id}abcdefghijklmnop");
            let data = [("token", token.as_bytes()), ("pin", PIN.as_bytes())];
            bed.secret(name, &data).await;
            let more = json!({"tokenSecretRef": {"name": name}, "pinSecretRef": {"name": name}});
            bed.declare_with(name, id, more).await;
        }
        let limit_flag = format!("--attempt-limit={limit}");
        let more = [waits[0], waits[1], "--confirm-window=500ms", &limit_flag];
        let flags = bed.args(&more);
        Self {
            bed,
            limit,
            flags,
            patients,
            travelled: Duration::ZERO,
        }
    }

    /// Travels by so many hours at a time, then asks for more calls than there may be.
    async fn make(mut self, hours: std::ops::Range<u64>) {
        let mut dice = StdRng::seed_from_u64(150);
        let mut exhausted = 0;
        loop {
            let operator = self.start().await;
            self.all_at_rest().await;
            exhausted += self
                .count(|status| reason(status) == "AttemptBudgetExhausted")
                .await;
            self.keep_to(self.limit);
            if self.travelled > JOURNEY {
                self.ask_for_more_than_there_may_be().await;
                stop(operator).await;
                break;
            }
            stop(operator).await;
            let hop = Duration::from_secs(3_600 * dice.random_range(hours.clone()));
            self.travel(hop + Duration::from_secs(dice.random_range(0..3_600)))
                .await;
        }
        assert!(
            exhausted >= self.patients.len(),
            "the budget was met {exhausted} times: the journey tests nothing"
        );
        self.it_goes_on_after_the_window().await;
    }

    async fn start(&self) -> Operator {
        Operator::start(&self.bed.kubeconfig, &self.flags).await
    }

    /// As if the operator had been down for so long.
    async fn travel(&mut self, by: Duration) {
        self.travelled += by;
        let back = SignedDuration::try_from(by).expect("some hours");
        self.bed.simulator.advance(by);
        let numbers = self.bed.numbers();
        let listed = numbers.list(&ListParams::default()).await;
        for mut number in listed.expect("the numbers") {
            let status = number.status.as_mut().expect("a status");
            let attempts = status.attempts.iter_mut();
            let called = attempts.flat_map(|entry| {
                let end = entry.end.as_mut().map(|end| &mut end.time);
                end.into_iter().chain([&mut entry.start_time])
            });
            let waits = [
                status.wait.as_mut().map(|wait| &mut wait.until),
                status.hold.as_mut().and_then(|hold| hold.until.as_mut()),
                status.token_wait.as_mut().map(|wait| &mut wait.until),
                status.next_attempt_time.as_mut(),
            ];
            for time in called.chain(waits.into_iter().flatten()) {
                *time = Time(time.0 - back);
            }
            let (name, params) = (number.name_any(), PostParams::default());
            let stored = numbers.replace_status(&name, &params, &number);
            stored
                .await
                .expect("the status is stored: the operator has ended");
        }
    }

    /// Waits until every number waits for a time that will not come within the test.
    async fn all_at_rest(&self) {
        let deadline = Instant::now() + DEADLINE;
        while self.count(is_at_rest).await < self.patients.len() {
            if Instant::now() > deadline {
                // Tells which one it is, and all about it.
                let each = self.patients.iter();
                join_all(each.map(|p| self.bed.until(&p.name, "at rest", is_at_rest))).await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn count(&self, is: impl Fn(&WhatsAppPhoneNumberStatus) -> bool) -> usize {
        let numbers = self.bed.numbers().list(&ListParams::default()).await;
        let statuses = numbers
            .expect("the numbers")
            .into_iter()
            .filter_map(|n| n.status);
        statuses.filter(is).count()
    }

    /// No window of 72 hours has seen more calls of a number than these.
    fn keep_to(&self, limit: usize) {
        for patient in &self.patients {
            let times = self.calls(patient);
            let most = most_in_a_window(&times);
            assert!(
                most <= limit,
                "{}: {most} calls in 72 h: {times:?}",
                patient.name
            );
            let over = self
                .bed
                .simulator
                .number(&patient.id)
                .counts
                .register_calls_over_limit;
            assert_eq!(
                over, 0,
                "{}: Meta would have blocked the number",
                patient.name
            );
        }
    }

    fn calls(&self, patient: &Patient) -> Vec<Timestamp> {
        let report = self.bed.simulator.number(&patient.id);
        let posts = report
            .log
            .iter()
            .filter(|call| call.operation == Operation::Register);
        posts.map(|call| call.time).collect()
    }

    /// Each request gives one call, up to Meta's ten and never an eleventh.
    async fn ask_for_more_than_there_may_be(&self) {
        for patient in &self.patients {
            let calls = self.calls(patient).len();
            assert!(
                calls >= 2 * self.limit,
                "{}: {calls} calls in more than two windows: it does not go on",
                patient.name
            );
        }
        join_all(self.patients.iter().map(|patient| self.ask(patient))).await;
        self.keep_to(META_LIMIT);
        for patient in &self.patients {
            let times = self.calls(patient);
            let now = self.bed.simulator.number(&patient.id).state.calls_in_window;
            assert_eq!(now, META_LIMIT, "{}: {times:?}", patient.name);
        }
    }

    async fn ask(&self, patient: &Patient) {
        let calls = || self.bed.simulator.number(&patient.id).state.calls_in_window;
        for request in 1..=META_LIMIT {
            let before = calls();
            self.bed
                .request(&patient.name, &format!("request {request}"))
                .await;
            if before < META_LIMIT {
                let more = |report: &testkit::simulator::NumberReport| {
                    report.state.calls_in_window > before
                };
                let made = self.bed.simulator.until(&patient.id, more).await;
                made.unwrap_or_else(|error| panic!("request {request} makes no call: {error}"));
            } else {
                let refused = |status: &WhatsAppPhoneNumberStatus| {
                    let ready = find(status, conditions::READY);
                    let met = ready.is_some_and(|r| r.message.starts_with("10 register calls"));
                    is_at_rest(status) && met
                };
                self.bed
                    .until(&patient.name, "held back at ten calls", refused)
                    .await;
            }
        }
    }

    /// The request that waited is made when the calls have left the window.
    async fn it_goes_on_after_the_window(mut self) {
        let before: Vec<usize> = self.patients.iter().map(|p| self.calls(p).len()).collect();
        self.travel(Duration::from_secs(73 * 3_600)).await;
        let operator = self.start().await;
        for (patient, before) in self.patients.iter().zip(before) {
            let more =
                |report: &testkit::simulator::NumberReport| report.counts.register_calls > before;
            let gone_on = self.bed.simulator.until(&patient.id, more).await;
            gone_on.unwrap_or_else(|error| panic!("{} does not go on: {error}", patient.name));
        }
        self.keep_to(META_LIMIT);
        assert!(self.bed.simulator.violations().is_empty());
        stop(operator).await;
    }
}

async fn stop(operator: Operator) {
    let (status, log) = operator.terminate().await;
    assert_eq!(status, "0");
    assert!(!log.contains("panicked at"), "a panic in the log: {log}");
}

fn is_at_rest(status: &WhatsAppPhoneNumberStatus) -> bool {
    let later = Timestamp::now() + AT_REST;
    let next = status.next_attempt_time.as_ref();
    let open = status.attempts.iter().any(|attempt| attempt.is_open());
    is_true(status, conditions::RECONCILING) && !open && next.is_some_and(|next| next.0 > later)
}

fn reason(status: &WhatsAppPhoneNumberStatus) -> &str {
    find(status, conditions::READY).map_or("", |ready| &ready.reason)
}
