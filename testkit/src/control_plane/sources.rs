//! The control plane's sources, pinned by the Go modules beside this file.

use crate::go_programs::{Module, Set, Source, word_after};

static KUBERNETES: Module = Module {
    name: "kubernetes",
    go_mod: include_str!("kubernetes/go.mod"),
    go_sum: include_str!("kubernetes/go.sum"),
    tools_go: include_str!("kubernetes/tools.go"),
    tags: "",
    variables: version_variables,
};

static ETCD: Module = Module {
    name: "etcd",
    go_mod: include_str!("etcd/go.mod"),
    go_sum: include_str!("etcd/go.sum"),
    tools_go: include_str!("etcd/tools.go"),
    tags: "",
    variables: Vec::new,
};

/// etcd, kube-apiserver and kubectl.
pub static CONTROL_PLANE: Set = Set {
    what: "the control plane",
    name: || format!("kubernetes-{}", kubernetes_version()),
    sources: &[
        Source {
            name: "etcd",
            module: &ETCD,
            package: "go.etcd.io/etcd/server/v3",
        },
        Source {
            name: "kube-apiserver",
            module: &KUBERNETES,
            package: "k8s.io/kubernetes/cmd/kube-apiserver",
        },
        Source {
            name: "kubectl",
            module: &KUBERNETES,
            package: "k8s.io/kubernetes/cmd/kubectl",
        },
    ],
    takes: "about 9 minutes",
    instead_of_go: ", or set KUBEBUILDER_ASSETS to a directory with etcd, kube-apiserver and kubectl",
};

/// The version of Kubernetes that is built, such as `v1.37.2`.
fn kubernetes_version() -> &'static str {
    word_after(KUBERNETES.go_mod, "require k8s.io/kubernetes ")
}

/// Without the version clients such as helm refuse the server, as it would not be a semantic version.
fn version_variables() -> Vec<(&'static str, &'static str)> {
    let version = kubernetes_version();
    let mut numbers = version.trim_start_matches('v').split('.');
    let mut number = || numbers.next().unwrap_or_default();
    vec![
        ("k8s.io/component-base/version.gitVersion", version),
        ("k8s.io/component-base/version.gitMajor", number()),
        ("k8s.io/component-base/version.gitMinor", number()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_in_the_module_file_alone() {
        let version = kubernetes_version();
        assert!(version.starts_with("v1."), "{version}");
        let variables = version_variables();
        assert_eq!(
            variables
                .iter()
                .map(|(_, value)| *value)
                .collect::<Vec<_>>()[..2],
            [version, "1"]
        );
        assert!((ETCD.variables)().is_empty());
    }
}
