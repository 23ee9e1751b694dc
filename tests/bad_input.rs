//! Every wrong Secret has its own reason and message, costs no attempt, and heals by itself. A wrong label selector ends
//! the program.

use serde_json::json;

use testkit::bed::{Bed, PIN, TOKEN, message};
use testkit::operator::Operator;

/// A Secret's data and what the operator says of it.
struct Fault {
    name: &'static str,
    data: Vec<(&'static str, &'static [u8])>,
    reason: &'static str,
    /// What the message must name.
    says: &'static str,
}

fn fault(
    name: &'static str,
    token: &'static [u8],
    pin: &'static [u8],
    reason: &'static str,
    says: &'static str,
) -> Fault {
    Fault {
        name,
        data: vec![("token", token), ("pin", pin)],
        reason,
        says,
    }
}

fn faults() -> Vec<Fault> {
    const GOOD: &[u8] = TOKEN.as_bytes();
    const RIGHT: &[u8] = PIN.as_bytes();
    vec![
        Fault {
            name: "no-pin",
            data: vec![("token", GOOD)],
            reason: "SecretKeyMissing",
            says: "pin",
        },
        Fault {
            name: "no-token",
            data: vec![("pin", RIGHT)],
            reason: "SecretKeyMissing",
            says: "token",
        },
        fault("empty-token", b"", RIGHT, "InvalidToken", "empty"),
        fault("blank-token", b" \n", RIGHT, "InvalidToken", "empty"),
        fault(
            "blank-in-token",
            b"EAA one two",
            RIGHT,
            "InvalidToken",
            "whitespace",
        ),
        fault(
            "newline-in-token",
            b"EAAone\ntwo",
            RIGHT,
            "InvalidToken",
            "token",
        ),
        fault(
            "binary-token",
            b"\xff\xfe\x00\x01",
            RIGHT,
            "InvalidToken",
            "text",
        ),
        fault("short-pin", GOOD, b"12345", "InvalidPin", "six"),
        fault("long-pin", GOOD, b"1234567", "InvalidPin", "six"),
        fault("letters-in-pin", GOOD, b"12345a", "InvalidPin", "six"),
        fault("empty-pin", GOOD, b"", "InvalidPin", "six"),
        fault(
            "other-digits",
            GOOD,
            "١٢٣٤٥٦".as_bytes(),
            "InvalidPin",
            "six",
        ),
        fault(
            "binary-pin",
            GOOD,
            b"\x80\x81\x82\x83\x84\x85",
            "InvalidPin",
            "six",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_secrets_are_named_cost_nothing_and_heal() {
    let bed = Bed::new().await;
    let _operator = bed.operator(&[]).await;
    let faults = faults();
    for (n, fault) in faults.iter().enumerate() {
        bed.secret(fault.name, &fault.data).await;
        let reference = json!({"name": fault.name});
        let more = json!({"tokenSecretRef": reference, "pinSecretRef": reference});
        bed.declare_with(fault.name, &format!("20{n:02}"), more)
            .await;
    }
    for (n, fault) in faults.iter().enumerate() {
        let number = bed
            .until(fault.name, fault.reason, |status| {
                status
                    .conditions
                    .iter()
                    .any(|c| c.type_ == "Failed" && c.reason == fault.reason)
            })
            .await;
        let text = message(&number, "Failed");
        assert!(
            text.contains(fault.name) && text.contains(fault.says),
            "{}: {text}",
            fault.name
        );
        let calls = bed.simulator.number(&format!("20{n:02}")).counts;
        assert_eq!(
            (calls.register_calls, calls.reads),
            (0, 0),
            "{}",
            fault.name
        );
        assert!(number.status.expect("a status").attempts.is_empty());
    }
    for fault in &faults {
        bed.secret(
            fault.name,
            &[("token", TOKEN.as_bytes()), ("pin", PIN.as_bytes())],
        )
        .await;
    }
    for (n, fault) in faults.iter().enumerate() {
        bed.until_registered(fault.name, "RegistrationSucceeded")
            .await;
        assert_eq!(bed.posts(&format!("20{n:02}")), 1, "{}", fault.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_may_come_later_and_end_with_a_newline() {
    let bed = Bed::new().await;
    let _operator = bed.operator(&[]).await;
    bed.declare("patient", "2050").await;
    let number = bed.until_waiting("patient", "SecretNotFound").await;
    assert!(message(&number, "Failed").contains("whatsapp"));
    bed.until_event("patient", "SecretNotFound").await;
    let (token, pin) = (format!("{TOKEN}\n"), format!(" {PIN}\r\n"));
    bed.secret(
        "whatsapp",
        &[("token", token.as_bytes()), ("pin", pin.as_bytes())],
    )
    .await;
    bed.until_registered("patient", "RegistrationSucceeded")
        .await;
    assert_eq!(bed.posts("2050"), 1);
    assert!(bed.simulator.violations().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_backup_is_named() {
    let bed = Bed::new().await;
    bed.secrets().await;
    bed.secret("backup", &[("password", b""), ("data", b"abc")])
        .await;
    let _operator = bed.operator(&[]).await;
    bed.declare_with(
        "moved",
        "2051",
        json!({"backupSecretRef": {"name": "backup"}}),
    )
    .await;
    let number = bed.until_stalled("moved", "InvalidBackup").await;
    assert!(message(&number, "Failed").contains("backup"));
    bed.secret("backup", &[("password", b"open sesame"), ("data", b"abc")])
        .await;
    bed.until_registered("moved", "RegistrationSucceeded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_label_selector_ends_the_program() {
    let bed = Bed::new().await;
    let selectors = [
        "shard in a",
        "shard in (a",
        "shard a)",
        "=a",
        "shard=a b",
        "-shard",
        "Bad_Prefix/x",
        "a/b/c",
        "shard=a=b",
    ];
    for selector in selectors {
        let flag = format!("--selector={selector}");
        let operator = Operator::launch(&bed.kubeconfig, &bed.args(&[&flag]));
        assert_eq!(operator.ended().await, "1", "{selector}");
        let log = operator.log();
        let last = log.lines().last().unwrap_or_default();
        // The rest is what the API server says.
        let said = last.split_once("failed to select resources by --selector (SELECTOR)");
        let named = said.is_some_and(|(_, rest)| {
            rest.contains(selector) && rest.contains("(HTTP 400 BadRequest)")
        });
        assert!(named, "{selector}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_selector_in_any_form_is_taken() {
    let bed = Bed::new().await;
    bed.secrets().await;
    let selectors = [
        "shard==a,tier!=test",
        "shard in (a, b),!legacy",
        "example.com/shard",
        "empty=",
        " shard notin (a) ",
    ];
    for (n, selector) in selectors.iter().enumerate() {
        let operator = bed.operator(&[&format!("--selector={selector}")]).await;
        if n + 1 == selectors.len() {
            bed.declare("selected", "2052").await;
            bed.until_registered("selected", "RegistrationSucceeded")
                .await;
        }
        let (status, log) = operator.terminate().await;
        assert_eq!(status, "0", "{selector}: {log}");
    }
}
