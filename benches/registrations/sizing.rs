//! The operator's memory with many registered numbers: at the start, at rest, while Prometheus scrapes it, and while it lists
//! everything again because its watches have expired.

use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt, stream};
use kube::api::{Patch, PatchParams};
use operator_core::api::{WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use serde_json::{Value, json};

use super::measure::{Requests, Usage, forget_peak, until_at_rest};
use testkit::bed::{Bed, resource};
use testkit::control_plane::ControlPlane;
use testkit::gateway::{Gate, Open};
use testkit::operator::Operator;

/// How many requests prepare the numbers at a time.
const AT_A_TIME: usize = 32;

/// What `kubectl apply` leaves on every object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Prints a row for each of these counts of numbers.
pub async fn run(control_plane: &'static ControlPlane, counts: &[usize]) {
    println!(
        "| numbers | peak at start | at rest | peak of a scrape | peak of a new list | both at once | scrape | start |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for &count in counts {
        let bed = Bed::on(control_plane).await;
        prepare(&bed, count).await;
        println!("{}", measure(&bed, count).await);
    }
}

/// Numbers with the status that the operator itself has written for one of them.
async fn prepare(bed: &Bed, count: usize) {
    bed.secrets().await;
    bed.declare("number-0", "7000000000").await;
    let operator = bed.operator(&[]).await;
    let first = bed
        .until_registered("number-0", "RegistrationSucceeded")
        .await;
    operator.terminate().await;
    let status = first.status.expect("a status");
    let prepared = stream::iter(1..count).map(|n| prepare_one(bed, n, &status));
    prepared
        .buffer_unordered(AT_A_TIME)
        .for_each(async |()| {})
        .await;
}

async fn prepare_one(bed: &Bed, n: usize, status: &WhatsAppPhoneNumberStatus) {
    let name = format!("number-{n}");
    let number = resource(&name, &format!("7{n:09}"), json!({}));
    let mut applied = serde_json::to_value(number).expect("a number is JSON");
    applied["metadata"]["annotations"] = json!({LAST_APPLIED: applied.to_string()});
    apply(bed, &name, None, &applied).await;
    applied["metadata"] = json!({"name": name});
    applied["status"] = json!(status);
    apply(bed, &name, Some("status"), &applied).await;
}

async fn apply(bed: &Bed, name: &str, subresource: Option<&str>, object: &Value) {
    let api = bed.api::<WhatsAppPhoneNumber>();
    let (params, patch) = (PatchParams::apply("sizing"), Patch::Apply(object));
    let applied = match subresource {
        None => api.patch(name, &params, &patch).await,
        Some(subresource) => {
            api.patch_subresource(subresource, name, &params, &patch)
                .await
        }
    };
    applied.expect("the API server takes the number");
}

async fn measure(bed: &Bed, count: usize) -> String {
    let config = bed.control_plane.config().await.expect("a configuration");
    let gate = Gate::to_api_server(config, Arc::new(Open)).await;
    let kubeconfig = gate.kubeconfig(&bed.kubeconfig, bed.control_plane.url());
    let calls = bed.simulator.totals().counts;
    let started = Instant::now();
    let operator = launch(bed, &kubeconfig);
    operator.until_logged("The watches are synced").await;
    let start = started.elapsed();
    until_at_rest(operator.pid()).await;
    let at_start = Usage::of(operator.pid());

    let mut scraped = (0, 0);
    let scrape = peak(&operator, async { scraped = self::scrape(&operator).await }).await;
    let relist = peak(&operator, list_again(bed, &gate)).await;
    let both = peak(&operator, async {
        tokio::join!(list_again(bed, &gate), self::scrape(&operator));
    });
    let both = both.await;
    assert_eq!(bed.simulator.totals().counts, calls, "calls to Graph");
    let (kibibytes, series) = scraped;
    format!(
        "| {count} | {:.0} MiB | {:.0} MiB | {scrape:.0} MiB | {relist:.0} MiB | {both:.0} MiB | {kibibytes} KiB, {series} series | {start:.1?} |",
        at_start.peak, at_start.resident,
    )
}

/// The operator as the chart starts it, but for leader election.
fn launch(bed: &Bed, kubeconfig: &std::path::Path) -> Operator {
    let flags = [
        format!("--graph-base-url={}", bed.simulator.base_url()),
        format!("--watch-namespace={}", bed.namespace),
        "--bind-address=127.0.0.1:0".to_owned(),
        "--log-format=json".to_owned(),
    ];
    Operator::launch(kubeconfig, &flags)
}

/// The peak of the operator's memory until it is at rest again.
async fn peak(operator: &Operator, work: impl Future<Output = ()>) -> f64 {
    forget_peak(operator.pid());
    work.await;
    until_at_rest(operator.pid()).await;
    Usage::of(operator.pid()).peak
}

/// The size of `/metrics` in KiB, and its series.
async fn scrape(operator: &Operator) -> (usize, usize) {
    let metrics = reqwest::get(format!("http://{}/metrics", operator.address())).await;
    let text = metrics.expect("an answer").text().await;
    let text = text.expect("the metrics");
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    (text.len() / 1024, series)
}

/// Has the operator list all numbers again, as after a restart of the API server.
async fn list_again(bed: &Bed, gate: &Gate) {
    let before = Requests::of(&bed.client).await;
    gate.expire_watches();
    let listed = |requests: &Requests| requests.count("LIST whatsappphonenumbers") > 0.0;
    while !listed(&Requests::of(&bed.client).await.since(&before)) {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
