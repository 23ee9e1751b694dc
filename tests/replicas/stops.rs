//! Stops on an operator's way: a request is held before the server sees it or before the operator sees the answer,
//! watches stand still, the API server is out of reach.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use futures::future::{BoxFuture, FutureExt};
use tokio::sync::watch;

use testkit::gateway::{After, Before, Change, Conduct, Kind, Passage, Request};

/// How long it may take until something is held on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Where a request is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// On the way to the server, which does not know of it.
    Before(Kind),
    /// On the way back: the server has done it.
    After(Kind),
}

/// What watches bring meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// Everything.
    #[default]
    Open,
    /// What is new, and nothing that is newer; behind that nothing at all.
    OnlyAdded,
    /// Nothing.
    Shut,
}

/// What of the API server is out of reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outage {
    #[default]
    None,
    /// The Lease.
    Lease,
    /// All of it; Graph can be reached.
    ApiServer,
}

/// The stops of one operator.
#[derive(Default)]
pub struct Stops {
    state: watch::Sender<State>,
}

#[derive(Default)]
struct State {
    armed: Vec<Armed>,
    flow: Flow,
    outage: Outage,
    /// How often what kind of request was answered with which status.
    answered: BTreeMap<(Kind, u16), usize>,
}

struct Armed {
    stop: Stop,
    about: String,
    held: bool,
    released: bool,
}

impl Stops {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Holds the next such request about this object or number.
    pub fn hold(&self, stop: Stop, about: &str) {
        let armed = Armed {
            stop,
            about: about.to_owned(),
            held: false,
            released: false,
        };
        self.state.send_modify(|state| state.armed.push(armed));
    }

    /// Waits until what was to be held is held.
    pub async fn until_held(&self, about: &str) {
        let mut state = self.state.subscribe();
        let held = |state: &State| {
            state
                .armed
                .iter()
                .any(|armed| armed.about == about && armed.held)
        };
        let reached = tokio::time::timeout(DEADLINE, state.wait_for(held)).await;
        assert!(
            reached.is_ok(),
            "no request about {about} was held; see the operator's log"
        );
    }

    /// Lets go what is held for this object or number.
    pub fn release(&self, about: &str) {
        self.state.send_modify(|state| {
            let of = state.armed.iter_mut().filter(|armed| armed.about == about);
            of.for_each(|armed| armed.released = true);
        });
    }

    /// Lets the watches go on, or not.
    pub fn set_flow(&self, flow: Flow) {
        self.state.send_modify(|state| state.flow = flow);
    }

    /// Cuts the operator off, or not any more.
    pub fn set_outage(&self, outage: Outage) {
        self.state.send_modify(|state| state.outage = outage);
    }

    /// Waits until so many requests of a kind were answered like this.
    pub async fn until_answered(&self, kind: Kind, status: u16, times: usize) {
        let mut state = self.state.subscribe();
        let enough = |state: &State| state.answered.get(&(kind, status)) >= Some(&times);
        let reached = tokio::time::timeout(DEADLINE, state.wait_for(enough)).await;
        let answered = self.state.borrow().answered.clone();
        assert!(
            reached.is_ok(),
            "not {times} of {kind} were answered {status}: {answered:?}"
        );
    }

    /// How many requests of a kind were answered like this.
    pub fn answered(&self, kind: Kind, status: u16) -> usize {
        let state = self.state.borrow();
        state.answered.get(&(kind, status)).copied().unwrap_or(0)
    }

    /// Holds the request if it is the one.
    async fn stand(&self, stop: Stop, about: &str) {
        let mut place = None;
        self.state.send_if_modified(|state| {
            let fits = |armed: &Armed| armed.stop == stop && armed.about == about && !armed.held;
            place = state.armed.iter().position(fits);
            if let Some(place) = place {
                state.armed[place].held = true;
            }
            place.is_some()
        });
        if let Some(place) = place {
            let mut state = self.state.subscribe();
            // The stops are never taken away; an error means that the test is over.
            let _ = state.wait_for(|state| state.armed[place].released).await;
        }
    }
}

impl Conduct for Stops {
    fn before<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Before> {
        async {
            let graph = matches!(
                request.kind,
                Kind::GraphRead | Kind::GraphRegister | Kind::GraphDeregister
            );
            let lost = match self.state.borrow().outage {
                Outage::None => false,
                Outage::Lease => request.kind == Kind::Lease,
                Outage::ApiServer => !graph,
            };
            if lost {
                return Before::Lose;
            }
            self.stand(Stop::Before(request.kind), &request.about).await;
            Before::Pass
        }
        .boxed()
    }

    fn after<'a>(&'a self, request: &'a Request, status: StatusCode) -> BoxFuture<'a, After> {
        async move {
            self.stand(Stop::After(request.kind), &request.about).await;
            let key = (request.kind, status.as_u16());
            self.state
                .send_modify(|state| *state.answered.entry(key).or_default() += 1);
            After::Answer
        }
        .boxed()
    }

    fn changed<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Passage> {
        async {
            let flows = |state: &State| match state.flow {
                Flow::Open => true,
                // What the first resource still waits for would hold up what was added after it.
                Flow::OnlyAdded => {
                    change.kind == "ADDED" || change.object["metadata"]["name"] == "first"
                }
                Flow::Shut => false,
            };
            let _ = self.state.subscribe().wait_for(flows).await;
            Passage::Deliver
        }
        .boxed()
    }
}
