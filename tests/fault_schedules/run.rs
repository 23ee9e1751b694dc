//! One schedule, from its plan to its evidence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use operator_core::api::{DeletionPolicy, LossPolicy, WhatsAppPhoneNumber};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::observer::{Observed, Observer};
use super::oracle::{Evidence, misled, restless};
use super::plan::{Action, LABEL, Plan, pin, token};
use testkit::bed::{Bed, Gates};
use testkit::control_plane::ControlPlane;
use testkit::gateway::faults::{Crash, Fault, Faults};
use testkit::operator::Operator;
use testkit::simulator::{Counts, NumberConfig, NumberReport};

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

/// How long whoever takes a number off waits for it to be registered.
const LOST_WITHIN: Duration = Duration::from_secs(1);

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
        let (last, registered) = (self.resources().await, self.registered());
        let rested = Instant::now();
        match self.leave().await {
            Ok(()) => self.observer.until_gone(&last).await,
            Err(why) => violations.push(why),
        }
        violations.extend(fleet.come_home().await);
        let logs = fleet.logs;
        let events = self.bed.api::<Event>().list(&ListParams::default()).await;
        let numbers = self.plan.numbers.iter();
        let evidence = Evidence {
            seen: self.observer.all(),
            reports: numbers
                .map(|number| self.bed.simulator.number(&number.id))
                .collect(),
            last,
            registered,
            rested,
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
            if !matches!(action, Action::Lose(_)) {
                self.observer.acts(action);
            }
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
            Action::Delete(n) => {
                self.graph_changes_its_ways(self.plan.resources[*n].number);
                self.bed.delete(name(n)).await;
            }
            Action::Edit(n) => {
                let recovers = self.bed.get(name(n)).await.spec.loss_policy == LossPolicy::Register;
                let patch = json!({"spec": {"lossPolicy": loss_policy(!recovers)}});
                self.bed.patch(name(n), patch).await;
            }
            Action::Deregister(n, on) => {
                let patch = json!({"spec": {"deletionPolicy": deletion_policy(*on)}});
                self.patch_if_there(name(n), patch, None).await;
            }
            Action::Lose(number) => self.lose(*number).await,
            Action::Request(n, value) => self.bed.request(name(n), &value.to_string()).await,
            Action::Suspend(n, suspend) => {
                let patch = json!({"spec": {"suspend": suspend}});
                self.bed.patch(name(n), patch).await;
            }
            Action::Label(n, on) => self.label(name(n), *on).await,
            Action::Wipe(n) => {
                let patch = json!({"status": null});
                self.patch_if_there(name(n), patch, Some("status")).await;
            }
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

    /// Creates a resource, once an earlier one of its name is gone.
    async fn create(&self, n: usize) {
        let resource = &self.plan.resources[n];
        let gone = await_condition(self.bed.numbers(), &resource.name, |r: Option<&_>| {
            r.is_none()
        });
        let gone = tokio::time::timeout(self.plan.settles_within(), gone).await;
        gone.expect("it goes in time").expect("a watch");
        let secret = format!("s{}", resource.secret);
        let more = json!({
            "tokenSecretRef": {"name": secret},
            "pinSecretRef": {"name": secret},
            "deletionPolicy": deletion_policy(resource.deregisters),
            "lossPolicy": loss_policy(resource.recovers),
        });
        let number = &self.plan.numbers[resource.number].id;
        self.bed.declare_with(&resource.name, number, more).await;
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

    /// Merges a patch into a resource that may be gone, or into its status.
    async fn patch_if_there(&self, name: &str, patch: Value, subresource: Option<&str>) {
        let (numbers, params) = (self.bed.numbers(), PatchParams::default());
        let patch = Patch::Merge(patch);
        let patched = match subresource {
            Some(subresource) => {
                let patched = numbers.patch_subresource(subresource, name, &params, &patch);
                patched.await
            }
            None => numbers.patch(name, &params, &patch).await,
        };
        match patched {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            patched => drop(patched.expect("a patch")),
        }
    }

    /// Takes a number off once it is registered, if that is soon; then it counts as done.
    async fn lose(&self, number: usize) {
        let id = &self.plan.numbers[number].id;
        let is_registered = |report: &NumberReport| report.state.registered;
        let simulator = &self.bed.simulator;
        let registered = simulator.until_within(id, LOST_WITHIN, is_registered);
        if registered.await.is_ok() {
            self.observer.acts(&Action::Lose(number));
            simulator.set(id, NumberConfig::fresh().status("DISCONNECTED"));
        }
    }

    /// Graph does from now on what it does to a number that is taken off.
    fn graph_changes_its_ways(&self, number: usize) {
        let number = &self.plan.numbers[number];
        if self.plan.graph_fails {
            self.bed
                .simulator
                .script(&number.id, number.leaving.clone());
        }
    }

    /// The API server's version of now.
    async fn version(&self) -> u64 {
        let list = self.bed.numbers().list(&ListParams::default()).await;
        let version = list.expect("a list").metadata.resource_version;
        version
            .and_then(|version| version.parse().ok())
            .expect("a version")
    }

    /// The IDs of the numbers that Graph has registered.
    fn registered(&self) -> BTreeSet<String> {
        let all = self.bed.simulator.all().into_iter();
        let registered = all.filter(|report| report.state.registered);
        registered.map(|report| report.id).collect()
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
            let misled = || misled(&self.plan, &before, &self.registered());
            if restless(&before).or_else(misled).is_some() {
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

    /// Deletes every resource, of each number one after the others. The API server is sound by now, so that each goes in time.
    async fn leave(&self) -> Result<(), String> {
        for number in 0..self.plan.numbers.len() {
            self.graph_changes_its_ways(number);
        }
        let named = |r: &WhatsAppPhoneNumber| (r.spec.phone_number_id.clone(), r.name_any());
        let last: BTreeMap<String, String> = self.resources().await.iter().map(named).collect();
        let stays = |r: &WhatsAppPhoneNumber| last.values().any(|name| *name == r.name_any());
        self.delete_all_but(stays).await?;
        self.delete_all_but(|_| false).await
    }

    async fn delete_all_but(
        &self,
        stays: impl Fn(&WhatsAppPhoneNumber) -> bool,
    ) -> Result<(), String> {
        let going = |resources: Vec<WhatsAppPhoneNumber>| -> Vec<String> {
            let going = resources.iter().filter(|resource| !stays(resource));
            going.map(ResourceExt::name_any).collect()
        };
        for name in going(self.resources().await) {
            self.bed.delete(&name).await;
        }
        let deadline = Instant::now() + self.plan.leaves_within();
        loop {
            let left = going(self.resources().await);
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("I5: {left:?} do not go"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The calls to Graph so far, but for reads: registered numbers are observed all the time.
    fn calls(&self) -> Counts {
        let counts = self.bed.simulator.totals().counts;
        Counts {
            reads: 0,
            max_concurrent: 0,
            ..counts
        }
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

fn deletion_policy(deregisters: bool) -> DeletionPolicy {
    if deregisters {
        DeletionPolicy::Deregister
    } else {
        DeletionPolicy::Retain
    }
}

fn loss_policy(recovers: bool) -> LossPolicy {
    if recovers {
        LossPolicy::Register
    } else {
        LossPolicy::Report
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
