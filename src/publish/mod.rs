//! What LBEX says about its work: metrics for machines, log lines for people.

mod apis;
mod budget;
mod log;
mod measures;
mod metrics;
mod process;
#[cfg(test)]
mod tests;

pub use lbex_core::model::ObjectKind;
pub use log::ProblemLog;
pub use metrics::{BuildInfo, Metrics};
