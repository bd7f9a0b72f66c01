//! A defect ends LBEX, with a last line that says so: here in a backend, in the task that applies, in the one that looks, and in a
//! thread that nobody waits for. Each runs in a process of its own: this test binary again, as a third party's LBEX with a backend of
//! its own.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lbex::cli;
use lbex::registry::{Backends, Given, LinkedBackend, OpenError};
use lbex_core::backend::{Action, ApplyReport, BackendError, Capabilities, Observed, ProxyBackend};
use lbex_core::desired::{Delta, DesiredState};

/// Names the defect to the process that is to have it.
const DEFECT: &str = "DEFECT_OF_THE_BACKEND";

/// A backend that panics where it is told to.
struct Defective(String);

impl Defective {
    fn panic_in(&self, place: &str) {
        assert!(self.0 != place, "on purpose\nin {place}");
    }
}

#[async_trait]
impl ProxyBackend for Defective {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn apply(&self, desired: &DesiredState, _: &Delta) -> Result<ApplyReport, BackendError> {
        self.panic_in("apply");
        if self.0 == "thread" {
            std::thread::spawn(|| panic!("on purpose\nin thread"));
        }
        Ok(ApplyReport {
            generation: desired.generation,
            action: Action::Started,
            reloads: Vec::new(),
            refused: [].into(),
        })
    }

    async fn observe(&self) -> Result<Observed, BackendError> {
        self.panic_in("observe");
        Ok(Observed { healthy: true, in_step: true, ..Observed::default() })
    }

    async fn stop(&self, _: Duration) -> Result<(), BackendError> {
        Ok(())
    }
}

struct Linked(String);

#[async_trait]
impl LinkedBackend for Linked {
    fn name(&self) -> &'static str {
        "defective"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn open(&self, _: Given) -> Result<Arc<dyn ProxyBackend>, OpenError> {
        Ok(Arc::new(Defective(self.0.clone())))
    }
}

/// The LBEX of the other process; nothing where no defect is asked for.
#[test]
fn an_lbex_with_a_defect() {
    let Ok(defect) = std::env::var(DEFECT) else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("empty.yaml"), "").unwrap();
    let path = folder.path().display();
    let (manifests, prefix) = (format!("--manifests={path}"), format!("--nginx-prefix={path}"));
    let flags = ["lbex", &manifests, &prefix, "--health-check=false", "--metrics-address=off"];
    let backends = Backends::none().with(Linked(defect));
    let command = cli::parse(flags, std::iter::empty::<(&str, &str)>(), &backends).unwrap();
    let ended = lbex::run::run(command);
    panic!("it ended by itself: {ended:?}");
}

#[test]
fn a_panic_anywhere_ends_lbex_with_a_last_line() {
    for defect in ["apply", "observe", "thread"] {
        let begin = Instant::now();
        let mut lbex = Command::new(std::env::current_exe().unwrap());
        lbex.args(["an_lbex_with_a_defect", "--exact", "--nocapture"]).env(DEFECT, defect).env_remove("RUST_BACKTRACE");
        let output = lbex.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = text.lines().last().unwrap_or_default();
        assert_eq!(output.status.code(), Some(101), "{defect}: {text}");
        assert!(last.starts_with("lbex: a defect: panic at tests/supervision.rs:"), "{defect}: {text}");
        assert!(last.contains(&format!("on purpose\\nin {defect}; LBEX ends")), "{defect}: {text}");
        assert!(begin.elapsed() < Duration::from_secs(60));
    }
}
