//! Hundreds of numbers at once, each with a Graph of its own kind of fault.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use operator_core::api::conditions;
use operator_core::api::conditions::{is_registered, is_true};
use operator_core::api::{Reason, WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use regex::Regex;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::draw::scenarios;
use super::scenario::Scenario;
use super::verdict::Run;
use super::{LIMIT, TOKENS};
use testkit::bed::{Bed, PIN};
use testkit::from_environment;
use testkit::operator::Operator;
use testkit::simulator::Action;

/// A fixed seed, so that a script that fails does so for everybody.
pub const SEED: u64 = 20_261_122;

/// How many Secrets hold the tokens: one for each number would be many, one for all would be large.
const NUMBERS_PER_SECRET: usize = 10;

/// Requests to the API server at a time.
pub const AT_ONCE: usize = 32;

/// A number that comes back later than this has come to rest: no wait of a script is as long and still passes.
const AT_REST: Duration = Duration::from_secs(20);

/// Longer than most waits between two calls of a number.
const QUIET: Duration = Duration::from_millis(2_500);

/// How long the numbers may take to come to rest; more of them take longer.
fn deadline(numbers: usize) -> Duration {
    Duration::from_secs(300)
        + Duration::from_millis(100) * u32::try_from(numbers).unwrap_or(u32::MAX)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_number_keeps_to_the_guarantees_whatever_its_graph_does() {
    let seed = from_environment("GRAPH_FAULTS_SEED", SEED);
    let numbers = from_environment("GRAPH_FAULTS_NUMBERS", 350);
    let numbers = usize::try_from(numbers).expect("a count of numbers");
    println!("GRAPH_FAULTS_SEED={seed} GRAPH_FAULTS_NUMBERS={numbers}");
    let started = Instant::now();
    let scenarios = scenarios(seed, numbers);
    let bed = Bed::new().await;
    prepare(&bed, &scenarios).await;
    let operator = start(&bed, &[]).await;
    let statuses = settle(&bed, &scenarios).await;
    let ended = Timestamp::now();
    let written = everything_written(&bed).await;
    let (exit, log) = operator.terminate().await;
    assert_eq!(exit, "0");
    let run = Run::new(&bed.simulator, scenarios, statuses, ended, &log);
    println!("{}\n{:?}", run.figures(), started.elapsed());
    run.assert_judgeable();
    let mut violations = run.violations();
    violations.extend(no_secret_and_no_panic(&written, &log));
    assert!(
        violations.is_empty(),
        "{} violations; again with GRAPH_FAULTS_SEED={seed} GRAPH_FAULTS_NUMBERS={numbers}:\n{}",
        violations.len(),
        violations.join("\n")
    );
}

/// Sets up the simulator and makes the Secrets.
pub async fn prepare(bed: &Bed, scenarios: &[Scenario]) {
    for scenario in scenarios {
        bed.simulator.set(&scenario.id, scenario.config());
    }
    let chunks = stream::iter(scenarios.chunks(NUMBERS_PER_SECRET).enumerate());
    let secrets = chunks.for_each_concurrent(AT_ONCE, |(chunk, scenarios)| async move {
        let tokens: Vec<(&str, String)> = scenarios
            .iter()
            .map(|scenario| (scenario.token_key.as_str(), scenario.token()))
            .collect();
        let mut data: Vec<(&str, &[u8])> = vec![("pin", PIN.as_bytes())];
        data.extend(tokens.iter().map(|(key, token)| (*key, token.as_bytes())));
        bed.secret(&format!("tokens-{chunk}"), &data).await;
    });
    secrets.await;
}

/// An operator with short waits, and with more flags.
pub async fn start(bed: &Bed, more: &[&str]) -> Operator {
    let limit = format!("--attempt-limit={LIMIT}");
    let flags = [
        "--concurrency=200",
        // The lines that `trace` reads; the libraries' own would be a thousand a second.
        "--log-level=info,whatsapp_operator=debug",
        "--graph-timeout=3s",
        "--confirm-window=3s",
        "--retry-base=200ms",
        "--retry-cap=400ms",
        &limit,
    ];
    bed.operator(&[&flags, more].concat()).await
}

/// Where the Secrets of a number are, by its place.
pub fn secret_refs(place: usize, scenario: &Scenario) -> Value {
    let secret = format!("tokens-{}", place / NUMBERS_PER_SECRET);
    json!({
        "tokenSecretRef": {"name": secret, "key": scenario.token_key},
        "pinSecretRef": {"name": secret, "key": "pin"},
    })
}

async fn declare(bed: &Bed, scenarios: &[Scenario]) {
    let each = stream::iter(scenarios.iter().enumerate());
    let declared = each.for_each_concurrent(AT_ONCE, |(place, scenario)| async move {
        let more = secret_refs(place, scenario);
        bed.declare_with(&scenario.name(), &scenario.id, more).await;
    });
    declared.await;
}

/// Declares the numbers and waits until every one is at rest. Held calls are released meanwhile, from the first one on: those are
/// held while others are still being declared.
async fn settle(bed: &Bed, scenarios: &[Scenario]) -> BTreeMap<String, WhatsAppPhoneNumberStatus> {
    let settled = async {
        declare(bed, scenarios).await;
        until_at_rest(bed, scenarios).await
    };
    while_releasing(bed, scenarios, settled).await
}

/// Releases held calls until something is over.
pub async fn while_releasing<T>(
    bed: &Bed,
    scenarios: &[Scenario],
    over: impl Future<Output = T>,
) -> T {
    let releases = async {
        loop {
            release(bed, scenarios);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        over = over => over,
        () = releases => unreachable!("releases go on"),
    }
}

async fn until_at_rest(
    bed: &Bed,
    scenarios: &[Scenario],
) -> BTreeMap<String, WhatsAppPhoneNumberStatus> {
    let deadline = Instant::now() + deadline(scenarios.len());
    loop {
        until_quiet(bed).await;
        let statuses = statuses(bed).await;
        let limited = statuses.values().any(is_limited);
        let is_restless = |status: &&WhatsAppPhoneNumberStatus| {
            !(is_at_rest(status) || limited && waits_for_its_turn(status))
        };
        let restless: Vec<_> = statuses.iter().filter(|(_, s)| is_restless(s)).collect();
        let under_way = |s: &&Scenario| bed.simulator.number(&s.id).in_flight > 0;
        let calls = scenarios.iter().filter(under_way).count();
        if restless.is_empty() && calls == 0 && statuses.len() == scenarios.len() {
            return statuses;
        }
        assert!(
            Instant::now() < deadline,
            "{} of {} numbers do not come to rest, {calls} calls are under way: {:#?}",
            restless.len(),
            scenarios.len(),
            restless.first()
        );
    }
}

/// Waits until no call has come in for a while: listing all numbers is work that would slow them down.
async fn until_quiet(bed: &Bed) {
    let mut before = bed.simulator.totals();
    let mut since = Instant::now();
    while since.elapsed() < QUIET {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = bed.simulator.totals();
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
}

/// Releases held calls: at once, or when the client has gone.
fn release(bed: &Bed, scenarios: &[Scenario]) {
    let holds = |scenario: &&Scenario| {
        let held = |action: &Action| matches!(action, Action::Wait {} | Action::WaitAfter {});
        scenario.script.iter().any(|step| held(&step.action))
    };
    for scenario in scenarios.iter().filter(holds) {
        let report = bed.simulator.number(&scenario.id);
        if report.held > 0 && (!scenario.late || report.in_flight == 0) {
            bed.simulator.release(&scenario.id);
        }
    }
}

pub async fn statuses(bed: &Bed) -> BTreeMap<String, WhatsAppPhoneNumberStatus> {
    let of = |number: WhatsAppPhoneNumber| {
        let status = number.status.clone().unwrap_or_default();
        (number.spec.phone_number_id, status)
    };
    all(&bed.numbers()).await.into_iter().map(of).collect()
}

/// Every object, in pages: on a busy machine the API server gives up on an answer that is large.
async fn all<K>(api: &Api<K>) -> Vec<K>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut found = Vec::new();
    let mut params = ListParams::default().limit(100);
    loop {
        let page = api.list(&params).await.expect("a page of objects");
        found.extend(page.items);
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => params = ListParams::default().limit(100).continue_token(&next),
            None => return found,
        }
    }
}

/// Registered, stalled, or coming back in a while.
fn is_at_rest(status: &WhatsAppPhoneNumberStatus) -> bool {
    let later = Timestamp::now() + AT_REST;
    let next = status.next_attempt_time.as_ref();
    let open = status.attempts.iter().any(|attempt| attempt.is_open());
    !open
        && (is_registered(status)
            || is_true(status, conditions::STALLED)
            || is_true(status, conditions::RECONCILING) && next.is_some_and(|next| next.0 > later))
}

/// Whether a token is limited for longer than the test.
fn is_limited(status: &WhatsAppPhoneNumberStatus) -> bool {
    let later = Timestamp::now() + AT_REST;
    status
        .token_wait
        .as_ref()
        .is_some_and(|wait| wait.until.0 > later)
}

/// Whether it waits for a limit that its token met in another number's call.
fn waits_for_its_turn(status: &WhatsAppPhoneNumberStatus) -> bool {
    let hold = status.hold.as_ref();
    hold.is_some_and(|hold| hold.reason == Reason::RateLimited && hold.until.is_none())
}

/// The resources and events as they are stored.
pub async fn everything_written(bed: &Bed) -> String {
    let events = serde_json::to_string(&all(&bed.api::<Event>()).await).expect("JSON");
    let numbers = serde_json::to_string(&all(&bed.numbers()).await).expect("JSON");
    // The key of a token names it, and is no secret.
    assert!(
        events.len() > 1_000 && numbers.len() > 1_000,
        "nothing was looked at"
    );
    events + &numbers
}

pub fn no_secret_and_no_panic(resources: &str, log: &str) -> Vec<String> {
    // Not in a time's fraction or in a digest, where six digits stand by chance.
    let pin = Regex::new(&format!("(^|[^0-9a-f.]){PIN}([^0-9a-fZ]|$)")).expect("a pattern");
    let mut found = Vec::new();
    for (place, text) in [("log", log), ("resources and events", resources)] {
        let at = text
            .find(TOKENS)
            .or_else(|| pin.find(text).map(|m| m.start()));
        if let Some(at) = at {
            let from = text.floor_char_boundary(at.saturating_sub(300));
            found.push(format!(
                "a secret in the {place}, after: {}",
                &text[from..at]
            ));
        }
    }
    let panics = log.lines().filter(|line| line.contains("panicked at"));
    found.extend(panics.map(|line| format!("a panic in the log: {line}")));
    found
}
