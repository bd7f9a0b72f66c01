//! Opens the backend, and renders without one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as SyncMutex};
use std::time::Duration;

use lbex_core::desired::DesiredState;
use tokio::sync::Mutex;

use super::NginxBackend;
use super::choose::demand;
use super::observe::Seen;
use super::state::State;
use crate::binary::{BinaryError, Candidate, NginxChoice, Origin, find};
use crate::check::{CheckError, Checker};
use crate::files::ConfigFiles;
use crate::limits::{Demand, Host, limits, wanted_files};
use crate::prefix::{Layout, Prefix, PrefixError};
use crate::process::{Nginx, proc};
use crate::render::{
    Dialect, MainFile, MainInput, Part, RenderError, ServiceFileName, Templates, render_service, worker_user,
};

/// What the operator decides about NGINX (contract section 2).
#[derive(Debug, Clone)]
pub struct NginxOptions {
    /// `--nginx`. Default `auto`.
    pub choice: NginxChoice,
    /// `--nginx-prefix`. Made where it is missing.
    pub prefix: PathBuf,
    /// `--worker-shutdown-timeout`: how long old workers may finish their connections after a reload. Default `None`: as long
    /// as it takes.
    pub worker_shutdown_timeout: Option<Duration>,
}

/// Why there is no backend: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No NGINX that LBEX could run.
    #[error(transparent)]
    Binary(#[from] BinaryError),
    /// The prefix cannot be used, or another LBEX does.
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    /// A folder of the prefix.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// A defect of LBEX.
    #[error(transparent)]
    Render(#[from] RenderError),
}

impl NginxBackend {
    /// Finds NGINX, looks at what it can do, locks the prefix, and puts an embedded NGINX there. Nothing is written before
    /// NGINX is found, and none is started or touched before [`apply`](lbex_core::backend::ProxyBackend::apply).
    pub async fn open(options: NginxOptions) -> Result<Self, OpenError> {
        let candidate = find(&options.choice).await?;
        let path = options.prefix.clone();
        let prefix = proc::blocking(move || Prefix::open(&path)).await?;
        for warning in prefix.warnings() {
            tracing::warn!("{warning}");
        }
        let layout = prefix.layout().clone();
        let binary = candidate.install(&layout).await?;
        let input = MainInput {
            made_for: made_for(&Candidate::System(binary.clone())),
            modules: binary.stream.modules_to_load().into_iter().map(PathBuf::from).collect(),
            user: worker_user(),
            worker_shutdown_timeout: options.worker_shutdown_timeout,
            generation_socket: layout.generation_socket(),
            dialect: Dialect::of(binary.version, binary.capabilities),
        };
        Ok(Self {
            checker: Checker::new(binary.clone(), &layout)?,
            nginx: Nginx::new(layout.clone()),
            files: ConfigFiles::new(layout),
            templates: Arc::new(Templates::new()?),
            input,
            cpus: cpus(),
            binary,
            state: Mutex::new(State::default()),
            seen: SyncMutex::new(Seen::default()),
            #[cfg(test)]
            edit: SyncMutex::new(None),
            _prefix: prefix,
        })
    }

    /// The paths of its prefix.
    pub fn layout(&self) -> &Layout {
        self.nginx.layout()
    }

    /// The NGINX that it runs.
    pub fn binary(&self) -> &crate::binary::NginxBinary {
        &self.binary
    }
}

/// How many CPUs this process may use: affinity and control groups count.
fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

/// Names the very binary that a configuration was made for.
fn made_for(candidate: &Candidate) -> String {
    match candidate {
        Candidate::Embedded { embedded, .. } => embedded.file_name(),
        Candidate::System(binary) => {
            let name = binary.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            // Names that NGINX's executables have; anything else is not for a comment.
            let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
            match binary.origin {
                Origin::Embedded if plain => name,
                Origin::System if plain => format!("{name} {}", binary.version),
                _ => binary.version.to_string(),
            }
        }
    }
}

/// What [`render_only`] needs to know.
#[derive(Debug, Clone)]
pub struct RenderOptions {
    /// The NGINX to write for: [`find`] finds it.
    pub candidate: Candidate,
    /// `--nginx-prefix`; need not exist.
    pub prefix: PathBuf,
    /// `--worker-shutdown-timeout`.
    pub worker_shutdown_timeout: Option<Duration>,
}

/// The configuration that LBEX would write for `desired`: each file's name, relative to the prefix, and its text. Touches
/// nothing and runs nothing; limits are taken as if the host allowed whatever is needed.
pub fn render_only(desired: &DesiredState, options: &RenderOptions) -> Result<BTreeMap<String, String>, RenderError> {
    let templates = Templates::new()?;
    let candidate = &options.candidate;
    let dialect = Dialect::of(candidate.version(), candidate.capabilities());
    let mut files = BTreeMap::new();
    let mut parts = Vec::new();
    for (key, service) in &desired.services {
        let text = render_service(&templates, service, dialect)?;
        let part = Part::read(ServiceFileName::of(key, &text), &text);
        files.insert(format!("services/{}", part.file), text);
        parts.push(part);
    }
    let total = parts.iter().fold(Demand::default(), |sum, part| sum + demand(part));
    let wanted = wanted_files(total, cpus()).next_multiple_of(1024);
    let host = Host { cpus: cpus(), master: wanted, worker: wanted };
    let input = MainInput {
        made_for: made_for(candidate),
        modules: candidate.stream().modules_to_load().into_iter().map(PathBuf::from).collect(),
        user: worker_user(),
        worker_shutdown_timeout: options.worker_shutdown_timeout,
        generation_socket: Layout::new(&options.prefix).generation_socket(),
        dialect,
    };
    let main = MainFile::render(&templates, &input, &limits(total, &host), &parts)?;
    files.insert("conf/nginx.conf".to_owned(), main.text);
    Ok(files)
}
