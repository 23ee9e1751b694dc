//! An operator that is stopped in the middle of a call for longer than its claim and its Lease hold, and goes on when
//! another one has settled the number. With a leader election and, the worst case, without. For a deregister call it is also
//! killed there, or runs on without its Lease.
//!
//! The times: with `--graph-timeout=2s` a claim holds for 4 s and may be sent on for 2 s; the confirm window is 3 s.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use operator_core::api::AttemptOutcome::{self, Failed, NotSent, Succeeded, Unknown};
use operator_core::api::Operation::{self, Deregister, Register};
use operator_core::api::conditions::find;
use serde_json::json;

use super::stops::{Stop, Stops};
use super::witness::Witness;
use super::{LEADS, LOST, election, free_lease, outcomes, until_any_registered, with};
use testkit::bed::{Bed, Gates};
use testkit::gateway::Kind;
use testkit::operator::Operator;
use testkit::simulator::{NumberConfig, Step};

const ID: &str = "6900";
const TIMES: [&str; 2] = ["--graph-timeout=2s", "--confirm-window=3s"];

/// The first operator gives up its claim's request after 10 s; here it must not have.
const SHORT_TIMES: [&str; 2] = ["--graph-timeout=1s", "--confirm-window=2s"];

/// Where the first operator is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Between the read and the claim: the read's answer is on its way.
    BeforeClaim,
    /// The claim is stored and its answer on its way; nothing was sent.
    BeforeSend,
    /// Graph has the call and has not acted.
    BeforeActing,
    /// The same, and the operator is not stopped: it waits for its answer.
    Slow,
    /// Graph has acted, and the answer was not read.
    AfterActing,
    /// The call has left, and Graph does not know of it.
    OnTheWay,
    /// The answer was read, and the record is on its way.
    BeforeRecord,
    /// The same with an answer that says that the PIN is wrong.
    BeforeRecordOfFailure,
}

/// What happens to the first operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is stopped, and goes on when the other one has settled the number.
    Paused,
    Killed,
    /// It loses its Lease, and runs on.
    Deposed,
}

/// One call, and what happens in the middle of it.
#[derive(Clone, Copy, Debug)]
struct Case {
    operation: Operation,
    at: At,
    fate: Fate,
    elects: bool,
}

/// What is left when both have done what they do.
struct Left {
    calls: usize,
    /// What the ledger may be, newest first.
    outcomes: Vec<Vec<AttemptOutcome>>,
}

impl At {
    /// All in which the operator is stopped, but for [`Self::OnTheWay`], which is beyond what can be promised.
    const ALL: [Self; 6] = [
        Self::BeforeClaim,
        Self::BeforeSend,
        Self::BeforeActing,
        Self::AfterActing,
        Self::BeforeRecord,
        Self::BeforeRecordOfFailure,
    ];

    /// By the protocol ("The claim"): the one that finds the claim waits for 4 s, calls it `OutcomeUnknown`, and reads the number in the
    /// window of 3 s. Only what is not registered then is called for again.
    fn left(self) -> Left {
        let (calls, outcomes) = match self {
            // The first one's claim is refused: its version is old.
            Self::BeforeClaim => (1, vec![vec![Succeeded]]),
            // The first one finds that its claim is older than 2 s, sends nothing and says so in its own entry. After 10 s
            // it has given up its request to the API server, finds that the claim is no longer open, and leaves it.
            Self::BeforeSend => (1, vec![vec![Succeeded, NotSent], vec![Succeeded, Unknown]]),
            // The one place with two calls: nothing had come of the first when the window was over (4.1.4). Its late
            // answer is none: the time for it has passed.
            Self::BeforeActing => (2, vec![vec![Succeeded, Unknown]]),
            Self::Slow | Self::AfterActing | Self::BeforeRecord => (1, vec![vec![Succeeded]]),
            // The limit: see `paused_for_longer`.
            Self::OnTheWay => (2, vec![vec![Succeeded, Unknown]]),
            // Nothing had come of this one either; what Graph said of it is still recorded, in its entry alone.
            Self::BeforeRecordOfFailure => (2, vec![vec![Succeeded, Failed]]),
        };
        Left { calls, outcomes }
    }

