//! A model of everything around the core: processes that die and start again, an API server that refuses and loses
//! answers, watches that lag, a Graph that keeps state, and clocks. `decide`, `apply_outcome`, `Memory`, `duplicates` and the
//! parser of answers are the real ones.

use std::time::Duration;

use super::invariants::{Witness, i5_settles};
use operator_core::api::{
    DeletionPolicy, LossPolicy, REGISTER_REQUESTED_AT, WhatsAppPhoneNumber,
    WhatsAppPhoneNumberStatus,
};
use testkit::world::{hours, secs};

mod clock;
mod cluster;
mod graph;
mod process;

use clock::Clock;
pub(crate) use cluster::{Cluster, NAMES, Name, name_of};
use graph::set_spec;
pub(crate) use graph::{Graph, Inputs, Plan, Reply, all_secrets};
use process::{Around, Process, store};
pub(crate) use process::{Fault, Phase};

/// How long a watch can bring nothing: then it is made anew.
const DEAF: Duration = secs(300);

/// How many steps one stretch of time may take before it counts as a loop without an end. Two resources that two processes each read every
/// ten minutes take two thousand in 83 hours, the longest stretch.
const STEPS_MAX: usize = 5_000;

/// What happens to a process that reaches a point of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trap {
    /// It dies, and starts again.
    Crash,
    /// It is stopped until it is told to go on.
    Stop,
}

/// What may happen. A process is named by its number.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Time passes, and everybody does what is due.
    Run(Duration),
    /// A process is woken by something else than the clock.
    Pass(usize, Name),
    /// What happens when a process reaches a point of an attempt.
    Trap(usize, Phase, Trap),
    /// A stopped process goes on.
    Go(usize),
    /// A process dies and starts again, from a list that is so many versions old.
    Crash(usize, usize),
    /// A process's watches bring nothing more, or all that they missed.
    Deaf(usize, bool),
    /// A watch brings an old version.
    Replay(usize, Name, usize),
    /// What becomes of a process's next write.
    Fault(usize, Fault),
    /// The writes that were not answered land.
    Land,
    /// How the next register call goes.
    Plan(Plan),
    /// What reads are answered from now on.
    Reads(Option<Reply>),
    /// Somebody else registers or deregisters the number.
    Elsewhere(bool),
    /// How long it takes until Graph's status shows a registration.
    Lag(Duration),
    Secrets(Option<(u8, u8)>),
    Suspend(Name, bool),
    /// Whether the number is to be deregistered when the resource is deleted.
    Deregister(Name, bool),
    /// Whether a lost number is to be registered again.
    Recover(Name, bool),
    Spec(Name, bool, bool),
    Annotate(Name),
    RemoveAnnotation(Name),
    Create(Name),
    Delete(Name),
    /// The time of day is set.
    Jump(i64),
    /// A random share for jitter.
    Jitter(f64),
}

pub(crate) struct Model {
    around: Around,
    last_secrets: (u8, u8),
    processes: Vec<Process>,
    traps: Vec<Option<(Phase, Trap)>>,
    starts: u32,
    values: u32,
}

impl Model {
    /// One resource that nobody has seen, and so many processes.
    pub(crate) fn new(processes: usize, sound_clock: bool) -> Self {
        let mut model = Self {
            around: Around {
                clock: Clock::new(),
                cluster: Cluster::default(),
                graph: Graph::default(),
                secrets: Some((0, 0)),
                witness: Witness::new(sound_clock),
            },
            last_secrets: (0, 0),
            processes: Vec::new(),
            traps: vec![None; processes],
            starts: 0,
            values: 0,
        };
        let now = model.around.clock.now();
        model.around.cluster.create(NAMES[0], now);
        for _ in 0..processes {
            let process = model.start(0);
            model.processes.push(process);
        }
        model
    }

    /// A resource that was found with this status.
    pub(crate) fn with_status(status: WhatsAppPhoneNumberStatus) -> Self {
        let mut model = Self::new(1, false);
        model.around.witness.odd = true;
        model
            .around
            .cluster
            .edit(NAMES[0], |resource| resource.status = Some(status));
        model.deliver();
        model
    }

    /// A process that starts, with what it lists.
    fn start(&mut self, back: usize) -> Process {
        self.starts += 1;
        let mut process = Process::start(self.starts, &self.around.clock);
        for name in NAMES {
            let listed = self.around.cluster.version(name, back).cloned();
            if listed.is_some() {
                process.watch(name, listed.as_ref(), &mut self.around);
            }
        }
        process.deaf_until =
            self.around.clock.uptime() + if back > 0 { DEAF } else { Duration::ZERO };
        process
    }

