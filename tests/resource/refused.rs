//! What the API server refuses, and whether it says which field is wrong.

mod table;

use std::thread;

use serde_json::json;

use super::definition::{each_property, schema};
use super::{Place, Printed, Tested, number};
use table::table;

/// How many kubectl processes run at once.
const AT_ONCE: usize = 8;

#[tokio::test]
async fn what_is_wrong_is_refused_by_name() -> Tested {
    let place = Place::new().await?;
    let good = number("good");
    let printed = dry_run(&place, &good.to_string());
    assert!(printed.succeeded, "the good one: {}", printed.stderr);
    let (all, mut faults) = (table(), Vec::new());
    assert!(all.len() >= 40);
    for some in all.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let (place, good) = (&place, &good);
            let running = some.iter().map(|bad| {
                let text = bad.applied_to(good).to_string();
                (bad, scope.spawn(move || dry_run(place, &text)))
            });
            for (bad, thread) in running.collect::<Vec<_>>() {
                let printed = thread.join().expect("kubectl was run");
                faults.extend(bad.fault(&printed));
            }
        });
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// Text that is right in YAML and wrong here, with what people write most often: an ID without quotes.
#[tokio::test]
async fn yaml_that_means_something_else_is_refused() -> Tested {
    let place = Place::new().await?;
    let yaml = |spec: &str| {
        format!(
            "apiVersion: whatsapp-operator.dev/v1alpha1\nkind: WhatsAppPhoneNumber\nmetadata: {{name: yaml}}\nspec:\n  \
             tokenSecretRef: {{name: a}}\n  pinSecretRef: {{name: a}}\n  {spec}\n"
        )
    };
    let cases = [
        (
            "phoneNumberID: 106540352242922",
            "spec.phoneNumberID in body must be of type string",
        ),
        (
            "phoneNumberID: 1e5",
            "spec.phoneNumberID in body must be of type string",
        ),
        (
            "phoneNumberID: '1'\n  graphAPIVersion: 23.0",
            "spec.graphAPIVersion in body must be of type string",
        ),
        (
            "phoneNumberID: '1'\n  suspend: 'yes'",
            "spec.suspend in body must be of type boolean",
        ),
        ("phoneNumberID:", "spec.phoneNumberID: Required value"),
    ];
    for (spec, says) in cases {
        let printed = dry_run(&place, &yaml(spec));
        assert!(!printed.succeeded, "accepted: {spec}");
        assert!(printed.stderr.contains(says), "{spec}: {}", printed.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn the_phone_number_id_cannot_be_changed() -> Tested {
    let place = Place::new().await?;
    place.create(&number("existing")).await?;
    let mut changed = number("existing");
    changed["spec"]["phoneNumberID"] = json!("1");
    let printed = dry_run(&place, &changed.to_string());
    let says = "spec.phoneNumberID: Invalid value: \"1\": phoneNumberID is immutable: create another resource";
    assert!(printed.stderr.contains(says), "{}", printed.stderr);

    changed["spec"]["phoneNumberID"] = number("existing")["spec"]["phoneNumberID"].take();
    changed["spec"]["suspend"] = json!(true);
    let printed = dry_run(&place, &changed.to_string());
    assert!(printed.succeeded, "others can: {}", printed.stderr);
    Ok(())
}

#[test]
fn the_table_has_every_field_of_the_spec() -> Tested {
    let all = table();
    each_property(&schema()?["properties"]["spec"], "spec", &mut |path, _| {
        let named = all.iter().any(|bad| bad.at == path);
        assert!(named, "no bad {path} in the table");
    });
    Ok(())
}

fn dry_run(place: &Place, text: &str) -> Printed {
    place.kubectl_with(&["apply", "--dry-run=server", "--filename=-"], text)
}
