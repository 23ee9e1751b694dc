//! Checks a label selector as people write it for kubectl, so that a misspelt one stops the start instead of failing
//! every watch. kube builds selectors and does not read them.

/// Says whether the API server would take `selector`.
///
/// # Errors
/// The part that is wrong, in words.
pub fn check(selector: &str) -> Result<(), String> {
    requirements(selector)?
        .into_iter()
        .try_for_each(requirement)
}

/// Splits at the commas that are not inside parentheses.
fn requirements(selector: &str) -> Result<Vec<&str>, String> {
    let mut parts = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (at, character) in selector.char_indices() {
        match (character, inside) {
            ('(', false) => inside = true,
            (')', true) => inside = false,
            ('(', true) | (')', false) => return Err("the parentheses do not match".to_owned()),
            (',', false) => {
                parts.push(&selector[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err("the parentheses do not match".to_owned());
    }
    parts.push(&selector[start..]);
    Ok(parts)
}

fn requirement(text: &str) -> Result<(), String> {
    let text = text.trim();
    if let Some(set) = text.strip_suffix(')') {
        return set_requirement(text, set);
    }
    if let Some(label) = text.strip_prefix('!') {
        return key(label);
    }
    match ["!=", "==", "="]
        .iter()
        .find_map(|sign| text.split_once(sign))
    {
        Some((label, wanted)) => key(label).and_then(|()| value(wanted)),
        None => key(text),
    }
}

/// `key in (a,b)` or `key notin (a,b)`, the last parenthesis taken off in `set`.
fn set_requirement(text: &str, set: &str) -> Result<(), String> {
    let (head, values) = set.split_once('(').unwrap_or((set, ""));
    let mut words = head.split_whitespace();
    let (Some(label), Some("in" | "notin"), None) = (words.next(), words.next(), words.next())
    else {
        return Err(format!(
            "{text:?} is neither `key in (…)` nor `key notin (…)`"
        ));
    };
    key(label)?;
    values.split(',').try_for_each(value)
}

fn key(text: &str) -> Result<(), String> {
    let text = text.trim();
    let (prefix, name) = text
        .split_once('/')
        .map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let prefix_fits = prefix.is_none_or(|prefix| {
        prefix.len() <= 253 && prefix.split('.').all(super::settings::is_dns_label)
    });
    if prefix_fits && !name.is_empty() && is_label_text(name) {
        return Ok(());
    }
    Err(format!("{text:?} is no label key"))
}

fn value(text: &str) -> Result<(), String> {
    let text = text.trim();
    if is_label_text(text) {
        return Ok(());
    }
    Err(format!("{text:?} is no label value"))
}

/// What a label's value, or the name part of its key, may be made of; empty is allowed here.
fn is_label_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    text.len() <= 63
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        && ends.into_iter().flatten().all(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn takes_what_kubectl_takes() {
        for selector in [
            "shard=a",
            "shard==a,tier!=test",
            "shard in (a, b),!legacy",
            "shard notin (a)",
            "example.com/shard",
            "empty=",
            " spaced = x ",
        ] {
            assert_eq!(check(selector), Ok(()), "{selector}");
        }
    }

    #[test]
    fn refuses_what_the_api_server_would() {
        for selector in [
            "shard in a",
            "shard in (a",
            "shard a)",
            "=a",
            "shard=a,,tier=b",
            "shard=a b",
            "-shard",
            "Bad_Prefix/x",
            "a/b/c",
            "shard=a=b",
        ] {
            assert!(check(selector).is_err(), "{selector}");
        }
    }
}
