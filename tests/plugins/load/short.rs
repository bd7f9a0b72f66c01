//! LBEX with short deadlines, so that a plugin that hangs keeps no test waiting: this test binary again, with its deadlines
//! in place of LBEX's.

use std::time::Duration;

use anyhow::Result;
use lbex::cli;
use lbex::plugin::Deadlines;
use lbex::registry::Backends;
use lbex::settings::BackendSettings;
use lbex::supervisor::KeptSockets;
use lbex_test_harness::lbex::{Builder, Lbex};

/// Hands the flags on, one on a line.
const FLAGS: &str = "FLAGS_OF_AN_LBEX_WITH_SHORT_DEADLINES";

/// Long enough for a busy machine: what is late once is late for a moment.
const DEADLINES: Deadlines = Deadlines {
    open: Duration::from_secs(2),
    apply: Duration::from_secs(1),
    push: Duration::from_millis(500),
    observe: Duration::from_millis(500),
    stop: Duration::from_secs(1),
    grace: Duration::from_secs(1),
};

/// What starts it.
pub(crate) fn builder() -> Result<Builder> {
    let script =
        format!("{FLAGS}=\"$(printf '%s\\n' \"$@\")\" exec \"$0\" load::short::an_lbex --exact --nocapture --quiet");
    Ok(Lbex::builder(&std::env::current_exe()?).under(["/bin/sh", "-c", &script]))
}

/// The LBEX of the other process; nothing where none is asked for.
#[test]
fn an_lbex() {
    let Ok(flags) = std::env::var(FLAGS) else { return };
    let flags = std::iter::once("lbex").chain(flags.lines());
    let command = cli::parse(flags, std::iter::empty::<(&str, &str)>(), &Backends::built_in());
    let cli::Command::Run(mut settings) = command.expect("flags of LBEX") else { panic!("no controller") };
    let BackendSettings::Plugin(plugin) = &mut settings.backend else { panic!("no plugin") };
    plugin.deadlines = DEADLINES;
    lbex::logging::init(&settings.logging).expect("a log");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let ended = runtime.block_on(lbex::run::controller(*settings, KeptSockets::default()));
    runtime.shutdown_timeout(Duration::from_millis(500));
    ended.unwrap_or_else(|failure| panic!("{failure:?}"));
}
