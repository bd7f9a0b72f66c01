//! `lbex plugin check`: the conformance kit. Has a plugin do everything that LBEX may ask for, with made-up Services on the loopback
//! address, and says what it does as `lbex_plugin.h` wants and what not.

mod cases;
mod documents;
mod kit;

use std::path::Path;

use super::Deadlines;
use super::backend::OpenError;
use kit::Kit;

/// What was found.
#[derive(Debug, Default)]
pub struct Checked {
    results: Vec<(&'static str, Result<String, String>)>,
}

impl Checked {
    /// Whether all passed.
    pub fn passed(&self) -> bool {
        self.failed() == 0
    }

    fn failed(&self) -> usize {
        self.results.iter().filter(|(_, result)| result.is_err()).count()
    }

    fn add(&mut self, what: &'static str, result: Result<String, String>) {
        self.results.push((what, result));
    }
}

impl std::fmt::Display for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (what, result) in &self.results {
            match result {
                Ok(detail) if detail.is_empty() => writeln!(f, "passed  {what}")?,
                Ok(detail) => writeln!(f, "passed  {what}: {detail}")?,
                Err(why) => writeln!(f, "FAILED  {what}: {why}")?,
            }
        }
        let all = self.results.len();
        match self.failed() {
            0 => writeln!(f, "all {all} passed"),
            failed => writeln!(f, "{failed} of {all} FAILED"),
        }
    }
}

/// Checks the library. An error: it cannot be loaded, or not opened at all, so nothing can be checked.
pub async fn run(library: &Path, config: Option<&Path>) -> Result<Checked, OpenError> {
    let mut checked = Checked::default();
    let mut kit = Kit::open(library, config, Deadlines::default()).await?;
    let (major, minor) = kit.info.abi;
    checked.add("it says what it is", Ok(format!("{} {}, ABI {major}.{minor}", kit.info.name, kit.info.version)));
    checked.add("it opens, and says what it can do", kit.told());
    for (what, result) in cases::all(&mut kit).await {
        checked.add(what, result);
    }
    Ok(checked)
}
