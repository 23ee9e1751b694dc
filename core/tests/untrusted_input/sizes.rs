//! The fullest status: every text as long as it can get, ten calls that count.

use std::time::Duration;

use serde_json::json;

use operator_core::api::conditions;
use operator_core::api::{
    REGISTER_REQUEST_MAX_BYTES, WhatsAppPhoneNumber, WhatsAppPhoneNumberStatus,
};
use operator_core::graph::ReadFields;
use operator_core::graph::response::{Answer, Exchange, read_outcome, register_outcome};
use testkit::untrusted_input::player::Player;

use operator_core::api::text::{MESSAGE, NAME, TEXT, WORD, one_line};
use operator_core::credentials::Scrubber;
use operator_core::model::schedule::META_LIMIT;
use testkit::builders::{inputs, spec};

const HOUR: Duration = Duration::from_secs(3600);

/// Letters of each size, one to four bytes, and those that JSON escapes; the last two do not stay as they are.
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
            "status": "DISCONNECTED", "platform_type": text, "code_verification_status": text,
            "display_phone_number": text, "verified_name": text, "quality_rating": text,
        }),
    )
}

/// A value for the annotation as long as it may be, and different each time.
fn request(letter: &str, at: usize) -> String {
    let room = REGISTER_REQUEST_MAX_BYTES - 2;
    format!("{at:02}{}", letter.repeat(room / letter.len()))
}

/// A resource after ten calls that a person asked for, two that could not be sent, and a read.
fn fullest(letter: &str, registered: bool) -> Player {
    let mut resource = WhatsAppPhoneNumber::new("support", spec());
    resource.metadata.generation = Some(i64::MAX);
    let inputs = inputs();
    let mut player = Player::new(resource, Ok(inputs.digests(&spec())));
    let scrubber = Scrubber::new(&inputs);
    let read = |exchange: &Exchange, at| read_outcome(exchange, ReadFields::All, &scrubber, at);
    let register = |exchange: &Exchange, at| register_outcome(exchange, &scrubber, at);
    let found = json!({"platform_type": "CLOUD_API", "status": "CONNECTED", "verified_name": letter.repeat(600)});
    let first = if registered {
        answer(200, &found)
    } else {
        number(letter)
    };
    let unsent = Exchange::NotSent(letter.repeat(600));
    player.pass(
        &read(&first, player.now()),
        &register(&unsent, player.now()),
    );
    for at in 0..META_LIMIT {
        player.request(&request(letter, at));
        if at == META_LIMIT - 1 {
            player.sleep(HOUR);
            player.pass(
                &read(&first, player.now()),
                &register(&unsent, player.now()),
            );
        }
        player.sleep(if at == META_LIMIT - 1 {
            19 * HOUR
        } else {
            HOUR
        });
        let refusal = refusal(letter, i64::MIN);
        let (_, called) = player.pass(
            &read(&first, player.now()),
            &register(&refusal, player.now()),
        );
        assert!(called, "no call {at}: {:?}", player.status());
    }
    assert_eq!(player.status().attempts.len(), META_LIMIT + 1);
    player
}

/// The player looks at every status on the way: the API server takes it, and its texts are within their bounds.
#[test]
fn the_fullest_status_is_taken() {
    for letter in LETTERS {
        for registered in [false, true] {
            let status = fullest(letter, registered).status();
            assert_eq!(
                conditions::is_true(&status, conditions::REGISTERED),
                registered
            );
            if one_line(letter) == *letter {
                assert_full(&status);
            }
        }
    }
}

/// Every text is as long as it may be; else this would not be the fullest status, and prove nothing.
fn assert_full(status: &WhatsAppPhoneNumberStatus) {
    let error = status.last_error.as_ref().expect("an error");
    let number = status.phone_number.as_ref().expect("a number");
    let failed = conditions::find(status, conditions::FAILED).expect("a condition");
    for (text, max_chars) in [
        (&error.message, TEXT),
        (&error.user_message, TEXT),
        (&error.user_title, NAME),
        (&error.type_, WORD),
        (&error.fbtrace_id, WORD),
        (&number.verified_name, NAME),
        (&Some(failed.message.clone()), MESSAGE),
    ] {
        let chars = text.as_ref().map(|text| text.chars().count());
        assert_eq!(chars, Some(max_chars), "{text:?}");
    }
}