    pub(crate) fn apply(&mut self, event: Event) {
        let of = |number: usize| number % self.processes.len();
        match event {
            Event::Run(time) => {
                self.run(self.around.clock.uptime() + time);
            }
            Event::Pass(number, name) => {
                let number = of(number);
                if !self.processes[number].stopped {
                    self.processes[number].pass(name, &mut self.around);
                }
            }
            Event::Trap(number, phase, trap) => {
                let number = of(number);
                self.traps[number] = Some((phase, trap));
            }
            Event::Go(number) => {
                let number = of(number);
                self.processes[number].stopped = false;
                self.traps[number] = None;
            }
            Event::Crash(number, back) => {
                let number = of(number);
                self.crash(number, back);
            }
            Event::Deaf(number, deaf) => {
                let number = of(number);
                let wait = if deaf { DEAF } else { Duration::ZERO };
                self.processes[number].deaf_until = self.around.clock.uptime() + wait;
            }
            Event::Replay(number, name, back) => {
                let number = of(number);
                let old = self.around.cluster.version(name, back).cloned();
                if old.is_some() {
                    self.processes[number].watch(name, old.as_ref(), &mut self.around);
                }
            }
            Event::Fault(number, fault) => {
                let number = of(number);
                self.processes[number].faults.push_back(fault);
            }
            Event::Land => self.land(),
            Event::Plan(plan) => {
                self.around.graph.plans.clear();
                self.around.graph.plans.push_back(plan);
            }
            Event::Reads(reply) => self.around.graph.reads = reply,
            Event::Elsewhere(registered) => {
                let since = self.around.clock.uptime() + Duration::from_nanos(1); // By nobody's call.
                self.around.graph.registered = registered.then_some(since);
            }
            Event::Lag(lag) => self.around.graph.lag = lag,
            Event::Secrets(secrets) => self.set_secrets(secrets),
            Event::Suspend(name, suspend) => {
                self.around.cluster.edit(name, |r| r.spec.suspend = suspend)
            }
            Event::Deregister(name, wanted) => {
                let policy = if wanted {
                    DeletionPolicy::Deregister
                } else {
                    DeletionPolicy::Retain
                };
                self.around
                    .cluster
                    .edit(name, |r| r.spec.deletion_policy = policy);
            }
            Event::Recover(name, wanted) => {
                let policy = if wanted {
                    LossPolicy::Register
                } else {
                    LossPolicy::Report
                };
                self.around
                    .cluster
                    .edit(name, |r| r.spec.loss_policy = policy);
            }
            Event::Spec(name, region, version) => {
                self.around
                    .cluster
                    .edit(name, |r| set_spec(&mut r.spec, region, version));
            }
            Event::Annotate(name) => {
                self.values += 1;
                let value = format!("value-{}", self.values);
                let entry = (REGISTER_REQUESTED_AT.to_owned(), value);
                self.around
                    .cluster
                    .edit(name, |r| r.metadata.annotations = Some([entry].into()));
            }
            Event::RemoveAnnotation(name) => self
                .around
                .cluster
                .edit(name, |r| r.metadata.annotations = None),
            Event::Create(name) => {
                let now = self.around.clock.now();
                self.around.cluster.create(name, now);
            }
            Event::Delete(name) => {
                let now = self.around.clock.now();
                self.around.cluster.delete(name, now);
            }
            Event::Jump(seconds) => self.around.clock.jump(seconds),
            Event::Jitter(share) => self
                .processes
                .iter_mut()
                .for_each(|process| process.jitter = share),
        }
        self.deliver();
    }

    fn set_secrets(&mut self, secrets: Option<(u8, u8)>) {
        self.around.secrets = secrets;
        self.last_secrets = secrets.unwrap_or(self.last_secrets);
        let now = self.around.clock.uptime();
        let hears = |process: &&mut Process| process.deaf_until <= now;
        for process in self.processes.iter_mut().filter(hears) {
            process
                .due
                .extend(process.view.keys().map(|name| (*name, now)));
        }
    }

    /// The writes that were not answered land, those that nobody's write has come before.
    fn land(&mut self) {
        for written in std::mem::take(&mut self.around.cluster.late) {
            drop(store(&written, &mut self.around));
        }
    }

    fn crash(&mut self, number: usize, back: usize) {
        self.processes[number] = self.start(back);
        self.traps[number] = None;
    }

    /// Everybody who listens hears of the newest versions.
    fn deliver(&mut self) {
        for number in 0..self.processes.len() {
            if self.processes[number].deaf_until > self.around.clock.uptime() {
                continue;
            }
            for name in NAMES {
                let newest = self.around.cluster.newest(name).cloned();
                let version = |r: Option<&WhatsAppPhoneNumber>| {
                    r.and_then(|r| r.metadata.resource_version.clone())
                };
                if version(newest.as_ref()) != version(self.processes[number].view.get(name)) {
                    self.processes[number].watch(name, newest.as_ref(), &mut self.around);
                }
            }
        }
    }