    fn script(self) -> Option<Step> {
        match self {
            Self::BeforeActing | Self::Slow => Some(Step::wait()),
            Self::AfterActing => Some(Step::wait_after()),
            Self::BeforeRecordOfFailure => Some(Step::error(133_005)),
            _ => None,
        }
    }

    /// The stop at a gate, with what the request is about; without one the simulator holds the call.
    fn stop(self) -> Option<(Stop, &'static str)> {
        match self {
            Self::BeforeClaim => Some((Stop::After(Kind::GraphRead), ID)),
            Self::BeforeSend => Some((Stop::After(Kind::Claim), "paused")),
            Self::OnTheWay => Some((Stop::Before(Kind::GraphRegister), ID)),
            Self::BeforeRecord | Self::BeforeRecordOfFailure => {
                Some((Stop::Before(Kind::Record), "paused"))
            }
            Self::BeforeActing | Self::Slow | Self::AfterActing => None,
        }
    }
}

impl Case {
    /// A register call of an operator that is stopped in it.
    const fn new(at: At, elects: bool) -> Self {
        Self {
            operation: Register,
            at,
            fate: Fate::Paused,
            elects,
        }
    }

    /// A deregister call of a leader.
    const fn leaving(at: At, fate: Fate) -> Self {
        Self {
            operation: Deregister,
            at,
            fate,
            elects: true,
        }
    }

    fn times(self) -> [&'static str; 2] {
        match (self.fate, self.at) {
            // It is alive: its claim is waited for.
            (Fate::Deposed, _) | (_, At::Slow) => ["--graph-timeout=30s", "--confirm-window=1s"],
            (Fate::Paused, At::BeforeSend) => SHORT_TIMES,
            _ if self.operation == Deregister => ["--graph-timeout=3s", "--confirm-window=1s"],
            _ => TIMES,
        }
    }

    /// Brings the number to the call that is to be held. What it takes before is not held.
    async fn begin(self, bed: &Bed, hold: impl Fn()) {
        let script = self.at.script().into_iter();
        if self.operation == Register {
            let config = NumberConfig::fresh().script(script.collect());
            bed.simulator.set(ID, config);
            hold();
            bed.declare("paused", ID).await;
            return;
        }
        bed.simulator.set(ID, NumberConfig::registered());
        let policy = json!({"deletionPolicy": "Deregister"});
        bed.declare_with("paused", ID, policy).await;
        bed.until_registered("paused", "AlreadyRegistered").await;
        bed.simulator
            .script(ID, script.map(Step::on_deregister).collect());
        hold();
        bed.delete("paused").await;
    }

    /// Waits until the other operator has settled the number.
    async fn until_settled(self, bed: &Bed) {
        match self.operation {
            Register => drop(until_any_registered(bed, "paused").await),
            Deregister => bed.until_gone("paused").await,
        }
    }

    /// How many calls there may be.
    fn calls(self) -> usize {
        match self.fate {
            Fate::Deposed => 1,
            Fate::Paused | Fate::Killed => self.at.left().calls,
        }
    }
}

/// A bed, and an operator whose call is held somewhere.
struct Scene {
    case: Case,
    bed: Bed,
    flags: Vec<String>,
    stops: Arc<Stops>,
    witness: Witness,
    first: Operator,
    /// There from the start, where a leader is elected.
    standby: Option<Operator>,
    _gates: Gates,
}

