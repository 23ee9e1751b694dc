//! A namespace that is deleted while calls for its numbers are held at every step, and made again under the same name.
//! The test control plane has no namespace controller, so the tests do what it does: delete the collections, in either
//! order, and finalize the namespace.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use operator_core::api::WhatsAppPhoneNumber;
use tokio::time::Instant;

use super::stops::{Stop, Stops};
use super::until_any_registered;
use testkit::bed::{Bed, DEADLINE};
use testkit::gateway::Kind;
use testkit::simulator::{NumberConfig, Step};

/// Where the call for a number is held when its namespace goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The read's answer is on its way.
    Read,
    /// The claim is on its way.
    Claim,
    /// The claim is stored, and its answer on its way.
    Claimed,
    BeforeActing,
    AfterActing,
    Record,
}

/// What goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Numbers,
    Secrets,
}

/// When the namespace is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// While the calls are still held: what comes of them finds other resources of the same names.
    BeforeRelease,
    AfterRelease,
}

impl At {
    const ALL: [Self; 6] = [
        Self::Read,
        Self::Claim,
        Self::Claimed,
        Self::BeforeActing,
        Self::AfterActing,
        Self::Record,
    ];

    fn id(self) -> &'static str {
        ["6500", "6501", "6502", "6503", "6504", "6505"][self as usize]
    }

    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Why the number of the new resource is registered. A call that was claimed is made, and the new one adopts; one
    /// that was not is not made for the resource that is gone, but for the new one.
    fn reason(self) -> &'static str {
        match self {
            Self::Read | Self::Claim => "RegistrationSucceeded",
            _ => "AlreadyRegistered",
        }
    }

    async fn hold(self, bed: &Bed, stops: &Stops) {
        let (id, name) = (self.id(), self.name());
        let script = match self {
            Self::BeforeActing => vec![Step::wait()],
            Self::AfterActing => vec![Step::wait_after()],
            _ => Vec::new(),
        };
        bed.simulator.set(id, NumberConfig::fresh().script(script));
        let stop = match self {
            Self::Read => Some((Stop::After(Kind::GraphRead), id)),
            Self::Claim => Some((Stop::Before(Kind::Claim), name.as_str())),
            Self::Claimed => Some((Stop::After(Kind::Claim), name.as_str())),
            Self::Record => Some((Stop::Before(Kind::Record), name.as_str())),
            Self::BeforeActing | Self::AfterActing => None,
        };
        if let Some((stop, about)) = stop {
            stops.hold(stop, about);
        }
        bed.declare(&name, id).await;
        match stop {
            Some((_, about)) => stops.until_held(about).await,
            None => {
                let held = bed.simulator.until(id, |report| report.held == 1).await;
                held.expect("the call is held");
            }
        }
    }

    fn release(self, bed: &Bed, stops: &Stops) {
        stops.release(self.id());
        stops.release(&self.name());
        bed.simulator.release(self.id());
    }
}

/// Deletes everything of a kind, as the namespace controller does.
async fn delete_all<K>(bed: &Bed)
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let (params, all) = (DeleteParams::default(), ListParams::default());
    let api = bed.api::<K>();
    let deleted = api.delete_collection(&params, &all);
    deleted.await.expect("the collection is deleted");
}

