//! What is watched.

/// Which resources are watched.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// The namespaces; none means all.
    pub watch_namespaces: Vec<String>,
    /// A label selector.
    pub selector: Option<String>,
    /// Whether Secrets are watched too.
    pub secret_watch: bool,
}

impl Scope {
    /// The namespaces to watch one by one; `None` is all of them at once.
    pub fn namespaces(&self) -> Vec<Option<&str>> {
        if self.watch_namespaces.is_empty() {
            vec![None]
        } else {
            self.watch_namespaces
                .iter()
                .map(|namespace| Some(namespace.as_str()))
                .collect()
        }
    }
}
