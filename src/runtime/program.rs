//! The program: parses the command line, runs the command, and reports its result.

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use operator_core::api;

use super::operator;
use crate::config::{Cli, Command, Settings};
use crate::telemetry::{Chain, logs};

/// Runs the program to its end with these arguments, the first of which is its name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match Cli::read(arguments) {
        Ok(cli) => cli.command,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let result = match command {
        Command::Crd => print_crd(),
        Command::Run(args) => Settings::try_from(*args).map_err(Into::into).and_then(run),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

fn run(settings: Settings) -> Result<(), Box<dyn Error>> {
    logs::init(&settings.log)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(operator::run(settings))
        .map_err(Into::into)
}

/// Prints the CRD. The reader may stop early, as `head` does.
fn print_crd() -> Result<(), Box<dyn Error>> {
    match io::stdout().write_all(api::crd_yaml()?.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// Reports an error: in the log if that is set up, else on stderr.
fn report(error: &(dyn Error + 'static)) {
    let error = Chain(error);
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!(%error, "The operator has stopped");
    } else {
        eprintln!("error: {error}");
    }
}
