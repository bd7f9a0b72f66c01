//! `lbex plugin check`: the conformance kit. Has a plugin do everything that LBEX may ask for, with made-up Services on the loopback
//! address, and says what it does as `lbex_plugin.h` wants and what not.

mod cases;
mod documents;
mod kit;
mod said;

use std::path::Path;

use super::backend::OpenError;
use super::{Deadlines, LoadError};
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

const SAYS: &str = "it loads, and says what it is";
const OPENS: &str = "it opens, and says what it can do";

/// Checks the library. An error: it is not there, may not be loaded, or its configuration cannot be read, so nothing can be said of it.
pub async fn run(library: &Path, config: Option<&Path>, deadlines: Deadlines) -> Result<Checked, OpenError> {
    let mut checked = Checked::default();
    let mut kit = match Kit::open(library, config, deadlines).await {
        Ok(kit) => kit,
        Err(error @ (OpenError::Load(LoadError::Distrust(_)) | OpenError::Config { .. })) => return Err(error),
        Err(error) => {
            let what = if matches!(error, OpenError::Load(_)) { SAYS } else { OPENS };
            checked.add(what, Err(error.to_string()));
            return Ok(checked);
        }
    };
    let (major, minor) = kit.info.abi;
    checked.add(SAYS, Ok(format!("{} {}, ABI {major}.{minor}", kit.info.name, kit.info.version)));
    checked.add(OPENS, kit.told());
    for (what, result) in cases::all(&mut kit).await {
        checked.add(what, result);
    }
    Ok(checked)
}
