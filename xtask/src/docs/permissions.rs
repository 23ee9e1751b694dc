//! The operator's permissions, as the chart grants them by default.

use serde_json::Value;

use super::markdown::{code, table};

/// The rules of the operator's roles. The base for kustomize is what the chart renders by default.
pub fn permissions() -> String {
    let base = super::text("kustomize/base/whatsapp-operator.yaml");
    let objects = base
        .split("\n---\n")
        .map(|object| serde_norway::from_str::<Value>(object).expect("an object"));
    let roles = objects.filter(|object| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let kind = object["kind"].as_str().unwrap_or_default();
        // The other roles are for people.
        kind.ends_with("Role")
            && ["-controller", "-leaderelection"]
                .iter()
                .any(|of| name.contains(of))
    });
    let rules = roles.flat_map(|role| role["rules"].as_array().cloned().unwrap_or_default());
    table(
        ["API group", "resource", "verbs", "when"],
        rules.flat_map(|rule| rows(&rule)),
    )
}

/// A rule as rows; what a setting takes away has a row of its own.
fn rows(rule: &Value) -> Vec<[String; 4]> {
    let texts = |key: &str| -> Vec<String> {
        let texts = rule[key].as_array().into_iter().flatten();
        texts
            .filter_map(|text| text.as_str().map(str::to_owned))
            .collect()
    };
    let group = match texts("apiGroups").join(", ") {
        core if core.is_empty() => "core".to_owned(),
        group => code(&group),
    };
    let resource = texts("resources").join(", ");
    let row = |verbs: &[&str], when: &str| {
        [
            group.clone(),
            code(&resource),
            verbs.join(", "),
            when.to_owned(),
        ]
    };
    let verbs = texts("verbs");
    let verbs: Vec<&str> = verbs.iter().map(String::as_str).collect();
    match resource.as_str() {
        "secrets" => {
            let (get, watch): (Vec<_>, Vec<_>) =
                verbs.iter().copied().partition(|verb| *verb == "get");
            vec![
                row(&get, "always"),
                row(
                    &watch,
                    "unless `--secret-watch=false`; only metadata is watched",
                ),
            ]
        }
        "leases" if texts("resourceNames").is_empty() => {
            vec![row(
                &verbs,
                "with `--leader-elect`, in the Lease's namespace",
            )]
        }
        "leases" => vec![row(
            &verbs,
            "with `--leader-elect`, on the operator's own Lease",
        )],
        "customresourcedefinitions" => {
            vec![row(
                &verbs,
                "with `--deregistration`, this CRD only, in the whole cluster",
            )]
        }
        _ if resource.ends_with("/status") => vec![row(&verbs, "always; give it to nobody else")],
        _ => vec![row(&verbs, "always")],
    }
}
