//! Loads a library, and reads what it says of itself.
#![allow(unsafe_code)]

use std::path::{Path, PathBuf};

use lbex_plugin_abi::documents::{Algorithm, Capabilities, Protocol};
use lbex_plugin_abi::tables::{
    self, ABI_MAJOR, ABI_MINOR, BufFreeFn, MAGIC, OPEN_SYMBOL, OpenFn, QUERY_SYMBOL, QueryFn,
};
use lbex_plugin_abi::{DocumentError, read};
use libloading::os::unix::{Library as System, RTLD_LOCAL, RTLD_NOW};

use super::fault::Fault;
use super::trust::{self, Distrust};
use super::{fault, memory};

/// How large a table may be: more is a lie, however much later versions add.
const LARGEST_TABLE: u32 = 1 << 16;
/// The longest name and version, in bytes.
const LONGEST_NAME: usize = 64;
/// The largest capabilities, in bytes.
const LARGEST_CAPABILITIES: usize = 1 << 16;

/// Why a library is no plugin for this LBEX.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It may not be loaded.
    #[error(transparent)]
    Distrust(#[from] Distrust),
    /// The system's loader refuses it.
    #[error("failed to load {}: {reason}", path.display())]
    System {
        /// The path.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// It exports no function that every plugin has.
    #[error("{} is not a plugin for LBEX: it exports no function {symbol}", path.display())]
    NoSymbol {
        /// The path.
        path: PathBuf,
        /// The function.
        symbol: &'static str,
    },
    /// It says nothing of itself, or something else than a plugin does.
    #[error("{} is not a plugin for LBEX: it says {found:#018x} where plugins say {MAGIC:#018x}", path.display())]
    Magic {
        /// The path.
        path: PathBuf,
        /// What it says.
        found: u64,
    },
    /// It is built for another version of the ABI.
    #[error(
        "{} is built for plugin ABI {major}.{minor}, and this LBEX has {ABI_MAJOR}.{ABI_MINOR}: the major version has to be the same. \
         {}", path.display(), if *major > ABI_MAJOR { "Use a newer LBEX" } else { "Build the plugin anew" }
    )]
    Version {
        /// The path.
        path: PathBuf,
        /// What it is built for.
        major: u16,
        /// What it is built for.
        minor: u16,
    },
    /// What it says of itself makes no sense.
    #[error("{} says of itself what cannot be: {reason}", path.display())]
    Nonsense {
        /// The path.
        path: PathBuf,
        /// What.
        reason: String,
    },
    /// It did not come back from loading, or from saying what it is.
    #[error("{} did not say what it is within {limit:?}", path.display())]
    Overrun {
        /// The path.
        path: PathBuf,
        /// Its time.
        limit: std::time::Duration,
    },
}

/// What a plugin says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginInfo {
    /// The library.
    pub path: PathBuf,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The ABI that it is built for: major and minor version.
    pub abi: (u16, u16),
    /// What it can do, as far as it knows before it is opened.
    pub capabilities: Capabilities,
}

impl PluginInfo {
    /// What planning may count on, where the plugin says that it can do `told`.
    pub(crate) fn to_core(&self, told: &Capabilities) -> lbex_core::backend::Capabilities {
        let has = |algorithm| told.algorithms.contains(&algorithm);
        let description = match fault::text(told.description.as_bytes()) {
            proxy if proxy.is_empty() => format!("plugin {} {}", self.name, self.version),
            proxy => format!("{proxy} (plugin {} {})", self.name, self.version),
        };
        lbex_core::backend::Capabilities {
            description,
            tcp: told.protocols.contains(&Protocol::Tcp),
            udp: told.protocols.contains(&Protocol::Udp),
            least_conn: has(Algorithm::LeastConn),
            least_time: has(Algorithm::LeastTime),
            client_ip: has(Algorithm::ClientIp),
            timeouts: told.timeouts,
            dns_servers: told.dns_servers,
            live_servers: told.live_servers,
            drains: told.drains,
        }
    }
}

impl std::fmt::Display for PluginInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, name, version, abi: (major, minor), .. } = self;
        write!(f, "{name} {version} (ABI {major}.{minor}, {})", path.display())
    }
}

/// A library that is loaded, for as long as the process lives.
#[derive(Debug)]
pub(super) struct Library {
    pub(super) info: PluginInfo,
    pub(super) open: OpenFn,
    pub(super) buf_free: Option<BufFreeFn>,
}

