//! Faults by chance. What befalls a request follows from a seed, from what it is, and from how many of its kind there were
//! before for the same object: one seed makes the same plan again, whatever the order in which things happen.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use futures::future::{BoxFuture, FutureExt};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{mpsc, oneshot, watch};

use super::{After, Before, Change, Conduct, Kind, Passage, Request};

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A request takes long to reach the server.
    Late,
    /// A request is lost.
    LoseRequest,
    /// A request is refused without being done.
    Refuse,
    /// The operator dies before its request reaches the server.
    CrashBefore,
    /// An answer takes long to come back.
    Slow,
    /// An answer is lost: what was asked is done.
    LoseAnswer,
    /// Another answer is given: what was asked is done.
    Lie,
    /// A request is refused, or its answer replaced, with a 404 that is not about its object: something in front of the API server
    /// has no route.
    NotFound,
    /// The operator dies before it has the answer: what was asked is done.
    CrashAfter,
    /// A change comes late.
    LateChange,
    /// A change is kept from the operator.
    Skip,
    /// An older change comes again after a newer one.
    Replay,
    /// A watch ends.
    Cut,
    /// A watch ends, as too old.
    Expire,
}

/// Where a fault may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Before,
    After,
    Change,
}

/// Of a thousand requests, answers or changes, how many have the fault on average.
const WEIGHTS: [(Fault, Stage, u32); 13] = [
    (Fault::Late, Stage::Before, 60),
    (Fault::LoseRequest, Stage::Before, 40),
    (Fault::Refuse, Stage::Before, 60),
    (Fault::CrashBefore, Stage::Before, 8),
    (Fault::Slow, Stage::After, 50),
    (Fault::LoseAnswer, Stage::After, 50),
    (Fault::Lie, Stage::After, 60),
    (Fault::CrashAfter, Stage::After, 10),
    (Fault::LateChange, Stage::Change, 50),
    (Fault::Skip, Stage::Change, 50),
    (Fault::Replay, Stage::Change, 40),
    (Fault::Cut, Stage::Change, 30),
    (Fault::Expire, Stage::Change, 10),
];

/// What a write is refused with; other requests have no conflicts.
const CODES: [u16; 8] = [429, 500, 503, 504, 404, 404, 409, 409];

/// The first so many of them are not about conflicts.
const NO_CONFLICTS: usize = 6;

/// No more calls of a kind for a number than this are lost before they act: each costs an attempt.
const LOST_CALLS_MAX: u64 = 3;

/// How often each fault happens.
#[derive(Clone, Debug)]
pub struct Mix {
    weights: BTreeMap<Fault, u32>,
    longest: Duration,
}

/// The operator, or one of them, is to die now; `done` is told when it has.
pub struct Crash {
    /// Says that it has died.
    pub done: oneshot::Sender<()>,
}

/// Faults by chance.
pub struct Faults {
    seed: u64,
    mix: Mix,
    since: Instant,
    stopped: AtomicBool,
    state: Mutex<State>,
    seen: watch::Sender<u64>,
    crashes: mpsc::UnboundedSender<Crash>,
}

#[derive(Default)]
struct State {
    /// How many there were of a kind, for an object, in a stage.
    counts: HashMap<(Stage, String), u64>,
    trace: Vec<String>,
    tally: BTreeMap<Fault, usize>,
}

/// One draw: the fault, if there is one, and chance for its details.
struct Draw {
    fault: Option<Fault>,
    what: String,
    nth: u64,
    rng: StdRng,
}

// === impl Mix ===

impl Mix {
    /// All faults, as often as the table says.
    pub fn all() -> Self {
        let weights = WEIGHTS.iter().map(|(fault, _, weight)| (*fault, *weight));
        Self {
            weights: weights.collect(),
            longest: Duration::from_millis(400),
        }
    }

