//! A Graph that keeps state: whether the number is registered, and since when it shows. Its answers go through the
//! operator's real parser, and every text of an error repeats the secrets of the call.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde_json::json;

use operator_core::api::{WhatsAppPhoneNumberSpec, WhatsAppPhoneNumberStatus};
use operator_core::credentials::Digests;
use operator_core::credentials::Scrubber;
use operator_core::credentials::{Backup, CallInputs};
use operator_core::graph::response::{
    Answer, Exchange, deregister_outcome, read_outcome, register_outcome,
};
use operator_core::graph::{ReadFields, ReadOutcome, RegisterOutcome};
use testkit::builders as fixtures;
use testkit::world::secs;

/// Graph's status lags behind by no more than this (protocol, "Reading the number").
pub(crate) const LAG: Duration = secs(90);

/// `--graph-timeout`: half of a claim's time.
pub(crate) const TIMEOUT: Duration = secs(30);

/// What a call is made of, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inputs {
    pub(crate) token: u8,
    pub(crate) pin: u8,
    pub(crate) region: bool,
    pub(crate) version: bool,
}

/// What Graph answers to a call.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// The call is made and answered as it should be: a register call acts, a read says the truth.
    Truth,
    /// A success that did not act, or a read of a number in a state of its own.
    Lie,
    /// An error: HTTP status, code, subcode, `Retry-After`.
    Error(u16, i64, Option<i64>, Option<u64>),
    /// A body that is no answer of Graph, under this status.
    Page(u16),
    /// A JSON object that says nothing of what was asked.
    Object,
    /// No answer comes.
    Lost,
    /// There is no connection.
    Unreachable,
}

/// How the next register call goes.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Whether it acts, where the answer leaves that open.
    pub(crate) acts: bool,
    pub(crate) reply: Reply,
    /// How long the answer takes.
    pub(crate) takes: Duration,
}

impl Plan {
    fn may_act(&self) -> bool {
        match self.reply {
            Reply::Truth => true,
            Reply::Error(status, ..) => self.acts && status >= 500,
            Reply::Page(status) => self.acts && status != 429,
            Reply::Object | Reply::Lost => self.acts,
            Reply::Lie | Reply::Unreachable => false,
        }
    }
}

#[derive(Default)]
pub(crate) struct Graph {
    /// Since when the number is registered, by a clock that nobody sets.
    pub(crate) registered: Option<Duration>,
    /// How long it takes until that shows.
    pub(crate) lag: Duration,
    /// How the next register calls go; as they should where nothing is left.
    pub(crate) plans: VecDeque<Plan>,
    /// What reads are answered.
    pub(crate) reads: Option<Reply>,
}

impl Inputs {
    fn index(self) -> usize {
        usize::from(self.token) * 3 + usize::from(self.pin)
    }

    /// The digests of a call with these inputs, as the operator makes them.
    pub(crate) fn digests(self) -> &'static Digests {
        static ALL: OnceLock<Vec<(Inputs, Digests)>> = OnceLock::new();
        let all = ALL.get_or_init(|| Self::all().map(|inputs| (inputs, inputs.made())).collect());
        let found = all.iter().find(|(inputs, _)| *inputs == self);
        &found.expect("inputs out of range").1
    }

    /// The inputs that the digests in a status were made of.
    pub(crate) fn of(status: &WhatsAppPhoneNumberStatus) -> Option<Self> {
        let known = (status.pin_digest.as_ref()?, status.inputs_digest.as_ref()?);
        Self::all().find(|inputs| (&inputs.digests().pin, &inputs.digests().inputs) == known)
    }

    fn all() -> impl Iterator<Item = Self> {
        (0..24_u8).map(|i| Self {
            token: i / 12,
            pin: i / 4 % 3,
            region: i & 2 > 0,
            version: i & 1 > 0,
        })
    }

    fn made(self) -> Digests {
        let mut spec = fixtures::spec();
        set_spec(&mut spec, self.region, self.version);
        call_inputs(self.token, self.pin).digests(&spec)
    }

    fn scrubber(self) -> &'static Scrubber {
        static ALL: OnceLock<Vec<Scrubber>> = OnceLock::new();
        let made = |i: u8| Scrubber::new(&call_inputs(i / 3, i % 3));
        let all = ALL.get_or_init(|| (0..6_u8).map(made).collect());
        all.get(self.index()).expect("inputs out of range")
    }

    /// All secret values, as one text that an error repeats.
    fn echo(self) -> &'static str {
        static ALL: OnceLock<Vec<String>> = OnceLock::new();
        let made = |i: u8| secret_values(i / 3, i % 3).join(" and ");
        let all = ALL.get_or_init(|| (0..6_u8).map(made).collect());
        all.get(self.index()).expect("inputs out of range")
    }
}

/// The part of the inputs that stands in the spec.
pub(crate) fn set_spec(spec: &mut WhatsAppPhoneNumberSpec, region: bool, version: bool) {
    let region = region.then(|| serde_json::from_value(json!("CH")).expect("a region"));
    spec.data_localization_region = region;
    spec.graph_api_version = version.then(|| "v24.0".to_owned());
}

