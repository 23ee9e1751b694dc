//! The floor: a program without a watch, a decision or a care, which does for each number what no operator can leave out.

use std::time::Duration;

use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use operator_core::api::Operation;
use operator_core::api::{LedgerEntry, Reason, WhatsAppPhoneNumber};
use operator_core::model::phase::{Phase, State};
use operator_core::model::render::render;
use serde_json::{Value, json};

/// What the floor works on. Given to this program by itself.
#[derive(Args, Debug)]
#[group(requires_all = ["floor_namespace", "floor_graph"])]
pub struct Floor {
    /// The namespace with the resources.
    #[arg(long, hide = true, required = false)]
    floor_namespace: String,
    /// Where Graph is.
    #[arg(long, hide = true, required = false)]
    floor_graph: String,
}

/// The two ends of the floor.
struct Clients {
    numbers: Api<WhatsAppPhoneNumber>,
    secrets: Api<Secret>,
    http: reqwest::Client,
    graph: String,
}

type Error = Box<dyn std::error::Error>;

impl Floor {
    /// Registers every number, then rests until it is killed: its memory and CPU are still to be read.
    pub async fn run(&self, concurrency: usize) {
        let client = Client::try_default().await.expect("a client");
        let clients = Clients {
            numbers: Api::namespaced(client.clone(), &self.floor_namespace),
            secrets: Api::namespaced(client, &self.floor_namespace),
            http: reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("an HTTP client"),
            graph: self.floor_graph.clone(),
        };
        let numbers = clients.numbers.list(&ListParams::default()).await;
        let numbers = stream::iter(numbers.expect("the resources"));
        let registered = numbers
            .map(|number| clients.register(number))
            .buffer_unordered(concurrency)
            .try_for_each(async |()| Ok(()));
        registered.await.expect("every number is registered");
        std::future::pending().await
    }
}

impl Clients {
    /// Secret, claim, call, result.
    async fn register(&self, number: WhatsAppPhoneNumber) -> Result<(), Error> {
        let secret = self.secrets.get(&number.spec.token_secret_ref.name).await?;
        let data = secret.data.unwrap_or_default();
        let value = |key: &str| {
            let bytes = data.get(key).map(|bytes| bytes.0.as_slice());
            String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
        };
        let number = self
            .write(number, |state| {
                let ttl = Duration::from_secs(60);
                let entry = LedgerEntry::open(
                    Operation::Register,
                    "floor",
                    ttl,
                    None,
                    jiff::Timestamp::now(),
                );
                state.record.attempts.push(entry.clone());
                state.phase = Phase::InFlight(Box::new(entry));
            })
            .await?;
        let id = &number.spec.phone_number_id;
        let answer = self
            .http
            .post(format!("{}/v23.0/{id}/register", self.graph))
            .bearer_auth(value("token"))
            .header("content-type", "application/json")
            .header("user-agent", "whatsapp-operator/0.0.0")
            .body(json!({"messaging_product": "whatsapp", "pin": value("pin")}).to_string())
            .send()
            .await?;
        let answer: Value = serde_json::from_str(&answer.text().await?)?;
        if answer["success"] != true {
            return Err(format!("{id} is not registered: {answer}").into());
        }
        self.write(number, |state| {
            state.record.attempts.clear();
            let message = "the floor was here".to_owned();
            state.register(
                Reason::RegistrationSucceeded,
                message,
                jiff::Timestamp::now(),
            );
        })
        .await?;
        Ok(())
    }

    async fn write(
        &self,
        mut number: WhatsAppPhoneNumber,
        change: impl FnOnce(&mut State),
    ) -> kube::Result<WhatsAppPhoneNumber> {
        let generation = number.metadata.generation.unwrap_or_default();
        let mut state = State::parse(&number.status_or_unseen());
        change(&mut state);
        number.status = Some(render(&state, generation, jiff::Timestamp::now()));
        number.metadata.managed_fields = None;
        self.numbers
            .replace_status(&number.name_any(), &PostParams::default(), &number)
            .await
    }
}
