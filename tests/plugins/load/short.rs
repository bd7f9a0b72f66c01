//! LBEX with short deadlines, so that a plugin that hangs keeps no test waiting: this test binary again, as a third party's LBEX that
//! opens the plugin itself.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use lbex::cli::{self, Failure};
use lbex::plugin::{Deadlines, PluginBackend, PluginOptions};
use lbex::settings::{BackendSettings, PluginLibrary, Settings};
use lbex_core::backend::ProxyBackend;
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

async fn open(settings: &Settings) -> Result<Arc<dyn ProxyBackend>, Failure> {
    let BackendSettings::Plugin(chosen) = &settings.backend else { panic!("no plugin") };
    let PluginLibrary::Path(library) = chosen.library.clone() else { panic!("no path") };
    let prefix = settings.nginx.prefix.clone();
    let config = chosen.config.clone();
    let options = PluginOptions { library, prefix, config, shutdown_timeout: None, deadlines: DEADLINES };
    Ok(Arc::new(PluginBackend::open(options).await.map_err(Failure::usage)?))
}

/// The LBEX of the other process; nothing where none is asked for.
#[test]
fn an_lbex() {
    let Ok(flags) = std::env::var(FLAGS) else { return };
    let flags = std::iter::once("lbex").chain(flags.lines());
    let command = cli::parse(flags, std::iter::empty::<(&str, &str)>()).expect("flags of LBEX");
    let cli::Command::Run(settings) = command else { panic!("no controller") };
    lbex::logging::init(&settings.logging).expect("a log");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let ended = runtime.block_on(lbex::run::controller(*settings, |settings| Box::pin(open(settings))));
    runtime.shutdown_timeout(Duration::from_millis(500));
    ended.unwrap_or_else(|failure| panic!("{failure:?}"));
}
