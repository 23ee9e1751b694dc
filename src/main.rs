//! The operator's program.

use std::process::ExitCode;

fn main() -> ExitCode {
    whatsapp_operator::main(std::env::args_os())
}
