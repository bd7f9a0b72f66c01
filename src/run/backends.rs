//! `lbex backends`: what is built in, and which plugins were found. `lbex plugin check`: whether one does as it should.

use std::process::ExitCode;

use lbex_core::backend::Capabilities;

use super::Output;
use super::validate::line;
use crate::cli::Failure;
#[cfg(feature = "plugins")]
use crate::registry::Part;
use crate::settings::PluginsSettings;

/// For people; each backend is a line, and a second one says what it can do. Exit code 0.
pub(super) async fn list(settings: PluginsSettings) -> Result<Output, Failure> {
    let mut text = String::new();
    built_in(&settings, &mut text).await;
    #[cfg(feature = "plugins")]
    if settings.backends.has(Part::Plugins) {
        plugins(&settings, &mut text).await?;
    }
    if text.is_empty() {
        line(&mut text, format_args!("this binary has no backend: it was built without the Cargo features for any"));
    }
    Ok(Output { text, exit_code: ExitCode::SUCCESS })
}

async fn built_in(settings: &PluginsSettings, text: &mut String) {
    for backend in settings.backends.all() {
        let name = backend.offer().name();
        match backend.offer().capabilities(&settings.nginx).await {
            Ok(capabilities) => {
                line(text, format_args!("{name:8} built in; {}", capabilities.description));
                line(text, format_args!("         {}", words(&capabilities)));
            }
            Err(error) => line(text, format_args!("{name:8} built in; of no use here: {error}")),
        }
    }
}

#[cfg(feature = "plugins")]
async fn plugins(settings: &PluginsSettings, text: &mut String) -> Result<(), Failure> {
    use crate::plugin::{ABI, Deadlines, PluginBackend, find};

    let found = find::all(&settings.dirs).map_err(|error| {
        Failure::usage(anyhow::Error::new(error).context("failed to read the folders of --plugin-dir"))
    })?;
    let dirs: Vec<String> = settings.dirs.iter().map(|dir| dir.display().to_string()).collect();
    line(
        text,
        format_args!("plugins  {} in {} (this LBEX has plugin ABI {}.{})", found.len(), dirs.join(", "), ABI.0, ABI.1),
    );
    for path in found {
        match PluginBackend::look_at(&path, Deadlines::default().open).await {
            Ok(info) => {
                line(text, format_args!("  {info}"));
                line(text, format_args!("         {}", words(&info.to_core(&info.capabilities))));
            }
            Err(error) => line(text, format_args!("  {error}")),
        }
    }
    Ok(())
}

/// What a backend can do, in the words of annotations where there are some.
fn words(capabilities: &Capabilities) -> String {
    let can = [
        ("tcp", capabilities.tcp),
        ("udp", capabilities.udp),
        ("round_robin", true),
        ("least_conn", capabilities.least_conn),
        ("least_time", capabilities.least_time),
        ("client_ip", capabilities.client_ip),
        ("timeouts", capabilities.timeouts),
        ("external names", capabilities.dns_servers),
        ("live endpoints", capabilities.live_servers),
        ("drains", capabilities.drains),
    ];
    let words: Vec<&str> = can.iter().filter(|(_, can)| *can).map(|(word, _)| *word).collect();
    words.join(", ")
}

/// For authors of plugins. Exit code 0: all passed; 1: something did not.
#[cfg(feature = "plugins")]
pub(super) async fn check(library: std::path::PathBuf, settings: PluginsSettings) -> Result<Output, Failure> {
    let deadlines = crate::plugin::Deadlines::default();
    let checked = crate::plugin::check::run(&library, settings.config.as_deref(), deadlines);
    let checked = checked.await.map_err(Failure::usage)?;
    let exit_code = if checked.passed() { ExitCode::SUCCESS } else { ExitCode::from(1) };
    Ok(Output { text: checked.to_string(), exit_code })
}
