//! A run that has come to rest: what each number's calls were, what is wrong with them, and how much was tested.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use operator_core::api::WhatsAppPhoneNumberStatus;
use operator_core::api::conditions;
use operator_core::api::conditions::{find, is_registered};

use super::TIMEOUT;
use super::oracle::{self, Case};
use super::scenario::Scenario;
use super::trace::{self, Call};
use testkit::simulator::{NumberReport, Simulator};

/// A call that was claimed before the answer to another one was known comes within this time: half of the claim's
/// `ttlSeconds`, which is the timeout, and the time for the connection.
const ON_THE_WAY: Duration = Duration::from_secs(2 * TIMEOUT.as_secs());

/// How many numbers are shown in full when something is wrong.
const SHOWN: usize = 5;

/// A run at its end.
pub struct Run<'a> {
    scenarios: Vec<Scenario>,
    statuses: BTreeMap<String, WhatsAppPhoneNumberStatus>,
    reports: BTreeMap<String, NumberReport>,
    histories: BTreeMap<String, Vec<Call>>,
    /// The lines of the log by the name of their number.
    logged: BTreeMap<&'a str, Vec<&'a str>>,
    contract: Vec<String>,
    /// How often the operator gave up on an answer that was given in time.
    given_up: usize,
    ended: Timestamp,
}

impl<'a> Run<'a> {
    /// Puts together what the simulator, the API server and the log know.
    pub fn new(
        simulator: &Simulator,
        scenarios: Vec<Scenario>,
        statuses: BTreeMap<String, WhatsAppPhoneNumberStatus>,
        ended: Timestamp,
        log: &'a str,
    ) -> Self {
        let contract = simulator.violations();
        let reports = simulator
            .all()
            .into_iter()
            .map(|report| (report.id.clone(), report));
        let mut run = Self {
            scenarios,
            statuses,
            reports: reports.collect(),
            histories: BTreeMap::new(),
            logged: by_number(log),
            contract: contract
                .iter()
                .map(|violation| format!("{violation:?}"))
                .collect(),
            given_up: 0,
            ended,
        };
        for scenario in &run.scenarios {
            let mut calls = trace::of(scenario, &run.reports[&scenario.id]);
            run.given_up += trace::reconcile(&mut calls, run.lines_about(scenario));
            run.histories.insert(scenario.id.clone(), calls);
        }
        run
    }

    /// Fails where the machine was so busy that the run says little.
    pub fn assert_judgeable(&self) {
        let calls = self.histories.values().flatten().count();
        let (numbers, lost) = (self.scenarios.len(), self.lost());
        assert!(
            self.given_up * 4 <= calls && lost * 4 <= numbers * 3,
            "of {calls} calls the operator gave up on {} that were answered in time, and of {numbers} numbers {lost} \
             lost writes to the API server: the machine is too busy",
            self.given_up
        );
    }

    /// How many numbers are judged by their calls only.
    fn lost(&self) -> usize {
        let scenarios = self.scenarios.iter();
        scenarios
            .filter(|scenario| self.lost_writes(scenario))
            .count()
    }

    /// What is broken, one line each, with the whole story of the first numbers.
    pub fn violations(&self) -> Vec<String> {
        let mut violations = self.contract.clone();
        violations.extend(self.cooling_tokens_are_left_alone());
        let mut stories = 0;
        for scenario in &self.scenarios {
            let case = self.case(scenario);
            let broken = oracle::violations(&case);
            if !broken.is_empty() && stories < SHOWN {
                stories += 1;
                violations.push(self.story(&case));
            }
            violations.extend(broken);
        }
        violations
    }

    fn case<'b>(&'b self, scenario: &'b Scenario) -> Case<'b> {
        Case {
            scenario,
            report: &self.reports[&scenario.id],
            calls: &self.histories[&scenario.id],
            status: &self.statuses[&scenario.id],
            limited_until: self.limited_by_others(scenario),
            lost_writes: self.lost_writes(scenario),
            now: self.ended,
        }
    }

    fn lost_writes(&self, scenario: &Scenario) -> bool {
        lost_writes(self.lines_about(scenario))
    }

    fn sharing_token(&self, scenario: &Scenario) -> impl Iterator<Item = &Scenario> {
        let key = scenario.token_key.clone();
        self.scenarios
            .iter()
            .filter(move |other| other.token_key == key)
    }

