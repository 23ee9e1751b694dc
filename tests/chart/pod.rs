//! What the values make of the pods, of the image and of the definition's annotations.

use serde_json::{Value, json};

use super::helm::{Helm, only};

/// The pods' spec with these values.
fn pod(set: &str) -> Value {
    let objects = Helm::alone().render("test", "test", &["--set-json", set]);
    only(&objects, "Deployment").data["spec"]["template"]["spec"].clone()
}

/// The values of a list that have a name.
fn names(list: &Value) -> Vec<&str> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|entry| entry["name"].as_str()).collect()
}

#[test]
fn the_image_comes_from_the_registry_that_is_named() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let version = env!("CARGO_PKG_VERSION");
    let cases = [
        (
            json!({}),
            format!("ghcr.io/whatsapp-operator/whatsapp-operator:{version}"),
        ),
        (
            json!({"image": {"registry": "mirror.example.com:5000/hub", "tag": "1"}}),
            "mirror.example.com:5000/hub/whatsapp-operator/whatsapp-operator:1".to_owned(),
        ),
        (
            json!({"global": {"imageRegistry": "mirror.example.com"}, "image": {"digest": digest}}),
            format!("mirror.example.com/whatsapp-operator/whatsapp-operator:{version}@{digest}"),
        ),
        (
            json!({"image": {"registry": "", "repository": "operator", "tag": "dev"}}),
            "operator:dev".to_owned(),
        ),
    ];
    for (values, image) in cases {
        let fields = values.as_object().expect("an object").iter();
        let set: Vec<_> = fields
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let set = if set.is_empty() {
            "extraArgs=[]".to_owned()
        } else {
            set.join(",")
        };
        assert_eq!(pod(&set)["containers"][0]["image"], image, "{set}");
    }
}

#[test]
fn no_user_id_is_asked_for() {
    let pod = pod("extraArgs=[]");
    let asked = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    assert_eq!(pod["securityContext"], asked);
    assert!(pod["containers"][0]["securityContext"]["runAsUser"].is_null());
}

#[test]
fn what_the_chart_has_no_value_for_is_merged_last() {
    let more = json!({
        "priorityClassName": "mine",
        "securityContext": {"fsGroup": 1},
        "shareProcessNamespace": true,
    });
    let set = format!("podSpec={more},priorityClassName=\"other\"");
    let (plain, changed) = (pod("extraArgs=[]"), pod(&set));
    assert_eq!(changed["priorityClassName"], "mine");
    assert_eq!(changed["shareProcessNamespace"], true);
    let mut security = plain["securityContext"].clone();
    security["fsGroup"] = json!(1);
    assert_eq!(changed["securityContext"], security, "maps are merged");
    assert_eq!(changed["containers"], plain["containers"]);
}

#[test]
fn more_containers_stand_beside_the_operator() {
    let container = json!([{"name": "more", "image": "more"}]);
    let pod = pod(&format!(
        "extraContainers={container},initContainers={container},runtimeClassName=\"gvisor\",\
         schedulerName=\"mine\",hostUsers=false,extraEnvFrom=[{{\"secretRef\":{{\"name\":\"a\"}}}}]"
    ));
    assert_eq!(names(&pod["containers"]), ["operator", "more"]);
    assert_eq!(names(&pod["initContainers"]), ["more"]);
    assert_eq!(pod["runtimeClassName"], "gvisor");
    assert_eq!(pod["schedulerName"], "mine");
    assert_eq!(pod["hostUsers"], false);
    let from = json!([{"secretRef": {"name": "a"}}]);
    assert_eq!(pod["containers"][0]["envFrom"], from);
}

#[test]
fn a_definition_that_is_kept_is_neither_uninstalled_nor_pruned() {
    let annotations = |set: &str| {
        let objects = Helm::alone().render("test", "test", &["--set", set]);
        only(&objects, "CustomResourceDefinition")
            .metadata
            .annotations
            .clone()
    };
    let kept = annotations("crds.keep=true").expect("annotations");
    assert_eq!(kept["helm.sh/resource-policy"], "keep");
    assert_eq!(
        kept["argocd.argoproj.io/sync-options"],
        "Prune=false,Delete=false"
    );
    assert_eq!(annotations("crds.keep=false"), None);
    let own = r"crds.annotations.argocd\.argoproj\.io/sync-options=ServerSideApply=true";
    let own = annotations(own).expect("annotations");
    assert_eq!(
        own["argocd.argoproj.io/sync-options"],
        "ServerSideApply=true"
    );
    assert_eq!(own["helm.sh/resource-policy"], "keep");
}
