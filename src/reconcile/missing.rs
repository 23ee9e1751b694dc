//! Whether an object is really not there.

use kube::Resource;
use kube::core::response::{StatusDetails, reason};

/// Whether the API server says that this very object does not exist. A proxy in front of it may answer 404 for its own reasons,
/// and so does the API server where it does not serve the kind.
pub fn is_missing<K: Resource<DynamicType = ()>>(error: &kube::Error, name: &str) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    let named = |details: &StatusDetails| {
        details.name == name && details.group == K::group(&()) && details.kind == K::plural(&())
    };
    status.reason == reason::NOT_FOUND && status.details.as_ref().is_some_and(named)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use operator_core::api::WhatsAppPhoneNumber;
    use serde_json::{Value, json};

    use super::*;

    fn answer(reason: &str, details: Value) -> kube::Error {
        let status =
            json!({"status": "Failure", "code": 404, "reason": reason, "details": details});
        let status: Status = serde_json::from_value(status).expect("a status");
        kube::Error::Api(Box::new(status))
    }

    #[test]
    fn only_a_404_that_names_the_object_says_that_it_is_missing() {
        let number =
            json!({"name": "a", "group": "whatsapp-operator.dev", "kind": "whatsappphonenumbers"});
        let missing = |error| is_missing::<WhatsAppPhoneNumber>(&error, "a");
        assert!(missing(answer("NotFound", number.clone())));
        assert!(!missing(answer("InternalError", number)));
        assert!(!missing(answer("NotFound", json!(null))));
        let others = [
            json!({"name": "b", "group": "whatsapp-operator.dev", "kind": "whatsappphonenumbers"}),
            json!({"name": "a", "kind": "secrets"}),
            json!({}),
        ];
        for other in others {
            assert!(!missing(answer("NotFound", other.clone())), "{other}");
        }
    }
}
