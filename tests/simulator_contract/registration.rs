//! What a register call does to a number, and what the budget of 72 hours does to it.

use std::time::Duration;

use serde_json::json;

use super::client::{ID, Tested, read, register, register_with, request, send};
use testkit::simulator::{Defaults, NumberConfig, Simulator, TokenLimit};

const HOUR: Duration = Duration::from_secs(3600);
const STATE: &str = "status,platform_type";

#[tokio::test]
async fn a_fresh_number_registers_and_its_pin_counts_from_then_on() -> Tested {
    let simulator = Simulator::start().await;
    let fresh = json!({"id": ID, "status": "PENDING", "platform_type": "NOT_APPLICABLE"});
    assert_eq!(read(&simulator, STATE).await?.body, fresh);

    let answer = register(&simulator, "012345").await?;
    assert_eq!(
        (answer.status, answer.body),
        (200, json!({"success": true}))
    );
    let registered = json!({"id": ID, "status": "CONNECTED", "platform_type": "CLOUD_API"});
    assert_eq!(read(&simulator, STATE).await?.body, registered);

    assert_eq!(register(&simulator, "999999").await?.code(), 133005);
    assert_eq!(
        register(&simulator, "012345").await?.body,
        json!({"success": true})
    );
    let counts = simulator.number(ID).counts;
    assert_eq!(
        (counts.register_calls, counts.register_acted, counts.reads),
        (3, 2, 2)
    );
    assert_eq!(counts.register_calls_while_registered, 2);
    assert_eq!(simulator.number(ID).state.pin.as_deref(), Some("012345"));
    Ok(())
}

#[tokio::test]
async fn the_documented_fields_arrive() -> Tested {
    let simulator = Simulator::start().await;
    let body = json!({
        "messaging_product": "whatsapp",
        "pin": "123456",
        "backup": {"password": "p", "data": "d"},
        "data_localization_region": "CH",
        "meta_store_retention_minutes": 60,
    });
    assert_eq!(send(register_with(&simulator, &body)).await?.status, 200);
    let stored = simulator.number(ID).state.last_registration;
    assert_eq!(serde_json::to_value(stored)?, body);
    Ok(())
}

#[tokio::test]
async fn the_eleventh_call_in_72_hours_blocks_for_72_hours() -> Tested {
    let simulator = Simulator::start().await;
    simulator.set(ID, NumberConfig::fresh().pin("123456"));
    for _ in 0..10 {
        assert_eq!(
            register(&simulator, "000000").await?.code(),
            133005,
            "failed calls count"
        );
    }
    simulator.advance(71 * HOUR);
    assert_eq!(register(&simulator, "123456").await?.code(), 133016);
    simulator.advance(71 * HOUR);
    assert_eq!(
        register(&simulator, "123456").await?.code(),
        133016,
        "it is blocked on"
    );
    simulator.advance(HOUR);
    assert_eq!(register(&simulator, "123456").await?.status, 200);
    assert_eq!(simulator.number(ID).counts.register_calls_over_limit, 2);
    Ok(())
}

#[tokio::test]
async fn the_window_moves() -> Tested {
    let simulator = Simulator::start().await;
    simulator.set(ID, NumberConfig::fresh().spent(9));
    simulator.advance(70 * HOUR);
    assert_eq!(
        register(&simulator, "123456").await?.status,
        200,
        "the tenth"
    );
    simulator.advance(2 * HOUR);
    assert_eq!(
        register(&simulator, "123456").await?.status,
        200,
        "nine are out of the window"
    );
    assert_eq!(simulator.number(ID).state.calls_in_window, 2);
    Ok(())
}

#[tokio::test]
async fn a_number_that_is_not_ready_is_refused() -> Tested {
    let cases = [
        (
            NumberConfig::fresh().code_verification_status("NOT_VERIFIED"),
            133006,
        ),
        (
            NumberConfig::fresh().deregistered(Duration::from_secs(299)),
            133015,
        ),
        (NumberConfig::fresh().status("BANNED"), 131031),
        (NumberConfig::fresh().status("DELETED"), 100),
        (NumberConfig::fresh().status("MIGRATED"), 100),
        (NumberConfig::missing(), 100),
    ];
    for (config, code) in cases {
        let simulator = Simulator::start().await;
        simulator.set(ID, config.clone());
        assert_eq!(
            register(&simulator, "123456").await?.code(),
            code,
            "{config:?}"
        );
        let report = simulator.number(ID);
        assert_eq!(
            (report.state.registered, report.counts.register_acted),
            (false, 0)
        );
    }
    Ok(())
}

