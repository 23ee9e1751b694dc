//! What is refused: one thing wrong at a time, and what the refusal says.

use serde_json::{Value, json};

use crate::resource::Printed;

/// A number that is in order but for one thing.
#[derive(Debug)]
pub struct Bad {
    /// The path of the field.
    pub at: &'static str,
    /// What stands there; nothing if it is missing.
    value: Option<Value>,
    /// What the refusal says beside the path.
    says: &'static str,
}

/// Everything that is refused.
pub fn table() -> Vec<Bad> {
    let mut table = roots();
    table.extend(ids());
    table.extend(versions());
    table.extend(token_refs());
    table.extend(other_refs());
    table.extend(options());
    table
}

/// A value that is wrong where it stands.
fn bad(at: &'static str, value: Value, says: &'static str) -> Bad {
    let value = Some(value);
    Bad { at, value, says }
}

/// Something that is missing.
fn missing(at: &'static str) -> Bad {
    let says = "Required value";
    let value = None;
    Bad { at, value, says }
}

fn roots() -> Vec<Bad> {
    vec![
        missing("spec"),
        bad("spec", json!(null), "Required value"),
        bad("spec", json!({}), "spec.phoneNumberID: Required value"),
        bad("spec", json!({}), "spec.tokenSecretRef: Required value"),
        bad("spec", json!({}), "spec.pinSecretRef: Required value"),
        bad("spec", json!([]), "must be of type object"),
        bad("specs", json!({}), "unknown field"),
        bad("spec.pin", json!("123456"), "unknown field"),
        bad("spec.token", json!("EAA"), "unknown field"),
        bad("spec.phoneNumberId", json!("1"), "unknown field"),
        bad("spec.graphBaseURL", json!("https://a"), "unknown field"),
        bad("status.ready", json!(true), "unknown field"),
        bad("metadata.name", json!("Upper"), "lowercase RFC 1123"),
    ]
}

fn ids() -> Vec<Bad> {
    let at = "spec.phoneNumberID";
    let advice = "must be the ID that WhatsApp Manager shows for the number: digits only";
    vec![
        missing(at),
        bad(at, json!(null), "Required value"),
        bad(at, json!(""), "at least 1 chars long"),
        bad(at, json!("+49 30 901820"), "should match '^[0-9]{1,32}$'"),
        bad(at, json!("+4930901820"), advice),
        bad(at, json!("12345a"), advice),
        bad(at, json!("123\n"), advice),
        bad(at, json!("1/register"), advice),
        bad(at, json!("١٢٣"), advice),
        bad(at, json!("1".repeat(33)), "may not be more than 32"),
        bad(at, json!(106), "must be of type string"),
        bad(at, json!(["1"]), "must be of type string"),
    ]
}

fn versions() -> Vec<Bad> {
    let at = "spec.graphAPIVersion";
    let advice = "must be a version of the Graph API, for example v23.0";
    vec![
        bad(at, json!("23.0"), advice),
        bad(at, json!("v23"), advice),
        bad(at, json!("V23.0"), advice),
        bad(at, json!("v23.0/x"), advice),
        bad(at, json!(""), advice),
        bad(at, json!("latest"), "should match"),
        bad(at, json!(23), "must be of type string"),
        bad(at, json!("v1234567890.123456"), "may not be more than 16"),
    ]
}

fn token_refs() -> Vec<Bad> {
    let (at, name) = ("spec.tokenSecretRef", "spec.tokenSecretRef.name");
    let key = "spec.tokenSecretRef.key";
    vec![
        missing(at),
        bad(at, json!("a"), "must be of type object"),
        bad(at, json!({"key": "a"}), "name: Required value"),
        missing(name),
        bad(name, json!(null), "Required value"),
        bad(name, json!(""), "at least 1 chars long"),
        bad(name, json!("Upper"), "should match"),
        bad(name, json!("other/a"), "should match"),
        bad(name, json!("-a"), "should match"),
        bad(name, json!("a."), "should match"),
        bad(name, json!("{{ a }}"), "should match"),
        bad(name, too_long(), "may not be more than 253"),
        bad(key, json!(""), "at least 1 chars long"),
        bad(key, json!("a/b"), "should match"),
        bad(key, json!("a b"), "should match"),
        bad(key, too_long(), "may not be more than 253"),
        bad(key, json!(1), "must be of type string"),
        bad("spec.tokenSecretRef.namespace", json!("a"), "unknown field"),
    ]
}

