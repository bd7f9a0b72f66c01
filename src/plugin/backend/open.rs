//! Opens a plugin for the first time.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lbex_core::settings::Reserved;
use lbex_plugin_abi::documents::{self, Settings};
use lbex_plugin_abi::tables::code;
use lbex_plugin_abi::{DocumentError, read, write};

use super::{Inner, PluginBackend, Turn};
use crate::plugin::deadlines::Deadlines;
use crate::plugin::fault::{Fault, text};
use crate::plugin::library::{LoadError, PluginInfo};
use crate::plugin::revisions::Known;
use crate::plugin::thread::{Call, PluginThread};
use crate::prefix::{Prefix, PrefixError};

/// The largest configuration that a plugin is handed, in bytes.
const LARGEST_CONFIG: u64 = 16 << 20;

/// Which plugin, and what it is told.
#[derive(Debug, Clone)]
pub struct PluginOptions {
    /// The library.
    pub library: PathBuf,
    /// LBEX's prefix.
    pub prefix: PathBuf,
    /// `--backend-config`.
    pub config: Option<PathBuf>,
    /// `--worker-shutdown-timeout`.
    pub shutdown_timeout: Option<Duration>,
    /// How long calls may take.
    pub deadlines: Deadlines,
}

/// Why a plugin cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is no plugin for this LBEX.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The prefix.
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    /// Its configuration.
    #[error("--backend-config {}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It says why it cannot begin.
    #[error("the plugin {plugin} {version} cannot begin: {reason}")]
    Refused {
        /// Its name.
        plugin: String,
        /// Its version.
        version: String,
        /// What it says.
        reason: String,
    },
    /// It is broken.
    #[error("the plugin {plugin} {version} is broken: {fault}")]
    Broken {
        /// Its name.
        plugin: String,
        /// Its version.
        version: String,
        /// What it did.
        fault: Fault,
    },
    /// A document of LBEX's own.
    #[error("its settings cannot be written: {0}")]
    Settings(DocumentError),
}

impl PluginBackend {
    /// Loads a plugin and opens it: finds what it needs, and touches nothing that runs.
    pub async fn open(options: PluginOptions) -> Result<Self, OpenError> {
        let PluginOptions { library, prefix, config, shutdown_timeout, deadlines } = options;
        let (thread, info) = PluginThread::start(&library, deadlines.open).await?;
        let prefix = Prefix::open(&prefix)?;
        let settings = Settings {
            lbex_version: env!("CARGO_PKG_VERSION").to_owned(),
            state_dir: prefix.folder("plugins", &info.name)?.to_string_lossy().into_owned(),
            config_file: config.as_ref().map(|path| path.to_string_lossy().into_owned()),
            config: config.as_deref().map(OpenError::read_config).transpose()?,
            shutdown_timeout,
            ..Settings::default()
        };
        let settings = write(&settings).map_err(OpenError::Settings)?;
        let told = begin(&thread, &info, &settings, deadlines).await?;
        let capabilities = told.unwrap_or_else(|| info.capabilities.clone());
        let for_planning = info.to_core(&capabilities);
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let inner = Inner {
            info,
            thread,
            deadlines,
            settings,
            turn: tokio::sync::Mutex::new(Turn::default()),
            known: Mutex::new(Known::new(format!("{started:x}"))),
            seen: Mutex::new(None),
            measures: Mutex::default(),
            _prefix: prefix,
        };
        Ok(Self {
            inner: Arc::new(inner),
            reserved: capabilities.reserved.iter().map(reserved).collect(),
            capabilities: for_planning,
        })
    }

    /// What the plugin says of itself.
    pub fn info(&self) -> &PluginInfo {
        &self.inner.info
    }

    /// What the library at `path` says of itself. Runs code of it.
    pub async fn look_at(path: &Path, limit: Duration) -> Result<PluginInfo, LoadError> {
        Ok(PluginThread::start(path, limit).await?.1)
    }
}

impl OpenError {
    /// Reads what `--backend-config` names.
    pub(in crate::plugin) fn read_config(path: &Path) -> Result<String, Self> {
        let failed = |reason: String| Self::Config { path: path.to_owned(), reason };
        let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
        if size > LARGEST_CONFIG {
            return Err(failed(format!("it has {size} bytes; {LARGEST_CONFIG} are allowed")));
        }
        std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))
    }
}

/// Opens a backend; what it says then of what it can do.
async fn begin(
    thread: &PluginThread,
    info: &PluginInfo,
    settings: &[u8],
    deadlines: Deadlines,
) -> Result<Option<documents::Capabilities>, OpenError> {
    let (plugin, version) = (info.name.clone(), info.version.clone());
    let opened = thread.call(Call::Open(settings.to_owned()), deadlines.open, deadlines.grace).await;
    let fault = match opened {
        Ok(reply) if reply.code == code::OK && reply.bytes.is_empty() => return Ok(None),
        Ok(reply) if reply.code == code::OK => match read(&reply.bytes) {
            Ok(capabilities) => return Ok(Some(capabilities)),
            Err(source) => Fault::Garbage { call: "lbex_plugin_open", source },
        },
        Ok(reply) if (code::RETRY..=code::UNSUPPORTED).contains(&reply.code) => {
            return Err(OpenError::Refused { plugin, version, reason: text(&reply.bytes) });
        }
        Ok(reply) => super::calls::unknown("lbex_plugin_open", &reply),
        Err(fault) => fault,
    };
    Err(OpenError::Broken { plugin, version, fault })
}

/// A plugin is opened once in the life of a process that goes on, so these few words live as long as that.
fn reserved(port: &documents::ReservedPort) -> Reserved {
    let what: &'static str = Box::leak(text(port.what.as_bytes()).into_boxed_str());
    Reserved { protocol: port.protocol.into(), address: (port.address, port.port).into(), what }
}
