//! The root file system as a directory, for the `Dockerfile` to copy.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::image::{Content, Entry, Failure};

/// Writes everything below a directory that is not there yet; old files must not get into an image.
pub fn write(root: &BTreeMap<String, Entry>, directory: &Path) -> Result<(), Failure> {
    fs::create_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    for (path, entry) in root {
        let path = directory.join(path.trim_start_matches('/'));
        match &entry.content {
            Content::Directory => fs::create_dir(&path)?,
            Content::File(bytes) => fs::write(&path, bytes)?,
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(entry.mode))?;
    }
    Ok(())
}
