//! What the API server was asked by ServiceAccounts, as its audit log has it.

use serde::Deserialize;
use std::{fs, io, path::Path};

/// Where the API server writes the log, below its directory.
pub const LOG: &str = "audit.log";

/// Only what ServiceAccounts ask: the tests themselves ask as the administrator, and much.
const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    userGroups: ["system:serviceaccounts"]
  - level: None
"#;

/// One request, and how it was answered.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// `get`, `list`, `watch` and so on.
    pub verb: String,
    user: User,
    /// What was asked for; nothing for paths such as `/version`.
    pub object_ref: Option<ObjectRef>,
    response_status: Option<Status>,
}

/// The object of a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef {
    /// The API group; empty for the core one.
    pub api_group: String,
    /// The resource, in the plural.
    pub resource: String,
    /// The subresource, if any.
    pub subresource: String,
    /// The namespace; empty for all of them.
    pub namespace: String,
    /// The name, if one was given.
    pub name: String,
}

#[derive(Clone, Debug, Deserialize)]
struct User {
    username: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Status {
    code: u16,
}

// === impl Request ===

impl Request {
    /// Whether the API server did not allow it.
    pub fn was_forbidden(&self) -> bool {
        self.response_status
            .as_ref()
            .is_some_and(|status| status.code == 403)
    }
}

/// Writes the policy for the API server.
pub fn write_policy(path: &Path) -> io::Result<()> {
    fs::write(path, POLICY)
}

/// What a ServiceAccount has asked so far.
pub fn requests_of(log: &Path, namespace: &str, account: &str) -> io::Result<Vec<Request>> {
    let user = format!("system:serviceaccount:{namespace}:{account}");
    let text = fs::read_to_string(log)?;
    // The last line may be in the middle of being written.
    let requests = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    Ok(requests
        .filter(|request: &Request| request.user.username == user)
        .collect())
}
