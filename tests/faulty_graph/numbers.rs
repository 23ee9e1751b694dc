//! 500 numbers at once, each with a Graph of its own kind of fault.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use regex::Regex;
use serde_json::json;
use tokio::time::Instant;
use whatsapp_operator::api::{WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use whatsapp_operator::conditions::{is_registered, is_true};
use whatsapp_operator::reason::condition;

use super::draw::{Scenario, scenarios};
use super::oracle::{self, Case};
use super::trace::{self, Call};
use super::{LIMIT, TOKENS, from_environment};
use crate::support::bed::{Bed, PIN};
use crate::support::operator::Operator;
use crate::support::simulator::Action;

/// A fixed seed, so that a script that fails does so for everybody.
const SEED: u64 = 20_261_122;

/// How many Secrets hold the tokens: one for each number would be many, one for all would be large.
const NUMBERS_PER_SECRET: usize = 10;

/// Requests to the API server at a time.
const AT_ONCE: usize = 32;

/// A number that comes back later than this has come to rest: no wait of a script is as long and still passes.
const AT_REST: Duration = Duration::from_secs(20);

/// Longer than most waits between two calls of a number.
const QUIET: Duration = Duration::from_millis(2_500);

/// How long the numbers may take to come to rest; more of them take longer.
fn deadline(numbers: usize) -> Duration {
    Duration::from_secs(120)
        + Duration::from_millis(100) * u32::try_from(numbers).unwrap_or(u32::MAX)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_number_keeps_to_the_guarantees_whatever_its_graph_does() {
    let seed = from_environment("GRAPH_FAULTS_SEED", SEED);
    let numbers = from_environment("GRAPH_FAULTS_NUMBERS", 500);
    let numbers = usize::try_from(numbers).expect("a count of numbers");
    println!("GRAPH_FAULTS_SEED={seed} GRAPH_FAULTS_NUMBERS={numbers}");
    let started = Instant::now();
    let scenarios = scenarios(seed, numbers);
    let bed = Bed::new().await;
    prepare(&bed, &scenarios).await;
    let operator = start(&bed).await;
    declare(&bed, &scenarios).await;
    let statuses = settle(&bed, &scenarios).await;
    let end = Timestamp::now();
    let resources = everything_written(&bed).await;
    let (exit, log) = operator.terminate().await;
    assert_eq!(exit, "0");

    let logged = by_number(&log);
    let mut histories = BTreeMap::new();
    let mut given_up = 0;
    for scenario in &scenarios {
        let mut calls = trace::of(scenario, &bed.simulator.number(&scenario.id));
        given_up += trace::reconcile(&mut calls, lines_about(scenario, &logged));
        histories.insert(scenario.id.as_str(), calls);
    }
    let mut violations = cooling_tokens_are_left_alone(&scenarios, &histories);
    for scenario in &scenarios {
        let report = bed.simulator.number(&scenario.id);
        let case = Case {
            scenario,
            report: &report,
            calls: &histories[scenario.id.as_str()],
            status: &statuses[&scenario.id],
            limited_until: limited_by_others(scenario, &scenarios, &histories),
            now: end,
        };
        let broken = oracle::violations(&case);
        if !broken.is_empty() && violations.len() < 10 {
            violations.push(story(&case, lines_about(scenario, &logged)));
        }
        violations.extend(broken);
    }
    violations.extend(no_secret_and_no_panic(&resources, &log));
    violations.extend(bed.simulator.violations().iter().map(|v| format!("{v:?}")));
    figures(&scenarios, &histories, &statuses, given_up, started);
    assert!(
        given_up * 50 <= histories.values().flatten().count(),
        "the operator gave up on {given_up} calls that were answered in time: the machine is too busy to judge"
    );
    assert!(
        violations.is_empty(),
        "{} violations; again with GRAPH_FAULTS_SEED={seed} GRAPH_FAULTS_NUMBERS={numbers}:\n{}",
        violations.len(),
        violations.join("\n")
    );
}

/// Sets up the simulator and makes the Secrets.
async fn prepare(bed: &Bed, scenarios: &[Scenario]) {
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

async fn start(bed: &Bed) -> Operator {
    let limit = format!("--attempt-limit={LIMIT}");
    bed.operator(&[
        "--concurrency=200",
        // The lines that `trace` reads; the libraries' own would be a thousand a second.
        "--log-level=info,whatsapp_operator=debug",
        "--graph-timeout=3s",
        "--confirm-window=3s",
        "--retry-base=200ms",
        "--retry-cap=400ms",
        &limit,
    ])
    .await
}

async fn declare(bed: &Bed, scenarios: &[Scenario]) {
    let each = stream::iter(scenarios.iter().enumerate());
    let declared = each.for_each_concurrent(AT_ONCE, |(place, scenario)| async move {
        let secret = format!("tokens-{}", place / NUMBERS_PER_SECRET);
        let more = json!({
            "tokenSecretRef": {"name": secret, "key": scenario.token_key},
            "pinSecretRef": {"name": secret, "key": "pin"},
        });
        bed.declare_with(&scenario.name(), &scenario.id, more).await;
    });
    declared.await;
}

/// Waits until every number is at rest; releases held calls meanwhile.
async fn settle(bed: &Bed, scenarios: &[Scenario]) -> BTreeMap<String, WhatsAppPhoneNumberStatus> {
    let releases = async {
        loop {
            release(bed, scenarios);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        statuses = until_at_rest(bed, scenarios) => statuses,
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
        let restless: Vec<_> = statuses.iter().filter(|(_, s)| !is_at_rest(s)).collect();
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

async fn statuses(bed: &Bed) -> BTreeMap<String, WhatsAppPhoneNumberStatus> {
    let numbers = bed.numbers().list(&ListParams::default()).await;
    let of = |number: WhatsAppPhoneNumber| {
        let status = number.status.clone().unwrap_or_default();
        (number.spec.phone_number_id, status)
    };
    numbers.expect("the numbers").into_iter().map(of).collect()
}

/// Registered, stalled, or coming back in a while.
fn is_at_rest(status: &WhatsAppPhoneNumberStatus) -> bool {
    let later = Timestamp::now() + AT_REST;
    let next = status.next_attempt_time.as_ref();
    let open = status.attempts.iter().any(|attempt| attempt.is_open());
    !open
        && (is_registered(status)
            || is_true(status, condition::STALLED)
            || is_true(status, condition::RECONCILING) && next.is_some_and(|next| next.0 > later))
}

/// Until when the rate limit of another number with the same token lasts.
fn limited_by_others(
    scenario: &Scenario,
    scenarios: &[Scenario],
    histories: &BTreeMap<&str, Vec<Call>>,
) -> Option<Timestamp> {
    let others = scenarios
        .iter()
        .filter(|other| other.token_key == scenario.token_key && other.id != scenario.id);
    let calls = others.flat_map(|other| &histories[other.id.as_str()]);
    let limited = calls.filter(|call| call.is_limited());
    let until = limited.filter_map(|call| Some(call.time + call.asked_wait()?));
    until.max()
}

/// DESIGN 4.3: a token that is rate limited cools down for every resource that uses it, reads included. Calls that were
/// on their way when the answer came are let pass: they are let out before the answer is known.
fn cooling_tokens_are_left_alone(
    scenarios: &[Scenario],
    histories: &BTreeMap<&str, Vec<Call>>,
) -> Vec<String> {
    const ON_THE_WAY: Duration = Duration::from_secs(3);
    let mut violations = Vec::new();
    for scenario in scenarios {
        let sharing = |other: &&Scenario| other.token_key == scenario.token_key;
        let sharing: Vec<&Scenario> = scenarios.iter().filter(sharing).collect();
        let own = histories[scenario.id.as_str()].iter();
        for limit in own.filter(|call| call.is_limited()) {
            let end = limit.time + limit.asked_wait().unwrap_or_default();
            let calls = sharing.iter().flat_map(|s| &histories[s.id.as_str()]);
            let early = |call: &&Call| call.time > limit.time + ON_THE_WAY && call.time < end;
            violations.extend(calls.filter(early).map(|call| {
                format!(
                    "{}: {call:?} while the token cools down after {limit:?}",
                    scenario.id
                )
            }));
        }
    }
    violations
}

/// The resources and events as they are stored.
async fn everything_written(bed: &Bed) -> String {
    let params = ListParams::default();
    let events = bed.api::<Event>().list(&params).await.expect("the events");
    let numbers = bed.numbers().list(&params).await.expect("the numbers");
    let events = serde_json::to_string(&events.items).expect("JSON");
    let numbers = serde_json::to_string(&numbers.items).expect("JSON");
    // The key of a token names it, and is no secret.
    assert!(
        events.len() > 1_000 && numbers.len() > 1_000,
        "nothing was looked at"
    );
    events + &numbers
}

fn no_secret_and_no_panic(resources: &str, log: &str) -> Vec<String> {
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

/// Everything about a number whose guarantee is broken.
fn story(case: &Case<'_>, lines: &[&str]) -> String {
    format!(
        "{:#?}\nlate: {}, start: {:?}, script: {:?}\nstatus: {}\nlog:\n{}",
        case.calls,
        case.scenario.late,
        case.scenario.start,
        case.scenario.script,
        serde_json::to_string_pretty(case.status).expect("JSON"),
        lines.join("\n")
    )
}

/// The lines of the log by the name of their number.
fn by_number(log: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut lines: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in log.lines() {
        let name = line
            .split_once("\"name\":\"")
            .and_then(|(_, rest)| rest.split_once('"'));
        if let Some((name, _)) = name {
            lines.entry(name).or_default().push(line);
        }
    }
    lines
}

fn lines_about<'a>(scenario: &Scenario, logged: &'a BTreeMap<&str, Vec<&'a str>>) -> &'a [&'a str] {
    logged
        .get(scenario.name().as_str())
        .map_or(&[], Vec::as_slice)
}

/// What was done, so that a run that tests little is seen.
fn figures(
    scenarios: &[Scenario],
    histories: &BTreeMap<&str, Vec<Call>>,
    statuses: &BTreeMap<String, WhatsAppPhoneNumberStatus>,
    given_up: usize,
    started: Instant,
) {
    let (mut on_reads, mut on_posts) = (BTreeMap::new(), BTreeMap::new());
    let (mut reads, mut posts) = (0, 0);
    for call in histories.values().flatten() {
        let (count, kinds) = match call.is_post() {
            true => (&mut posts, &mut on_posts),
            false => (&mut reads, &mut on_reads),
        };
        *count += 1;
        if let Some(step) = &call.step {
            *kinds.entry(step.action.name()).or_insert(0) += 1;
        }
    }
    let mut ends: BTreeMap<(String, String), usize> = BTreeMap::new();
    for status in statuses.values() {
        let ready = whatsapp_operator::conditions::find(status, condition::READY);
        let kind = match status.next_attempt_time {
            _ if is_registered(status) => "registered",
            Some(_) => "waiting",
            None => "stalled",
        };
        let reason = ready.map(|ready| ready.reason.clone()).unwrap_or_default();
        *ends.entry((kind.to_owned(), reason)).or_default() += 1;
    }
    let starts: BTreeSet<_> = scenarios.iter().map(|scenario| scenario.start).collect();
    println!(
        "{} numbers, {} starts, {reads} reads, {posts} POSTs, given up early {given_up}, {:?}\n\
         steps on reads: {on_reads:?}\nsteps on POSTs: {on_posts:?}\nends: {ends:?}",
        scenarios.len(),
        starts.len(),
        started.elapsed()
    );
}
