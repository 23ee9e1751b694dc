//! What people see with kubectl: columns, names, selectors, explanations.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::definition::{each_property, schema};
use super::states::{RATE_LIMIT, SUCCESS, WRONG_PIN, after};
use super::{Place, Tested, number, number_with_id};

/// How long the API server may take to publish what it can explain.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_columns_tell_what_happened() -> Tested {
    let place = Place::new().await?;
    place.create(&number_with_id("failed", "1001")).await?;
    place.create(&number_with_id("unseen", "1002")).await?;
    place.create(&number_with_id("waiting", "1003")).await?;
    place.create(&number_with_id("working", "1004")).await?;
    place.report("failed", &after(400, WRONG_PIN, 1)).await?;
    place.report("waiting", &after(429, RATE_LIMIT, 1)).await?;
    place.report("working", &after(200, SUCCESS, 1)).await?;

    let table = Table::of(&place.shown(&["get", "wapn"]));
    let columns = ["NAME", "PHONE-ID", "NUMBER", "REGISTERED", "REASON", "AGE"];
    assert_eq!(table.header, columns);
    let display = "+49 30 901820";
    let row = |name| table.row(name)[..5].to_vec();
    assert_eq!(
        row("failed"),
        ["failed", "1001", display, "False", "PinMismatch"]
    );
    assert_eq!(row("unseen"), ["unseen", "1002", "", "", ""]);
    assert_eq!(
        row("waiting"),
        ["waiting", "1003", display, "False", "RateLimited"]
    );
    assert_eq!(
        row("working"),
        ["working", "1004", display, "True", "RegistrationSucceeded"]
    );
    Ok(())
}

#[tokio::test]
async fn the_wide_columns_tell_what_to_do() -> Tested {
    let place = Place::new().await?;
    place.create(&number("failed")).await?;
    place.create(&number("waiting")).await?;
    place.report("failed", &after(400, WRONG_PIN, 1)).await?;
    place.report("waiting", &after(429, RATE_LIMIT, 1)).await?;

    let table = Table::of(&place.shown(&["get", "wapn", "--output=wide"]));
    let wide = ["NEXT", "FBTRACE", "MESSAGE", "CALLS", "FAILED", "SUSPENDED"];
    assert_eq!(table.header[6..], wide);
    let failed = &table.row("failed")[6..];
    assert_eq!(failed[..2], ["", "AbCdEfGhIjK"]);
    assert!(
        failed[2].starts_with("Graph answered HTTP 400, code 133005"),
        "{failed:?}"
    );
    assert_eq!(failed[4..], ["True", "false"]);
    let waiting = &table.row("waiting")[6..];
    assert_eq!(waiting[..2], ["2026-03-01T12:00:30Z", "ZyXwVuTsRqP"]);
    let end = "Next attempt at 2026-03-01T12:00:30Z.";
    assert!(waiting[2].ends_with(end), "{waiting:?}");
    Ok(())
}

#[tokio::test]
async fn it_has_a_short_name_and_a_category() -> Tested {
    let place = Place::new().await?;
    place.create(&number("named")).await?;
    let full = "whatsappphonenumber.whatsapp-operator.dev/named\n";
    for name in [
        "wapn",
        "whatsapp",
        "whatsappphonenumber",
        "whatsappphonenumbers",
        "whatsappphonenumbers.whatsapp-operator.dev",
    ] {
        let shown = place.shown(&["get", name, "--output=name"]);
        assert_eq!(shown, full, "kubectl get {name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_number_can_be_selected_by_its_id() -> Tested {
    let place = Place::new().await?;
    place.create(&number_with_id("one", "1001")).await?;
    place.create(&number_with_id("two", "1002")).await?;
    let selector = "--field-selector=spec.phoneNumberID=1002";
    let shown = place.shown(&["get", "wapn", selector, "--output=name"]);
    assert_eq!(shown, "whatsappphonenumber.whatsapp-operator.dev/two\n");
    Ok(())
}

#[tokio::test]
async fn everything_is_explained() -> Tested {
    let place = Place::new().await?;
    let schema = schema()?;
    let mut wanted = vec![
        ("wapn".to_owned(), &schema),
        ("wapn.spec".to_owned(), &schema["properties"]["spec"]),
    ];
    let status = &schema["properties"]["status"];
    wanted.push(("wapn.status".to_owned(), status));
    let conditions = &status["properties"]["conditions"];
    wanted.push(("wapn.status.conditions".to_owned(), &conditions["items"]));
    for (name, schema) in wanted {
        let text = explained(&place, &name);
        let own = schema["description"].as_str().ok_or("no description")?;
        assert!(text.contains(&words(own)), "{name} lacks {own:?}: {text}");
        each_direct(schema, |field, description| {
            let said = text.contains(&words(description)) && text.contains(field);
            assert!(said, "{name} lacks {field}, {description:?}: {text}");
        });
    }
    Ok(())
}

/// What happened and what to do must be readable without knowing the operator.
#[tokio::test]
async fn a_failed_number_describes_itself() -> Tested {
    let place = Place::new().await?;
    place.create(&number("failed")).await?;
    place.report("failed", &after(400, WRONG_PIN, 1)).await?;
    let text = words(&place.shown(&["describe", "wapn", "failed"]));
    for part in [
        "Message: Graph answered HTTP 400, code 133005: \"(#133005) Two-step verification PIN mismatch\"",
        "Put the number's PIN into the Secret",
        "Reason: PinMismatch Status: True Type: Stalled",
        "Fbtrace ID: AbCdEfGhIjK",
    ] {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
    Ok(())
}

/// What kubectl says of a field, in words; the API server publishes it some time after it serves the resource.
fn explained(place: &Place, name: &str) -> String {
    let deadline = Instant::now() + PUBLISHED_WITHIN;
    loop {
        let printed = place.kubectl(&["explain", name]);
        if printed.succeeded {
            return words(&printed.stdout);
        }
        let error = printed.stderr;
        assert!(Instant::now() < deadline, "explain {name}: {error}");
    }
}

/// A text without regard to how its lines are wrapped.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Visits the properties of a schema that have a description, without those below them.
fn each_direct(schema: &Value, mut visit: impl FnMut(&str, &str)) {
    each_property(schema, "", &mut |path, property| {
        let description = property["description"].as_str();
        if let (false, Some(description)) = (path.contains('.'), description) {
            visit(path, description);
        }
    });
}

/// A table as kubectl prints it.
#[derive(Debug)]
struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

// === impl Table ===

impl Table {
    /// Cuts the lines where the columns of the header begin; cells can be empty.
    fn of(text: &str) -> Self {
        let mut lines = text.lines();
        let header = lines.next().unwrap_or_default();
        let starts: Vec<usize> = header
            .char_indices()
            .filter(|(at, letter)| *letter != ' ' && (*at == 0 || header[..*at].ends_with(' ')))
            .map(|(at, _)| at)
            .collect();
        let cut = |line: &str| -> Vec<String> {
            let ends = starts.iter().skip(1).copied().chain([usize::MAX]);
            let cells = starts.iter().zip(ends).map(|(start, end)| {
                let cell: String = line.chars().skip(*start).take(end - start).collect();
                cell.trim().to_owned()
            });
            cells.collect()
        };
        Self {
            header: cut(header),
            rows: lines.map(cut).collect(),
        }
    }

    /// The row of a resource.
    fn row(&self, name: &str) -> &[String] {
        let row = self.rows.iter().find(|row| row[0] == name);
        row.unwrap_or_else(|| panic!("no row {name} in {self:?}"))
    }
}
