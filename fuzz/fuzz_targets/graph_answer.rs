//! Answers to both calls, the whole way to a status: what a number's first byte says is the HTTP status and whether a
//! person asks; the bodies are divided by a line feed.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use operator_core::graph::ReadFields;
use operator_core::graph::response::{Answer, Exchange, read_outcome, register_outcome};
use operator_core::credentials::Scrubber;
use testkit::untrusted_input::check;
use whatsapp_operator_fuzz::{SECRETS, inputs, player, take};

const STATUSES: [u16; 12] = [200, 200, 200, 204, 302, 400, 401, 403, 422, 429, 500, 503];

fn answer(status: u8, body: &[u8]) -> Exchange {
    Exchange::Answered(Answer {
        status: STATUSES[usize::from(status) % STATUSES.len()],
        body: body.to_vec(),
        fault: (status > 240).then(|| "broke off".to_owned()),
        ..Answer::default()
    })
}

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let scrubber = Scrubber::new(&inputs());
    let mut player = player();
    let (asks, first) = (take(&mut data), take(&mut data));
    let mut bodies = data.split(|byte| *byte == b'\n');
    for pass in 0..4_u8 {
        let (Some(read), register) = (bodies.next(), bodies.next().unwrap_or_default()) else {
            break;
        };
        if asks >> pass & 1 == 1 {
            player.request(&pass.to_string());
        }
        player.sleep(Duration::from_secs(u64::from(asks) * 300));
        let read = read_outcome(
            &answer(first.rotate_left(pass.into()), read),
            ReadFields::All,
            &scrubber,
            player.now(),
        );
        let register = answer(first.wrapping_mul(7).wrapping_add(pass), register);
        let register = register_outcome(&register, &scrubber, player.now());
        check::read_outcome(&read);
        check::register_outcome(&register);
        player.pass(&read, &register);
        let shown = serde_json::to_string(&player.world.resource.status).expect("a status is JSON");
        check::secrets_absent(
            &format!("{} {} {shown}", read.message, register.message),
            SECRETS,
        );
    }
});
