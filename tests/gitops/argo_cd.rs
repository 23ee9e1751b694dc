//! Argo CD's scripts, run as Argo CD runs them: Lua 5.1, the resource as the global `obj`, and no library but base,
//! table and package, where `require("os")` gives the time and nothing else.

use std::path::{Path, PathBuf};

use mlua::serde::SerializeOptions;
use mlua::{Lua, LuaOptions, LuaSerdeExt as _, StdLib, Table};
use operator_core::api::REGISTER_REQUESTED_AT;
use serde::Deserialize;
use serde_json::Value;

use super::{Tested, example, yaml};

/// Where the scripts are, in the layout of Argo CD's own repository.
pub const SCRIPTS: &str =
    "argo-cd/resource_customizations/whatsapp-operator.dev/WhatsAppPhoneNumber";

/// What Argo CD shows of a resource.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    pub status: String,
    pub message: String,
}

/// `health_test.yaml`, as Argo CD's own tests read it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HealthTests {
    tests: Vec<HealthTest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct HealthTest {
    input_path: String,
    health_status: Health,
}

/// `action_test.yaml`, as Argo CD's own tests read it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ActionTests {
    discovery_tests: Vec<DiscoveryTest>,
    action_tests: Vec<ActionTest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DiscoveryTest {
    input_path: String,
    result: Vec<Offered>,
}

