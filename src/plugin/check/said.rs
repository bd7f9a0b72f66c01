//! What is looked at in every answer, whichever case it is for: that its members and words are those of the schema, and that it came in
//! its time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lbex_plugin_abi::documents::{Action, Observation, Report};
use serde_json::Value;

use crate::plugin::{ABI, backend};

const REPORT: &str = include_str!("../../../plugins/schemas/lbex.report.1.json");
const OBSERVATION: &str = include_str!("../../../plugins/schemas/lbex.observation.1.json");

/// See above.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// What is not as in the schemas, in words.
    wrong: BTreeSet<String>,
    /// Calls that took longer than they may, in words.
    late: BTreeSet<String>,
    /// The longest of each.
    longest: BTreeMap<&'static str, Duration>,
}

impl Said {
    /// A call has returned by itself, or after it was cancelled.
    pub(super) fn took(&mut self, call: &'static str, took: Duration, limit: Duration) {
        if took > limit {
            self.late.insert(format!("{call} took {took:.1?} of {limit:?}"));
        }
        let longest = self.longest.entry(call).or_default();
        *longest = took.max(*longest);
    }

    /// A report. `minor` is the ABI that the plugin is built for: one that is later than LBEX's may have more members.
    pub(super) fn report(&mut self, bytes: &[u8], report: &Report, minor: u16) {
        self.members("lbex.report/1", REPORT, bytes, minor);
        if report.action == Action::Other && minor <= ABI.1 {
            self.wrong.insert("the action of its report is none of lbex.report/1".to_owned());
        }
        let silent = report.refused.iter().find(|(_, all)| all.iter().any(|refusal| refusal.message.trim().is_empty()));
        if let Some((name, _)) = silent {
            self.wrong.insert(format!("it refuses {name} without words for its author"));
        }
    }

    /// An observation.
    pub(super) fn observation(&mut self, bytes: &[u8], observation: &Observation, minor: u16) {
        self.members("lbex.observation/1", OBSERVATION, bytes, minor);
        if let Some(name) = observation.metrics.keys().find(|name| !backend::is_measure(name)) {
            self.wrong.insert(format!("a measure is called {name:?}; allowed: 1 to 64 of a-z, 0-9 and _"));
        }
        if observation.metrics.len() > backend::MOST_MEASURES {
            let (found, most) = (observation.metrics.len(), backend::MOST_MEASURES);
            self.wrong.insert(format!("it has {found} measures; LBEX takes {most}"));
        }
    }

    /// A member that no version has is misspelt, and read by nobody.
    fn members(&mut self, document: &str, schema: &str, bytes: &[u8], minor: u16) {
        let object = |text: &[u8]| serde_json::from_slice::<Value>(text).ok();
        let (Some(schema), Some(Value::Object(found))) = (object(schema.as_bytes()), object(bytes)) else { return };
        let is_known = |name: &String| schema["properties"].get(name).is_some();
        if let Some(name) = found.keys().find(|name| !is_known(name) && minor <= ABI.1) {
            self.wrong.insert(format!("{document} has no member {name:?}"));
        }
    }

    /// Whether all documents were as their schemas say.
    pub(super) fn as_in_schemas(&self) -> Result<String, String> {
        none_of(&self.wrong).map(|()| String::new())
    }

    /// Whether all calls returned in their time.
    pub(super) fn in_time(&self) -> Result<String, String> {
        none_of(&self.late)?;
        let longest: Vec<String> = self.longest.iter().map(|(call, took)| format!("{call} {took:.1?}")).collect();
        Ok(format!("at the most {}", longest.join(", ")))
    }
}

fn none_of(problems: &BTreeSet<String>) -> Result<(), String> {
    if problems.is_empty() { Ok(()) } else { Err(problems.iter().cloned().collect::<Vec<_>>().join("; ")) }
}
