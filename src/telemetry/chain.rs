//! Errors with their causes, in one line.

use operator_core::api::text::{LOG, cut, one_line};

/// An error with its sources in one short line.
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = self.0.to_string();
        let mut source = self.0.source();
        while let Some(error) = source {
            if let Some(status) = api_status(error) {
                // Its own text holds the whole answer, once more in Rust's words.
                let (code, reason) = (status.code, &status.reason);
                text += &format!(": {} (HTTP {code} {reason})", status.message);
                break;
            }
            text += &format!(": {error}");
            source = error.source();
        }
        // What stands between here and the API server may answer with a page of its own.
        f.write_str(&cut(&one_line(&text), LOG))
    }
}

/// What the API server answered, if that is the error.
fn api_status<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a kube::core::Status> {
    let boxed = error.downcast_ref::<Box<kube::Error>>().map(AsRef::as_ref);
    match boxed.or_else(|| error.downcast_ref())? {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to write the status of the resource")]
    struct Failed(#[source] kube::Error);

    #[test]
    fn what_the_api_server_said_is_one_short_line() {
        let status = Status::failure("the object has been modified", "Conflict").with_code(409);
        let error = Failed(kube::Error::Api(Box::new(status)));
        assert_eq!(
            Chain(&error).to_string(),
            "failed to write the status of the resource: the object has been modified (HTTP 409 Conflict)"
        );
    }
}
