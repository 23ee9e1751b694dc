//! Where Secrets are not watched, hundreds of resources that wait for one look for it one by one, and not all in the same minute.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::{StreamExt, stream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use testkit::bed::{Bed, DEADLINE};
use testkit::gateway::{Before, Conduct, Kind, Request};

const NUMBERS: usize = 300;

/// So many looks are timed. About fifty a minute are expected, and somewhat more while the operator still learns how many wait.
const POLLS: usize = 50;

/// Counts the Secrets that are read.
struct Reads(watch::Sender<usize>);

impl Conduct for Reads {
    fn before<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Before> {
        if request.kind == Kind::ReadSecret {
            self.0.send_modify(|reads| *reads += 1);
        }
        ready(Before::Pass).boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_that_wait_for_a_secret_do_not_look_all_at_once() {
    let bed = Bed::new().await;
    let names: Vec<_> = (0..NUMBERS)
        .map(|n| (format!("n{n}"), format!("6{n:03}")))
        .collect();
    let declared = stream::iter(&names).map(|(name, id)| bed.declare(name, id));
    declared.buffer_unordered(16).for_each(async |_| {}).await;
    let (reads, mut seen) = watch::channel(0);
    let gates = bed.gates(Arc::new(Reads(reads))).await;
    let _operator = gates.operator(&bed, &["--secret-watch=false"]).await;
    for (name, _) in &names {
        bed.until_waiting(name, "SecretNotFound").await;
    }
    let first = *seen.borrow_and_update() + 1;
    until(&mut seen, first).await;
    let began = Instant::now();
    until(&mut seen, first + POLLS).await;
    let took = began.elapsed();
    assert!(took > Duration::from_secs(8), "{POLLS} looks in {took:?}");
}

/// Waits until so many Secrets have been read.
async fn until(seen: &mut watch::Receiver<usize>, reads: usize) {
    let reached = timeout(2 * DEADLINE, seen.wait_for(|seen| *seen >= reads)).await;
    assert!(reached.is_ok_and(|seen| seen.is_ok()), "no look in time");
}
