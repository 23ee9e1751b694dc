//! What the API server refuses, and whether it says which field is wrong.

use std::thread;

use serde_json::{Value, json};

use super::definition::{each_property, schema};
use super::{Place, Printed, Tested, number};

/// How many kubectl processes run at once.
const AT_ONCE: usize = 8;

/// A number that is in order but for one thing.
#[derive(Debug)]
struct Bad {
    /// Where, as a JSON pointer.
    at: &'static str,
    /// What stands there; nothing if it is missing.
    value: Option<Value>,
    /// What the refusal says.
    says: &'static str,
}

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
        (
            "phoneNumberID: '1'\n  phoneNumberID: '2'",
            "\"phoneNumberID\" already set",
        ),
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
    let says = "spec.phoneNumberID: Invalid value: \"1\": phoneNumberID cannot be changed: declare another resource";
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
        let pointer = format!("/{}", path.replace('.', "/"));
        let named = all.iter().any(|bad| bad.at == pointer);
        assert!(named, "no bad {path} in the table");
    });
    Ok(())
}

/// A value that is wrong where it stands.
fn bad(at: &'static str, value: Value, says: &'static str) -> Bad {
    let value = Some(value);
    Bad { at, value, says }
}

/// Something that is missing.
fn missing(at: &'static str, says: &'static str) -> Bad {
    let value = None;
    Bad { at, value, says }
}

fn table() -> Vec<Bad> {
    let mut table = roots();
    table.extend(ids_and_versions());
    table.extend(secret_refs());
    table.extend(options());
    table
}

fn roots() -> Vec<Bad> {
    vec![
        missing("/spec", "spec: Required value"),
        bad("/spec", json!(null), "spec: Required value"),
        bad("/spec", json!({}), "spec.phoneNumberID: Required value"),
        bad("/spec", json!({}), "spec.tokenSecretRef: Required value"),
        bad("/spec", json!({}), "spec.pinSecretRef: Required value"),
        bad("/spec", json!([]), "spec in body must be of type object"),
        bad("/specs", json!({}), "unknown field \"specs\""),
        bad("/spec/pin", json!("123456"), "unknown field \"spec.pin\""),
        bad("/spec/token", json!("EAA"), "unknown field \"spec.token\""),
        bad(
            "/spec/phoneNumberId",
            json!("1"),
            "unknown field \"spec.phoneNumberId\"",
        ),
        bad(
            "/spec/graphBaseURL",
            json!("https://a"),
            "unknown field \"spec.graphBaseURL\"",
        ),
        bad(
            "/status",
            json!({"ready": true}),
            "unknown field \"status.ready\"",
        ),
        bad(
            "/metadata/name",
            json!("Upper"),
            "metadata.name: Invalid value: \"Upper\"",
        ),
    ]
}

fn ids_and_versions() -> Vec<Bad> {
    let id = "spec.phoneNumberID: Invalid value: ";
    let advice =
        "phoneNumberID must be the ID that WhatsApp Manager shows for the number: digits only";
    let version = "graphAPIVersion must be a version of the Graph API: v, major, a dot, minor, for example v23.0";
    vec![
        missing("/spec/phoneNumberID", "spec.phoneNumberID: Required value"),
        bad(
            "/spec/phoneNumberID",
            json!(null),
            "spec.phoneNumberID: Required value",
        ),
        bad(
            "/spec/phoneNumberID",
            json!(""),
            "spec.phoneNumberID in body should be at least 1 chars long",
        ),
        bad("/spec/phoneNumberID", json!("+49 30 901820"), id),
        bad("/spec/phoneNumberID", json!("+4930901820"), advice),
        bad("/spec/phoneNumberID", json!("12345a"), advice),
        bad("/spec/phoneNumberID", json!("123\n"), advice),
        bad("/spec/phoneNumberID", json!("1/register"), advice),
        bad("/spec/phoneNumberID", json!("١٢٣"), advice),
        bad(
            "/spec/phoneNumberID",
            json!("1".repeat(33)),
            "spec.phoneNumberID: Too long: may not be more than 32",
        ),
        bad(
            "/spec/phoneNumberID",
            json!(106),
            "spec.phoneNumberID in body must be of type string",
        ),
        bad(
            "/spec/phoneNumberID",
            json!(["1"]),
            "spec.phoneNumberID in body must be of type string",
        ),
        bad("/spec/graphAPIVersion", json!("23.0"), version),
        bad("/spec/graphAPIVersion", json!("v23"), version),
        bad("/spec/graphAPIVersion", json!("V23.0"), version),
        bad("/spec/graphAPIVersion", json!("v23.0/x"), version),
        bad(
            "/spec/graphAPIVersion",
            json!(""),
            "spec.graphAPIVersion: Invalid value: \"\"",
        ),
        bad(
            "/spec/graphAPIVersion",
            json!(23),
            "spec.graphAPIVersion in body must be of type string",
        ),
        bad(
            "/spec/graphAPIVersion",
            json!("v1234567890.123456"),
            "spec.graphAPIVersion: Too long: may not be more than 16",
        ),
    ]
}

