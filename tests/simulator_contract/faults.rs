//! Scripted faults: what goes on the wire, and whether the number was registered.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{ID, Tested, control, read, register, register_bytes};
use testkit::simulator::{NumberConfig, Simulator, Step};

async fn scripted(step: Value) -> Result<Simulator, Box<dyn std::error::Error>> {
    let simulator = Simulator::start().await;
    simulator.script(ID, vec![serde_json::from_value(step)?]);
    Ok(simulator)
}

#[tokio::test]
async fn failing_steps_act_only_when_told_to() -> Tested {
    let cases = [
        (json!({"step": "error", "code": 131016}), 500),
        (
            json!({"step": "error", "code": 133016, "http_status": 429}),
            429,
        ),
        (json!({"step": "rate_limited"}), 429),
        (json!({"step": "server_error"}), 500),
        (json!({"step": "html", "http_status": 503}), 503),
        (json!({"step": "empty"}), 500),
        (
            json!({"step": "raw", "http_status": 418, "body": "tea"}),
            418,
        ),
        (json!({"step": "huge", "bytes": 100_000}), 200),
        (json!({"step": "success_lie"}), 200),
        (json!({"step": "success_false"}), 200),
        (json!({"step": "success_missing"}), 200),
        (json!({"step": "success_string", "acted": false}), 200),
        (json!({"step": "success_example", "acted": false}), 200),
        (json!({"step": "malformed_token_echo"}), 400),
    ];
    for (mut step, status) in cases {
        let simulator = scripted(step.clone()).await?;
        assert_eq!(
            register(&simulator, "123456").await?.status,
            status,
            "{step}"
        );
        assert!(!simulator.number(ID).state.registered, "{step}");
        step["acted"] = true.into();
        let simulator = scripted(step.clone()).await?;
        assert_eq!(
            register(&simulator, "123456").await?.status,
            status,
            "{step}"
        );
        let report = simulator.number(ID);
        assert!(report.state.registered && report.log[0].acted, "{step}");
    }
    Ok(())
}

#[tokio::test]
async fn success_comes_in_odd_forms() -> Tested {
    let example = json!({"summary": "Successful registration", "value": {"success": true}});
    let cases = [
        ("success_lie", json!({"success": true})),
        ("success_false", json!({"success": false})),
        ("success_string", json!({"success": "true"})),
        ("success_missing", json!({})),
        (
            "success_example",
            json!({"successful_registration": example}),
        ),
    ];
    for (step, body) in cases {
        let simulator = scripted(step.into()).await?;
        assert_eq!(register(&simulator, "123456").await?.body, body, "{step}");
    }
    Ok(())
}

#[tokio::test]
async fn hanging_up_sends_not_one_byte() -> Tested {
    for (step, registered) in [("hang_up_before", false), ("hang_up_after", true)] {
        let simulator = scripted(step.into()).await?;
        assert_eq!(register_bytes(&simulator).await?, "", "{step}");
        let report = simulator.until(ID, |report| report.in_flight == 0).await?;
        assert_eq!(report.state.registered, registered, "{step}");
        assert_eq!(
            serde_json::to_value(report.log[0].outcome)?,
            "hung_up",
            "{step}"
        );
        assert_eq!(report.state.calls_in_window, 1, "{step}");
    }
    Ok(())
}

