//! The resource on the API server, without an operator: what it refuses and fills in, how kubectl shows it, and who may
//! write what.

mod accepted;
mod definition;
mod managers;
mod refused;
mod shown;
mod states;
mod status_only;
mod waited_for;

use std::error::Error;
use std::io::Write as _;
use std::process::Stdio;

use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use operator_core::api::{WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus};
use serde_json::{Value, json};

use testkit::{
    self,
    control_plane::{ControlPlane, create_namespace},
};

/// What a test gives back.
type Tested = Result<(), Box<dyn Error>>;

/// A namespace of a test's own on the shared API server.
struct Place {
    client: Client,
    namespace: String,
    control_plane: &'static ControlPlane,
}

/// What a kubectl command printed.
#[derive(Debug)]
struct Printed {
    succeeded: bool,
    stdout: String,
    stderr: String,
}

// === impl Place ===

impl Place {
    async fn new() -> Result<Self, Box<dyn Error>> {
        let control_plane = testkit::shared().await;
        let client = control_plane.client().await?;
        let namespace = create_namespace(&client).await?;
        Ok(Self {
            client,
            namespace,
            control_plane,
        })
    }

    fn numbers(&self) -> Api<WhatsAppPhoneNumber> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates a number from JSON, as it would come from a file.
    async fn create(&self, number: &Value) -> kube::Result<WhatsAppPhoneNumber> {
        let number = serde_json::from_value(number.clone()).map_err(kube::Error::SerdeError)?;
        self.numbers().create(&PostParams::default(), &number).await
    }

    /// Writes a number's status, as the operator does.
    async fn report(
        &self,
        name: &str,
        status: &WhatsAppPhoneNumberStatus,
    ) -> kube::Result<WhatsAppPhoneNumber> {
        let patch = Patch::Merge(json!({"status": status}));
        let params = PatchParams::default();
        self.numbers().patch_status(name, &params, &patch).await
    }

    /// Applies part of a number, server-side, without taking fields from others.
    async fn apply(
        &self,
        manager: &str,
        name: &str,
        part: Value,
    ) -> kube::Result<WhatsAppPhoneNumber> {
        let params = PatchParams::apply(manager);
        let patch = Patch::Apply(applied(name, part));
        self.numbers().patch(name, &params, &patch).await
    }

    /// Applies part of a number's status, server-side, without taking fields from others.
    async fn apply_status(
        &self,
        manager: &str,
        name: &str,
        status: Value,
    ) -> kube::Result<WhatsAppPhoneNumber> {
        let params = PatchParams::apply(manager);
        let patch = Patch::Apply(applied(name, json!({"status": status})));
        self.numbers().patch_status(name, &params, &patch).await
    }

    /// Runs kubectl in this namespace.
    fn kubectl(&self, args: &[&str]) -> Printed {
        self.kubectl_with(args, "")
    }

    /// Runs kubectl in this namespace with an input.
    fn kubectl_with(&self, args: &[&str], input: &str) -> Printed {
        let mut command = self.control_plane.kubectl();
        command.args(["--namespace", &self.namespace]).args(args);
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut kubectl = command.spawn().expect("kubectl starts");
        let mut stdin = kubectl.stdin.take().expect("the input is piped");
        // kubectl may end without reading all of it, and then says why.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = kubectl.wait_with_output().expect("kubectl ends");
        Printed {
            succeeded: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// What kubectl shows in this namespace; it must succeed.
    fn shown(&self, args: &[&str]) -> String {
        let printed = self.kubectl(args);
        assert!(printed.succeeded, "kubectl {args:?}: {}", printed.stderr);
        printed.stdout
    }
}

/// The smallest number that is in order.
fn number(name: &str) -> Value {
    number_with_id(name, "106540352242922")
}

/// The smallest number with an ID of its own.
fn number_with_id(name: &str, id: &str) -> Value {
    json!({
        "apiVersion": "whatsapp-operator.dev/v1alpha1",
        "kind": "WhatsAppPhoneNumber",
        "metadata": {"name": name},
        "spec": {
            "phoneNumberID": id,
            "tokenSecretRef": {"name": "whatsapp"},
            "pinSecretRef": {"name": "whatsapp"},
        },
    })
}

/// A part of a number as server-side apply wants it: with its kind and name.
fn applied(name: &str, mut part: Value) -> Value {
    part["apiVersion"] = json!("whatsapp-operator.dev/v1alpha1");
    part["kind"] = json!("WhatsAppPhoneNumber");
    part["metadata"]["name"] = json!(name);
    part
}

/// The status code and the message of a refusal.
fn refusal<T>(answer: kube::Result<T>) -> (u16, String) {
    match answer {
        Err(kube::Error::Api(status)) => (status.code, status.message),
        Err(error) => panic!("no answer of the API server: {error}"),
        Ok(_) => panic!("the API server accepted it"),
    }
}
