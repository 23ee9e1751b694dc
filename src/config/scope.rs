//! The scope of the watches.

/// The resources that the operator watches.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// The namespaces; empty means all.
    pub watch_namespaces: Vec<String>,
    /// The label selector.
    pub selector: Option<String>,
    /// Whether Secrets are watched too.
    pub secret_watch: bool,
}

impl Scope {
    /// The namespaces, one for each watch; `None` means all of them in one watch.
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
