//! `kubectl wait`, as pipelines use it.

use serde_json::json;

use super::states::{SUCCESS, WRONG_PIN, after};
use super::{Place, Printed, Tested, number};

#[tokio::test]
async fn it_returns_when_the_number_is_registered() -> Tested {
    let place = Place::new().await?;
    place.create(&number("awaited")).await?;
    place.report("awaited", &after(200, SUCCESS, 1)).await?;
    for condition in ["Registered", "Ready", "Failed=False"] {
        let printed = wait(&place, condition, "30s");
        assert!(printed.succeeded, "{condition}: {}", printed.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn it_returns_when_the_number_has_failed() -> Tested {
    let place = Place::new().await?;
    place.create(&number("awaited")).await?;
    place.report("awaited", &after(400, WRONG_PIN, 1)).await?;
    for condition in ["Failed", "Stalled", "Ready=False"] {
        let printed = wait(&place, condition, "30s");
        assert!(printed.succeeded, "{condition}: {}", printed.stderr);
    }
    Ok(())
}

/// A success of an older spec says nothing about the newest one.
#[tokio::test]
async fn it_does_not_take_an_old_generation_for_the_new_one() -> Tested {
    let place = Place::new().await?;
    place.create(&number("awaited")).await?;
    place.report("awaited", &after(200, SUCCESS, 1)).await?;
    let newer = place.apply(
        "test",
        "awaited",
        json!({"spec": {"appSecretRef": {"name": "app"}}}),
    );
    assert_eq!(newer.await?.metadata.generation, Some(2));
    let printed = wait(&place, "Registered", "1s");
    assert!(!printed.succeeded, "{}", printed.stdout);
    assert!(printed.stderr.contains("timed out"), "{}", printed.stderr);

    place.report("awaited", &after(200, SUCCESS, 2)).await?;
    let printed = wait(&place, "Registered", "30s");
    assert!(printed.succeeded, "{}", printed.stderr);
    Ok(())
}

fn wait(place: &Place, condition: &str, timeout: &str) -> Printed {
    let condition = format!("--for=condition={condition}");
    let timeout = format!("--timeout={timeout}");
    place.kubectl(&["wait", &condition, &timeout, "wapn/awaited"])
}