#[tokio::test]
async fn a_truncated_answer_ends_after_so_many_bytes() -> Tested {
    let simulator = scripted(json!({"step": "truncated", "bytes": 9, "acted": true})).await?;
    let answer = register_bytes(&simulator).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no head")?;
    assert!(
        head.starts_with("HTTP/1.1 200 OK") && head.contains("content-length: 16"),
        "{head}"
    );
    assert_eq!(body, r#"{"success"#);
    assert!(simulator.number(ID).state.registered);
    Ok(())
}

#[tokio::test]
async fn errors_have_the_shape_of_graph() -> Tested {
    let simulator = scripted(json!({
        "step": "error", "code": 100, "subcode": 2388001, "message": "m", "type": "T",
        "is_transient": false, "details": "d", "user_title": "t", "user_msg": "u",
        "headers": {"x-extra": "1"},
    }))
    .await?;
    let answer = register(&simulator, "123456").await?;
    let trace = simulator.number(ID).log[0].trace.clone();
    let error = json!({
        "message": "m", "type": "T", "code": 100, "error_subcode": 2388001,
        "error_data": {"messaging_product": "whatsapp", "details": "d"}, "is_transient": false,
        "error_user_title": "t", "error_user_msg": "u", "fbtrace_id": trace,
    });
    assert_eq!(answer.body, json!({ "error": error }));
    assert_eq!(
        (answer.header("x-fb-trace-id"), answer.header("x-extra")),
        (&trace[..], "1")
    );
    Ok(())
}

#[tokio::test]
async fn throttling_is_announced_in_minutes() -> Tested {
    let step = json!({"step": "rate_limited", "regain_minutes": 7, "retry_after": "90"});
    let simulator = scripted(step).await?;
    let answer = register(&simulator, "123456").await?;
    assert_eq!((answer.status, answer.code()), (400, &json!(80008)));
    assert_eq!(answer.header("retry-after"), "90");
    let usage: Value = serde_json::from_str(answer.header("x-business-use-case-usage"))?;
    let entries = usage.as_object().and_then(|usage| usage.values().next());
    let times: Vec<_> = entries
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|entry| &entry["estimated_time_to_regain_access"])
        .collect();
    assert_eq!(times, [0, 7]);
    Ok(())
}

#[tokio::test]
async fn the_token_can_come_back() -> Tested {
    let simulator = scripted("malformed_token_echo".into()).await?;
    let answer = register(&simulator, "123456").await?;
    assert_eq!(
        answer.body["error"]["message"],
        "Malformed access token a-token"
    );
    assert!(answer.header("www-authenticate").contains("a-token"));
    Ok(())
}

#[tokio::test]
async fn a_step_waits_for_its_operation() -> Tested {
    let simulator = Simulator::start().await;
    let steps = vec![
        Step::error(4).times(2),
        Step::error(10).on_read(),
        Step::error(1).on_any(),
    ];
    simulator.script(ID, steps);
    assert_eq!(
        read(&simulator, "id").await?.status,
        200,
        "not its turn yet"
    );
    assert_eq!(register(&simulator, "123456").await?.code(), 4);
    assert_eq!(register(&simulator, "123456").await?.code(), 4);
    assert_eq!(read(&simulator, "id").await?.code(), 10);
    assert_eq!(read(&simulator, "id").await?.code(), 1);
    assert_eq!(register(&simulator, "123456").await?.status, 200);
    assert!(simulator.number(ID).script.is_empty());
    Ok(())
}

#[tokio::test]
async fn reads_can_lag_behind() -> Tested {
    let simulator = scripted(json!({"step": "lag", "reads": 2})).await?;
    assert_eq!(register(&simulator, "123456").await?.status, 200);
    for expected in ["PENDING", "PENDING", "CONNECTED"] {
        assert_eq!(read(&simulator, "status").await?.body["status"], expected);
    }
    Ok(())
}

#[tokio::test]
async fn reads_can_lag_for_a_time_behind_a_call_that_acted_unseen() -> Tested {
    let step = json!({"step": "server_error", "acted": true, "lag_millis": 60_000});
    let simulator = scripted(step).await?;
    assert_eq!(register(&simulator, "123456").await?.status, 500);
    assert!(simulator.number(ID).state.registered);
    assert_eq!(read(&simulator, "status").await?.body["status"], "PENDING");
    simulator.advance(Duration::from_secs(60));
    assert_eq!(
        read(&simulator, "status").await?.body["status"],
        "CONNECTED"
    );
    Ok(())
}

#[tokio::test]
async fn a_held_call_acts_after_its_release() -> Tested {
    for (step, acted_while_held) in [(Step::wait(), false), (Step::wait_after(), true)] {
        let simulator = Simulator::start().await;
        simulator.script(ID, vec![step]);
        let release = async {
            let report = simulator.until(ID, |report| report.held == 1).await?;
            assert_eq!(report.state.registered, acted_while_held);
            let path = format!("numbers/{ID}/release");
            let answer = control(&simulator, Method::POST, &path, Value::Null).await?;
            assert_eq!(answer.body, json!({"released": 1}));
            Tested::Ok(())
        };
        let (answer, released) = tokio::join!(register(&simulator, "123456"), release);
        released?;
        assert_eq!(answer?.status, 200);
    }
    Ok(())
}

