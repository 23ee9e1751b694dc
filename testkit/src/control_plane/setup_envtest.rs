//! The control planes that `setup-envtest` keeps on this machine.

use crate::go_programs::{machine, non_empty_env};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The oldest Kubernetes that the operator supports.
const OLDEST: [u32; 3] = [1, 31, 0];

/// The directories of those that are not too old, the newest first.
pub fn kept() -> Vec<PathBuf> {
    store().map(|store| kept_in(&store)).unwrap_or_default()
}

/// Where `setup-envtest use` puts them unless it is told otherwise.
fn store() -> Option<PathBuf> {
    let home = || non_empty_env("HOME").map(PathBuf::from);
    let data = if cfg!(target_os = "macos") {
        home()?.join("Library/Application Support/io.kubebuilder.envtest")
    } else {
        non_empty_env("XDG_DATA_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(home()?.join(".local/share")))?
            .join("kubebuilder-envtest")
    };
    Some(data.join("k8s"))
}

fn kept_in(store: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(store).into_iter().flatten().flatten();
    let mut kept: Vec<_> = entries
        .filter_map(|entry| Some((version(entry.file_name().to_str()?)?, entry.path())))
        .filter(|(version, _)| *version >= OLDEST)
        .collect();
    kept.sort();
    kept.into_iter().rev().map(|(_, path)| path).collect()
}

/// The version in a directory's name, such as `1.36.2-linux-amd64`, if it is for this machine.
fn version(name: &str) -> Option<[u32; 3]> {
    let numbers = name.strip_suffix(&format!("-{}", machine()))?.split('.');
    let numbers: Option<Vec<u32>> = numbers.map(|part| part.parse().ok()).collect();
    numbers?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_for_this_machine_comes_first() {
        let store = tempfile::tempdir().expect("a directory");
        assert!(kept_in(&store.path().join("missing")).is_empty());
        let here = |version: &str| format!("{version}-{}", machine());
        let others = ["1.37.0-plan9-mips".to_owned(), "README".to_owned()];
        let versions = [
            "1.9.11",
            "1.30.4",
            "1.31.0",
            "1.34.10",
            "1.34.9",
            "1.38.0-rc.1",
        ];
        for name in versions.map(here).iter().chain(&others) {
            fs::create_dir(store.path().join(name)).expect("a directory");
        }
        let wanted =
            ["1.34.10", "1.34.9", "1.31.0"].map(|version| store.path().join(here(version)));
        assert_eq!(kept_in(store.path()), wanted);
    }
}
