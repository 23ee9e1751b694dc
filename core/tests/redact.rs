//! Texts that hold secrets, and texts made to get them through.

use proptest::prelude::*;

use operator_core::api::text;
use operator_core::credentials::Backup;
use operator_core::credentials::redact::*;
use secrecy::ExposeSecret as _;
use testkit::builders::{PIN, TOKEN, inputs};

fn scrub(text: &str) -> String {
    Scrubber::new(&inputs()).scrub(text)
}

#[test]
fn the_token_goes_wherever_it_stands() {
    assert_eq!(
        scrub(&format!("Malformed access token {TOKEN}")),
        "Malformed access token [redacted]"
    );
    assert_eq!(scrub(&format!("x{TOKEN}.")), "x[redacted].");
    assert_eq!(scrub(&format!("AbC{TOKEN}")), "AbC[redacted]");
}

#[test]
fn tokens_that_are_not_at_hand_go_too() {
    assert_eq!(
        scrub("token EAAGm0PX4ZCpsBAKx is old"),
        "token [redacted] is old"
    );
    assert_eq!(scrub("traceEAAGm0PX4ZCps"), "trace[redacted]");
    assert_eq!(scrub("the EAA zone"), "the EAA zone");
    assert_eq!(
        scrub("?access_token=abc|def&x=1"),
        "?access_token=[redacted]&x=1"
    );
    assert_eq!(
        scrub(r#"{"access_token": "abc"}"#),
        r#"{"access_token": "[redacted]"}"#
    );
    assert_eq!(scrub("ACCESS_TOKEN%3Dabc x"), "ACCESS_TOKEN%3D[redacted] x");
    assert_eq!(scrub("access_token is missing"), "access_token is missing");
    assert_eq!(
        scrub("Authorization: Bearer abcdefghijklmnopqrstuvwxyz"),
        "Authorization: Bearer [redacted]"
    );
}

#[test]
fn the_pin_goes_where_it_is_a_number_of_its_own() {
    assert_eq!(
        scrub(&format!("pin {PIN} is wrong")),
        "pin [redacted] is wrong"
    );
    assert_eq!(
        scrub(&format!("pin={PIN}, x{PIN}y")),
        "pin=[redacted], x[redacted]y"
    );
    assert_eq!(
        scrub(&format!("1{PIN} and {PIN}2")),
        format!("1{PIN} and {PIN}2")
    );
    assert_eq!(
        scrub("(#133005) for +15551234567"),
        "(#133005) for +15551234567"
    );
}

/// Found by fuzzing: what stands beside the PIN was hidden, and the PIN stood there alone.
#[test]
fn the_pin_goes_where_its_neighbours_are_hidden() {
    let mut inputs = inputs();
    inputs.app_secret = Some("0f1e2d3c4b5a69788796a5b4c3d2e1f0".into());
    let scrubber = Scrubber::new(&inputs);
    for neighbour in ["0f1e2d3c4b5a69788796a5b4c3d2e1f0", "EAAGm0PX4ZCps_"] {
        let text = format!("x {neighbour}{PIN} {PIN}{neighbour}");
        let clean = scrubber.scrub(&text);
        assert!(!clean.contains(PIN), "{clean}");
    }
}

#[test]
fn other_secrets_go_in_all_their_forms() {
    let mut inputs = inputs();
    inputs.backup = Some(Backup {
        password: "pa\"ss/w\u{f6}rd\nx".into(),
        data: "AB+/".repeat(20).into(),
    });
    inputs.app_secret = Some("e".into());
    let scrubber = Scrubber::new(&inputs);
    let proof = inputs.appsecret_proof().expect("an app secret is set");
    let echo = format!(
        "pa\"ss/w\u{f6}rd\nx, pa\\\"ss/w\u{f6}rd\\nx, pa\\\"ss\\/w\u{f6}rd\\nx, pa%22ss%2Fw%C3%B6rd%0Ax, {}, {}, {}, 'e' here",
        "AB+/".repeat(20),
        "AB+/".repeat(9),
        proof.expose_secret(),
    );
    assert_eq!(
        scrubber.scrub(&echo),
        "[redacted], [redacted], [redacted], [redacted], [redacted], [redacted], [redacted], '[redacted]' here"
    );
}

#[test]
fn the_beginning_of_a_long_secret_goes_and_that_of_a_shorter_one_stays() {
    for (length, expected) in [
        (32, "it begins [redacted]."),
        (31, "it begins 0123456789abcdef."),
    ] {
        let mut inputs = inputs();
        inputs.app_secret = Some("0123456789abcdefghijklmnopqrstuv"[..length].into());
        let echo = "it begins 0123456789abcdef.";
        assert_eq!(Scrubber::new(&inputs).scrub(echo), expected, "{length}");
    }
}

#[test]
fn a_password_of_blanks_hides_no_blank() {
    let mut inputs = inputs();
    inputs.backup = Some(Backup {
        password: " ".into(),
        data: "x".repeat(20).into(),
    });
    assert_eq!(Scrubber::new(&inputs).scrub("so. - so"), "so. - so");
}

#[test]
fn the_result_is_one_short_line() {
    assert_eq!(scrub(" a\r\nb\tc\u{1b}[31m\u{202e}d\0 "), "a  b c[31md");
    assert_eq!(scrub(&"x".repeat(512)).len(), 512);
    for letter in ["x", "\u{e9}", "<"] {
        let long = scrub(&letter.repeat(600));
        assert_eq!(long.chars().count(), text::TEXT);
        assert!(long.ends_with(&format!("{letter}…")));
    }
}

#[test]
fn a_secret_cut_off_at_the_end_of_the_input_does_not_show() {
    let mut inputs = inputs();
    inputs.token = "tok_0123456789".into();
    let label = "access_token=";
    let text = format!(
        "{label}{} tok_0123456789",
        "x".repeat(MAX_INPUT_BYTES - label.len() - 6)
    );
    assert_eq!(
        Scrubber::new(&inputs).scrub(&text),
        "access_token=[redacted]"
    );
}

/// Side by side in one run, so that a slow machine does not matter. For 64 times the text, what is quadratic takes 4,096 times as long;
/// what is linear 64 times, and some times more where the regular expressions change to another engine.
#[test]
fn hostile_texts_take_linear_time() {
    let mut inputs = inputs();
    inputs.token = "a".repeat(MAX_INPUT_BYTES / 128).into();
    let scrubber = Scrubber::new(&inputs);
    for unit in [
        "a",
        "EAA",
        "EAAaaaaEAA",
        "access_token=",
        "access_token",
        "\"",
        "1",
        "bearer ",
    ] {
        let least = |bytes: usize| {
            let text = unit.repeat(bytes / unit.len());
            let once = |_| {
                let started = std::time::Instant::now();
                scrubber.scrub(&text);
                started.elapsed()
            };
            (0..5).map(once).min().expect("five times")
        };
        let (short, long) = (least(MAX_INPUT_BYTES / 64), least(MAX_INPUT_BYTES));
        assert!(long < short * 2_000, "{unit}: {short:?}, then {long:?}");
    }
}

proptest! {
    #[test]
    fn no_secret_gets_through(before in ".{0,700}", token in "[!-~]{8,300}", after in ".{0,300}") {
        // A placeholder cannot spell a secret that looks like one.
        prop_assume!(!"[redacted][redacted]".contains(&token));
        let mut inputs = inputs();
        inputs.token = token.as_str().into();
        let text = format!("{before}{token}{after}{token} {PIN} {after}");
        let clean = Scrubber::new(&inputs).scrub(&text);
        prop_assert!(!clean.contains(&token));
        prop_assert!(!clean.split(|c: char| !c.is_ascii_digit()).any(|number| number == PIN));
        prop_assert!(clean.chars().count() <= text::TEXT);
        prop_assert!(!clean.chars().any(char::is_control));
    }

    #[test]
    fn nothing_that_looks_like_a_token_gets_through(text in "[EA=a-c\u{e9} \n]{0,200}") {
        let clean = scrub(&text);
        for at in clean.match_indices("EAA").map(|(at, _)| at) {
            let token_like = clean[at..].bytes().take_while(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(byte));
            prop_assert!(token_like.count() < "EAA".len() + 4, "{clean}");
        }
    }
}
