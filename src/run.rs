//! Puts the parts together: the controller, `lbex render`, `lbex validate`.

mod controller;
mod render;
mod shutdown;
mod validate;

use std::io::Write;
use std::process::ExitCode;

use lbex_core::backend::Capabilities;
use lbex_core::planner::Rules;
use lbex_core::settings::PlanSettings;

use crate::cli::{Command, Failure};
use crate::logging::LogSettings;
use crate::settings::SelectionSettings;

pub use controller::{Opening, controller};

/// Does what the command line asks for. The exit code is for success; a [`Failure`] brings its own.
pub fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Print(text) => print(&text).map(|()| ExitCode::SUCCESS),
        Command::Run(settings) => {
            begin(&settings.logging, &settings.warnings)?;
            runtime()?.block_on(controller(*settings, |settings| Box::pin(crate::registry::open(settings))))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Render(settings) => {
            begin(&settings.logging, &settings.warnings)?;
            print(&runtime()?.block_on(render::render(*settings))?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Validate(settings) => {
            begin(&settings.logging, &settings.warnings)?;
            let verdict = runtime()?.block_on(validate::validate(*settings))?;
            print(&verdict.text)?;
            Ok(verdict.exit_code)
        }
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

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| Failure::usage(anyhow::Error::new(error).context("failed to start threads")))
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
fn rules(planning: PlanSettings, selection: &SelectionSettings, capabilities: Capabilities) -> Rules {
    Rules {
        settings: PlanSettings { capabilities, ..planning },
        selector: Box::new(selection.selector()),
        resolvers: lbex_upstream::standard(),
    }
}
