//! What gets into the log, in which form, and what never does.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tracing::{debug, error, info, info_span, trace, warn};

use super::*;

/// Collects the lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What `work` logs under the given level.
fn logged(level: &str, format: LogFormat, work: impl FnOnce()) -> String {
    let written = Lines::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::registry()
        .with(log_filter(level).expect("valid directives"))
        .with(lines(format, move || writer.clone()));
    tracing::subscriber::with_default(subscriber, work);
    let bytes = written
        .0
        .lock()
        .expect("no test panics while it writes")
        .clone();
    String::from_utf8(bytes).expect("log lines are UTF-8")
}

fn objects(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("each line is one JSON object"))
        .collect()
}

#[test]
fn a_json_line_names_the_resource_by_the_fields_of_its_spans() {
    let text = logged("info", LogFormat::Json, || {
        let outer = info_span!(
            "reconcile",
            namespace = "shop",
            resource = "sales",
            trace = tracing::field::Empty
        );
        let _outer = outer.enter();
        outer.record("trace", "AbC");
        let _inner = info_span!("attempt", attempt = "a1").entered();
        info!(code = 133_005, ok = false, "Graph \"answered\"\nso");
    });
    let mut line = objects(&text).remove(0);
    let time = line["timestamp"].take();
    assert!(
        time.as_str()
            .is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok()),
        "{time}"
    );
    let expected = json!({
        "timestamp": null, "level": "INFO", "target": module_path!(), "message": "Graph \"answered\"\nso",
        "code": 133_005, "ok": false,
        "spans": [
            {"name": "reconcile", "namespace": "shop", "resource": "sales", "trace": "AbC"},
            {"name": "attempt", "attempt": "a1"},
        ],
    });
    assert_eq!(line, expected);
    assert!(
        text.starts_with("{\"timestamp\":"),
        "people read the time first: {text}"
    );
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn a_text_cannot_forge_a_field_or_a_line() {
    let forged = "x\",\"level\":\"ERROR\",\"target\":\"x\"}\n{\"level\":\"ERROR\"}";
    let text = logged("info", LogFormat::Json, || {
        let _span = info_span!("reconcile", resource = forged).entered();
        info!(reason = forged, "{forged}");
    });
    let lines = objects(&text);
    assert_eq!(lines.len(), 1, "{text}");
    assert_eq!(
        (&lines[0]["level"], &lines[0]["target"]),
        (&json!("INFO"), &json!(module_path!()))
    );
    for field in [
        &lines[0]["message"],
        &lines[0]["reason"],
        &lines[0]["spans"][0]["resource"],
    ] {
        assert_eq!(field, forged);
    }
}

#[test]
fn dependencies_are_quiet_unless_they_are_named() {
    let work = || {
        trace!(target: "hyper::proto", "hyper-trace");
        debug!(target: "h2", "h2-debug");
        debug!(target: "reqwest::connect", "reqwest-debug");
        debug!(target: "kube_client::config", "kube-debug");
        info!(target: "rustls", "rustls-info");
        trace!(target: "whatsapp_operator::decide", "own-trace");
    };
    let text = logged("trace", LogFormat::Text, work);
    assert!(
        text.contains("own-trace") && text.contains("rustls-info"),
        "{text}"
    );
    assert!(
        !text.contains("-debug") && !text.contains("hyper-trace"),
        "{text}"
    );
    let text = logged("info,hyper=trace,h2=debug", LogFormat::Text, work);
    assert!(
        text.contains("hyper-trace") && text.contains("h2-debug"),
        "{text}"
    );
    assert!(
        !text.contains("own-trace") && !text.contains("reqwest-debug"),
        "{text}"
    );
}

#[test]
fn caps_never_make_a_quiet_log_louder() {
    let text = logged(
        "error",
        LogFormat::Text,
        || info!(target: "hyper", "hyper-info"),
    );
    assert_eq!(text, "");
    let text = logged("whatsapp_operator=debug", LogFormat::Text, || {
        info!(target: "tower", "tower-info");
        debug!(target: "whatsapp_operator", "own-debug");
    });
    assert!(
        text.contains("own-debug") && !text.contains("tower-info"),
        "{text}"
    );
}

#[test]
fn bodies_that_kube_prints_never_get_into_the_log() {
    for level in [
        "trace",
        "kube_client=trace",
        "kube_client::client=trace,info",
        "warn",
    ] {
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged(level, format, || {
                warn!(target: "kube_client::client", "{{\"data\":{{\"pin\":\"MTIzNDU2\"}}, EOF");
                trace!(target: "kube_client::client", "Status from MTIzNDU2");
                error!(target: "kube_client::client::builder", "MTIzNDU2");
            });
            assert_eq!(text, "", "{level} {format:?}");
        }
    }
}

#[test]
fn misspelt_levels_are_refused() {
    for text in ["loud", "info,x=loud", "a=b=c"] {
        assert!(log_filter(text).is_err(), "{text}");
    }
    for text in [
        "info",
        "WARN",
        "off",
        "whatsapp_operator=debug,info",
        "info, kube_runtime=debug",
    ] {
        assert!(log_filter(text).is_ok(), "{text}");
    }
}

#[test]
fn a_panic_is_one_line_without_what_was_put_together() {
    let program = std::env::current_exe().expect("the test's own program");
    let output = std::process::Command::new(program)
        .args(["--exact", "--ignored", "telemetry::logs::tests::panicking"])
        .output()
        .expect("the test's own program runs");
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = objects(&text);
    assert_eq!(lines.len(), 2, "{text}");
    for (line, words) in lines.iter().zip(["a fixed text", "left out"]) {
        assert_eq!(line["level"], "ERROR");
        assert!(line["message"].to_string().contains(words), "{line}");
        assert!(line["location"].to_string().contains("tests.rs:"), "{line}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
#[ignore = "a_panic_is_one_line_without_what_was_put_together runs it"]
fn panicking() {
    let settings = LogSettings {
        format: Some(LogFormat::Json),
        level: "info".to_owned(),
    };
    init(&settings).expect("logging starts");
    let _ = std::panic::catch_unwind(|| panic!("a fixed text"));
    let pin = std::hint::black_box("hunter2");
    let _ = std::panic::catch_unwind(|| panic!("a text with {pin}"));
}