impl Scene {
    /// One whose first operator stands at a stop of its gates or of the simulator.
    async fn new(case: Case) -> Self {
        let (stop, times) = (case.at.stop(), case.times());
        let bed = Bed::new().await;
        bed.secrets().await;
        let stops = Stops::new();
        let gates = bed.gates(Arc::clone(&stops) as _).await;
        let flags = if case.elects {
            election(&bed)
        } else {
            Vec::new()
        };
        let first = gates.operator(&bed, &with(&flags, &times)).await;
        first.until_logged(LEADS).await;
        let standby = match case.elects {
            true => Some(bed.operator(&with(&flags, &times)).await),
            false => None,
        };
        let witness = Witness::of(&bed);
        let hold = || {
            if let Some((stop, about)) = stop {
                stops.hold(stop, about);
            }
        };
        case.begin(&bed, hold).await;
        match stop {
            Some((_, about)) => stops.until_held(about).await,
            None => {
                let held = bed.simulator.until(ID, |report| report.held == 1).await;
                held.expect("the call is held");
            }
        }
        Self {
            case,
            bed,
            flags,
            stops,
            witness,
            first,
            standby,
            _gates: gates,
        }
    }

    /// The first operator meets its fate; another one takes over.
    async fn take_over(&mut self) -> Operator {
        match self.case.fate {
            Fate::Paused => self.first.signal("STOP"),
            Fate::Killed => self.first.signal("KILL"),
            Fate::Deposed => {}
        }
        let Some(standby) = self.standby.take() else {
            let flags = with(&self.flags, &self.case.times());
            return self.bed.operator(&flags).await;
        };
        free_lease(&self.bed).await;
        standby.until_logged(LEADS).await;
        if self.case.fate == Fate::Deposed {
            self.first.until_logged(LOST).await;
        }
        standby
    }

    /// Lets everything go that is still held.
    fn release(&self) {
        self.stops.release("paused");
        self.stops.release(ID);
        self.bed.simulator.release(ID);
    }

    /// Lets the first operator go on, and end when it has done what it was at.
    async fn resume(&self) {
        if self.case.fate == Fate::Killed {
            return;
        }
        self.first.signal("CONT");
        if !self.flags.is_empty() {
            self.first.until_logged(LOST).await;
        }
        self.first.signal("TERM");
        let status = self.first.ended().await;
        assert_eq!(status, "0", "{}", self.first.log());
    }
}

/// Lets both do what they do; returns the scene and what is to be told of it.
async fn play(case: Case) -> (Scene, String) {
    let mut scene = Scene::new(case).await;
    let second = scene.take_over().await;
    if case.fate == Fate::Deposed || matches!(case.at, At::BeforeClaim | At::BeforeSend) {
        // What it waits for comes now; where it is stopped, it acts on it when it wakes up.
        scene.release();
    }
    case.until_settled(&scene.bed).await;
    scene.release();
    scene.resume().await;
    let (status, log) = second.terminate().await;
    assert_eq!(status, "0", "{log}");
    let report = scene.bed.simulator.number(ID);
    let story = format!("{case:?}: {report:#?}\n{}\n{log}", scene.first.log());
    (scene, story)
}

