//! The definition itself: as the types have it, described throughout, and bounded.

use operator_core::api::crd_yaml;
use serde_json::Value;

use super::{Place, Tested};

/// The file that people apply.
const FILE: &str = include_str!("../../crds/whatsappphonenumbers.yaml");

#[test]
fn the_file_is_what_the_types_say() -> Tested {
    assert!(
        FILE == crd_yaml()?,
        "crds/whatsappphonenumbers.yaml differs from src/api; regenerate it: \
         cargo run -- crd > crds/whatsappphonenumbers.yaml"
    );
    Ok(())
}

#[test]
fn every_field_is_described_in_sentences() -> Tested {
    let mut faults = Vec::new();
    let mut seen = 0;
    each_property(&schema()?, "", &mut |path, property| {
        seen += 1;
        let text = property["description"].as_str().unwrap_or_default();
        if !text.ends_with('.') || text.len() < 12 {
            faults.push(format!("{path}: no sentence: {text:?}"));
        }
        if text.replace("\n\n", "").contains('\n') {
            faults.push(format!("{path}: a line ends inside a paragraph: {text:?}"));
        }
    });
    assert!(seen > 50, "only {seen} fields were looked at");
    assert!(faults.is_empty(), "{faults:#?}");
    Ok(())
}

#[test]
fn every_text_that_people_write_is_bounded() -> Tested {
    let mut faults = Vec::new();
    each_property(&schema()?["properties"]["spec"], "spec", &mut |path, p| {
        let text = p["type"] == "string" && p["enum"].is_null();
        if text && (p["maxLength"].is_null() || p["pattern"].is_null()) {
            faults.push(path.to_owned());
        }
    });
    assert!(
        faults.is_empty(),
        "without maxLength or pattern: {faults:?}"
    );
    Ok(())
}

#[test]
fn nothing_accepts_null_or_unknown_fields() -> Tested {
    for word in ["nullable", "preserve-unknown", "additionalProperties"] {
        assert!(!FILE.contains(word), "the definition has {word}");
    }
    Ok(())
}

#[test]
fn the_phone_number_id_is_selectable() -> Tested {
    let version = &definition()?["spec"]["versions"][0];
    let path = &version["selectableFields"][0]["jsonPath"];
    assert_eq!(path, ".spec.phoneNumberID");
    Ok(())
}

/// The API server warns of formats that it does not know, and of what kubectl could not show.
#[tokio::test]
async fn it_is_applied_without_a_warning() -> Tested {
    let place = Place::new().await?;
    let apply = ["apply", "--server-side", "--force-conflicts"];
    let args = [&apply[..], &["--dry-run=server", "--filename=-"]].concat();
    let printed = place.kubectl_with(&args, FILE);
    assert!(
        printed.succeeded && printed.stderr.is_empty(),
        "{printed:?}"
    );
    Ok(())
}

/// The definition as JSON.
fn definition() -> Result<Value, serde_norway::Error> {
    serde_norway::from_str(FILE)
}

/// The schema of the resource.
pub fn schema() -> Result<Value, serde_norway::Error> {
    Ok(definition()?["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take())
}

/// Visits each property below a schema, with its path.
pub fn each_property(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    let properties = schema["properties"].as_object().into_iter().flatten();
    for (name, property) in properties {
        let path = format!("{path}.{name}");
        let path = path.trim_start_matches('.');
        visit(path, property);
        each_property(property, path, visit);
        each_property(&property["items"], path, visit);
    }
}
