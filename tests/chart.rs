//! The Helm chart: what it refuses, what it makes, and that what it makes works on a real API server.

/// Certificates of a private authority.
mod authority;
/// Files of the chart that are made from others.
mod files;
/// Helm, without settings of the user's.
pub mod helm;
/// Installing, upgrading, rolling back, uninstalling.
mod install;
/// Alerts, dashboard and monitors.
mod monitoring;
/// Names that look like numbers.
mod names;
/// The roles are enough, and nothing in them is left over.
mod permissions;
/// Pods, image, and annotations of the definition.
mod pod;
/// A release whose pod runs here.
mod release;
/// What the API server and Pod Security say to everything that the chart makes.
mod served;
/// Wrong values.
mod values;
