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

/// The fields of `spec`, and below them the fields of those that are objects.
pub fn spec() -> String {
    described("spec", |fields| {
        let rows = fields.iter().map(|field| {
            let default = field.default();
            let default = default.unwrap_or_else(|| field.absence().to_owned());
            [code(field.name), field.type_(), default, field.meaning()]
        });
        table(["field", "type", "default", "meaning"], rows)
    })
}

/// The same of `status`, which people do not write.
pub fn status() -> String {
    described("status", |fields| {
        let rows = fields.iter();
        let rows = rows.map(|field| [code(field.name), field.type_(), field.meaning()]);
        table(["field", "type", "meaning"], rows)
    })
}

/// A table of the fields of a part, and a section for each field that has fields.
fn described(part: &str, table: impl Fn(&[Field<'_>]) -> String) -> String {
    let schema = schema(part);
    let all = fields(&schema);
    let sections = all.iter().filter_map(|field| {
        let inner = field.fields();
        let section = format!("\n### {part}.{}\n\n{}", field.name, table(&inner));
        (!inner.is_empty()).then_some(section)
    });
    table(&all) + &sections.collect::<String>()
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

    /// The description and the values that are allowed.
    fn meaning(&self) -> String {
        let mut meaning = self.text("description").to_owned();
        if let Some(values) = self.schema["enum"].as_array() {
            let values = values.iter().filter_map(Value::as_str);
            meaning += &format!(" One of {}.", codes(values));
        }
        meaning
    }

    /// The fields of an object, or of the objects in a list.
    fn fields(&self) -> Vec<Field<'_>> {
        fields(self.schema.get("items").unwrap_or(self.schema))
    }

    fn text(&self, key: &str) -> &str {
        self.schema[key].as_str().unwrap_or_default()
    }
}
