//! What people, GitOps and Meta do to the numbers meanwhile, by chance, and what must hold of the calls.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt, stream};
use kube::api::{Patch, PatchParams, PostParams};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use testkit::bed::{Bed, PIN, TOKEN, resource};
use testkit::simulator::{Action, NumberConfig, Step};

/// How many numbers share a Secret.
const SHARE: usize = 25;

/// One in so many numbers may be asked to register again; the others must never be called for while registered.
const REQUESTED: usize = 10;

/// The operator's own limit for automatic calls, and Meta's.
const LIMITS: [usize; 2] = [8, 10];

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Edited,
    Suspended,
    Resumed,
    Requested,
    MadeAnew,
    Deregistered,
    Misbehaved,
    WrongPin,
    RightPin,
}

/// How often each happens, relative to the others.
const EVENTS: [(Event, u32); 9] = [
    (Event::Edited, 30),
    (Event::Suspended, 5),
    (Event::Resumed, 10),
    (Event::Requested, 2),
    (Event::MadeAnew, 25),
    (Event::Deregistered, 3),
    (Event::Misbehaved, 20),
    (Event::WrongPin, 1),
    (Event::RightPin, 4),
];

/// What happens to the numbers of a bed.
pub struct Churn<'a> {
    bed: &'a Bed,
    rng: StdRng,
    numbers: usize,
    happened: BTreeMap<Event, usize>,
    /// The numbers to create again once their resources are gone, which wait for the operator to deregister them.
    leaving: BTreeSet<usize>,
}

/// The name of a resource.
pub fn name(n: usize) -> String {
    format!("number-{n}")
}

/// Its phone number ID.
pub fn id(n: usize) -> String {
    format!("8{n:05}")
}

fn secret(n: usize) -> String {
    format!("whatsapp-{}", n / SHARE)
}

impl<'a> Churn<'a> {
    /// For so many numbers.
    pub fn new(bed: &'a Bed, seed: u64, numbers: usize) -> Self {
        Self {
            bed,
            rng: StdRng::seed_from_u64(seed),
            numbers,
            happened: BTreeMap::new(),
            leaving: BTreeSet::new(),
        }
    }

    /// Declares every number and its Secret.
    pub async fn declare_all(&mut self) {
        self.heal().await;
        let bed = self.bed;
        let declared = stream::iter(0..self.numbers).map(|n| async move {
            bed.simulator.set(&id(n), NumberConfig::fresh().pin(PIN));
            assert!(create(bed, n).await, "{n} exists already");
        });
        declared.buffer_unordered(16).count().await;
    }

    /// Makes every Secret right, and every suspended number go on.
    pub async fn heal(&mut self) {
        for n in (0..self.numbers).step_by(SHARE) {
            write_secret(self.bed, n, PIN).await;
        }
        for n in 0..self.numbers {
            patch(self.bed, n, json!({"spec": {"suspend": false}})).await;
        }
    }

