//! The gates themselves: what passes them is understood, and what they are told to do happens.

use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use futures::future::{BoxFuture, FutureExt, ready};

use crate::support::bed::Bed;
use crate::support::gateway::{After, Conduct, Kind, Request};

/// Takes down what passes.
#[derive(Default)]
struct Ledger(Mutex<Vec<(Kind, u16)>>);

impl Conduct for Ledger {
    fn after<'a>(&'a self, request: &'a Request, status: StatusCode) -> BoxFuture<'a, After> {
        let mut passed = self.0.lock().expect("the ledger");
        passed.push((request.kind, status.as_u16()));
        ready(After::Answer).boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gates_understand_a_registration() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let ledger = Arc::new(Ledger::default());
    let gates = bed.gates(Arc::clone(&ledger) as _).await;
    let operator = gates.operator(&bed, &[]).await;
    bed.declare("gated", "9001").await;
    bed.until_registered("gated", "RegistrationSucceeded").await;
    bed.until_event("gated", "RegistrationSucceeded").await;
    let (_, log) = operator.terminate().await;
    let passed = ledger.0.lock().expect("the ledger").clone();
    let writes = |kind: &&(Kind, u16)| {
        !matches!(kind.0, Kind::List | Kind::Watch | Kind::Other | Kind::Event)
    };
    let order: Vec<_> = passed.iter().filter(writes).copied().collect();
    let expected = [
        (Kind::ReadSecret, 200),
        (Kind::GraphRead, 200),
        (Kind::Claim, 200),
        (Kind::GraphRegister, 200),
        (Kind::Record, 200),
    ];
    assert_eq!(order, expected, "{passed:?}\n{log}");
    assert!(passed.contains(&(Kind::Event, 201)), "{passed:?}");
}
