//! Opens the backend, and renders without one.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as SyncMutex};
use std::time::Duration;

use lbex_core::desired::DesiredState;
use tokio::sync::Mutex;

use super::NginxBackend;
use super::choose::demand;
use super::live::{Pusher, count};
use super::observe::Seen;
use super::plus::{self, Plus};
use super::state::State;
use crate::binary::{BinaryError, Candidate, NginxBinary, NginxChoice, Origin, find};
use crate::check::{CheckError, Checker};
use crate::files::ConfigFiles;
use crate::limits::{Demand, Host, limits, wanted_files};
use crate::prefix::{Layout, Prefix, PrefixError};
use crate::process::{Nginx, NoProc, Starter, proc, procfs};
use crate::push::{SocketKeeper, usual_address};
use crate::render::{
    Dialect, Form, MainFile, MainInput, Part, RenderError, Room, ServiceFileName, Templates, Write, render_service_as,
    worker_user, zone_size,
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
    /// `--endpoint-updates`. Default [`EndpointUpdates::Auto`].
    pub endpoint_updates: EndpointUpdates,
    /// `--start-nginx`. Default [`Starter::Own`].
    pub starter: Starter,
    /// Who keeps the sockets on which NGINX asks for endpoints while LBEX is away. Default `None`: nobody.
    pub socket_keeper: Option<Arc<dyn SocketKeeper>>,
}

