//! The program: reads the command line, runs what it names, and reports how that ended.

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use operator_core::api;

use super::operator;
use crate::config::{Cli, Command, Settings};
use crate::telemetry::{Chain, logs};

/// Runs the program with these arguments, the program's own name first, to its end.
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

/// Prints the CRD; whoever reads it may stop before its end, as `head` does.
fn print_crd() -> Result<(), Box<dyn Error>> {
    match io::stdout().write_all(api::crd_yaml()?.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// One line: in the log where there is one already, else as programs report errors.
fn report(error: &(dyn Error + 'static)) {
    let error = Chain(error);
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!(%error, "The operator has stopped");
    } else {
        eprintln!("error: {error}");
    }
}
