//! Where Graph is, and whether it may be called there.

use std::time::Duration;

use url::{Host, Url};

/// Where Graph is and how it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphSettings {
    /// `https://graph.facebook.com`, or a proxy or simulator; a path is put before the version.
    pub base_url: Url,
    /// Whether `http:` is allowed for a host other than this machine.
    pub allow_insecure: bool,
    /// How long one call may take, from the connection to the end of the answer.
    pub timeout: Duration,
}

/// Whether Graph can be called at this URL; otherwise what is wrong, and what to write. The URL is not repeated, because it may
/// contain a password.
///
/// # Errors
/// What is wrong with the URL.
pub fn check_base_url(url: &Url, allow_insecure: bool) -> Result<(), &'static str> {
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        Err("its scheme cannot be used; write https:// and a host")
    } else if !url.username().is_empty() || url.password().is_some() {
        Err("it holds a user name or a password; write it without")
    } else if url.query().is_some() || url.fragment().is_some() {
        Err("it has a query or a fragment; write only scheme, host, port and path")
    } else if url.scheme() == "http" && !allow_insecure && !is_loopback(url) {
        Err(
            "plain http would send tokens and PINs unencrypted; write https://, or set --allow-insecure-graph",
        )
    } else {
        Ok(())
    }
}

/// Whether the host is this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
