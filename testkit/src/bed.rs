//! What most tests need: a namespace on the shared API server, a simulator, an operator for the two, and ways to
//! declare numbers and to wait for what becomes of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{
    DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams,
};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, CustomResourceExt, ResourceExt};
use operator_core::api::conditions::find;
use operator_core::api::{REGISTER_REQUESTED_AT, WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use serde_json::{Value, json};

use super::control_plane::{ControlPlane, create_namespace};
use super::gateway::{Conduct, Gate};
use super::operator::Operator;
use super::simulator::Simulator;

/// How long anything may take on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The token in the Secret that [`Bed::secrets`] makes: it looks like one of Meta's.
pub const TOKEN: &str = "EAAtestTOKENabcdefghijklmnopqrstuvwxyz0123456789";

/// The PIN in that Secret.
pub const PIN: &str = "902741";

/// A namespace, a simulator, and the API server.
pub struct Bed {
    pub client: Client,
    pub namespace: String,
    pub simulator: Simulator,
    pub kubeconfig: PathBuf,
    pub control_plane: &'static ControlPlane,
}

/// The gates of one operator, or of several.
pub struct Gates {
    pub api_server: Gate,
    pub graph: Gate,
    kubeconfig: PathBuf,
}

impl Gates {
    /// An operator for the bed's namespace and simulator that goes through the gates.
    pub async fn operator(&self, bed: &Bed, more: &[&str]) -> Operator {
        let operator = self.launch(bed, more);
        operator.until_logged("The watches are synced").await;
        operator
    }

    /// The same, which may not come as far as its watches.
    pub fn launch(&self, bed: &Bed, more: &[&str]) -> Operator {
        let graph = format!("--graph-base-url={}", self.graph.url());
        let more: Vec<&str> = more.iter().copied().chain([graph.as_str()]).collect();
        Operator::launch(&self.kubeconfig, &bed.args(&more))
    }
}

impl Bed {
    /// A namespace of its own on the shared API server, with a simulator.
    pub async fn new() -> Self {
        Self::on(crate::cluster::shared().await).await
    }

    /// The same on another API server.
    pub async fn on(control_plane: &'static ControlPlane) -> Self {
        let client = control_plane.client().await.expect("a client");
        let namespace = create_namespace(&client).await.expect("a namespace");
        Self {
            client,
            namespace,
            simulator: Simulator::start().await,
            kubeconfig: control_plane.kubeconfig_path(),
            control_plane,
        }
    }

    /// The flags that tie an operator to this bed, with short waits.
    pub fn args(&self, more: &[&str]) -> Vec<String> {
        let base = format!("--graph-base-url={}", self.simulator.base_url());
        let namespace = format!("--watch-namespace={}", self.namespace);
        let fixed = [
            base.as_str(),
            namespace.as_str(),
            "--bind-address=127.0.0.1:0",
            "--log-format=json",
            "--log-level=debug",
            "--retry-base=1s",
            "--retry-cap=4s",
            "--confirm-window=3s",
            "--graph-timeout=10s",
        ];
        // A flag that is given twice is an error: the test's own one stands.
        let name = |flag: &str| flag.split('=').next().unwrap_or_default().to_owned();
        let own: Vec<String> = more.iter().map(|flag| name(flag)).collect();
        let fixed = fixed.iter().filter(|flag| !own.contains(&name(flag)));
        fixed.chain(more).map(|flag| (*flag).to_owned()).collect()
    }

    /// An operator for this namespace and simulator.
    pub async fn operator(&self, more: &[&str]) -> Operator {
        Operator::start(&self.kubeconfig, &self.args(more)).await
    }

    /// Gates to the API server and to Graph, with one conduct.
    pub async fn gates(&self, conduct: Arc<dyn Conduct>) -> Gates {
        let config = self.control_plane.config().await.expect("a configuration");
        let api_server = Gate::to_api_server(config, Arc::clone(&conduct)).await;
        let graph = Gate::to_graph(self.simulator.base_url(), conduct).await;
        let kubeconfig = api_server.kubeconfig(&self.kubeconfig, self.control_plane.url());
        Gates {
            api_server,
            graph,
            kubeconfig,
        }
    }

    /// Creates or changes a Secret.
    pub async fn secret(&self, name: &str, data: &[(&str, &[u8])]) {
        let data: BTreeMap<String, ByteString> = data
            .iter()
            .map(|(k, v)| ((*k).to_owned(), ByteString(v.to_vec())))
            .collect();
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..Secret::default()
        };
        let params = PatchParams::apply("test").force();
        self.api::<Secret>()
            .patch(name, &params, &Patch::Apply(&secret))
            .await
            .expect("a Secret");
    }

    /// The Secret `whatsapp` with a token and a PIN that are as they should be.
    pub async fn secrets(&self) {
        self.secret(
            "whatsapp",
            &[("token", TOKEN.as_bytes()), ("pin", PIN.as_bytes())],
        )
        .await;
    }

    /// Declares a number with the Secret `whatsapp`.
    pub async fn declare(&self, name: &str, id: &str) -> WhatsAppPhoneNumber {
        self.declare_with(name, id, json!({})).await
    }

    /// Declares a number with more in its spec.
    pub async fn declare_with(&self, name: &str, id: &str, more: Value) -> WhatsAppPhoneNumber {
        let number = resource(name, id, more);
        self.numbers()
            .create(&PostParams::default(), &number)
            .await
            .expect("a number")
    }

    /// Asks for a register call, as `kubectl annotate --overwrite` does.
    pub async fn request(&self, name: &str, value: &str) {
        self.patch(
            name,
            json!({"metadata": {"annotations": {REGISTER_REQUESTED_AT: value}}}),
        )
        .await;
    }

    /// Merges a patch into a number.
    pub async fn patch(&self, name: &str, patch: Value) {
        let params = PatchParams::default();
        self.numbers()
            .patch(name, &params, &Patch::Merge(patch))
            .await
            .expect("a patch");
    }

    /// Merges a patch into a number's status, as another writer.
    pub async fn patch_status(&self, name: &str, status: Value) {
        let patch = Patch::Merge(json!({"status": status}));
        let api: Api<DynamicObject> = Api::namespaced_with(
            self.client.clone(),
            &self.namespace,
            &WhatsAppPhoneNumber::api_resource(),
        );
        api.patch_status(name, &PatchParams::default(), &patch)
            .await
            .expect("a patch of the status");
    }

    /// Deletes a number.
    pub async fn delete(&self, name: &str) {
        self.numbers()
            .delete(name, &DeleteParams::default())
            .await
            .expect("a deletion");
    }

    /// A number as it is.
    pub async fn get(&self, name: &str) -> WhatsAppPhoneNumber {
        self.numbers().get(name).await.expect("the number")
    }

    /// Waits until a number's status is as wanted; else shows the number, its events and the operator's log.
    pub async fn until(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&WhatsAppPhoneNumberStatus) -> bool,
    ) -> WhatsAppPhoneNumber {
        let reached = |object: Option<&WhatsAppPhoneNumber>| {
            object
                .and_then(|object| object.status.as_ref())
                .is_some_and(&wanted)
        };
        let waiting = await_condition(self.numbers(), name, reached);
        match tokio::time::timeout(DEADLINE, waiting).await {
            Ok(Ok(Some(number))) => number,
            _ => panic!("{name} is not {what}: {}", self.story(name).await),
        }
    }

    /// Waits until a number's resource is gone.
    pub async fn until_gone(&self, name: &str) {
        let gone = |object: Option<&WhatsAppPhoneNumber>| object.is_none();
        let waiting = await_condition(self.numbers(), name, gone);
        match tokio::time::timeout(DEADLINE, waiting).await {
            Ok(Ok(_)) => {}
            _ => panic!("{name} is not gone: {}", self.story(name).await),
        }
    }

    /// Waits until a number is registered for this reason.
    pub async fn until_registered(&self, name: &str, reason: &str) -> WhatsAppPhoneNumber {
        self.until(name, &format!("Registered, {reason}"), |status| {
            is(status, "Registered", "True", reason) && is(status, "Ready", "True", reason)
        })
        .await
    }

    /// Waits until a number is stalled for this reason.
    pub async fn until_stalled(&self, name: &str, reason: &str) -> WhatsAppPhoneNumber {
        self.until(name, &format!("Stalled, {reason}"), |status| {
            is(status, "Stalled", "True", reason) && is(status, "Failed", "True", reason)
        })
        .await
    }

    /// Waits until a number waits for this reason.
    pub async fn until_waiting(&self, name: &str, reason: &str) -> WhatsAppPhoneNumber {
        self.until(name, &format!("Reconciling, {reason}"), |status| {
            is(status, "Reconciling", "True", reason)
        })
        .await
    }

    /// Waits until there is an event about a number with this reason; returns it.
    pub async fn until_event(&self, name: &str, reason: &str) -> Event {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let events = self.events(name).await;
            let found = events
                .iter()
                .find(|event| event.reason.as_deref() == Some(reason));
            if let Some(event) = found {
                return event.clone();
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "no event {reason}: {events:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The events about a number.
    pub async fn events(&self, name: &str) -> Vec<Event> {
        let about = ListParams::default().fields(&format!("regarding.name={name}"));
        let events = self.api::<Event>().list(&about).await;
        events.expect("the events").items
    }

    /// How many register calls the simulator has seen for a number.
    pub fn posts(&self, id: &str) -> usize {
        self.simulator.number(id).counts.register_calls
    }

    /// What is to be seen of a number, for messages.
    async fn story(&self, name: &str) -> String {
        let number = self.numbers().get_opt(name).await.ok().flatten();
        let events = self.events(name).await;
        let notes: Vec<_> = events
            .iter()
            .map(|event| (&event.reason, &event.note))
            .collect();
        let simulated = number
            .as_ref()
            .map(|number| self.simulator.number(&number.spec.phone_number_id));
        let status = number.map(|number| serde_json::to_string_pretty(&number.status));
        format!(
            "{}\nevents: {notes:#?}\nsimulator: {simulated:#?}",
            status.map(Result::unwrap).unwrap_or_default()
        )
    }

    /// The numbers of this namespace.
    pub fn numbers(&self) -> Api<WhatsAppPhoneNumber> {
        self.api()
    }

    /// The objects of a kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Runs kubectl in this namespace; returns what it printed, on both ways out.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let mut command = self.control_plane.kubectl();
        let output = command.args(["-n", &self.namespace]).args(args).output();
        let output = output.expect("kubectl runs");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(output.status.success(), "kubectl {args:?} failed: {text}");
        text
    }
}

/// A number with the Secret `whatsapp`, and more in its spec.
pub fn resource(name: &str, id: &str, more: Value) -> WhatsAppPhoneNumber {
    let mut object = json!({
        "apiVersion": "whatsapp-operator.dev/v1alpha1",
        "kind": "WhatsAppPhoneNumber",
        "metadata": {"name": name},
        "spec": {
            "phoneNumberID": id,
            "tokenSecretRef": {"name": "whatsapp"},
            "pinSecretRef": {"name": "whatsapp"},
        }
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).expect("a number")
}

/// Whether a condition has a status and a reason.
pub fn is(status: &WhatsAppPhoneNumberStatus, type_: &str, truth: &str, reason: &str) -> bool {
    find(status, type_).is_some_and(|c| c.status == truth && c.reason == reason)
}

/// The message of a condition.
pub fn message(number: &WhatsAppPhoneNumber, type_: &str) -> String {
    let condition = number
        .status
        .as_ref()
        .and_then(|status| find(status, type_));
    condition
        .map(|condition| condition.message.clone())
        .unwrap_or_else(|| panic!("{} has no {type_}", number.name_any()))
}