    /// Creates every number that has left.
    pub async fn bring_back(&mut self) {
        while !self.leaving.is_empty() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.create_gone().await;
        }
    }

    async fn create_gone(&mut self) {
        for n in std::mem::take(&mut self.leaving) {
            if !create(self.bed, n).await {
                self.leaving.insert(n);
            }
        }
    }

    /// Lets one thing happen.
    pub async fn happen(&mut self) {
        self.create_gone().await;
        let n = self.rng.random_range(0..self.numbers);
        let (event, _) = *EVENTS
            .choose_weighted(&mut self.rng, |(_, weight)| *weight)
            .expect("events");
        let bed = self.bed;
        match event {
            Event::Edited => {
                let policy = ["Retain", "Deregister"][self.rng.random_range(0..2)];
                patch(bed, n, json!({"spec": {"deletionPolicy": policy}})).await;
            }
            Event::Suspended => patch(bed, n, json!({"spec": {"suspend": true}})).await,
            Event::Resumed => patch(bed, n, json!({"spec": {"suspend": false}})).await,
            Event::Requested => self.request(n).await,
            Event::MadeAnew => self.make_anew(n).await,
            Event::Deregistered => {
                // As when somebody does so by hand, and Git brings the resource anew after it.
                bed.simulator.set(&id(n), deregistered());
                self.make_anew(n).await;
            }
            Event::Misbehaved => bed.simulator.script(&id(n), script(&mut self.rng)),
            Event::WrongPin => write_secret(bed, n, "000000").await,
            Event::RightPin => write_secret(bed, n, PIN).await,
        }
        *self.happened.entry(event).or_default() += 1;
    }

    async fn make_anew(&mut self, n: usize) {
        if !self.leaving.contains(&n) {
            self.bed.delete(&name(n)).await;
            self.leaving.insert(n);
            self.create_gone().await;
        }
    }

    async fn request(&mut self, n: usize) {
        let n = n - n % REQUESTED;
        let value = format!("{:x}", self.rng.random::<u64>());
        let annotation = operator_core::api::REGISTER_REQUESTED_AT;
        patch(
            self.bed,
            n,
            json!({"metadata": {"annotations": {annotation: value}}}),
        )
        .await;
    }

    /// What has happened so far.
    pub fn done(&self) -> String {
        format!("{} things happened", self.happened.values().sum::<usize>())
    }

    /// What must hold of every number.
    pub fn check(&self, log: &str) {
        println!("What happened: {:?}", self.happened);
        assert!(!log.contains("panicked"), "a panic:\n{log}");
        for line in log.lines() {
            let secret = line.contains(TOKEN) || shows_pin(line);
            assert!(!secret, "a secret is in the log: {line}");
        }
        assert!(self.bed.simulator.violations().is_empty());
        let (mut calls, mut stuck) = (0, 0);
        for n in 0..self.numbers {
            let report = self.bed.simulator.number(&id(n));
            let requested = n % REQUESTED == 0;
            let limit = LIMITS[usize::from(requested)];
            let counts = report.counts;
            calls += counts.register_calls;
            stuck += usize::from(!report.state.registered);
            assert!(counts.register_calls <= limit, "{report:#?}");
            // A call that was given up is over for the operator, and not yet for Graph.
            let lingers = |step: &String| matches!(step.as_str(), "trickle" | "slow");
            let mut steps = report.log.iter().filter_map(|call| call.step.as_ref());
            let at_once = 1 + usize::from(steps.any(lingers));
            assert!(counts.max_concurrent <= at_once, "{report:#?}");
            if !requested {
                assert_eq!(counts.register_calls_while_registered, 0, "{report:#?}");
            }
        }
        println!("{calls} register calls; {stuck} numbers are not registered in the end");
    }
}

fn deregistered() -> NumberConfig {
    NumberConfig {
        registered: Some(false),
        ..NumberConfig::default()
    }
}

/// What Graph does next for a number.
fn script(rng: &mut StdRng) -> Vec<Step> {
    let steps = [
        Step::server_error(),
        Step::server_error().acted(),
        Step::hang_up_before(),
        Step::hang_up_after(),
        Step::hang_up_before().on_read(),
        Step::server_error().on_read(),
        Step::rate_limited(None).on_read(),
        Step::new(Action::Huge { bytes: 10 << 20 }).on_read(),
        Step::new(Action::Html { http_status: None }).on_any(),
        Step::new(Action::Truncated { bytes: None }).acted(),
        Step::new(Action::Slow { millis: 800 }),
        Step::new(Action::Trickle {
            bytes_per_second: 40,
        })
        .on_read(),
        Step::error(133_015),
    ];
    let many = rng.random_range(1..4);
    let picked = (0..many).filter_map(|_| steps.choose(rng).cloned());
    picked.collect()
}

/// Whether it could be created: the one before may still be there.
async fn create(bed: &Bed, n: usize) -> bool {
    let secret = json!({"name": secret(n)});
    let refs = json!({"tokenSecretRef": secret, "pinSecretRef": secret});
    let number = resource(&name(n), &id(n), refs);
    match bed.numbers().create(&PostParams::default(), &number).await {
        Ok(_) => true,
        Err(kube::Error::Api(status)) if status.code == 409 => false,
        Err(error) => panic!("a number: {error}"),
    }
}

async fn patch(bed: &Bed, n: usize, patch: serde_json::Value) {
    let params = PatchParams::default();
    let numbers = bed.numbers();
    match numbers.patch(&name(n), &params, &Patch::Merge(patch)).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => panic!("a patch: {error}"),
    }
}

async fn write_secret(bed: &Bed, n: usize, pin: &str) {
    bed.secret(
        &secret(n),
        &[("token", TOKEN.as_bytes()), ("pin", pin.as_bytes())],
    )
    .await;
}

/// Whether a line shows the PIN as a number of its own: a long log has its six digits somewhere in a time or an ID.
fn shows_pin(line: &str) -> bool {
    line.match_indices(PIN).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + PIN.len()..].chars().next();
        !before.into_iter().chain(after).any(char::is_alphanumeric)
    })
}