#[tokio::test]
async fn graph_goes_on_when_the_client_has_gone() -> Tested {
    let simulator = Simulator::start().await;
    simulator.script(ID, vec![Step::wait()]);
    let held = simulator.until(ID, |report| report.held == 1);
    tokio::select! {
        answer = register(&simulator, "123456") => return Err(format!("{answer:?}").into()),
        held = held => drop(held?),
    }
    simulator.until(ID, |report| report.in_flight == 0).await?;
    assert_eq!(simulator.release(ID), 1);
    let report = simulator
        .until(ID, |report| report.state.registered)
        .await?;
    assert_eq!(report.counts.register_acted, 1);
    Ok(())
}

#[tokio::test]
async fn calls_at_the_same_time_are_seen() -> Tested {
    let simulator = Simulator::start().await;
    for _ in 0..5 {
        read(&simulator, "id").await?;
    }
    assert_eq!(
        simulator.number(ID).counts.max_concurrent,
        1,
        "one after the other"
    );
    simulator.script(ID, vec![Step::wait().on_any().times(2)]);
    let release = async {
        let report = simulator.until(ID, |report| report.held == 2).await?;
        simulator.release(ID);
        Ok::<_, Box<dyn std::error::Error>>(report)
    };
    let (one, two, report) = tokio::join!(
        register(&simulator, "123456"),
        read(&simulator, "id"),
        release
    );
    assert_eq!((one?.status, two?.status), (200, 200));
    assert_eq!(
        (report?.in_flight, simulator.totals().counts.max_concurrent),
        (2, 2)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_one_after_the_other_are_never_at_the_same_time() -> Tested {
    let simulator = Simulator::start().await;
    let pooled = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/v23.0/{ID}", simulator.base_url());
    for _ in 0..200 {
        pooled
            .get(&url)
            .header("authorization", "Bearer t")
            .send()
            .await?
            .bytes()
            .await?;
        read(&simulator, "id").await?;
    }
    assert_eq!(simulator.number(ID).counts.max_concurrent, 1);
    Ok(())
}

#[tokio::test]
async fn slow_stall_and_trickle_still_answer() -> Tested {
    let steps = [
        json!({"step": "slow", "millis": 20}),
        json!({"step": "stall", "millis": 20}),
        json!({"step": "trickle", "bytes_per_second": 1000}),
    ];
    for step in steps {
        let simulator = scripted(step.clone()).await?;
        assert_eq!(
            register(&simulator, "123456").await?.body,
            json!({"success": true}),
            "{step}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_number_can_be_set_and_seen_from_outside() -> Tested {
    let simulator = Simulator::start().await;
    let path = format!("numbers/{ID}");
    let config = json!({
        "registered": true, "status": "FLAGGED", "fields": {"platform_type": null},
        "answer_headers": {"x-app-usage": "{}"},
    });
    assert_eq!(
        control(&simulator, Method::PUT, &path, config)
            .await?
            .status,
        200
    );
    let answer = read(&simulator, "status,platform_type").await?;
    assert_eq!(answer.body, json!({"id": ID, "status": "FLAGGED"}));
    assert_eq!(answer.header("x-app-usage"), "{}");
    let all = control(&simulator, Method::GET, "numbers", Value::Null).await?;
    assert_eq!(all.body["totals"]["counts"]["reads"], 1);
    assert_eq!(all.body["numbers"][0]["log"][0]["operation"], "read");
    let clock = json!({"advance_seconds": 60});
    assert_eq!(
        control(&simulator, Method::POST, "clock", clock)
            .await?
            .status,
        200
    );
    let defaults = json!({"latency_millis": 1, "auto_create": false});
    assert_eq!(
        control(&simulator, Method::PUT, "defaults", defaults)
            .await?
            .status,
        200
    );
    assert_eq!(
        control(&simulator, Method::DELETE, &path, Value::Null)
            .await?
            .status,
        200
    );
    assert_eq!(
        control(&simulator, Method::GET, &path, Value::Null)
            .await?
            .status,
        404
    );
    Ok(())
}

#[tokio::test]
async fn waiting_ends_at_the_deadline() {
    let simulator = Simulator::start().await;
    simulator.set(ID, NumberConfig::fresh());
    let waited = simulator
        .until_within(ID, Duration::ZERO, |report| report.held > 0)
        .await;
    let text = waited
        .map(drop)
        .map_err(|error| error.to_string())
        .unwrap_err();
    assert!(text.contains(ID), "{text}");
}
