//! The steps of a run as the outside sees them, and what is done at one of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use futures::future::{BoxFuture, FutureExt, ready};
use tokio::sync::watch;

use testkit::gateway::{After, Before, Conduct, Kind, Request, Side};

/// A place between two things that the operator does: each Kubernetes write and each Graph call has some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    pub kind: Kind,
    pub moment: Moment,
    /// Which one of its kind it is, from 1.
    pub nth: usize,
}

/// Where in a request a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Moment {
    /// Graph has accepted the connection; nothing was read from it.
    Connected,
    /// The server has not seen the request.
    Before,
    /// The server has done what was asked; the operator does not know.
    After,
}

/// What is done at a step. It says whether the request goes on.
pub type Deed = Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// Takes down the steps of a run, and does the deed at one of them.
pub struct Trail {
    state: Mutex<State>,
    struck: AtomicBool,
    done: watch::Sender<bool>,
    at: Option<Step>,
    deed: Deed,
}

#[derive(Default)]
struct State {
    begun: bool,
    /// The claims that were answered, also before what counts.
    claims: usize,
    counts: HashMap<Kind, usize>,
    /// Which one of its kind a request is, by what it is and its number at its gate.
    asked: HashMap<(Kind, u64), usize>,
    steps: Vec<Step>,
}

impl Trail {
    /// A trail that does the deed at this step.
    pub fn new(at: Option<Step>, deed: Deed) -> Self {
        let (done, _) = watch::channel(false);
        let state = Mutex::default();
        Self {
            state,
            struck: AtomicBool::new(false),
            done,
            at,
            deed,
        }
    }

    /// What comes from now on counts.
    pub fn begin(&self) {
        self.state().begun = true;
    }

    /// Waits until the deed was done.
    pub async fn done(&self) {
        let mut done = self.done.subscribe();
        // Cannot fail: the sender is held here.
        let _ = done.wait_for(|done| *done).await;
    }

    /// Waits until every event was answered.
    pub async fn quiet(&self) {
        let count = |moment| {
            let steps = self.steps();
            let events = steps.iter().filter(|step| step.kind == Kind::Event);
            events.filter(|step| step.moment == moment).count()
        };
        while count(Moment::Before) != count(Moment::After) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many claims the API server has answered.
    pub fn claims(&self) -> usize {
        self.state().claims
    }

    /// The steps so far, in their order; events have none, so they come last, one after the other.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = self.state().steps.clone();
        steps.sort_by_key(|step| (step.kind == Kind::Event).then_some(step.nth));
        steps
    }

    /// Takes down a step, of a request by its number; does the deed if it is the one. Whether the request goes on.
    async fn pass_by(&self, kind: Kind, moment: Moment, id: u64) -> bool {
        let step = {
            let mut state = self.state();
            let claimed = (kind, moment) == (Kind::Claim, Moment::After);
            state.claims += usize::from(claimed);
            if !state.begun || !is_step(kind) {
                return true;
            }
            let Some(nth) = state.place(kind, moment, id) else {
                return true;
            };
            let step = Step { kind, moment, nth };
            state.steps.push(step);
            step
        };
        if self.at != Some(step) || self.struck.swap(true, Ordering::SeqCst) {
            return true;
        }
        // In a task of its own: it is done to the end, also when the operator does not wait so long.
        let (deed, done) = ((self.deed)(), self.done.clone());
        let task = tokio::spawn(async move {
            let on = deed.await;
            done.send_replace(true);
            on
        });
        task.await.expect("the deed")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Which one of its kind a request is; none if it came before what counts.
    fn place(&mut self, kind: Kind, moment: Moment, id: u64) -> Option<usize> {
        if moment == Moment::After {
            return self.asked.remove(&(kind, id));
        }
        let nth = self.counts.entry(kind).or_default();
        *nth += 1;
        self.asked.insert((kind, id), *nth);
        Some(*nth)
    }
}

/// Whether a request changes anything outside, or is a call to Graph.
fn is_step(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::ReadSecret
            | Kind::ReadResource
            | Kind::List
            | Kind::Watch
            | Kind::Lease
            | Kind::Other
    )
}

impl Conduct for Trail {
    fn connected(&self, side: Side) -> BoxFuture<'_, bool> {
        if side == Side::ApiServer {
            return ready(true).boxed();
        }
        // Which call it is for shows when it was read; until then it is the next one.
        self.pass_by(Kind::GraphCall, Moment::Connected, 0).boxed()
    }

    fn before<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Before> {
        let passed = self.pass_by(request.kind, Moment::Before, request.id);
        let passed = passed.map(|on| if on { Before::Pass } else { Before::Lose });
        passed.boxed()
    }

    fn after<'a>(&'a self, request: &'a Request, _: StatusCode) -> BoxFuture<'a, After> {
        let passed = self.pass_by(request.kind, Moment::After, request.id);
        let passed = passed.map(|on| if on { After::Answer } else { After::Lose });
        passed.boxed()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, nth, .. } = self;
        let which = match kind {
            Kind::Claim => "claim",
            Kind::Record => "record",
            Kind::Status => "other write of the status",
            Kind::Event => "event",
            Kind::GraphRead => "read",
            Kind::GraphRegister => "register call",
            Kind::GraphDeregister => "deregister call",
            Kind::Finalizer => "finalizer",
            Kind::GraphCall => "call to Graph",
            Kind::ListRivals => "list of the number's resources",
            _ => "request",
        };
        let call = matches!(
            kind,
            Kind::GraphRead | Kind::GraphRegister | Kind::GraphDeregister | Kind::ListRivals
        );
        let place = match self.moment {
            Moment::Connected => "connected, not sent",
            Moment::Before if call => "sent, not done",
            Moment::After if call => "done, not answered",
            Moment::Before => "not stored",
            Moment::After => "stored, not answered",
        };
        write!(f, "{which} {nth}: {place}")
    }
}