fn secret_refs() -> Vec<Bad> {
    let long = || json!("a".repeat(254));
    vec![
        missing(
            "/spec/tokenSecretRef",
            "spec.tokenSecretRef: Required value",
        ),
        bad(
            "/spec/tokenSecretRef",
            json!("a"),
            "spec.tokenSecretRef in body must be of type object",
        ),
        bad(
            "/spec/tokenSecretRef",
            json!({"key": "a"}),
            "spec.tokenSecretRef.name: Required value",
        ),
        bad(
            "/spec/tokenSecretRef/name",
            json!(null),
            "spec.tokenSecretRef.name: Required value",
        ),
        bad(
            "/spec/tokenSecretRef/name",
            json!(""),
            "spec.tokenSecretRef.name in body should be at least 1 chars long",
        ),
        bad(
            "/spec/tokenSecretRef/name",
            json!("Upper"),
            "spec.tokenSecretRef.name in body should match",
        ),
        bad(
            "/spec/tokenSecretRef/name",
            json!("other/a"),
            "spec.tokenSecretRef.name in body should match",
        ),
        bad(
            "/spec/tokenSecretRef/name",
            json!("-a"),
            "spec.tokenSecretRef.name in body should match",
        ),
        bad(
            "/spec/tokenSecretRef/name",
            json!("a."),
            "spec.tokenSecretRef.name in body should match",
        ),
        bad(
            "/spec/tokenSecretRef/name",
            json!("{{ a }}"),
            "spec.tokenSecretRef.name in body should match",
        ),
        bad(
            "/spec/tokenSecretRef/name",
            long(),
            "spec.tokenSecretRef.name: Too long: may not be more than 253",
        ),
        bad(
            "/spec/tokenSecretRef/key",
            json!(""),
            "spec.tokenSecretRef.key in body should be at least 1 chars long",
        ),
        bad(
            "/spec/tokenSecretRef/key",
            json!("a/b"),
            "spec.tokenSecretRef.key in body should match",
        ),
        bad(
            "/spec/tokenSecretRef/key",
            json!("a b"),
            "spec.tokenSecretRef.key in body should match",
        ),
        bad(
            "/spec/tokenSecretRef/key",
            long(),
            "spec.tokenSecretRef.key: Too long: may not be more than 253",
        ),
        bad(
            "/spec/tokenSecretRef/key",
            json!(1),
            "spec.tokenSecretRef.key in body must be of type string",
        ),
        bad(
            "/spec/tokenSecretRef/namespace",
            json!("a"),
            "unknown field \"spec.tokenSecretRef.namespace\"",
        ),
        missing("/spec/pinSecretRef", "spec.pinSecretRef: Required value"),
        bad(
            "/spec/pinSecretRef",
            json!([]),
            "spec.pinSecretRef in body must be of type object",
        ),
        missing(
            "/spec/pinSecretRef/name",
            "spec.pinSecretRef.name: Required value",
        ),
        bad(
            "/spec/pinSecretRef/name",
            json!("a_b"),
            "spec.pinSecretRef.name in body should match",
        ),
        bad(
            "/spec/pinSecretRef/key",
            json!("pin:"),
            "spec.pinSecretRef.key in body should match",
        ),
        bad(
            "/spec/pinSecretRef/value",
            json!("1"),
            "unknown field \"spec.pinSecretRef.value\"",
        ),
        bad(
            "/spec/backupSecretRef",
            json!({}),
            "spec.backupSecretRef.name: Required value",
        ),
        bad(
            "/spec/backupSecretRef",
            json!({"name": "a", "key": "b"}),
            "unknown field \"spec.backupSecretRef.key\"",
        ),
        bad(
            "/spec/backupSecretRef/name",
            json!("A"),
            "spec.backupSecretRef.name in body should match",
        ),
        bad(
            "/spec/backupSecretRef/passwordKey",
            json!(""),
            "spec.backupSecretRef.passwordKey in body should be at least 1",
        ),
        bad(
            "/spec/backupSecretRef/dataKey",
            json!("a/b"),
            "spec.backupSecretRef.dataKey in body should match",
        ),
        bad(
            "/spec/appSecretRef",
            json!(true),
            "spec.appSecretRef in body must be of type object",
        ),
        bad(
            "/spec/appSecretRef/name",
            json!(" a"),
            "spec.appSecretRef.name in body should match",
        ),
        bad(
            "/spec/appSecretRef/key",
            long(),
            "spec.appSecretRef.key: Too long: may not be more than 253",
        ),
    ]
}

