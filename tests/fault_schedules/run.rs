//! One schedule, from its plan to its evidence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use operator_core::api::WhatsAppPhoneNumber;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::observer::{Observed, Observer};
use super::oracle::{Evidence, restless};
use super::plan::{Action, LABEL, Plan, pin, token};
use testkit::bed::{Bed, Gates};
use testkit::control_plane::ControlPlane;
use testkit::gateway::faults::{Crash, Fault, Faults};
use testkit::operator::Operator;
use testkit::simulator::Counts;

/// What came of a schedule.
pub struct Outcome {
    pub seed: u64,
    pub violations: Vec<String>,
    /// Whether the machine was too busy to tell whether each number takes its call.
    pub busy: bool,
    pub trace: String,
    pub tally: BTreeMap<Fault, usize>,
    pub requests: usize,
    pub posts: usize,
    pub took: Duration,
}

/// One schedule that is under way.
struct Run {
    plan: Plan,
    bed: Bed,
    gates: Gates,
    faults: Arc<Faults>,
    observer: Arc<Observer>,
}

/// The operators of a schedule, and what those before them logged.
struct Fleet {
    operators: Vec<Operator>,
    logs: Vec<String>,
    deaths: usize,
}

/// No more than this often do the operators of one schedule die: each death may cost an attempt.
const DEATHS_MAX: usize = 4;

/// How many requests people let pass at most from one action to the next.
const BETWEEN_ACTIONS: u64 = 8;

/// How long they wait at most if no request comes.
const PATIENCE: Duration = Duration::from_millis(300);

/// How often the resources are looked at while they settle.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// For how long nothing may happen once everything has settled.
const QUIET: Duration = Duration::from_millis(700);

/// Runs the schedule of a seed.
pub async fn run(control_plane: &'static ControlPlane, seed: u64) -> Outcome {
    let began = Instant::now();
    let plan = Plan::of(seed);
    let bed = Bed::on(control_plane).await;
    for number in &plan.numbers {
        bed.simulator.set(&number.id, number.config());
    }
    let (observer, watching) = Observer::start(&bed).await;
    let (faults, crashes) = Faults::new(seed, plan.mix.clone());
    let conduct = Observed {
        faults: Arc::clone(&faults),
        observer: Arc::clone(&observer),
        unknown_field: plan.unknown_field.clone(),
    };
    let gates = bed.gates(Arc::new(conduct)).await;
    let run = Arc::new(Run {
        plan,
        bed,
        gates,
        faults,
        observer,
    });
    let (evidence, mut violations) = run.through(crashes).await;
    drop(watching);
    violations.extend(evidence.violations(&run.plan));
    Outcome {
        seed,
        violations,
        busy: evidence.is_of_a_busy_machine(&run.plan),
        trace: format!(
            "{:#?}\n{}\n{}",
            run.plan,
            run.faults.trace(),
            evidence.account()
        ),
        tally: run.faults.tally(),
        requests: evidence.seen.requests,
        posts: evidence.seen.posts.len(),
        took: began.elapsed(),
    }
}

// === impl Run ===

impl Run {
    /// The whole schedule: what can be seen of it, and what of that is wrong already.
    async fn through(
        self: &Arc<Self>,
        crashes: mpsc::UnboundedReceiver<Crash>,
    ) -> (Evidence, Vec<String>) {
        let stop = CancellationToken::new();
        let fleet = tokio::spawn(Fleet::serve(Arc::clone(self), crashes, stop.clone()));
        self.act().await;
        let faults_ended = Instant::now();
        self.faults.stop();
        self.gates.api_server.forget_before(self.version().await);
        self.faults.note("the faults have ended");
        stop.cancel();
        let mut fleet = fleet.await.expect("the fleet");
        let mut violations = Vec::new();
        if self.plan.unknown_field.is_some() {
            // Else they ask every ten minutes whether the CRD was upgraded.
            violations = fleet.come_home().await;
            fleet.set_out(self).await;
        }
        violations.extend(self.settle().await.err());
        violations.extend(fleet.come_home().await);
        let logs = fleet.logs;
        let last = self.resources().await;
        for resource in &last {
            let version = resource.resource_version().unwrap_or_default();
            self.observer.until(&version).await;
        }
        let events = self.bed.api::<Event>().list(&ListParams::default()).await;
        let numbers = self.plan.numbers.iter();
        let evidence = Evidence {
            seen: self.observer.all(),
            reports: numbers
                .map(|number| self.bed.simulator.number(&number.id))
                .collect(),
            last,
            logs,
            events: events.expect("the events").items,
            faults_ended,
            crashed: self
                .faults
                .tally()
                .keys()
                .any(|fault| matches!(fault, Fault::CrashBefore | Fault::CrashAfter)),
        };
        (evidence, violations)
    }

    /// Does what people do, between the requests of the operators.
    async fn act(&self) {
        let mut seen = self.faults.seen();
        for (n, action) in (1..).zip(&self.plan.actions) {
            self.observer.acts(action);
            self.faults.note(&format!("{action:?}"));
            self.carry_out(action).await;
            let until = *seen.borrow() + (self.plan.seed + n * 7) % BETWEEN_ACTIONS;
            let reached = seen.wait_for(|seen| *seen >= until);
            // Where everything rests there are no requests to wait for.
            let _ = tokio::time::timeout(PATIENCE, reached).await;
        }
        // What the last actions led to is to meet faults as well.
        let _ =
            tokio::time::timeout(PATIENCE, watch::Receiver::wait_for(&mut seen, |_| false)).await;
    }

