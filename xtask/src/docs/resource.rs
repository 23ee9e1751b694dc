//! The resource: conditions and fields, as the CRD has them.

use operator_core::api::{conditions, crd};
use serde_json::Value;

use super::markdown::{code, codes, table};

/// The conditions.
pub fn conditions() -> String {
    let rows = conditions::TYPES.iter();
    let rows = rows.map(|(type_, meaning)| [code(type_), (*meaning).to_owned()]);
    table(["type", "meaning"], rows)
}

/// The fields of `spec`.
pub fn spec() -> String {
    let schema = schema("spec");
    let rows = fields(&schema).into_iter().map(|field| {
        let default = field
            .default()
            .unwrap_or_else(|| field.absence().to_owned());
        [code(field.name), field.type_(), default, field.meaning()]
    });
    table(["spec field", "type", "default", "meaning"], rows)
}

/// The fields of `status`.
pub fn status() -> String {
    let schema = schema("status");
    let rows = fields(&schema).into_iter();
    let rows = rows.map(|field| [code(field.name), field.type_(), field.meaning()]);
    table(["status field", "type", "meaning"], rows)
}

/// `spec` or `status` in the schema of the CRD.
fn schema(part: &str) -> Value {
    let crd = serde_json::to_value(crd()).expect("the CRD is JSON");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part].clone()
}

/// A property of an object in the schema.
struct Field<'a> {
    name: &'a str,
    required: bool,
    schema: &'a Value,
}

/// The properties of an object: the required ones, then the others.
fn fields(object: &Value) -> Vec<Field<'_>> {
    let required = object["required"].as_array();
    let is_required = |name: &str| required.is_some_and(|all| all.iter().any(|r| r == name));
    let properties = object["properties"].as_object().into_iter().flatten();
    let mut fields: Vec<Field<'_>> = properties
        .map(|(name, schema)| Field {
            name,
            required: is_required(name),
            schema,
        })
        .collect();
    fields.sort_by_key(|field| !field.required);
    fields
}

impl Field<'_> {
    fn type_(&self) -> String {
        let type_ = match self.text("type") {
            "array" => "list",
            type_ => type_,
        };
        let type_ = if self.text("format") == "date-time" {
            "time"
        } else {
            type_
        };
        type_.to_owned()
    }

    fn default(&self) -> Option<String> {
        match &self.schema["default"] {
            Value::Null => None,
            Value::String(text) => Some(code(text)),
            other => Some(code(&other.to_string())),
        }
    }

    /// The word for a field without a default.
    fn absence(&self) -> &'static str {
        if self.required { "required" } else { "none" }
    }

    /// The description, the values that are allowed, and the fields within.
    fn meaning(&self) -> String {
        let mut meaning = self.text("description").to_owned();
        if let Some(values) = self.schema["enum"].as_array() {
            let values = values.iter().filter_map(Value::as_str);
            meaning += &format!(" One of {}.", codes(values));
        }
        let object = self.schema.get("items").unwrap_or(self.schema);
        let inner: Vec<String> = fields(object).iter().map(Field::with_default).collect();
        if !inner.is_empty() {
            meaning += &format!(" Fields: {}.", inner.join(", "));
        }
        meaning
    }

    fn with_default(&self) -> String {
        let default = self
            .default()
            .map(|default| format!(" (default {default})"));
        code(self.name) + &default.unwrap_or_default()
    }

    fn text(&self, key: &str) -> &str {
        self.schema[key].as_str().unwrap_or_default()
    }
}