fn options() -> Vec<Bad> {
    let retention = "spec.metaStoreRetentionMinutes in body ";
    let region = "spec.dataLocalizationRegion: Unsupported value: ";
    let policy = "spec.deletionPolicy: Unsupported value: ";
    vec![
        bad("/spec/dataLocalizationRegion", json!("de"), region),
        bad(
            "/spec/dataLocalizationRegion",
            json!("US"),
            "supported values: \"AE\", \"AU\"",
        ),
        bad("/spec/dataLocalizationRegion", json!(""), region),
        bad(
            "/spec/metaStoreRetentionMinutes",
            json!(59),
            "should be greater than or equal to 60",
        ),
        bad(
            "/spec/metaStoreRetentionMinutes",
            json!(61),
            "should be less than or equal to 60",
        ),
        bad("/spec/metaStoreRetentionMinutes", json!("60"), retention),
        bad("/spec/metaStoreRetentionMinutes", json!(60.5), retention),
        bad(
            "/spec/suspend",
            json!("true"),
            "spec.suspend in body must be of type boolean",
        ),
        bad(
            "/spec/suspend",
            json!(1),
            "spec.suspend in body must be of type boolean",
        ),
        bad(
            "/spec/deletionPolicy",
            json!("Delete"),
            "supported values: \"Retain\", \"Deregister\"",
        ),
        bad("/spec/deletionPolicy", json!("retain"), policy),
        bad("/spec/deletionPolicy", json!(""), policy),
    ]
}

fn dry_run(place: &Place, text: &str) -> Printed {
    place.kubectl_with(&["apply", "--dry-run=server", "--filename=-"], text)
}

// === impl Bad ===

impl Bad {
    /// The number with the one thing wrong.
    fn applied_to(&self, good: &Value) -> Value {
        let mut number = good.clone();
        let (parent, field) = self
            .at
            .rsplit_once('/')
            .expect("a JSON pointer has a slash");
        if number.pointer(parent).is_none() {
            *self.parent(&mut number, parent) = json!({"name": "whatsapp"});
        }
        let object = self.parent(&mut number, parent).as_object_mut();
        let object = object.expect("the parent is an object");
        match &self.value {
            Some(value) => object.insert(field.to_owned(), value.clone()),
            None => object.remove(field),
        };
        number
    }

    /// The object that a pointer names; a reference in the spec that is not there yet is made.
    fn parent<'a>(&self, number: &'a mut Value, pointer: &str) -> &'a mut Value {
        pointer
            .split('/')
            .skip(1)
            .fold(number, |at, name| &mut at[name])
    }

    /// What is wrong with the refusal.
    fn fault(&self, printed: &Printed) -> Option<String> {
        let field = self.at.rsplit('/').next().unwrap_or_default();
        let said = &printed.stderr;
        let named = said.contains(self.says) && said.contains(field);
        (printed.succeeded || !named).then(|| format!("{self:?}: {said:?}"))
    }
}