/// How endpoint changes reach NGINX.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EndpointUpdates {
    /// Pushed where NGINX can take them so, else by reload.
    #[default]
    Auto,
    /// Pushed; an NGINX that cannot is an error.
    Push,
    /// By reload.
    Reload,
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
    /// NGINX's processes cannot be looked at.
    #[error(transparent)]
    Proc(#[from] NoProc),
    /// A folder of the prefix.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// A defect of LBEX.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// `--endpoint-updates=push`, and an NGINX that is too old.
    #[error(
        "--endpoint-updates=push needs NGINX 1.27.3 or later (or the one that LBEX carries), and {binary} is not; with auto or \
             reload endpoint changes are applied by reload"
    )]
    NoPush {
        /// Which NGINX.
        binary: String,
    },
    /// `--endpoint-updates=push`, and no port of the loopback address.
    #[error(
        "--endpoint-updates=push: failed to listen on the loopback address, where NGINX asks LBEX for endpoints: {0}"
    )]
    Responder(std::io::Error),
    /// NGINX Plus is wanted, and this is another NGINX.
    #[error(
        "--backend nginx-plus needs NGINX Plus, and {binary} is not (`nginx -V` names no nginx-plus-rNN); name one with --nginx PATH, drive \
         one elsewhere with --nginx-plus-api, or use --backend nginx"
    )]
    NotPlus {
        /// Which NGINX.
        binary: String,
    },
    /// The folder where NGINX Plus keeps servers.
    #[error("failed to prepare {}, where NGINX Plus keeps servers: {source}", path.display())]
    States {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl NginxBackend {
    /// Finds NGINX, looks at what it can do, locks the prefix, and puts an embedded NGINX there. Nothing is written before
    /// NGINX is found, and none is started or touched before [`apply`](lbex_core::backend::ProxyBackend::apply).
    pub async fn open(options: NginxOptions) -> Result<Self, OpenError> {
        Self::open_as(options, false).await
    }

    /// The same with NGINX Plus, whose servers whoever calls this changes through the API on [`Layout::api_socket`]. `auto` is that
    /// of the system; `endpoint_updates` and `socket_keeper` mean nothing.
    pub async fn open_plus(options: NginxOptions) -> Result<Self, OpenError> {
        Self::open_as(options, true).await
    }

    async fn open_as(options: NginxOptions, plus: bool) -> Result<Self, OpenError> {
        let candidate = if plus { find_plus(&options.choice).await? } else { find(&options.choice).await? };
        let path = options.prefix.clone();
        procfs::require()?;
        let prefix = proc::blocking(move || Prefix::open(&path)).await?;
        for warning in prefix.warnings() {
            tracing::warn!("{warning}");
        }
        let layout = prefix.layout().clone();
        let binary = candidate.install(&layout).await?;
        let dialect = Dialect::of(binary.version, binary.capabilities);
        let (dialect, pusher) =
            if plus { (dialect, None) } else { open_pusher(&options, &binary, dialect, &layout).await? };
        let plus = if plus { Some(open_states(&layout).await?) } else { None };
        let input = MainInput {
            made_for: made_for(&Candidate::System(binary.clone())),
            modules: binary.stream.modules_to_load().into_iter().map(PathBuf::from).collect(),
            user: worker_user(),
            worker_shutdown_timeout: options.worker_shutdown_timeout,
            generation_socket: layout.generation_socket(),
            dialect,
            resolver: pusher.as_ref().map(|pusher| pusher.address()),
            api_socket: plus.as_ref().map(|_| layout.api_socket()),
        };
        Ok(Self {
            checker: Checker::new(binary.clone(), &layout)?,
            nginx: Nginx::new(layout.clone()).started_by(options.starter),
            files: ConfigFiles::new(layout),
            pusher,
            plus,
            templates: Arc::new(Templates::new()?),
            input,
            cpus: cpus(),
            binary,
            state: Mutex::new(State::default()),
            seen: SyncMutex::new(Seen::default()),
            draining: super::draining::Draining::default(),
            last_good: SyncMutex::new(None),
            #[cfg(test)]
            edit: SyncMutex::new(None),
            prefix: Arc::new(prefix),
            choice: options.choice,
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

/// Finds NGINX Plus; `auto` is that of the system.
pub async fn find_plus(choice: &NginxChoice) -> Result<Candidate, OpenError> {
    let choice = if *choice == NginxChoice::Auto { &NginxChoice::System } else { choice };
    let candidate = find(choice).await?;
    if candidate.capabilities().plus {
        return Ok(candidate);
    }
    let binary = match &candidate {
        Candidate::System(binary) => binary.to_string(),
        Candidate::Embedded { .. } => format!("the NGINX {} that LBEX carries", candidate.version()),
    };
    Err(OpenError::NotPlus { binary })
}

/// Prepares the folder where NGINX Plus keeps servers.
async fn open_states(layout: &Layout) -> Result<Plus, OpenError> {
    let path = layout.upstreams_dir();
    let folder = path.clone();
    let made = proc::blocking(move || Plus::new(folder, worker_user().as_deref())).await;
    made.map_err(|source| OpenError::States { path, source })
}

/// Decides how endpoint changes reach NGINX, and binds what that takes.
async fn open_pusher(
    options: &NginxOptions,
    binary: &NginxBinary,
    dialect: Dialect,
    layout: &Layout,
) -> Result<(Dialect, Option<Arc<Pusher>>), OpenError> {
    let updates = options.endpoint_updates;
    let pushing = dialect.pushing(binary.capabilities);
    let push = match (updates, pushing.push) {
        (EndpointUpdates::Reload, _) | (EndpointUpdates::Auto, None) => {
            tracing::info!("endpoint changes are applied by reload");
            if let Some(Err(error)) = options.socket_keeper.as_ref().map(|keeper| keeper.forget()) {
                tracing::warn!("the supervisor still keeps sockets that LBEX does not need: {error}");
            }
            return Ok((dialect, None));
        }
        (EndpointUpdates::Push, None) => return Err(OpenError::NoPush { binary: binary.to_string() }),
        (_, Some(push)) => push,
    };
    let files = ConfigFiles::new(layout.clone());
    // Where a running NGINX asks already.
    let stored = proc::blocking(move || files.stored_main()).await;
    let stored =
        stored.inspect_err(|error| tracing::warn!(%error, "it is not known where a running NGINX asks for endpoints"));
    let wanted = stored.ok().flatten().and_then(|stored| MainFile::resolver_in(&stored.text));
    let keeper = options.socket_keeper.clone();
    match Pusher::open(push, wanted, spread(layout.root()), worker_users(), layout.questions(), keeper) {
        Ok(pusher) => {
            let when = if push.immediate { "at once" } else { "within a second" };
            tracing::info!("endpoint changes reach NGINX {when}, without a reload (it asks {})", pusher.address());
            Ok((pushing, Some(Arc::new(pusher))))
        }
        Err(error) if updates == EndpointUpdates::Push => Err(OpenError::Responder(error)),
        Err(error) => {
            tracing::warn!(%error, "no port of the loopback address can be had: endpoint changes are applied by reload");
            Ok((dialect, None))
        }
    }
}

/// A number that is most likely another one for another prefix.
fn spread(prefix: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    prefix.hash(&mut hasher);
    hasher.finish()
}

/// Users that NGINX's workers run as: the one in its configuration, or this one.
fn worker_users() -> Vec<u32> {
    let user = worker_user().and_then(|names| {
        let name = names.split(' ').next()?;
        nix::unistd::User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
    });
    user.into_iter().chain([nix::unistd::geteuid().as_raw()]).collect()
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
    /// `--endpoint-updates`.
    pub endpoint_updates: EndpointUpdates,
}

/// What [`render_only`] and [`render_plus`] are.
pub type Render = fn(&DesiredState, &RenderOptions) -> Result<BTreeMap<String, String>, RenderError>;

/// The configuration that LBEX would write for `desired`: each file's name, relative to the prefix, and its text. Touches
/// nothing and runs nothing; limits are taken as if the host allowed whatever is needed.
pub fn render_only(desired: &DesiredState, options: &RenderOptions) -> Result<BTreeMap<String, String>, RenderError> {
    render_as(desired, options, false)
}

/// The same for NGINX Plus.
pub fn render_plus(desired: &DesiredState, options: &RenderOptions) -> Result<BTreeMap<String, String>, RenderError> {
    render_as(desired, options, true)
}

fn render_as(
    desired: &DesiredState,
    options: &RenderOptions,
    plus: bool,
) -> Result<BTreeMap<String, String>, RenderError> {
    let templates = Templates::new()?;
    let candidate = &options.candidate;
    let mut dialect = Dialect::of(candidate.version(), candidate.capabilities());
    if !plus && options.endpoint_updates != EndpointUpdates::Reload {
        dialect = dialect.pushing(candidate.capabilities());
    }
    let layout = Layout::new(&options.prefix);
    let states = plus.then(|| layout.upstreams_dir());
    let form = Form { write: Write::Names, known: &BTreeSet::new(), states: states.as_deref() };
    let mut files = BTreeMap::new();
    let mut parts = Vec::new();
    for (key, service) in &desired.services {
        let text = render_service_as(&templates, service, dialect, form)?;
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
        generation_socket: layout.generation_socket(),
        dialect,
        resolver: dialect.push.map(|_| usual_address(spread(&options.prefix))),
        api_socket: plus.then(|| layout.api_socket()),
    };
    let upstreams = parts.iter().map(|part| u64::from(part.upstreams)).sum();
    let servers = desired.services.values().map(|config| count(config)).sum();
    let zone = match dialect.push {
        _ if plus => plus::zone(None, upstreams, servers),
        Some(_) => Room::new(None, upstreams, servers).kib,
        None => zone_size(upstreams, servers),
    };
    let main = MainFile::render(&templates, &input, &limits(total, &host), zone, &parts)?;
    files.insert("conf/nginx.conf".to_owned(), main.text);
    Ok(files)
}
