//! Puts the parts together: the controller, `lbex proxy`, `lbex render`, `lbex validate`, `lbex backends`, `lbex plugin check`.

mod backends;
mod controller;
mod init;
mod privileges;
#[cfg(feature = "backend-nginx")]
mod proxy;
mod release;
mod render;
mod shutdown;
mod supervise;
mod validate;

use std::future::Future;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use lbex_core::planner::Rules;
use lbex_core::settings::PlanSettings;

use crate::cli::{Command, Failure};
use crate::logging::LogSettings;
use crate::settings::{SelectionSettings, Settings};
use crate::supervisor::KeptSockets;

pub use controller::controller;

/// Does what the command line asks for. The exit code is for success; a [`Failure`] brings its own.
pub fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Print(text) => print(&text).map(|()| ExitCode::SUCCESS),
        Command::Run(settings) if init::is_first_process() => {
            let handed_down = privileges::hand_down_port_right();
            // The controller, which has the same settings, tells of their warnings.
            begin(&settings.logging, &[])?;
            tell_of_port_right(handed_down);
            block_on(init::supervise(&settings))?
        }
        Command::Run(settings) => {
            // First of all: there are no other threads yet.
            let kept = KeptSockets::from_environment();
            let handed_down = privileges::hand_down_port_right();
            begin(&settings.logging, &settings.warnings)?;
            tell_of_port_right(handed_down);
            kept.refused().iter().for_each(|refused| tracing::warn!("{refused}"));
            block_on(controller(*settings, kept))??;
            Ok(ExitCode::SUCCESS)
        }
        #[cfg(feature = "backend-nginx")]
        Command::Proxy(settings) => {
            let handed_down = privileges::hand_down_port_right();
            begin(&settings.logging, &settings.warnings)?;
            tell_of_port_right(handed_down);
            block_on(proxy::proxy(*settings))?.map(|()| ExitCode::SUCCESS)
        }
        Command::EndProxy(settings) => {
            // The kernel shows a process that holds a right only to one that holds it, too: without it, no NGINX would be seen to end.
            let held = privileges::hand_down_port_right();
            begin(&settings.logging, &[])?;
            tell_of_port_right(held);
            block_on(end_proxy(&settings))?.map(|()| ExitCode::SUCCESS)
        }
        Command::Render(settings) => {
            begin(&settings.logging, &settings.warnings)?;
            block_on(render::render(*settings))??.print()
        }
        Command::Backends(settings) => {
            begin(&settings.logging, &settings.warnings)?;
            block_on(backends::list(*settings))??.print()
        }
        #[cfg(feature = "plugins")]
        Command::CheckPlugin(library, settings) => {
            begin(&settings.logging, &settings.warnings)?;
            block_on(backends::check(library, *settings))??.print()
        }
        Command::Validate(settings) => {
            begin(&settings.logging, &settings.warnings)?;
            block_on(validate::validate(*settings))??.print()
        }
    }
}

fn tell_of_port_right(handed_down: std::io::Result<()>) {
    if let Err(error) = handed_down {
        tracing::warn!("LBEX cannot hand its right to ports below 1024 down, and NGINX may be without it: {error}");
    }
}

/// Ends the proxy that another LBEX with these settings has left.
async fn end_proxy(settings: &Settings) -> Result<(), Failure> {
    let backend = settings.backend.offer().open(settings, KeptSockets::default()).await?;
    shutdown::end_proxy(settings, backend.as_ref()).await
}

/// What a command found out.
struct Output {
    /// For standard output.
    text: String,
    exit_code: ExitCode,
}

impl Output {
    fn print(self) -> Result<ExitCode, Failure> {
        print(&self.text)?;
        Ok(self.exit_code)
    }
}

/// Sets up logging and tells what is worth knowing about the settings.
fn begin(logging: &LogSettings, warnings: &[String]) -> Result<(), Failure> {
    crate::logging::init(logging)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(())
}

/// What still blocks a thread when LBEX ends (a name that is being resolved, a file on a server that is away) is left behind after
/// this time: a tool that is ended exits within 10 s.
const LEFT_BEHIND: Duration = Duration::from_millis(500);

fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::usage(anyhow::Error::new(error).context("failed to start threads")))?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(LEFT_BEHIND);
    Ok(done)
}

/// Writes to standard output; a reader that has gone away (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::usage(anyhow::Error::new(error).context("failed to write to standard output")))
        }
        _ => Ok(()),
    }
}

/// What planning goes by.
fn rules(settings: PlanSettings, selection: &SelectionSettings) -> Rules {
    Rules { settings, selector: Box::new(selection.selector()), resolvers: lbex_upstream::standard() }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_blocks_a_thread_does_not_keep_lbex_from_ending() {
        let (release, blocked) = mpsc::channel::<()>();
        let (started, running) = tokio::sync::oneshot::channel();
        let stuck = async {
            tokio::task::spawn_blocking(move || {
                started.send(()).unwrap();
                blocked.recv_timeout(Duration::from_secs(30)).ok()
            });
            running.await
        };
        let begin = Instant::now();
        block_on(stuck).unwrap_or_else(|_| panic!("no runtime")).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
        drop(release);
    }
}