    /// Lets everybody do what is due until then. Returns how many passes that took.
    fn run(&mut self, end: Duration) -> usize {
        let mut passes = 0;
        let mut last = Vec::new();
        for step in 0..STEPS_MAX {
            if self.hear_by(end) {
                continue;
            }
            let due = (0..self.processes.len())
                .filter_map(|number| Some((self.next_of(number)?, number)));
            let Some(((at, name), number)) = due.min() else {
                self.around.clock.go_to(end);
                return passes;
            };
            if at > end {
                self.around.clock.go_to(end);
                return passes;
            }
            self.around.clock.go_to(at);
            if step + 6 > STEPS_MAX {
                last.push((at, name, self.processes[number].due.clone()));
            }
            match name {
                Some(name) => self.processes[number].pass(name, &mut self.around),
                None => self.processes[number].step(&mut self.around),
            }
            passes += 1;
            self.spring(number);
            self.deliver();
        }
        panic!(
            "I5: {STEPS_MAX} steps and no end: {last:?} {:#?}",
            self.around.cluster.newest(NAMES[0]).map(|r| &r.status)
        );
    }

    /// Lets a watch that is made anew bring what it has missed, if that comes before everything else.
    fn hear_by(&mut self, end: Duration) -> bool {
        let now = self.around.clock.uptime();
        let deaf = self
            .processes
            .iter()
            .map(|process| process.deaf_until)
            .filter(|until| *until > now);
        let acts = (0..self.processes.len()).filter_map(|number| Some(self.next_of(number)?.0));
        let Some(hears) = deaf
            .min()
            .filter(|until| *until <= acts.min().unwrap_or(end).min(end))
        else {
            return false;
        };
        self.around.clock.go_to(hears);
        // A new list brings everything once more, as it may have missed a change of a Secret.
        for process in self
            .processes
            .iter_mut()
            .filter(|process| process.deaf_until == hears)
        {
            process
                .due
                .extend(process.view.keys().map(|name| (*name, hears)));
        }
        self.deliver();
        true
    }

    /// What a process does next and when: a step of its attempt, or a pass over a resource.
    fn next_of(&self, number: usize) -> Option<(Duration, Option<Name>)> {
        let process = &self.processes[number];
        if process.stopped {
            return None;
        }
        match &process.flight {
            Some(flight) if flight.phase == Phase::Sent => Some((flight.answer_at, None)),
            Some(_) => Some((self.around.clock.uptime(), None)),
            None => process
                .due
                .iter()
                .map(|(name, at)| (*at, Some(*name)))
                .min(),
        }
    }

    /// Springs the trap that a process has gone into.
    fn spring(&mut self, number: usize) {
        let phase = self.processes[number]
            .flight
            .as_ref()
            .map(|flight| flight.phase);
        let Some((_, trap)) = self.traps[number].filter(|(at, _)| Some(*at) == phase) else {
            return;
        };
        self.traps[number] = None;
        match trap {
            Trap::Crash => self.crash(number, 0),
            Trap::Stop => self.processes[number].stopped = true,
        }
    }

    /// All faults stop: everything settles, and stays so.
    pub(crate) fn settles(&mut self) {
        self.around.graph.plans.clear();
        self.around.graph.reads = None;
        self.traps.fill(None);
        self.land();
        self.set_secrets(Some(self.last_secrets));
        for name in NAMES {
            self.around
                .cluster
                .edit(name, |resource| resource.spec.suspend = false);
        }
        for process in &mut self.processes {
            let now = self.around.clock.uptime();
            (process.deaf_until, process.stopped) = (now, false);
            process.faults.clear();
            process
                .due
                .extend(process.view.keys().map(|name| (*name, now)));
        }
        self.deliver();
        let writes = self.around.witness.writes;
        let passes = self.run(self.around.clock.uptime() + hours(400));
        let writes = self.around.witness.writes - writes;
        for resource in NAMES
            .iter()
            .filter_map(|name| self.around.cluster.newest(name))
        {
            i5_settles(resource, passes, writes);
        }
        self.stays();
    }

    /// Another pass at the same time changes nothing.
    fn stays(&mut self) {
        let writes = self.around.witness.writes;
        for number in 0..self.processes.len() {
            for name in NAMES {
                self.processes[number].pass(name, &mut self.around);
                assert!(
                    self.processes[number].flight.is_none(),
                    "I5: a call after all has settled"
                );
            }
        }
        assert_eq!(
            writes, self.around.witness.writes,
            "I5: a write although nothing has changed"
        );
        self.run(self.around.clock.uptime() + secs(1));
        assert_eq!(
            writes, self.around.witness.writes,
            "I5: a write although nothing has changed"
        );
    }
}