    /// Some faults, up to four times as often: what many faults together hide, few may show.
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x006d_6978);
        let mut mix = Self::all();
        for weight in mix.weights.values_mut() {
            *weight *= [0, 0, 1, 1, 2, 4][rng.random_range(0..6)];
        }
        mix
    }

    /// With delays up to this.
    pub fn longest(self, longest: Duration) -> Self {
        Self { longest, ..self }
    }

    /// Without a fault.
    pub fn without(mut self, fault: Fault) -> Self {
        self.weights.remove(&fault);
        self
    }
}

// === impl Faults ===

impl Faults {
    /// The faults of a seed, and the crashes that they ask for: whoever does not want any drops the receiver.
    pub fn new(seed: u64, mix: Mix) -> (Arc<Self>, mpsc::UnboundedReceiver<Crash>) {
        let (crashes, receiver) = mpsc::unbounded_channel();
        let faults = Self {
            seed,
            mix,
            since: Instant::now(),
            stopped: AtomicBool::new(false),
            state: Mutex::default(),
            seen: watch::Sender::new(0),
            crashes,
        };
        (Arc::new(faults), receiver)
    }

    /// Ends all faults. What was kept from the operator stays so until [`super::Gate::forget_before`].
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Whether they have ended.
    pub fn have_ended(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// How many requests have come.
    pub fn seen(&self) -> watch::Receiver<u64> {
        self.seen.subscribe()
    }

    /// Every fault that was made, a line each.
    pub fn trace(&self) -> String {
        self.state().trace.join("\n")
    }

    /// Puts something else that happens into the trace.
    pub fn note(&self, what: &str) {
        let millis = self.since.elapsed().as_millis();
        self.state().trace.push(format!("{millis:>6} ms  {what}"));
    }

    /// How often each fault was made.
    pub fn tally(&self) -> BTreeMap<Fault, usize> {
        self.state().tally.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, stage: Stage, kind: Option<Kind>, what: String) -> Draw {
        let nth = {
            let mut state = self.state();
            let count = state.counts.entry((stage, what.clone())).or_default();
            *count += 1;
            *count
        };
        let mut hasher = DefaultHasher::new();
        (self.seed, stage, &what, nth).hash(&mut hasher);
        let mut rng = StdRng::seed_from_u64(hasher.finish());
        let mut dice = rng.random_range(0..1000);
        let fault = WEIGHTS.iter().find_map(|(fault, at, _)| {
            let base = self.mix.weights.get(fault).filter(|_| *at == stage)?;
            let weight = base * kind.map_or(1, |kind| factor(*fault, kind, nth));
            if dice < weight {
                return Some(*fault);
            }
            dice -= weight;
            None
        });
        Draw {
            fault: fault.filter(|_| !self.have_ended()),
            what,
            nth,
            rng,
        }
    }

    /// Writes down a fault that is made.
    fn made(&self, fault: Fault, draw: &Draw, detail: &str) {
        self.note(&format!("{} #{}: {fault:?} {detail}", draw.what, draw.nth));
        *self.state().tally.entry(fault).or_default() += 1;
    }

    async fn wait(&self, fault: Fault, mut draw: Draw) {
        let longest = u64::try_from(self.mix.longest.as_millis()).unwrap_or(u64::MAX);
        let millis = draw.rng.random_range(10..longest.max(11));
        self.made(fault, &draw, &format!("{millis} ms"));
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    /// Asks for the operator's death and waits for it; with several operators this request may be another one's.
    async fn crash(&self, fault: Fault, draw: Draw) {
        let (done, dead) = oneshot::channel();
        if self.crashes.send(Crash { done }).is_ok() {
            self.made(fault, &draw, "");
            // Whoever drops it leaves the operator alone.
            let _ = dead.await;
        }
    }

    async fn befall(&self, request: &Request) -> Before {
        self.seen.send_modify(|seen| *seen += 1);
        let mut draw = self.draw(Stage::Before, Some(request.kind), name(request));
        let Some(fault) = draw.fault else {
            return Before::Pass;
        };
        match fault {
            Fault::Late => {
                self.wait(fault, draw).await;
                Before::Pass
            }
            Fault::Refuse => {
                let code = code(request.kind, &mut draw.rng);
                let retry_after = code == 429 && draw.rng.random_bool(0.5);
                self.made(with_code(fault, code), &draw, &code.to_string());
                if retry_after {
                    Before::Throttle(1)
                } else {
                    Before::Refuse(code)
                }
            }
            Fault::CrashBefore => {
                self.crash(fault, draw).await;
                Before::Lose
            }
            _ => {
                self.made(fault, &draw, "");
                Before::Lose
            }
        }
    }

    async fn distort(&self, request: &Request, status: StatusCode) -> After {
        let mut draw = self.draw(Stage::After, Some(request.kind), name(request));
        let Some(fault) = draw.fault else {
            return After::Answer;
        };
        let status = status.as_u16().to_string();
        match fault {
            Fault::Slow => {
                self.wait(fault, draw).await;
                After::Answer
            }
            Fault::Lie => {
                let code = lie(request.kind, &mut draw.rng);
                let told = format!("{code} instead of {status}");
                self.made(with_code(fault, code), &draw, &told);
                After::Lie(code)
            }
            Fault::CrashAfter => {
                self.crash(fault, draw).await;
                After::Lose
            }
            _ => {
                self.made(fault, &draw, &status);
                After::Lose
            }
        }
    }

    async fn bring(&self, change: &Change) -> Passage {
        let name = |field: &str| {
            change.object["metadata"][field]
                .as_str()
                .unwrap_or_default()
        };
        let kind = change.object["kind"].as_str().unwrap_or_default();
        let what = format!("{} {kind} {}", change.kind, name("name"));
        let draw = self.draw(Stage::Change, None, what);
        let Some(fault) = draw.fault else {
            return Passage::Deliver;
        };
        let passage = match fault {
            Fault::Skip => Passage::Skip,
            Fault::Replay => Passage::Replay,
            Fault::Cut => Passage::Cut,
            Fault::Expire => Passage::Expire,
            _ => {
                self.wait(fault, draw).await;
                return Passage::Deliver;
            }
        };
        self.made(fault, &draw, name("resourceVersion"));
        passage
    }
}

impl Conduct for Faults {
    fn before<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Before> {
        self.befall(request).boxed()
    }

    fn after<'a>(&'a self, request: &'a Request, status: StatusCode) -> BoxFuture<'a, After> {
        self.distort(request, status).boxed()
    }

    fn changed<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Passage> {
        self.bring(change).boxed()
    }
}

fn name(request: &Request) -> String {
    format!("{} {}", request.kind, request.about)
}

/// How much more often a kind of request has a fault: crashes come where they hurt. Graph itself answers as it does;
/// only the way there is at fault.
fn factor(fault: Fault, kind: Kind, nth: u64) -> u32 {
    let acts = matches!(kind, Kind::GraphRegister | Kind::GraphDeregister);
    match (fault, kind) {
        (_, Kind::Other) => 0,
        (Fault::Refuse | Fault::Lie, _) if acts || kind == Kind::GraphRead => 0,
        (Fault::LoseRequest, _) if acts && nth > LOST_CALLS_MAX => 0,
        (Fault::CrashBefore | Fault::CrashAfter, Kind::Claim | Kind::Record | Kind::Finalizer) => 5,
        (Fault::CrashBefore | Fault::CrashAfter, _) if acts => 5,
        _ => 1,
    }
}

/// The fault by its name: a 404 is one of its own.
fn with_code(fault: Fault, code: u16) -> Fault {
    if code == 404 { Fault::NotFound } else { fault }
}

fn code(kind: Kind, rng: &mut StdRng) -> u16 {
    let writes = matches!(
        kind,
        Kind::Claim | Kind::Record | Kind::Status | Kind::Finalizer
    );
    CODES[rng.random_range(0..if writes { CODES.len() } else { NO_CONFLICTS })]
}

/// An answer to what is done. That a patch of the finalizer was turned away (429, 409) is believed: nothing else tells it from one of
/// another process.
fn lie(kind: Kind, rng: &mut StdRng) -> u16 {
    if kind == Kind::Finalizer {
        return CODES[rng.random_range(1..NO_CONFLICTS)];
    }
    code(kind, rng)
}
