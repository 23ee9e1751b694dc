//! The versions of the Graph API that are past their end.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// No setting has more: beyond it nothing is reported.
const MOST: usize = 100;

/// The versions that were requested while another one answered.
#[derive(Default)]
pub struct ExpiredVersions(Mutex<HashSet<String>>);

impl ExpiredVersions {
    /// Notes a version. Returns whether it is a new one.
    pub fn is_new(&self, version: &str) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.len() < MOST && known.insert(version.to_owned())
    }
}
