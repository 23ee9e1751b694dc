//! Flux's health expressions, evaluated as Flux does it.

use std::sync::Arc;

use cel::{Context, Env};
use serde_json::Value;

use super::yaml;

/// The expressions of the Kustomization in the examples.
fn expressions() -> Value {
    let documents = yaml("flux/numbers.yaml").into_iter();
    let kustomization = documents
        .filter(|document| document["kind"] == "Kustomization")
        .find(|document| document["spec"]["healthCheckExprs"].is_array())
        .expect("a Kustomization with healthCheckExprs");
    let all = kustomization["spec"]["healthCheckExprs"].as_array();
    let [expressions] = &all.expect("a list")[..] else {
        panic!("one entry is enough: {all:?}");
    };
    assert_eq!(expressions["apiVersion"], "whatsapp-operator.dev/v1alpha1");
    assert_eq!(expressions["kind"], "WhatsAppPhoneNumber");
    expressions.clone()
}

/// What Flux makes of a resource: a generation that was not observed is in progress, then the expressions in Flux's
/// order, and in progress if none is true.
pub fn health(resource: &Value) -> &'static str {
    let observed = &resource["status"]["observedGeneration"];
    if observed.is_i64() && *observed != resource["metadata"]["generation"] {
        return "InProgress";
    }
    let expressions = expressions();
    let order = [
        ("inProgress", "InProgress"),
        ("failed", "Failed"),
        ("current", "Current"),
    ];
    let given = order.into_iter().filter_map(|(field, health)| {
        let expression = expressions[field].as_str()?;
        Some((expression, health))
    });
    let mut held = given.filter(|(expression, _)| holds(expression, resource));
    held.next().map_or("InProgress", |(_, health)| health)
}

/// Evaluates an expression; the fields of the resource are its variables.
fn holds(expression: &str, resource: &Value) -> bool {
    let env = Arc::new(Env::stdlib());
    let program = env.compile(expression).expect("an expression");
    let mut context = Context::with_env(env);
    for (name, value) in resource.as_object().expect("an object") {
        let value = cel::to_value(value).expect("a value");
        context.add_variable_from_value(name.as_str(), value);
    }
    match program.execute(&context) {
        Ok(cel::Value::Bool(holds)) => holds,
        // Flux would wait until its timeout.
        other => panic!("{expression} gives {other:?}"),
    }
}