fn other_refs() -> Vec<Bad> {
    let backup = "spec.backupSecretRef";
    vec![
        missing("spec.pinSecretRef"),
        bad("spec.pinSecretRef", json!([]), "must be of type object"),
        missing("spec.pinSecretRef.name"),
        bad("spec.pinSecretRef.name", json!("a_b"), "should match"),
        bad("spec.pinSecretRef.key", json!("pin:"), "should match"),
        bad("spec.pinSecretRef.value", json!("1"), "unknown field"),
        bad(backup, json!({}), "name: Required value"),
        bad("spec.backupSecretRef.key", json!("a"), "unknown field"),
        bad("spec.backupSecretRef.name", json!("A"), "should match"),
        bad("spec.backupSecretRef.passwordKey", json!(""), "at least 1"),
        bad("spec.backupSecretRef.dataKey", json!("a/b"), "should match"),
        bad("spec.appSecretRef", json!(true), "must be of type object"),
        bad("spec.appSecretRef.name", json!(" a"), "should match"),
        bad("spec.appSecretRef.key", too_long(), "more than 253"),
    ]
}

fn options() -> Vec<Bad> {
    let region = "spec.dataLocalizationRegion";
    let retention = "spec.metaStoreRetentionMinutes";
    let policy = "spec.deletionPolicy";
    let (interval, loss) = ("spec.observeInterval", "spec.lossPolicy");
    vec![
        bad(region, json!("de"), "Unsupported value: \"de\""),
        bad(region, json!("US"), "supported values: \"AE\", \"AU\""),
        bad(region, json!(""), "Unsupported value: \"\""),
        bad(retention, json!(59), "greater than or equal to 60"),
        bad(retention, json!(61), "less than or equal to 60"),
        bad(retention, json!("60"), "must be of type integer"),
        bad(retention, json!(60.5), "must be of type int32"),
        bad("spec.suspend", json!("true"), "must be of type boolean"),
        bad("spec.suspend", json!(1), "must be of type boolean"),
        bad(
            policy,
            json!("Delete"),
            "values: \"Retain\", \"Deregister\"",
        ),
        bad(policy, json!("retain"), "Unsupported value: \"retain\""),
        bad(policy, json!(""), "Unsupported value: \"\""),
        bad(loss, json!("Ignore"), "values: \"Report\", \"Register\""),
        bad(interval, json!("4m"), "at least 5m"),
        bad(interval, json!("1d"), "should match"),
        bad(interval, json!("1h 30m"), "should match"),
        bad(interval, json!("P1D"), "should match"),
        bad(interval, json!("-1h"), "should match"),
        bad(interval, json!("90"), "should match"),
        bad(interval, json!(""), "at least 2"),
        bad(interval, json!(60), "must be of type string"),
    ]
}

/// One letter more than the name of a Secret, or its key, can have.
fn too_long() -> Value {
    json!("a".repeat(254))
}

// === impl Bad ===

impl Bad {
    /// The number with the one thing wrong.
    pub fn applied_to(&self, good: &Value) -> Value {
        let mut number = good.clone();
        let (parents, field) = self.at.rsplit_once('.').unwrap_or(("", self.at));
        let parents = parents.split('.').filter(|name| !name.is_empty());
        let mut object = &mut number;
        for name in parents {
            object = &mut object[name];
            if object.is_null() {
                // An optional reference: all else about it is in order.
                *object = json!({"name": "whatsapp"});
            }
        }
        match &self.value {
            Some(value) => object[field] = value.clone(),
            None => drop(object.as_object_mut().map(|object| object.remove(field))),
        }
        number
    }

    /// What is wrong with the refusal.
    pub fn fault(&self, printed: &Printed) -> Option<String> {
        let said = &printed.stderr;
        let named = said.contains(self.at) && said.contains(self.says);
        (printed.succeeded || !named).then(|| format!("{self:?}: {said:?}"))
    }
}
