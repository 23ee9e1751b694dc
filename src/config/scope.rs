//! The scope of the watches.

use operator_core::api::WhatsAppPhoneNumber;

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
    /// The namespace of the watch that brings a resource; `None` if that is the one of all namespaces.
    pub fn namespace_of<'a>(&self, resource: &'a WhatsAppPhoneNumber) -> Option<&'a str> {
        let namespace = resource.metadata.namespace.as_deref();
        namespace.filter(|_| !self.watch_namespaces.is_empty())
    }

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
