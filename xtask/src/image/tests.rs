//! The image is what `Cargo.toml` and the chart say.

use super::{CERTIFICATES, DOCKERFILE, REFERENCE};

const CARGO: &str = include_str!("../../../Cargo.toml");
const VALUES: &str = include_str!("../../../charts/whatsapp-operator/values.yaml");
const POD: &str = include_str!("../../../charts/whatsapp-operator/templates/_pod.tpl");

/// What the last stage of the `Dockerfile` sets, in its order.
fn settings(option: &str) -> Vec<String> {
    let option = format!("--config.{option}=");
    let settings = super::settings(DOCKERFILE, "0123abc").expect("all of it is known");
    let values = settings.iter().filter_map(|all| all.strip_prefix(&option));
    values.map(str::to_owned).collect()
}

/// A text of the operator's `Cargo.toml`.
fn cargo(key: &str) -> &'static str {
    let begin = format!("{key} = \"");
    let value = CARGO.lines().find_map(|line| line.strip_prefix(&begin));
    value.expect(key).trim_end_matches('"')
}

#[test]
fn it_runs_as_the_chart_expects() {
    assert!(VALUES.contains("\npodSecurityContext:\n  runAsNonRoot: true\n"));
    // Numbers: of a name, the kubelet cannot tell that it is not root.
    assert_eq!(settings("user"), ["65532:65532"]);
    assert!(POD.contains("containerPort: 8080\n"));
    assert_eq!(settings("exposedports"), ["8080/tcp"]);
    // The chart gives the arguments alone.
    assert!(!POD.contains("command:"));
    assert_eq!(settings("entrypoint"), ["/whatsapp-operator"]);
    // Named here, the certificates stay trusted when a pod adds others with SSL_CERT_DIR.
    let certificates = format!("SSL_CERT_FILE={CERTIFICATES}");
    assert_eq!(
        settings("env"),
        [certificates.as_str(), "MALLOC_ARENA_MAX=2"]
    );
}

#[test]
fn its_labels_are_those_of_the_package() {
    let repository = cargo("repository");
    let documentation = format!("{repository}/blob/main/README.md");
    let labels = [
        ("title", cargo("name")),
        ("description", cargo("description")),
        ("url", repository),
        ("source", repository),
        ("documentation", &documentation),
        ("licenses", cargo("license")),
        ("version", cargo("version")),
        ("revision", "0123abc"),
    ];
    let labels = labels.map(|(name, value)| format!("org.opencontainers.image.{name}={value}"));
    assert_eq!(settings("label"), labels);
}

#[test]
fn it_has_the_name_that_the_chart_pulls() {
    let (name, version) = REFERENCE.split_once(':').expect("a tag");
    let (registry, repository) = name.split_once('/').expect("a registry");
    for (value, text) in [("registry", registry), ("repository", repository)] {
        assert!(
            VALUES.contains(&format!("\n  {value}: {text}\n")),
            "{value}"
        );
    }
    assert_eq!(version, cargo("version"));
}

#[test]
fn it_is_built_with_the_compiler_that_everything_is_tested_with() {
    let rust = format!("\nFROM rust:{}-", cargo("rust-version"));
    assert_eq!(DOCKERFILE.matches(&rust).count(), 1, "{rust}");
    assert_eq!(DOCKERFILE.matches("\nFROM ").count(), 5, "stages");
}

#[test]
fn both_images_are_of_one_version() {
    let label = "\nLABEL org.opencontainers.image.version=";
    let version = format!("{label}\"{}\"\n", cargo("version"));
    assert_eq!(DOCKERFILE.matches(label).count(), 2);
    assert_eq!(DOCKERFILE.matches(&version).count(), 2, "{version}");
}
