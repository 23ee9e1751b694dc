//! Texts with secrets in them. A byte above 0xf7 in what is no UTF-8 stands for a secret in one of its forms.
#![no_main]

use libfuzzer_sys::fuzz_target;
use operator_core::credentials::Scrubber;
use operator_core::api::text::TEXT;
use testkit::untrusted_input::check;
use whatsapp_operator_fuzz::{APP_SECRET, DATA, PASSWORD, PIN, SECRETS, TOKEN, inputs};

fn secret(byte: u8) -> String {
    let json = serde_json::to_string(PASSWORD).expect("a text is JSON");
    let bare = json.trim_matches('"');
    match byte {
        0xf8 => TOKEN.to_owned(),
        0xf9 => PASSWORD.to_owned(),
        0xfa => DATA.to_owned(),
        0xfb => APP_SECRET.to_owned(),
        0xfc => format!(" {PIN} "),
        0xfd => bare.to_owned(),
        0xfe => TOKEN[..20].to_owned(),
        _ => bare.replace('/', "\\/"),
    }
}

fuzz_target!(|data: &[u8]| {
    let mut text = String::new();
    for piece in data.split_inclusive(|byte| *byte >= 0xf8) {
        match piece.split_last() {
            Some((last, before)) if *last >= 0xf8 => {
                text += &String::from_utf8_lossy(before);
                text += &secret(*last);
            }
            _ => text += &String::from_utf8_lossy(piece),
        }
    }
    let clean = Scrubber::new(&inputs()).scrub(&text);
    check::text(&clean, TEXT);
    check::secrets_absent(&clean, SECRETS);
    // Where the text was cut, so may have been a longer number.
    let whole = clean
        .strip_suffix('…')
        .map(|cut| cut.trim_end_matches(|c: char| c.is_ascii_digit()));
    let mut numbers = whole.unwrap_or(&clean).split(|c: char| !c.is_ascii_digit());
    assert!(numbers.all(|number| number != PIN), "{clean}");
});