/// An action in the menu of a resource.
#[derive(Debug, PartialEq, PartialOrd, Eq, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
struct Offered {
    name: String,
    disabled: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ActionTest {
    action: String,
    input_path: String,
    expected_output_path: String,
}

/// The text of one of the scripts.
pub fn script(name: &str) -> String {
    example(&format!("{SCRIPTS}/{name}"))
}

/// What Argo CD shows of a resource. It does not ask the script about one that is being deleted.
pub fn health(resource: &Value) -> Health {
    if !resource["metadata"]["deletionTimestamp"].is_null() {
        return Health {
            status: "Progressing".to_owned(),
            message: "Pending deletion".to_owned(),
        };
    }
    let result = run(&script("health.lua"), resource);
    serde_json::from_value(result).expect("the script gives a status and a message")
}

/// The resource as an action leaves it.
pub fn act(action: &str, resource: &Value) -> Value {
    run(&script(&format!("actions/{action}/action.lua")), resource)
}

/// The actions that can be chosen for a resource.
pub fn enabled(resource: &Value) -> Vec<String> {
    let offered = discover(resource).into_iter();
    let enabled = offered.filter(|action| !action.disabled);
    enabled.map(|action| action.name).collect()
}

fn discover(resource: &Value) -> Vec<Offered> {
    let actions = run(&script("actions/discovery.lua"), resource);
    let actions = actions.as_object().expect("a table of actions").iter();
    let offered = actions.map(|(name, action)| Offered {
        name: name.clone(),
        disabled: action["disabled"] == true,
    });
    let mut offered: Vec<_> = offered.collect();
    offered.sort();
    offered
}

/// What a script returns for a resource.
fn run(script: &str, resource: &Value) -> Value {
    let lua = Lua::new_with(
        StdLib::OS | StdLib::PACKAGE | StdLib::TABLE,
        LuaOptions::new(),
    )
    .expect("Lua starts");
    confine(&lua).expect("Lua is confined");
    // As Argo CD does it: null is nil, and every number a float.
    let options = SerializeOptions::new()
        .serialize_none_to_null(false)
        .serialize_unit_to_null(false);
    let object = lua.to_value_with(resource, options).expect("a table");
    lua.globals().set("obj", object).expect("a global");
    let result: mlua::Value = lua
        .load(script)
        .eval()
        .unwrap_or_else(|error| panic!("the script fails: {error}"));
    lua.from_value(result).expect("a table of plain values")
}

/// Takes away what scripts do not have in Argo CD; of `os` only the time is left, behind `require`.
fn confine(lua: &Lua) -> mlua::Result<()> {
    let globals = lua.globals();
    let os: Table = globals.get("os")?;
    let time = lua.create_table()?;
    for name in ["date", "time"] {
        time.set(name, os.get::<mlua::Function>(name)?)?;
    }
    for name in ["coroutine", "os"] {
        globals.set(name, mlua::Nil)?;
    }
    let loaded: Table = globals.get::<Table>("package")?.get("loaded")?;
    loaded.set("os", time)
}

/// A file of the scripts' own tests.
fn testdata(path: &Path) -> Value {
    serde_norway::from_str(&script(path.to_str().expect("a path in ASCII"))).expect("YAML")
}

#[test]
fn the_health_script_passes_its_own_tests() {
    let tests: HealthTests =
        serde_norway::from_str(&script("health_test.yaml")).expect("tests as Argo CD reads them");
    let mut seen: Vec<String> = Vec::new();
    for test in tests.tests {
        let health = health(&testdata(Path::new(&test.input_path)));
        assert_eq!(health, test.health_status, "{}", test.input_path);
        seen.push(health.status);
    }
    for status in ["Healthy", "Progressing", "Degraded", "Suspended"] {
        assert!(seen.contains(&status.to_owned()), "no test ends {status}");
    }
}

#[test]
fn the_actions_pass_their_own_tests() {
    let tests: ActionTests = serde_norway::from_str(&script("actions/action_test.yaml"))
        .expect("tests as Argo CD reads them");
    let directory = PathBuf::from("actions");
    for mut test in tests.discovery_tests {
        let offered = discover(&testdata(&directory.join(&test.input_path)));
        test.result.sort();
        assert_eq!(offered, test.result, "{}", test.input_path);
    }
    for test in tests.action_tests {
        let before = testdata(&directory.join(&test.input_path));
        let expected = testdata(&directory.join(&test.expected_output_path));
        let after = at_the_time_of(&expected, act(&test.action, &before));
        assert_eq!(after, expected, "{} of {}", test.action, test.input_path);
        assert_ne!(before, expected, "{} changes something", test.action);
    }
}

/// The resource as if the action had been chosen when the expected one was written down.
fn at_the_time_of(expected: &Value, mut resource: Value) -> Value {
    let time = &expected["metadata"]["annotations"][REGISTER_REQUESTED_AT];
    let annotation = resource.pointer_mut(&format!(
        "/metadata/annotations/{}",
        REGISTER_REQUESTED_AT.replace('/', "~1")
    ));
    if let (Some(annotation), Some(_)) = (annotation, time.as_str()) {
        let given: Result<jiff::Timestamp, _> = annotation.as_str().unwrap_or_default().parse();
        let given = given.expect("the action writes a time");
        // Another one each time, or the second request would count as handled.
        let age = jiff::Timestamp::now().duration_since(given);
        assert!(age.abs() < jiff::SignedDuration::from_mins(1), "{given}");
        *annotation = time.clone();
    }
    resource
}

/// Every script is in the ConfigMap that people copy, and that the book shows, as it is tested here.
#[test]
fn the_configmap_has_the_scripts_and_the_book_shows_it() -> Tested {
    let config = yaml("argo-cd/argocd-cm.yaml").remove(0);
    let kind = "whatsapp-operator.dev_WhatsAppPhoneNumber";
    let health_key = format!("resource.customizations.health.{kind}");
    assert_eq!(config["data"][&health_key], script("health.lua").as_str());

    let page = std::fs::read_to_string("docs/guides/gitops.md")?;
    let include = "{{#include ../../examples/gitops/argo-cd/argocd-cm.yaml}}";
    assert!(page.contains(include), "the page lacks {include}");

    let actions = config["data"][format!("resource.customizations.actions.{kind}")]
        .as_str()
        .ok_or("no actions")?;
    let actions: Value = serde_norway::from_str(actions)?;
    assert_eq!(
        actions["discovery.lua"],
        script("actions/discovery.lua").as_str()
    );
    let definitions = actions["definitions"].as_array().ok_or("no definitions")?;
    let mut names = Vec::new();
    for definition in definitions {
        let name = definition["name"].as_str().ok_or("no name")?;
        let text = script(&format!("actions/{name}/action.lua"));
        assert_eq!(definition["action.lua"], text.as_str(), "{name}");
        names.push(name.to_owned());
    }
    names.sort();
    let offered = discover(&serde_json::json!({"spec": {}})).into_iter();
    let offered: Vec<_> = offered.map(|action| action.name).collect();
    assert_eq!(names, offered, "every action that is offered is defined");
    Ok(())
}
