//! The API server's check of a status against the CRD's schema, for the keywords that the schema uses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{LazyLock, Mutex, PoisonError};

use regex::Regex;
use serde_json::{Map, Value};

/// The schema of `status`, as the CRD has it.
static STATUS: LazyLock<Value> = LazyLock::new(|| {
    let crd = serde_json::to_value(operator_core::api::crd()).expect("the CRD is JSON");
    crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/status")
        .cloned()
        .expect("the CRD has a schema for the status")
});

/// The keywords that say nothing about what is accepted.
const SILENT: &[&str] = &[
    "default",
    "description",
    "title",
    "x-kubernetes-list-map-keys",
];

/// What the API server would refuse, or drop without a word, in a status; empty if it is as the CRD says.
pub fn status_faults(status: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check(&STATUS, status, "status", &mut faults);
    faults
}

fn check(schema: &Value, value: &Value, path: &str, faults: &mut Vec<String>) {
    let schema = schema.as_object().expect("a schema is an object");
    for (keyword, rule) in schema {
        if !holds(keyword, rule, value, schema) {
            faults.push(format!("{path}: not {keyword} {rule}: {value}"));
        }
    }
    match value {
        Value::Object(fields) => check_fields(schema, fields, path, faults),
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                check(&schema["items"], item, &format!("{path}[{at}]"), faults);
            }
        }
        _ => {}
    }
}

fn check_fields(
    schema: &Map<String, Value>,
    fields: &Map<String, Value>,
    path: &str,
    faults: &mut Vec<String>,
) {
    for (name, value) in fields {
        match schema.get("properties").and_then(|all| all.get(name)) {
            Some(schema) => check(schema, value, &format!("{path}.{name}"), faults),
            None => faults.push(format!("{path}.{name} would be dropped")),
        }
    }
}

fn holds(keyword: &str, rule: &Value, value: &Value, schema: &Map<String, Value>) -> bool {
    let length = value.as_str().map(|text| text.chars().count() as u64);
    match keyword {
        "type" => rule.as_str() == Some(type_of(value)),
        "enum" => rule.as_array().is_some_and(|all| all.contains(value)),
        "required" => names(rule).all(|name| value.get(name).is_some()),
        "minLength" => length >= rule.as_u64(),
        "maxLength" => length <= rule.as_u64(),
        "minimum" => value.as_f64() >= rule.as_f64(),
        "maximum" => value.as_f64() <= rule.as_f64(),
        "pattern" => {
            let pattern = rule.as_str().unwrap_or_default();
            value.as_str().is_some_and(|text| matches(pattern, text))
        }
        "format" => match rule.as_str() {
            Some("int32") => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            Some("int64") => value.is_i64(),
            Some("date-time") => is_date_time(value.as_str().unwrap_or_default()),
            other => panic!("teach the test the format {other:?} of the CRD"),
        },
        "x-kubernetes-list-type" if rule == "map" => {
            names(&schema["x-kubernetes-list-map-keys"]).all(|key| are_different(value, key))
        }
        "x-kubernetes-list-type" => rule == "atomic",
        "properties" | "items" => true, // looked at one by one
        _ if SILENT.contains(&keyword) => true,
        _ => panic!("teach the test the keyword {keyword} of the CRD"),
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    static KNOWN: Mutex<BTreeMap<String, Regex>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let compile = || Regex::new(pattern).expect("a pattern");
    let regex = known.entry(pattern.to_owned()).or_insert_with(compile);
    regex.is_match(text)
}

fn names(rule: &Value) -> impl Iterator<Item = &str> {
    rule.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn are_different(list: &Value, key: &str) -> bool {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let keys: BTreeSet<_> = items.iter().map(|item| item[key].to_string()).collect();
    keys.len() == items.len()
}

/// As k8s.io/kube-openapi takes it, as far as the operator writes it and others may.
fn is_date_time(text: &str) -> bool {
    static FORM: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"^[0-9]{4}-(0[1-9]|1[0-2])-[0-9]{2}T([01][0-9]|2[0-3])(:[0-5][0-9]){2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$",
        )
        .expect("a pattern")
    });
    FORM.is_match(text)
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
