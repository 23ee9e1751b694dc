//! Many numbers of one token that meets its rate limit, again and again until all are registered. With two hundred:
//! `TOKEN_NUMBERS=200 cargo test token_limit`.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use futures::future::{BoxFuture, FutureExt};
use futures::{StreamExt, stream};

use testkit::bed::Bed;
use testkit::from_environment;
use testkit::gateway::{After, Conduct, Kind, Request};
use testkit::simulator::{Defaults, Operation, TokenLimit};

/// So few calls of the token are let in each second that most numbers meet the limit.
const LIMIT: TokenLimit = TokenLimit {
    calls: 20,
    seconds: 2,
};

/// How often a status is written for a number of a token that is at its limit, on average: that it waits, that its own read met the
/// limit, the claim, and the record.
const WRITES: usize = 4;

/// Counts the writes of each resource's status that the API server stored.
#[derive(Default)]
struct Writes(Mutex<BTreeMap<String, usize>>);

impl Conduct for Writes {
    fn after<'a>(&'a self, request: &'a Request, answer: StatusCode) -> BoxFuture<'a, After> {
        if answer.is_success() && matches!(request.kind, Kind::Claim | Kind::Record | Kind::Status)
        {
            let mut writes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *writes.entry(request.about.clone()).or_default() += 1;
        }
        ready(After::Answer).boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_the_token_costs_each_number_four_writes_at_most() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.simulator.set_defaults(Defaults {
        token_limit: Some(LIMIT),
        ..Defaults::default()
    });
    let count = from_environment("TOKEN_NUMBERS", 60);
    let names: Vec<_> = (0..count)
        .map(|n| (format!("n{n}"), format!("67{n:03}")))
        .collect();
    let declared = stream::iter(&names).map(|(name, id)| bed.declare(name, id));
    declared.buffer_unordered(16).for_each(async |_| {}).await;
    let writes = Arc::new(Writes::default());
    let gates = bed.gates(Arc::clone(&writes) as Arc<dyn Conduct>).await;
    let _operator = gates.operator(&bed, &["--concurrency=4"]).await;
    for (name, _) in &names {
        bed.until_registered(name, "RegistrationSucceeded").await;
    }
    let writes = writes.0.lock().unwrap_or_else(PoisonError::into_inner);
    let mut waited = 0;
    for (name, id) in &names {
        let report = bed.simulator.number(id);
        let refused = |operation| {
            let of = report
                .log
                .iter()
                .filter(|entry| entry.operation == operation);
            of.filter(|entry| entry.http_status != Some(200)).count()
        };
        // Each number waits once, and makes its claim and its record. A call that met the limit was claimed and recorded before the
        // one that did not, and a read that met it is told. After each of these the number may wait for the token once more.
        let most = 3 + 3 * refused(Operation::Register) + 2 * refused(Operation::Read);
        let made = writes.get(name).copied().unwrap_or_default();
        assert!(made <= most, "{name}: {made} writes, not {most}");
        waited += usize::from(made > 2);
        assert_eq!(report.counts.register_acted, 1, "{name}");
    }
    let all: usize = writes.values().sum();
    println!("{all} writes for {count} numbers, of which {waited} waited");
    assert!(waited > count / 2, "{waited} met the limit");
    assert!(all <= WRITES * count, "{all} writes");
}
