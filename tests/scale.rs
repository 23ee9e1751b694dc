//! 200 resources at once, with the operator killed again and again; then none of them costs anything.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::Instant;

use testkit::bed::Bed;
use testkit::operator::Operator;
use testkit::simulator::NumberConfig;
use testkit::{control_plane::ControlPlane, from_environment, start_with_crd};

const NUMBERS: usize = 200;

/// How often the operator is killed on the way.
const KILLS: usize = 5;

/// How long the resting operator is watched. The 60 s: `AT_REST_SECONDS=60 cargo test at_once`.
fn at_rest() -> Duration {
    Duration::from_secs(from_environment("AT_REST_SECONDS", 10))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_at_once_and_then_at_rest() {
    // Its own API server: what it counts must be this operator's requests alone.
    let control_plane = start_with_crd().await.expect("a control plane");
    let control_plane: &'static ControlPlane = Box::leak(Box::new(control_plane));
    let bed = Bed::on(control_plane).await;
    bed.secrets().await;
    let ids: Vec<String> = (0..NUMBERS).map(|n| format!("5{n:03}")).collect();
    for id in &ids {
        bed.simulator
            .set(id, NumberConfig::fresh().latency(Duration::from_millis(20)));
    }
    let mut operator = bed.operator(&["--graph-timeout=2s"]).await;
    let bed_ref = &bed;
    join_all(
        ids.iter()
            .map(|id| async move { bed_ref.declare(&format!("n{id}"), id).await }),
    )
    .await;
    for kill in 1..=KILLS {
        until_registered(&bed, NUMBERS * kill / (KILLS + 2)).await;
        operator.kill().await;
        operator = bed.operator(&["--graph-timeout=2s"]).await;
    }
    for id in &ids {
        bed.until(&format!("n{id}"), "Registered", |status| {
            status
                .conditions
                .iter()
                .any(|c| c.type_ == "Registered" && c.status == "True")
        })
        .await;
    }
    for report in bed.simulator.all() {
        assert_eq!(report.counts.register_calls, 1, "{report:?}");
        assert_eq!(
            report.counts.register_calls_while_registered, 0,
            "{report:?}"
        );
    }
    assert_eq!(bed.simulator.totals().counts.register_calls, NUMBERS);
    assert!(bed.simulator.violations().is_empty());
    costs_nothing(&bed).await;
    what_is_as_it_was_is_not_written(&bed, &operator).await;
    drop(operator);
}

/// A Secret is touched, which wakes every resource that names it; none has anything new to say.
async fn what_is_as_it_was_is_not_written(bed: &Bed, operator: &Operator) {
    let before = status_writes(bed).await;
    let passes = operator.metric("reconciliations_total").await;
    let touched = Patch::Merge(json!({"metadata": {"labels": {"touched": "yes"}}}));
    let params = PatchParams::default();
    let patched = bed
        .api::<Secret>()
        .patch("whatsapp", &params, &touched)
        .await;
    patched.expect("the Secret is touched");
    let woken = passes + NUMBERS as f64;
    operator
        .until_metric("reconciliations_total", |passes| passes >= woken)
        .await;
    assert_eq!(
        status_writes(bed).await,
        before,
        "writes that change nothing"
    );
}

/// What of the API server's count is writes of statuses.
async fn status_writes(bed: &Bed) -> BTreeMap<String, String> {
    let mut writes = requests(bed).await;
    writes.retain(|name, _| {
        name.contains("resource=\"whatsappphonenumbers\"")
            && name.contains("subresource=\"status\"")
    });
    assert!(!writes.is_empty(), "the API server counts otherwise");
    writes
}

/// Waits until the simulator has registered so many numbers.
async fn until_registered(bed: &Bed, wanted: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while bed
        .simulator
        .all()
        .iter()
        .filter(|report| report.state.registered)
        .count()
        < wanted
    {
        assert!(
            Instant::now() < deadline,
            "{wanted} numbers are not registered in time"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Nobody asks the API server or Graph for anything but the watches that stay open.
async fn costs_nothing(bed: &Bed) {
    let until_quiet = Instant::now() + Duration::from_secs(30);
    let mut before = requests(bed).await;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = requests(bed).await;
        if now == before {
            break;
        }
        assert!(
            Instant::now() < until_quiet,
            "the operator does not come to rest: {now:?}"
        );
        before = now;
    }
    let calls = bed.simulator.totals();
    tokio::time::sleep(at_rest()).await;
    assert_eq!(
        requests(bed).await,
        before,
        "requests while everything rested"
    );
    assert_eq!(
        format!("{:?}", bed.simulator.totals()),
        format!("{calls:?}"),
        "calls to Graph"
    );
}

/// The API server's own count of the requests for what the operator uses, watches aside.
async fn requests(bed: &Bed) -> BTreeMap<String, String> {
    let request = http::Request::get("/metrics")
        .body(Vec::new())
        .expect("a request");
    let text = bed
        .client
        .request_text(request)
        .await
        .expect("the API server's metrics");
    let of_operator = |line: &&str| {
        line.starts_with("apiserver_request_total{")
            && ["whatsappphonenumbers", "secrets", "events"]
                .iter()
                .any(|resource| line.contains(&format!("resource=\"{resource}\"")))
            && !line.contains("verb=\"WATCH\"")
    };
    let lines = text
        .lines()
        .filter(of_operator)
        .filter_map(|line| line.rsplit_once(' '));
    lines
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