    /// Until when the rate limit of another number with the same token lasts.
    fn limited_by_others(&self, scenario: &Scenario) -> Option<Timestamp> {
        let others = self
            .sharing_token(scenario)
            .filter(|other| other.id != scenario.id);
        let calls = others.flat_map(|other| &self.histories[&other.id]);
        let limited = calls.filter(|call| call.is_limited());
        limited
            .filter_map(|call| Some(call.time + call.asked_wait()?))
            .max()
    }

    /// Protocol, "Schedule and budget": a token that is rate limited cools down for every resource that uses it, reads included.
    fn cooling_tokens_are_left_alone(&self) -> Vec<String> {
        let mut violations = Vec::new();
        for scenario in &self.scenarios {
            let own = self.histories[&scenario.id].iter();
            for limit in own.filter(|call| call.is_limited()) {
                let end = limit.time + limit.asked_wait().unwrap_or_default();
                let sharing = self.sharing_token(scenario);
                let calls = sharing.flat_map(|other| &self.histories[&other.id]);
                let early = |call: &&Call| call.time > limit.time + ON_THE_WAY && call.time < end;
                let id = &scenario.id;
                violations.extend(
                    calls.filter(early).map(|call| {
                        format!("{id}: the token cools down: {call:?} after {limit:?}")
                    }),
                );
            }
        }
        violations
    }

    fn lines_about(&self, scenario: &Scenario) -> &[&'a str] {
        let lines = self.logged.get(scenario.name().as_str());
        lines.map_or(&[], Vec::as_slice)
    }

    /// Everything about a number whose guarantee is broken.
    fn story(&self, case: &Case<'_>) -> String {
        let Scenario {
            late,
            start,
            script,
            ..
        } = case.scenario;
        format!(
            "{:#?}\nlate: {late}, start: {start:?}, script: {script:?}\nstatus: {}\nlog:\n{}",
            case.calls,
            serde_json::to_string_pretty(case.status).expect("JSON"),
            self.lines_about(case.scenario).join("\n")
        )
    }

    /// What was done, so that a run that tests little is seen.
    pub fn figures(&self) -> String {
        let calls = || self.histories.values().flatten();
        let posts = calls().filter(|call| call.is_post()).count();
        let starts: BTreeSet<_> = self
            .scenarios
            .iter()
            .map(|scenario| scenario.start)
            .collect();
        format!(
            "{} numbers, {} starts, {} reads, {posts} POSTs, given up early {}, writes lost {}\n\
             steps on reads: {:?}\nsteps on POSTs: {:?}\nends: {:?}",
            self.scenarios.len(),
            starts.len(),
            calls().count() - posts,
            self.given_up,
            self.lost(),
            steps(calls().filter(|call| !call.is_post())),
            steps(calls().filter(|call| call.is_post())),
            self.ends()
        )
    }

    fn ends(&self) -> BTreeMap<String, usize> {
        let mut ends = BTreeMap::new();
        for status in self.statuses.values() {
            let kind = match status.next_attempt_time {
                _ if is_registered(status) => "registered",
                Some(_) => "waiting",
                None => "stalled",
            };
            let reason = find(status, conditions::READY).map_or("", |ready| &ready.reason);
            *ends.entry(format!("{kind} {reason}")).or_default() += 1;
        }
        ends
    }
}

/// Whether the API server left a write for a number unanswered or took it late: then the pass is made again.
pub fn lost_writes(lines: &[&str]) -> bool {
    let lost = |line: &&str| line.contains("no answer from the API server");
    lines.iter().any(lost)
}

/// How often each kind of step was met.
pub fn steps<'b>(calls: impl Iterator<Item = &'b Call>) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for step in calls.filter_map(|call| call.step.as_ref()) {
        *kinds.entry(step.action.name()).or_default() += 1;
    }
    kinds
}

/// The lines of a log by the name of their number.
pub fn by_number(log: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut lines: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in log.lines() {
        let rest = line.split_once("\"resource\":\"").map(|(_, rest)| rest);
        if let Some((name, _)) = rest.and_then(|rest| rest.split_once('"')) {
            lines.entry(name).or_default().push(line);
        }
    }
    lines
}
