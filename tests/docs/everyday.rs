//! The commands of the page "kubectl for every day", as the page has them, with an operator at work.

use std::collections::VecDeque;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use super::markdown::commands;
use super::text;
use testkit::bed::{Bed, TOKEN};
use testkit::simulator::{NumberConfig, Step};

/// The page.
const PAGE: &str = "docs/guides/kubectl.md";

/// The phone number ID that the page selects by.
const ID: &str = "106540352242922";

/// The PIN that Graph wants, and that is not the one in the Secret.
const PIN: &str = "111111";

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_for_every_day_do_what_the_page_says() {
    let bed = Bed::new().await;
    bed.simulator.set(ID, NumberConfig::fresh().pin(PIN));
    let broken = vec![Step::server_error()];
    bed.simulator
        .set("7302", NumberConfig::fresh().script(broken));
    bed.secrets().await;
    let _operator = bed.operator(&["--retry-base=1h", "--retry-cap=2h"]).await;
    for (name, id) in [("support", ID), ("later", "7302"), ("sales", "7303")] {
        bed.declare(name, id).await;
    }
    bed.until_stalled("support", "PinMismatch").await;
    bed.until_waiting("later", "GraphUnavailable").await;
    bed.until_registered("sales", "RegistrationSucceeded").await;
    bed.until_event("support", "PinMismatch").await;
    let mut page = Page::of(&bed);

    let failing = page.run("grep -v ' True '");
    failing.has(&["support", "PinMismatch", "later", "GraphUnavailable"]);
    failing.lacks(&["sales"]);
    let stalled = page.run("Stalled");
    stalled.has(&[
        "support: Graph answered HTTP 400, code 133005",
        "the number's PIN",
    ]);
    stalled.lacks(&["later", "sales"]);

    page.run("describe")
        .has(&["Attempts:", "PinMismatch", "Events:"]);
    page.run("events").has(&["PinMismatch"]);
    let number = bed.get("support").await.status.expect("a status");
    let trace = number.fbtrace_id.expect("a trace ID");
    page.run("fbtraceID")
        .has(&["Graph answered HTTP 400", &trace]);

    let next = page.run("nextAttemptTime");
    next.has(&["later", "GraphUnavailable"]);
    let number = bed.get("later").await.status.expect("a status");
    let time = number.next_attempt_time.expect("it waits");
    next.has(&[&time.0.strftime("%FT%TZ").to_string(), "<none>"]);

    page.run(".status.budget").has(&["1 of 10, 20"]);
    let ledger = page.run(".status.attempts");
    assert_eq!(ledger.0.matches("PinMismatch").count(), 1, "{ledger:?}");

    page.run("annotate").has(&["annotated"]);
    bed.until("support", "called for again", |status| {
        let all = &status.attempts;
        all.len() == 2 && all.iter().all(|call| call.end.is_some())
    })
    .await;
    assert_eq!(bed.posts(ID), 2);
    let handled = bed.get("support").await.status.expect("a status");
    let handled = handled.last_handled_register_request.expect("a value");
    page.run("lastHandledRegisterRequest").has(&[&handled]);

    page.run(r#""suspend":true"#).has(&["patched"]);
    assert!(bed.get("support").await.spec.suspend);
    page.run(r#""suspend":false"#).has(&["patched"]);
    assert!(!bed.get("support").await.spec.suspend);
    page.run("xargs").has(&["support", "later", "sales"]);
    for name in ["support", "later", "sales"] {
        assert!(bed.get(name).await.spec.suspend, "{name}");
    }

    let found = page.run("--field-selector");
    found.has(&[&bed.namespace, "support"]);
    found.lacks(&["sales"]);

    bed.secret(
        "whatsapp",
        &[("token", TOKEN.as_bytes()), ("pin", PIN.as_bytes())],
    )
    .await;
    bed.patch("support", json!({"spec": {"suspend": false}}))
        .await;
    page.run("kubectl wait").has(&["condition met"]);

    page.run("--raw").has(&["the CRD is installed"]);
    page.run("observedGeneration")
        .lacks(&[&format!("{}/support", bed.namespace)]);
    assert!(page.commands.is_empty(), "not tried: {:?}", page.commands);
}

/// The commands of the page that were not run yet, and the kubectl that runs them.
struct Page {
    commands: VecDeque<String>,
    path: TempDir,
    kubectl: Command,
}

/// What a command printed.
#[derive(Debug)]
struct Printed(String);

// === impl Page ===

impl Page {
    fn of(bed: &Bed) -> Self {
        let kubectl = bed.control_plane.kubectl();
        let path = tempfile::tempdir().expect("a directory");
        let program = kubectl.get_program().display();
        let script = format!(
            "#!/bin/sh\nexec {program} --namespace {} \"$@\"\n",
            bed.namespace
        );
        let file = path.path().join("kubectl");
        std::fs::write(&file, script).expect("the script can be written");
        std::fs::set_permissions(&file, Permissions::from_mode(0o755)).expect("it can be run");
        Self {
            commands: commands(&text(PAGE)).into(),
            path,
            kubectl,
        }
    }

    /// Runs the next command of the page, which has this text in it.
    fn run(&mut self, part: &str) -> Printed {
        let command = self.commands.pop_front().unwrap_or_default();
        assert!(
            command.contains(part),
            "the next command lacks {part:?}: {command}"
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]);
        for (name, value) in self.kubectl.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let path = std::env::var("PATH").unwrap_or_default();
        shell.env("PATH", format!("{}:{path}", self.path.path().display()));
        let output = shell.output().expect("a shell");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.is_empty(),
            "{command}: {said}"
        );
        Printed(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

// === impl Printed ===

impl Printed {
    fn has(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.0.contains(part), "{part:?} is missing: {}", self.0);
        }
    }

    fn lacks(&self, parts: &[&str]) {
        for part in parts {
            assert!(!self.0.contains(part), "{part:?} is there: {}", self.0);
        }
    }
}
