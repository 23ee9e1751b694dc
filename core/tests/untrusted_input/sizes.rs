//! The fullest status: every text as long as it can get, in letters that take the most room, ten calls that count.

use std::time::Duration;

use serde_json::json;

use operator_core::api::WhatsAppPhoneNumber;
use operator_core::api::conditions;
use operator_core::api::text::STATUS_MAX_BYTES;
use operator_core::credentials::Scrubber;
use operator_core::graph::response::{Answer, Exchange, read_outcome, register_outcome};
use operator_core::model::schedule::META_LIMIT;
use testkit::builders::{inputs, spec};
use testkit::untrusted_input::check;
use testkit::untrusted_input::player::Player;

const HOUR: Duration = Duration::from_secs(3600);

/// Letters of each size: one to four bytes, and those that JSON escapes.
const LETTERS: &[&str] = &["x", "é", "€", "😀", "<", "\"", "\\", "\u{2028}", "\u{1}"];

fn answer(status: u16, body: &serde_json::Value) -> Exchange {
    Exchange::Answered(Answer {
        status,
        body: body.to_string().into_bytes(),
        ..Answer::default()
    })
}

fn refusal(letter: &str, code: i64) -> Exchange {
    let text = letter.repeat(600);
    let error = json!({
        "message": text, "type": text, "code": code, "error_subcode": i64::MIN, "is_transient": false,
        "error_user_title": text, "error_user_msg": text, "error_data": {"details": text}, "fbtrace_id": text,
    });
    answer(400, &json!({"error": error}))
}

fn number(letter: &str) -> Exchange {
    let text = letter.repeat(600);
    answer(
        200,
        &json!({
            "status": text, "platform_type": text, "code_verification_status": text,
            "display_phone_number": text, "verified_name": text, "quality_rating": text,
        }),
    )
}

/// A value for the annotation as long as it may be, and different each time.
fn request(letter: &str, at: usize) -> String {
    let room = operator_core::api::REGISTER_REQUEST_MAX_BYTES - 2;
    let size = operator_core::api::text::stored_bytes(letter);
    format!("{at:02}{}", letter.repeat(room / size))
}

/// A resource after ten calls that a person asked for, two that could not be sent, and a read.
fn fullest(letter: &str, registered: bool) -> Player {
    let mut resource = WhatsAppPhoneNumber::new("support", spec());
    resource.metadata.generation = Some(i64::MAX);
    let inputs = inputs();
    let mut player = Player::new(resource, Ok(inputs.digests(&spec())));
    let scrubber = Scrubber::new(&inputs);
    let read = |exchange: &Exchange, at| read_outcome(exchange, &scrubber, at);
    let register = |exchange: &Exchange, at| register_outcome(exchange, &scrubber, at);
    let found = json!({"platform_type": "CLOUD_API", "status": "CONNECTED", "verified_name": letter.repeat(600)});
    let first = if registered {
        answer(200, &found)
    } else {
        number(letter)
    };
    let unsent = Exchange::NotSent(letter.repeat(600));
    player.pass(&read(&first, player.now), &register(&unsent, player.now));
    for at in 0..META_LIMIT {
        player.request(&request(letter, at));
        if at == META_LIMIT - 1 {
            player.sleep(HOUR);
            player.pass(&read(&first, player.now), &register(&unsent, player.now));
        }
        player.sleep(if at == META_LIMIT - 1 {
            19 * HOUR
        } else {
            HOUR
        });
        let refusal = refusal(letter, i64::MIN);
        let (_, called) = player.pass(&read(&first, player.now), &register(&refusal, player.now));
        assert!(called, "no call {at}: {:?}", player.status());
    }
    assert_eq!(player.status().attempts.len(), META_LIMIT + 1);
    player
}

#[test]
fn the_fullest_status_is_small() {
    let mut largest = 0;
    for letter in LETTERS {
        for registered in [false, true] {
            let player = fullest(letter, registered);
            let status = json!(player.status());
            let size = check::json_bytes(&status);
            let fields = check::managed_fields_bytes(&status);
            println!("{letter:?} registered {registered}: {size} bytes, managed fields {fields}");
            assert!(
                operator_core::api::conditions::is_true(&player.status(), conditions::REGISTERED)
                    == registered
            );
            largest = largest.max(size);
        }
    }
    // Else this would not be the fullest one, and prove nothing.
    assert!(
        largest > STATUS_MAX_BYTES * 3 / 4,
        "{largest} bytes at most"
    );
}

/// A value whose JSON is too long counts as none: ten of them would fill the ledger.
#[test]
fn a_request_counts_by_its_size_as_json() {
    let lost = || Exchange::Lost("no answer".to_owned());
    let scrubber = Scrubber::new(&inputs());
    for (value, handled) in [("\u{1}".repeat(42), true), ("\u{1}".repeat(43), false)] {
        let mut player = Player::new(
            WhatsAppPhoneNumber::new("support", spec()),
            Ok(inputs().digests(&spec())),
        );
        let read = read_outcome(&lost(), &scrubber, player.now);
        let register = register_outcome(&lost(), &scrubber, player.now);
        player.pass(&read, &register);
        player.request(&value);
        player.pass(&read, &register);
        let last = player.status().last_handled_register_request;
        assert_eq!(last.as_deref() == Some(&value), handled, "{last:?}");
    }
}
