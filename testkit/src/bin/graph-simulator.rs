//! Runs the Graph simulator, to try the operator without Meta:
//! `cargo run -p whatsapp-operator-testkit --features cluster --bin graph-simulator`, then `whatsapp-operator run --graph-base-url …`.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use testkit::simulator::{Simulator, numbers_from_yaml};

/// Behaves as Meta's Graph API for reading and registering WhatsApp phone numbers.
#[derive(Debug, Parser)]
struct Args {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8090")]
    bind: SocketAddr,
    /// YAML file of numbers by their ID, each as `PUT /_simulator/numbers/ID` takes it
    #[arg(long)]
    numbers: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let simulator = Simulator::start_on(args.bind)
        .await
        .map_err(|error| format!("failed to listen on {}: {error}", args.bind))?;
    if let Some(path) = args.numbers {
        let numbers = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        let numbers = numbers.and_then(|yaml| numbers_from_yaml(&yaml));
        let numbers =
            numbers.map_err(|error| format!("failed to read {}: {error}", path.display()))?;
        for (id, number) in numbers {
            simulator.set(&id, number);
        }
    }
    println!("{}", usage(&simulator.base_url()));
    // The first process of a container is not ended by a signal that it does not handle.
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => (),
    }
    Ok(())
}

fn usage(base: &str) -> String {
    format!(
        r#"The Graph simulator listens on {base}. Stop it with Ctrl-C. Try:

  # Read and register a number; an unknown ID is a fresh number
  curl -H 'Authorization: Bearer any' '{base}/v23.0/1234567890?fields=id,status,platform_type'
  curl -H 'Authorization: Bearer any' -H 'Content-Type: application/json' \
    -d '{{"messaging_product":"whatsapp","pin":"123456"}}' {base}/v23.0/1234567890/register

  # What came in, and what was not allowed
  curl {base}/_simulator/numbers/1234567890
  curl {base}/_simulator/violations

  # Let the next two register calls fail, the third be done but hang up
  curl -X PUT {base}/_simulator/numbers/1234567890 \
    -d '{{"script":[{{"step":"server_error","times":2}},"hang_up_after"]}}'

  # 72 hours later
  curl -d '{{"advance_seconds":259200}}' {base}/_simulator/clock"#
    )
}
