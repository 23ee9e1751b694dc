//! Queries are parsed; what they ask for is compared with what `/metrics` says.

use std::collections::{BTreeMap, BTreeSet};

use operator_core::api::Reason;
use promql_parser::label::{Labels, MatchOp, Matcher};
use promql_parser::parser::{self, AggregateExpr, BinaryExpr, Expr, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};

use crate::docs::{metrics, series};

/// Labels that Prometheus gives to whatever it scrapes. `cluster` is there where several clusters meet.
const OF_THE_TARGET: [&str; 5] = ["cluster", "namespace", "job", "instance", "pod"];

/// Labels whose values people choose: nothing can be said of them here.
const FREE: [&str; 3] = ["namespace", "name", "version"];

/// Everything that a query may ask for.
pub struct Known {
    metrics: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

/// What a query asks for.
#[derive(Default)]
pub struct Asked {
    selectors: Vec<VectorSelector>,
    /// The labels that it joins and groups by.
    pub labels: BTreeSet<String>,
}

// === impl Known ===

impl Known {
    /// What the operator says now, with every state and reason that a number can have.
    pub fn now() -> Self {
        let mut metrics = series(&metrics());
        let states = metrics["whatsapp_operator_phone_numbers"]["state"].clone();
        let reasons = Reason::ALL.iter().map(ToString::to_string).collect();
        for (label, values) in [("state", states), ("reason", reasons)] {
            let number = metrics.get_mut(&format!("whatsapp_operator_phone_number_{label}"));
            let known = number.and_then(|labels| labels.get_mut(label));
            known.expect("a number has one").extend(values);
        }
        Self { metrics }
    }

    /// Panics unless everything that the query asks for is there; returns what that is.
    pub fn check(&self, place: &str, query: &str) -> Asked {
        let asked = Asked::by(place, query);
        assert!(!asked.selectors.is_empty(), "{place} asks for nothing");
        let mut labels = BTreeSet::new();
        for selector in &asked.selectors {
            let metric = selector.name.as_deref().unwrap_or_default();
            let known = self.labels(place, metric);
            labels.extend(known.keys().map(String::as_str));
            for matcher in &selector.matchers.matchers {
                let values = known.get(&matcher.name);
                let target = OF_THE_TARGET.contains(&matcher.name.as_str());
                assert!(
                    values.is_some() || target,
                    "{place}: {metric} has no label {}",
                    matcher.name
                );
                check_values(place, matcher, values);
            }
        }
        for label in &asked.labels {
            let label = label.as_str();
            let known = labels.contains(label) || OF_THE_TARGET.contains(&label);
            assert!(known, "{place}: no metric of the query has a label {label}");
        }
        asked
    }

    /// The labels of a metric and their values.
    pub fn labels(&self, place: &str, metric: &str) -> &BTreeMap<String, BTreeSet<String>> {
        let labels = self.metrics.get(metric);
        labels.unwrap_or_else(|| panic!("{place}: there is no metric {metric:?}"))
    }
}

/// What the operator never says can match nothing, and is a mistake.
fn check_values(place: &str, matcher: &Matcher, known: Option<&BTreeSet<String>>) {
    // A variable of the dashboard.
    if matcher.value.starts_with('$') || FREE.contains(&matcher.name.as_str()) {
        return;
    }
    let values = match matcher.op {
        MatchOp::Equal | MatchOp::NotEqual => vec![matcher.value.as_str()],
        MatchOp::Re(_) | MatchOp::NotRe(_) => matcher.value.split('|').collect(),
    };
    for value in values {
        let emitted = known.is_some_and(|known| known.contains(value));
        assert!(emitted, "{place}: {} is never {value:?}", matcher.name);
    }
}

// === impl Asked ===

impl Asked {
    fn by(place: &str, query: &str) -> Self {
        let expression = parser::parse(query);
        let expression = expression.unwrap_or_else(|error| panic!("{place}: {error}: {query}"));
        let mut asked = Self::default();
        let Ok(_) = walk_expr(&mut asked, &expression);
        asked
    }

    fn note(&mut self, labels: &Labels) {
        self.labels.extend(labels.labels.iter().cloned());
    }
}

impl ExprVisitor for Asked {
    type Error = std::convert::Infallible;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, Self::Error> {
        match expression {
            Expr::VectorSelector(selector) => self.selectors.push(selector.clone()),
            Expr::MatrixSelector(matrix) => self.selectors.push(matrix.vs.clone()),
            Expr::Aggregate(AggregateExpr {
                modifier: Some(modifier),
                ..
            }) => self.note(modifier.labels()),
            Expr::Binary(BinaryExpr {
                modifier: Some(modifier),
                ..
            }) => {
                for labels in modifier
                    .matching
                    .iter()
                    .map(|matching| matching.labels())
                    .chain(modifier.card.labels())
                {
                    self.note(labels);
                }
            }
            _ => {}
        }
        Ok(true)
    }
}
