//! The flags of `whatsapp-operator run`.

use clap::{Arg, CommandFactory};
use whatsapp_operator::config::Cli;

use super::markdown::{code, table};

/// The flags, in the order of `--help`.
pub fn flags() -> String {
    let cli = Cli::command();
    let run = cli.find_subcommand("run").expect("the command run");
    let flags = run.get_arguments().filter(|arg| arg.get_env().is_some());
    table(
        ["flag", "environment", "default", "meaning"],
        flags.map(flag),
    )
}

fn flag(arg: &Arg) -> [String; 4] {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    // A default that depends on where the operator runs is told in the help.
    let (meaning, told) = match help.split_once(" [default: ") {
        Some((meaning, default)) => (meaning, default.trim_end_matches(']')),
        None => (help.as_str(), "none"),
    };
    let default = arg.get_default_values().first();
    let default = default.map(|default| code(&default.to_string_lossy()));
    let name = arg.get_long().expect("every flag is long");
    let variable = arg.get_env().unwrap_or_default().to_string_lossy();
    [
        code(&format!("--{name}")),
        code(&variable),
        default.unwrap_or_else(|| told.to_owned()),
        meaning.to_owned(),
    ]
}