impl Library {
    /// Loads the library at `path` and asks it what it is. Runs code of the library.
    pub(super) fn load(path: &Path) -> Result<Self, LoadError> {
        let path = trust::check(path)?;
        // SAFETY: it runs the library's initializers. Whoever may write the file was checked; what it does then is beyond us.
        let loaded = unsafe { System::open(Some(&path), RTLD_NOW | RTLD_LOCAL) };
        let system = match loaded {
            // Never unloaded: it may have threads, and thread-local data that is freed by code of its own.
            Ok(system) => std::mem::ManuallyDrop::new(system),
            Err(error) => return Err(LoadError::System { path, reason: error.to_string() }),
        };
        let no_symbol = |symbol| LoadError::NoSymbol { path: path.clone(), symbol };
        // SAFETY: the header says what type the function of this name has.
        let query = unsafe { system.get::<QueryFn>(QUERY_SYMBOL.as_bytes()) }.map_err(|_| no_symbol(QUERY_SYMBOL))?;
        // SAFETY: the header says that it may be called.
        let told = unsafe { query() };
        let (table, info) = read_info(&path, told)?;
        // SAFETY: the header says what type the function of this name has.
        let open = unsafe { system.get::<OpenFn>(OPEN_SYMBOL.as_bytes()) }.map_err(|_| no_symbol(OPEN_SYMBOL))?;
        Ok(Self { info, open: *open, buf_free: table.buf_free })
    }
}

/// The first four fields, which are the same in every version of the ABI.
#[repr(C)]
struct Head {
    magic: u64,
    size: u32,
    abi_major: u16,
    abi_minor: u16,
}

fn read_info(path: &Path, told: *const tables::PluginInfo) -> Result<(tables::PluginInfo, PluginInfo), LoadError> {
    let path = path.to_owned();
    let nonsense = |reason: String| LoadError::Nonsense { path: path.clone(), reason };
    let fault = |fault: Fault| nonsense(fault.to_string());
    let what = "what lbex_plugin_query returned";
    // SAFETY: numbers.
    let head = unsafe { memory::table(what, told.cast::<Head>(), size_of::<Head>()) }.map_err(fault)?;
    if head.magic != MAGIC {
        return Err(LoadError::Magic { path, found: head.magic });
    }
    if head.abi_major != ABI_MAJOR {
        return Err(LoadError::Version { path, major: head.abi_major, minor: head.abi_minor });
    }
    // All of it is of ABI 1.0.
    if !(tables::PluginInfo::SIZE..=LARGEST_TABLE).contains(&head.size) {
        let least = tables::PluginInfo::SIZE;
        return Err(nonsense(format!(
            "its struct lbex_plugin_info has {} bytes; at least {least} are needed",
            head.size
        )));
    }
    // SAFETY: numbers, pointers, and a function that may be absent.
    let table = unsafe { memory::table(what, told, head.size as usize) }.map_err(fault)?;
    let name = memory::text("its name", table.name, LONGEST_NAME).map_err(fault)?;
    let version = memory::text("its version", table.version, LONGEST_NAME).map_err(fault)?;
    let capabilities = if table.capabilities.is_null() {
        Capabilities::default()
    } else {
        let text = memory::text("its capabilities", table.capabilities, LARGEST_CAPABILITIES).map_err(fault)?;
        read(&text).map_err(|error: DocumentError| nonsense(format!("its capabilities are {error}")))?
    };
    let name = plain_name(&name).ok_or_else(|| {
        nonsense(format!("its name is {:?}; allowed: 1 to 64 of a-z, 0-9 and '-'", fault::text(&name)))
    })?;
    let version = match fault::text(&version) {
        version if version.is_empty() => return Err(nonsense("it has no version".to_owned())),
        version => version,
    };
    let info = PluginInfo { path, name, version, abi: (head.abi_major, head.abi_minor), capabilities };
    Ok((table, info))
}

/// The name as text, where it can be that of a folder and of a metric's label.
fn plain_name(name: &[u8]) -> Option<String> {
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    let valid = matches!(name.len(), 1..=LONGEST_NAME) && name.iter().all(plain) && name[0] != b'-';
    valid.then(|| String::from_utf8_lossy(name).into_owned())
}
