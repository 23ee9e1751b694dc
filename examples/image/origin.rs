//! Which commit the image is made of, and when that was.

use std::env;
use std::process::Command;

use crate::image::{Failure, Origin};

/// The commit and its time. Where there is no Git repository, as in the `Dockerfile`, they come from the environment;
/// the name for the time is that of <https://reproducible-builds.org/specs/source-date-epoch/>.
pub fn origin() -> Result<Origin, Failure> {
    let revision = given("REVISION", &["rev-parse", "HEAD"])?;
    let time = given("SOURCE_DATE_EPOCH", &["log", "-1", "--format=%ct"])?;
    let time = time.parse().map_err(|error| {
        format!("SOURCE_DATE_EPOCH is {time:?}, not a number of seconds: {error}")
    })?;
    Ok(Origin { revision, time })
}

/// What a variable says, else Git.
fn given(variable: &str, arguments: &[&str]) -> Result<String, Failure> {
    if let Some(value) = env::var(variable).ok().filter(|value| !value.is_empty()) {
        return Ok(value);
    }
    let output = Command::new("git")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let said = match output {
        Ok(output) if output.status.success() => {
            return Ok(String::from_utf8(output.stdout)?.trim().to_owned());
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Err(format!("Git does not know the commit ({said}): set {variable}").into())
}