    async fn carry_out(&self, action: &Action) {
        let name = |n: &usize| self.plan.resources[*n].name.as_str();
        let secret = |n: &usize| format!("s{n}");
        match action {
            Action::Create(n) => self.create(*n).await,
            Action::Delete(n) => self.bed.delete(name(n)).await,
            Action::Edit(n) => {
                let policy = self.bed.get(name(n)).await.spec.loss_policy;
                let policy = match serde_json::to_value(policy) {
                    Ok(policy) if policy == "Register" => "Report",
                    _ => "Register",
                };
                let patch = json!({"spec": {"lossPolicy": policy}});
                self.bed.patch(name(n), patch).await;
            }
            Action::Request(n, value) => self.bed.request(name(n), &value.to_string()).await,
            Action::Suspend(n, suspend) => {
                let patch = json!({"spec": {"suspend": suspend}});
                self.bed.patch(name(n), patch).await;
            }
            Action::Label(n, on) => self.label(name(n), *on).await,
            Action::Wipe(n) => self.bed.patch_status(name(n), json!(null)).await,
            Action::BreakSecret(n) => self.write_secret(&secret(n), &token(0), "12").await,
            Action::Secret(n, generation) => {
                let (token, pin) = (token(*generation), pin(*generation));
                self.write_secret(&secret(n), &token, pin).await;
            }
            Action::DeleteSecret(n) => {
                let api = self.bed.api::<Secret>();
                // It may be gone already.
                let _ = api.delete(&secret(n), &DeleteParams::default()).await;
            }
        }
    }

    async fn create(&self, n: usize) {
        let resource = &self.plan.resources[n];
        let secret = format!("s{}", resource.secret);
        let names = json!({"tokenSecretRef": {"name": secret}, "pinSecretRef": {"name": secret}});
        let number = &self.plan.numbers[resource.number].id;
        self.bed.declare_with(&resource.name, number, names).await;
        if self.plan.selects {
            self.label(&resource.name, true).await;
        }
    }

    async fn label(&self, name: &str, on: bool) {
        let labels = json!({LABEL: if on { "in" } else { "out" }});
        self.bed
            .patch(name, json!({"metadata": {"labels": labels}}))
            .await;
    }

    async fn write_secret(&self, name: &str, token: &str, pin: &str) {
        let data = [("token", token.as_bytes()), ("pin", pin.as_bytes())];
        self.bed.secret(name, &data).await;
    }

    /// The API server's version of now.
    async fn version(&self) -> u64 {
        let list = self.bed.numbers().list(&ListParams::default()).await;
        let version = list.expect("a list").metadata.resource_version;
        version
            .and_then(|version| version.parse().ok())
            .expect("a version")
    }

    async fn resources(&self) -> Vec<WhatsAppPhoneNumber> {
        let list = self.bed.numbers().list(&ListParams::default()).await;
        list.expect("a list").items
    }

    /// Waits until everything has settled and then rests: nobody writes, nobody calls.
    async fn settle(&self) -> Result<(), String> {
        let deadline = Instant::now() + self.plan.settles_within();
        while Instant::now() < deadline {
            let before = self.resources().await;
            if restless(&before).is_some() {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            let calls = self.calls();
            // That nothing happens takes time to see.
            tokio::time::sleep(QUIET).await;
            let versions = |resources: &[WhatsAppPhoneNumber]| -> Vec<_> {
                let versions = resources.iter().map(ResourceExt::resource_version);
                versions.collect()
            };
            if versions(&before) == versions(&self.resources().await) && calls == self.calls() {
                return Ok(());
            }
        }
        Err("I5: nothing has come to rest".to_owned())
    }

    fn calls(&self) -> Counts {
        self.bed.simulator.totals().counts
    }

    /// Starts an operator and waits until it runs, not until it has come to anything.
    async fn launch(&self) -> Operator {
        let mut flags = self.plan.flags(&self.bed.namespace);
        if !self.plan.seed.is_multiple_of(4) {
            flags.push("--log-level=info".to_owned());
        }
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let operator = self.gates.launch(&self.bed, &flags);
        operator.until_logged("Started").await;
        operator
    }
}

// === impl Fleet ===

impl Fleet {
    /// Runs the operators until told to stop; lets them die when asked to, and starts them again.
    async fn serve(
        run: Arc<Run>,
        mut crashes: mpsc::UnboundedReceiver<Crash>,
        stop: CancellationToken,
    ) -> Self {
        let mut fleet = Self {
            operators: Vec::new(),
            logs: Vec::new(),
            deaths: 0,
        };
        fleet.set_out(&run).await;
        while let Some(Some(crash)) = stop.run_until_cancelled(crashes.recv()).await {
            if fleet.deaths < DEATHS_MAX {
                fleet.replace_one(&run, crash).await;
            }
        }
        fleet
    }

    async fn set_out(&mut self, run: &Run) {
        for _ in 0..run.plan.operators {
            self.operators.push(run.launch().await);
        }
    }

    async fn replace_one(&mut self, run: &Run, crash: Crash) {
        let place = (self.deaths + usize::from(run.plan.seed % 2 == 1)) % self.operators.len();
        self.deaths += 1;
        let old = self.operators.remove(place);
        old.signal("KILL");
        old.ended().await;
        run.faults.note("an operator has died");
        // The request may be another operator's, which goes on.
        let _ = crash.done.send(());
        self.logs.push(old.log());
        self.operators.insert(place, run.launch().await);
    }

    /// Ends the operators as Kubernetes does; what is wrong with how they ended.
    async fn come_home(&mut self) -> Vec<String> {
        let mut violations = Vec::new();
        for operator in std::mem::take(&mut self.operators) {
            let (status, log) = operator.terminate().await;
            if status != "0" {
                violations.push(format!("the operator ended with {status}"));
            }
            self.logs.push(log);
        }
        violations
    }
}