#[tokio::test]
async fn five_minutes_after_a_deregistration_it_registers_again() -> Tested {
    let simulator = Simulator::start().await;
    simulator.set(
        ID,
        NumberConfig::fresh().deregistered(Duration::from_secs(0)),
    );
    assert_eq!(register(&simulator, "123456").await?.code(), 133015);
    simulator.advance(Duration::from_secs(300));
    assert_eq!(register(&simulator, "123456").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn too_many_wrong_pins_lock_also_the_right_one() -> Tested {
    let simulator = Simulator::start().await;
    simulator.set(ID, NumberConfig::fresh().pin("123456").pin_guesses(2));
    for pin in ["000000", "000001"] {
        assert_eq!(register(&simulator, pin).await?.code(), 133005);
    }
    assert_eq!(register(&simulator, "123456").await?.code(), 133008);
    Ok(())
}

#[tokio::test]
async fn an_unknown_id_can_be_unknown() -> Tested {
    let simulator = Simulator::start().await;
    simulator.set_defaults(Defaults {
        auto_create: false,
        ..Defaults::default()
    });
    for answer in [
        read(&simulator, "id").await?,
        register(&simulator, "123456").await?,
    ] {
        assert_eq!((answer.status, answer.code()), (400, &json!(100)));
        assert_eq!(answer.body["error"]["error_subcode"], 33);
    }
    simulator.set(ID, NumberConfig::registered());
    assert_eq!(
        read(&simulator, "status").await?.body["status"],
        "CONNECTED"
    );
    Ok(())
}

#[tokio::test]
async fn a_token_has_so_many_calls_for_all_numbers_together() -> Tested {
    let simulator = Simulator::start().await;
    simulator.set_defaults(Defaults {
        token_limit: Some(TokenLimit {
            calls: 2,
            seconds: 3600,
        }),
        ..Defaults::default()
    });
    assert_eq!(read(&simulator, "id").await?.status, 200);
    assert_eq!(register(&simulator, "123456").await?.status, 200);
    let refused = register(&simulator, "123456").await?;
    assert_eq!((refused.status, refused.code()), (400, &json!(80007)));
    let seconds: u64 = refused.header("retry-after").parse()?;
    assert!((1..=3600).contains(&seconds), "{seconds}");
    assert_eq!(simulator.number(ID).counts.register_acted, 1);
    assert_eq!(
        simulator.number(ID).state.calls_in_window,
        1,
        "it was not let in"
    );
    simulator.advance(Duration::from_secs(3600));
    assert_eq!(read(&simulator, "id").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn an_app_secret_asks_for_its_proof() -> Tested {
    let simulator = Simulator::start().await;
    simulator.set(ID, NumberConfig::registered().app_secret("app-secret"));
    let missing = read(&simulator, "id").await?;
    assert_eq!((missing.status, missing.code()), (400, &json!(100)));
    assert_eq!(missing.body["error"]["type"], "GraphMethodException");

    // printf a-token | openssl dgst -sha256 -hmac app-secret
    let right = "d4e619d0666d0001c656a6afc62876121ed2fd1ddc858214e8daee9ef2a31ab9";
    for (proof, status) in [(right, 200), (&right.to_uppercase()[..], 400), ("", 400)] {
        let path = format!("/v23.0/{ID}?fields=id&appsecret_proof={proof}");
        let answer = send(request(&simulator, reqwest::Method::GET, &path)).await?;
        assert_eq!(answer.status, status, "{proof:?}");
    }
    Ok(())
}

#[tokio::test]
async fn another_token_is_refused_before_anything_is_done() -> Tested {
    let simulator = Simulator::start().await;
    simulator.set(ID, NumberConfig::fresh().token("other"));
    let answer = register(&simulator, "123456").await?;
    assert_eq!((answer.status, answer.code()), (401, &json!(190)));
    assert!(
        answer
            .header("www-authenticate")
            .starts_with("OAuth \"Facebook Platform\"")
    );
    let report = simulator.number(ID);
    assert!(!report.state.registered);
    assert_eq!(
        report.state.calls_in_window, 1,
        "every call that arrives counts"
    );
    assert!(
        simulator.violations().is_empty(),
        "a wrong token is no breach of the contract"
    );
    Ok(())
}
