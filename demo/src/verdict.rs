//! The end of the demo: whether everything is as it should be.

use std::collections::BTreeMap;

use operator_core::api::WhatsAppPhoneNumber;
use operator_core::api::conditions;

use crate::scenario::{SCENARIOS, Scenario};
use crate::table::{Cells, Table, lines};
use testkit::simulator::Simulator;

/// What came of each scenario, and of all together.
pub struct Verdict {
    rows: Vec<Outcome>,
    violations: usize,
    calls_while_registered: usize,
    reads: usize,
    deregisters: usize,
}

struct Outcome {
    scenario: &'static Scenario,
    posts: usize,
    found: String,
    as_expected: bool,
}

// === impl Verdict ===

impl Verdict {
    /// Compares what must be with what the API server and the simulator say.
    pub fn of(table: &Table, simulator: &Simulator) -> Self {
        let resources: BTreeMap<_, _> = table
            .rows
            .iter()
            .filter_map(|row| Some((row.object.metadata.name.as_deref()?, &row.object)))
            .collect();
        let resource = |scenario: &Scenario| resources.get(scenario.name).copied();
        let outcome = |scenario| Outcome::of(scenario, resource(scenario), simulator);
        let totals = simulator.totals();
        Self {
            rows: SCENARIOS.iter().map(outcome).collect(),
            violations: totals.violations,
            calls_while_registered: totals.counts.register_calls_while_registered,
            reads: totals.counts.reads,
            deregisters: totals.counts.deregister_calls,
        }
    }

    /// Whether everything is as it should be.
    pub fn is_good(&self) -> bool {
        self.rows.iter().all(|row| row.as_expected)
            && self.violations == 0
            && self.calls_while_registered == 0
    }

    /// The table at the end, and the counts below it.
    pub fn print(&self) {
        let header = [
            "PHONE-ID",
            "WHAT HAPPENS",
            "POSTS",
            "EXPECTED",
            "CONDITION",
            "VERDICT",
        ];
        let mut cells: Cells = vec![header.map(str::to_owned).to_vec()];
        cells.extend(self.rows.iter().map(Outcome::cells));
        for line in lines(&cells, &[]) {
            println!("{line}");
        }
        let posts: usize = self.rows.iter().map(|row| row.posts).sum();
        println!(
            "\nGraph counted {posts} register calls, {} deregister call and {} reads, {} register calls for a number that was \
             registered, {} requests that its contract does not allow.",
            self.deregisters, self.reads, self.calls_while_registered, self.violations
        );
    }
}

// === impl Outcome ===

impl Outcome {
    fn of(
        scenario: &'static Scenario,
        resource: Option<&WhatsAppPhoneNumber>,
        simulator: &Simulator,
    ) -> Self {
        let counts = simulator.number(scenario.phone_number_id).counts;
        let calls = (counts.register_calls, counts.deregister_calls);
        let expected = (scenario.posts, scenario.deregisters());
        Self {
            scenario,
            posts: counts.register_calls,
            found: scenario.ends.found(resource),
            as_expected: scenario.has_ended(resource) && calls == expected,
        }
    }

    fn cells(&self) -> Vec<String> {
        let verdict = if self.as_expected {
            "OK".to_owned()
        } else {
            format!("NOT OK: expected {}", self.scenario.ends.describe())
        };
        vec![
            self.scenario.phone_number_id.to_owned(),
            self.scenario.story.to_owned(),
            self.posts.to_string(),
            self.scenario.posts.to_string(),
            self.found.clone(),
            verdict,
        ]
    }
}

/// What `kubectl describe` says of a failed number, without what people need not read.
pub fn print_failed(resource: &WhatsAppPhoneNumber, described: &str) {
    let status = resource.status.clone().unwrap_or_default();
    let header = ["TYPE", "STATUS", "REASON"].map(str::to_owned).to_vec();
    let mut cells: Cells = vec![header];
    cells.extend(status.conditions.iter().map(|condition| {
        [&condition.type_, &condition.status, &condition.reason]
            .map(Clone::clone)
            .to_vec()
    }));
    println!("Conditions:");
    for line in lines(&cells, &[]) {
        println!("  {line}");
    }
    if let Some(failed) = conditions::find(&status, conditions::FAILED) {
        println!("Message: {}", failed.message);
    }
    if let Some(events) = described.find("Events:") {
        println!("{}", described[events..].trim_end());
    }
}