/// Finalizes the namespace and makes it again, with its Secret.
async fn make_again(bed: &Bed) {
    let namespaces: Api<Namespace> = Api::all(bed.client.clone());
    let mut namespace = namespaces.get(&bed.namespace).await.expect("the namespace");
    namespace.spec.get_or_insert_default().finalizers = None;
    let params = PostParams::default();
    let finalized = namespaces.replace_subresource("finalize", &bed.namespace, &params, &namespace);
    finalized.await.expect("the namespace is finalized");
    let new = Namespace {
        metadata: ObjectMeta {
            name: Some(bed.namespace.clone()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    let made = namespaces.create(&PostParams::default(), &new).await;
    made.expect("the namespace is made again");
    until_open(bed).await;
    bed.secrets().await;
}

/// Waits until something may be created in the namespace: the admission hears of it from a watch, and takes it for a
/// moment for the one that is going.
async fn until_open(bed: &Bed) {
    let probe = Secret {
        metadata: ObjectMeta {
            name: Some("probe".to_owned()),
            ..ObjectMeta::default()
        },
        ..Secret::default()
    };
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let deadline = Instant::now() + DEADLINE;
    loop {
        match bed.api::<Secret>().create(&params, &probe).await {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if status.code == 403 && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("nothing may be created in the new namespace: {error}"),
        }
    }
}

/// Registers a number in the namespace that stays.
async fn still_served(other: &Bed, id: &str) {
    let name = format!("n{id}");
    other.declare(&name, id).await;
    until_any_registered(other, &name).await;
}

/// For how long requests to the API server may be held: the operator gives up on them after 10 s.
const HOLD_MAX: Duration = Duration::from_secs(8);

/// How often a case is run at most.
const RUNS_MAX: usize = 4;

/// One case, run again where the machine was so busy that the operator may have given up on what was held.
async fn deleted(first: First, again: Again) {
    for _ in 0..RUNS_MAX {
        if deleted_once(first, again).await.is_some() {
            return;
        }
    }
    panic!("{first:?}, {again:?}: the machine is too busy to tell");
}

/// One run of a case; nothing if the requests were held for too long.
async fn deleted_once(first: First, again: Again) -> Option<()> {
    let (bed, other) = (Bed::new().await, Bed::new().await);
    tokio::join!(bed.secrets(), other.secrets());
    let stops = Stops::new();
    let gates = bed.gates(Arc::clone(&stops) as _).await;
    let namespaces = format!("--watch-namespace={},{}", bed.namespace, other.namespace);
    let operator = gates
        .operator(&bed, &[&namespaces, "--graph-timeout=2m"])
        .await;
    let began = Instant::now();
    join_all(At::ALL.map(|at| at.hold(&bed, &stops))).await;

    let all: Api<Namespace> = Api::all(bed.client.clone());
    let deletion = all.delete(&bed.namespace, &DeleteParams::default()).await;
    deletion.expect("the namespace is being deleted");
    match first {
        First::Numbers => delete_all::<WhatsAppPhoneNumber>(&bed).await,
        First::Secrets => delete_all::<Secret>(&bed).await,
    }
    still_served(&other, "6510").await;
    match first {
        First::Numbers => delete_all::<Secret>(&bed).await,
        First::Secrets => delete_all::<WhatsAppPhoneNumber>(&bed).await,
    }
    let release = || {
        At::ALL.iter().for_each(|at| at.release(&bed, &stops));
        (began.elapsed() < HOLD_MAX).then_some(())
    };
    if again == Again::AfterRelease {
        release()?;
    }
    still_served(&other, "6511").await;
    make_again(&bed).await;
    join_all(
        At::ALL
            .iter()
            .map(|at| async { bed.declare(&at.name(), at.id()).await }),
    )
    .await;
    if again == Again::BeforeRelease {
        release()?;
    }

    for at in At::ALL {
        bed.until_registered(&at.name(), at.reason()).await;
        let counts = bed.simulator.number(at.id()).counts;
        assert_eq!(counts.register_calls, 1, "{at:?}");
        assert_eq!(counts.register_calls_while_registered, 0, "{at:?}");
    }
    let (status, log) = operator.terminate().await;
    assert_eq!(status, "0", "{log}");
    assert_calm(&log);
    Some(())
}

/// What went away is no fault of anybody's: at most one warning for each number, and no error.
fn assert_calm(log: &str) {
    let lines = |level: &str| -> Vec<&str> {
        let level = format!("\"level\":\"{level}\"");
        log.lines().filter(|line| line.contains(&level)).collect()
    };
    let (errors, warnings) = (lines("ERROR"), lines("WARN"));
    assert!(errors.is_empty(), "{errors:#?}");
    assert!(warnings.len() <= At::ALL.len(), "{warnings:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_deleted_and_made_again_takes_one_call_for_each_number() {
    tokio::join!(
        deleted(First::Numbers, Again::AfterRelease),
        deleted(First::Secrets, Again::AfterRelease),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_made_again_while_calls_are_held_takes_one_call_for_each_number() {
    tokio::join!(
        deleted(First::Numbers, Again::BeforeRelease),
        deleted(First::Secrets, Again::BeforeRelease),
    );
}