fn call_inputs(token: u8, pin: u8) -> CallInputs {
    CallInputs {
        token: format!("EAAGmodel{token}0123456789abcdefghij").into(),
        pin: format!("49381{pin}").into(),
        backup: Some(Backup {
            password: "correct-horse-battery".into(),
            data: "bW9kZWwtYmFja3VwLWRhdGE=".into(),
        }),
        app_secret: Some("0f1e2d3c4b5a69788796a5b4c3d2e1f0".into()),
    }
}

fn secret_values(token: u8, pin: u8) -> Vec<String> {
    let inputs = call_inputs(token, pin);
    let backup = inputs.backup.as_ref().expect("a backup");
    let app_secret = inputs.app_secret.as_ref().expect("an app secret");
    let all = [
        &inputs.token,
        &inputs.pin,
        &backup.password,
        &backup.data,
        app_secret,
    ];
    all.map(|value| value.expose_secret().to_owned()).to_vec()
}

/// Every secret value that there is; of the tokens what they have in common.
pub(crate) fn all_secrets() -> &'static [String] {
    static ALL: OnceLock<Vec<String>> = OnceLock::new();
    ALL.get_or_init(|| {
        let values = (0..3_u8).flat_map(|pin| secret_values(0, pin).split_off(1));
        let mut all: Vec<String> = values.chain(["EAAGmodel".to_owned()]).collect();
        all.sort();
        all.dedup();
        all
    })
}

impl Graph {
    /// Takes a register call that arrives now. Returns whether it arrived, what is answered, and how long that takes.
    pub(crate) fn post(
        &mut self,
        inputs: Inputs,
        uptime: Duration,
        now: Timestamp,
    ) -> (bool, RegisterOutcome, Duration) {
        let plan = self.next_plan();
        if plan.may_act() && self.registered.is_none() {
            self.registered = Some(uptime);
        }
        let arrived = !matches!(plan.reply, Reply::Unreachable);
        let body = json!({"success": true});
        let exchange = exchange(&plan.reply, inputs, &body.to_string());
        let outcome = register_outcome(&exchange, inputs.scrubber(), now);
        (arrived, outcome, plan.takes)
    }

    /// Takes a deregister call that arrives now. Returns whether it arrived, what is answered, and how long that takes.
    pub(crate) fn take_off(
        &mut self,
        inputs: Inputs,
        now: Timestamp,
    ) -> (bool, RegisterOutcome, Duration) {
        let plan = self.next_plan();
        if plan.may_act() {
            self.registered = None;
        }
        let arrived = !matches!(plan.reply, Reply::Unreachable);
        let body = json!({"success": true});
        let exchange = exchange(&plan.reply, inputs, &body.to_string());
        let outcome = deregister_outcome(&exchange, inputs.scrubber(), now);
        (arrived, outcome, plan.takes)
    }

    fn next_plan(&mut self) -> Plan {
        self.plans.pop_front().unwrap_or(Plan {
            acts: true,
            reply: Reply::Truth,
            takes: Duration::ZERO,
        })
    }

    /// Answers a read.
    pub(crate) fn read(
        &self,
        fields: ReadFields,
        inputs: Inputs,
        uptime: Duration,
        now: Timestamp,
    ) -> ReadOutcome {
        let reply = self.reads.clone().unwrap_or(Reply::Truth);
        let body = match reply {
            _ if fields == ReadFields::Optional => json!({"id": "1", "is_on_biz_app": false}),
            Reply::Lie => json!({"status": "BANNED", "platform_type": "CLOUD_API"}),
            _ if self.shows(uptime) => json!({"status": "CONNECTED", "platform_type": "CLOUD_API"}),
            _ => json!({"status": "PENDING", "platform_type": "NOT_APPLICABLE"}),
        };
        read_outcome(
            &exchange(&reply, inputs, &body.to_string()),
            fields,
            inputs.scrubber(),
            now,
        )
    }

    /// Whether the number is registered and shows it.
    pub(crate) fn shows(&self, uptime: Duration) -> bool {
        self.registered
            .is_some_and(|since| since + self.lag.min(LAG) <= uptime)
    }
}

/// How a call with this reply ends; `body` is what is said where all is well.
fn exchange(reply: &Reply, inputs: Inputs, body: &str) -> Exchange {
    let answer = |status, body: &str| Answer {
        status,
        body: body.as_bytes().to_vec(),
        ..Answer::default()
    };
    match reply {
        Reply::Truth | Reply::Lie => Exchange::Answered(answer(200, body)),
        Reply::Error(status, code, subcode, retry_after) => {
            let echo = inputs.echo();
            let error = json!({"error": {
                "message": format!("Malformed {echo}"), "type": echo, "code": code, "error_subcode": subcode,
                "error_user_title": echo, "error_user_msg": echo, "error_data": {"details": echo},
                "fbtrace_id": format!("A{echo}"),
            }});
            let mut headers = HeaderMap::new();
            if let Some(seconds) = retry_after {
                headers.insert("retry-after", HeaderValue::from(*seconds));
            }
            Exchange::Answered(Answer {
                headers,
                ..answer(*status, &error.to_string())
            })
        }
        Reply::Page(status) => Exchange::Answered(answer(*status, inputs.echo())),
        Reply::Object => Exchange::Answered(answer(200, "{}")),
        Reply::Lost => Exchange::Lost(format!("no answer to {}", inputs.echo())),
        Reply::Unreachable => Exchange::NotSent(format!("no connection for {}", inputs.echo())),
    }
}