async fn registering(at: At, elects: bool) {
    let (scene, story) = play(Case::new(at, elects)).await;
    let (counts, left) = (scene.bed.simulator.number(ID).counts, at.left());
    let status = until_any_registered(&scene.bed, "paused").await;
    assert_eq!(counts.register_calls, left.calls, "{story}");
    assert_eq!(counts.register_calls_while_registered, 0, "{story}");
    let found: Vec<_> = outcomes(&status).into_iter().flatten().collect();
    assert!(left.outcomes.contains(&found), "{status:#?}: {story}");
    let failed = find(&status, "Failed").is_some_and(|failed| failed.status == "True");
    assert!(!failed, "what is late says nothing of the number: {story}");
    scene.witness.assert_none_flipped();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_was_paused_in_a_call_makes_no_second_one() {
    let elected = At::ALL.map(|at| registering(at, true));
    let at_will = At::ALL.map(|at| registering(at, false));
    tokio::join!(join_all(elected), join_all(at_will));
}

async fn leaving(at: At, fate: Fate) {
    let case = Case::leaving(at, fate);
    let (scene, story) = play(case).await;
    let counts = scene.bed.simulator.number(ID).counts;
    assert_eq!(counts.deregister_calls, case.calls(), "{story}");
    assert_eq!(counts.deregister_acted, 1, "{story}");
    assert_eq!(counts.register_calls, 0, "{story}");
    scene.witness.assert_none_flipped();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_in_a_deregister_call_leaves_one_that_acts() {
    join_all(At::ALL.map(|at| leaving(at, Fate::Paused))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_falls_in_a_deregister_call_leaves_one_that_acts() {
    let places = [At::BeforeSend, At::BeforeActing, At::AfterActing];
    let killed = places.map(|at| leaving(at, Fate::Killed));
    let deposed = places.map(|at| leaving(at, Fate::Deposed));
    tokio::join!(join_all(killed), join_all(deposed));
}

/// An operator that is only slow is alive: its claim is waited for, far beyond the confirm window.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_call_of_another_operator_is_left_alone() {
    let scene = Scene::new(Case::new(At::Slow, false)).await;
    let second = scene.bed.operator(&scene.case.times()).await;
    // Time itself is what this is about: three times the window.
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.release();
    scene
        .bed
        .until_registered("paused", "RegistrationSucceeded")
        .await;
    scene.resume().await;
    let (_, log) = second.terminate().await;
    assert!(!log.contains("OutcomeUnknown"), "{log}");
    assert_eq!(scene.bed.posts(ID), At::Slow.left().calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_pause_between_the_last_check_and_the_send_that_is_longer_than_all_cannot_be_fenced()
{
    tokio::join!(paused_for_longer(), paused_for_less(), held_up_on_the_way());
}

/// The limit of the protocol ("The claim", 4). The call has left the operator after its last check and is held on the way, with the
/// process stopped, so that nobody gives it up. From the check to the arrival pass more than what is left of the claim
/// and the confirm window; so the other operator has made its call when this one arrives. Meta takes no token that would
/// tell the two apart.
async fn paused_for_longer() {
    let mut scene = Scene::new(Case::new(At::OnTheWay, false)).await;
    let _second = scene.take_over().await;
    until_any_registered(&scene.bed, "paused").await;
    scene.release();
    let arrived = scene
        .bed
        .simulator
        .until(ID, |report| report.counts.register_calls == 2);
    arrived.await.expect("the call that was paused arrives");
    scene.resume().await;
    let counts = scene.bed.simulator.number(ID).counts;
    assert_eq!(counts.register_calls, At::OnTheWay.left().calls);
    assert_eq!(
        counts.register_calls_while_registered, 1,
        "this is the limit"
    );
    let status = until_any_registered(&scene.bed, "paused").await;
    assert_eq!(outcomes(&status), [Some(Succeeded), Some(Unknown)]);
    scene.witness.assert_none_flipped();
}

/// The same, but the call arrives before claim and window are over: the other operator reads that it has.
async fn paused_for_less() {
    let mut scene = Scene::new(Case::new(At::OnTheWay, false)).await;
    let _second = scene.take_over().await;
    scene.bed.until_waiting("paused", "OutcomeUnknown").await;
    scene.release();
    scene
        .bed
        .until_registered("paused", "OutcomeConfirmed")
        .await;
    scene.resume().await;
    assert_eq!(scene.bed.posts(ID), 1);
    scene.witness.assert_none_flipped();
}

/// What holds the call up on the way is not enough for that limit: a process that runs gives the call up when
/// `--graph-timeout` is over, and closes the connection that it would have come by.
async fn held_up_on_the_way() {
    let scene = Scene::new(Case::new(At::OnTheWay, false)).await;
    scene.bed.until_waiting("paused", "OutcomeUnknown").await;
    assert_eq!(scene.bed.posts(ID), 0);
    scene.release();
    scene
        .bed
        .until_registered("paused", "RegistrationSucceeded")
        .await;
    scene.resume().await;
    assert_eq!(scene.bed.posts(ID), 1);
}
