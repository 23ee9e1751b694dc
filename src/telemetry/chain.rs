//! How an error is shown in logs and messages.

use std::error::Error;
use std::fmt;
use std::iter::successors;

use operator_core::api::text::{LOG, cut, one_line};

/// What kube, reqwest and hyper-util wrap around a cause without adding information.
const WRAPPERS: [&str; 6] = [
    "HyperError",
    "ServiceError",
    "client error (Connect)",
    "client error (SendRequest)",
    "error sending request",
    "request or response body error",
];

/// Shows an error with its sources in one short line.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A proxy in front of the API server may answer with its own page.
        f.write_str(&cut(&one_line(&texts(self.0).join(": ")), LOG))
    }
}

/// The words of the error and of each source that adds some. The last of them is never left out.
fn texts(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut texts: Vec<_> = successors(Some(error), |error| source(*error))
        .map(own_words)
        .collect();
    let cause = texts.pop();
    texts.retain(|text| !text.is_empty() && !WRAPPERS.contains(&text.as_str()));
    texts.extend(cause);
    texts
}

/// The source of the error; none below an answer of the API server, whose message is the cause.
fn source<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match api_status(error) {
        Some(_) => None,
        None => error.source(),
    }
}

/// What an error says itself. Those of kube repeat their source at the end.
fn own_words(error: &(dyn Error + 'static)) -> String {
    if let Some(status) = api_status(error) {
        // Its own text holds the whole answer, once more in Rust's words.
        let (code, reason) = (status.code, &status.reason);
        return format!("{} (HTTP {code} {reason})", status.message);
    }
    let text = error.to_string();
    let Some(source) = error.source().map(ToString::to_string) else {
        return text;
    };
    let ends = [format!(": {source}"), format!(": ({source})"), source];
    let own = ends.iter().find_map(|end| text.strip_suffix(end.as_str()));
    own.unwrap_or(&text).to_owned()
}

/// What the API server answered, if that is the error.
fn api_status<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a kube::core::Status> {
    let boxed = error.downcast_ref::<Box<kube::Error>>().map(AsRef::as_ref);
    match boxed.or_else(|| error.downcast_ref())? {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use kube::core::Status;
    use kube::runtime::watcher;

    use super::*;

    /// An error as the operator's own are.
    #[derive(Debug, thiserror::Error)]
    #[error("failed to read the Secret")]
    struct Own<E: Error + 'static>(#[source] E);

    fn shown(error: impl Error + 'static) -> String {
        Chain(&error).to_string()
    }

    fn forbidden() -> kube::Error {
        let status = Status::failure("secrets is forbidden", "Forbidden").with_code(403);
        kube::Error::Api(Box::new(status))
    }

    #[test]
    fn of_an_answer_of_the_api_server_only_the_message_counts() {
        let said = "secrets is forbidden (HTTP 403 Forbidden)";
        assert_eq!(shown(forbidden()), said);
        assert_eq!(
            shown(Own(Box::new(forbidden()))),
            format!("failed to read the Secret: {said}")
        );
        assert_eq!(
            shown(watcher::Error::InitialListFailed(forbidden())),
            format!("failed to perform initial object list: {said}")
        );
    }

    #[test]
    fn wrappers_add_nothing() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let service = |error: io::Error| kube::Error::Service(error.into());
        assert_eq!(
            shown(Own(service(refused()))),
            "failed to read the Secret: connection refused"
        );
        assert_eq!(
            shown(service(io::Error::other("error sending request"))),
            "error sending request"
        );
    }

    #[test]
    fn a_cause_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("failed to infer config: in-cluster: (no variable), kubeconfig: ({0})")]
        struct InferConfig(#[source] Same);

        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Same(#[source] io::Error);

        assert_eq!(
            shown(InferConfig(Same(io::Error::other("no such file")))),
            "failed to infer config: in-cluster: (no variable), kubeconfig: no such file"
        );
    }
}
