//! The tables of `lbex_plugin.h`, field by field. The header says what they mean, who owns what, and who may call what when.
//!
//! No Rust type, `bool` or `enum` crosses. A function that may be absent is an `Option`, whose `None` is C's `NULL`.

use std::ffi::{c_char, c_void};

/// The first eight bytes of a [`PluginInfo`]: `LBEXPLUG`, read as a number.
pub const MAGIC: u64 = 0x4C42_4558_504C_5547;

/// The major version of this ABI. A plugin with another is refused.
pub const ABI_MAJOR: u16 = 1;

/// The minor version. Grows with each addition at the tail of a table; any minor works with any other.
pub const ABI_MINOR: u16 = 1;

/// The largest document in bytes that LBEX takes from a plugin, and the longest error text with it.
pub const MAX_DOCUMENT: usize = 64 << 20;

/// The longest text in bytes that LBEX takes for one log line; what is longer is cut.
pub const MAX_LOG_LINE: usize = 8 << 10;

/// The exported function that every plugin has: [`QueryFn`].
pub const QUERY_SYMBOL: &str = "lbex_plugin_query";

/// The exported function that opens a backend: [`OpenFn`].
pub const OPEN_SYMBOL: &str = "lbex_plugin_open";

/// What calls return.
pub mod code {
    /// Done, everything.
    pub const OK: i32 = 0;
    /// Done, but for what the report names.
    pub const PARTIAL: i32 = 1;
    /// Not done; the same again may succeed.
    pub const RETRY: i32 = 2;
    /// Not done; the same again will fail.
    pub const INVALID: i32 = 3;
    /// Not done: the plugin does not do such a thing.
    pub const UNSUPPORTED: i32 = 4;
    /// Not done: the plugin has another revision than the delta begins with.
    pub const RESYNC: i32 = 5;
    /// The plugin has panicked, and its backend is unusable.
    pub const PANIC: i32 = 100;
}

/// How severe a log line is.
pub mod level {
    /// Something failed.
    pub const ERROR: i32 = 1;
    /// Something may be wrong.
    pub const WARN: i32 = 2;
    /// What an operator wants to know.
    pub const INFO: i32 = 3;
    /// What a developer wants to know.
    pub const DEBUG: i32 = 4;
    /// Everything.
    pub const TRACE: i32 = 5;
}

/// `struct lbex_buf`: bytes that a plugin allocated.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Buf {
    /// The bytes; null: none.
    pub data: *mut u8,
    /// How many.
    pub len: usize,
}

impl Buf {
    /// No bytes.
    pub const EMPTY: Self = Self { data: std::ptr::null_mut(), len: 0 };
}

/// `struct lbex_plugin_info`: what a library says of itself. The first four fields are the same in every version of the ABI.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PluginInfo {
    /// [`MAGIC`].
    pub magic: u64,
    /// The size of this table as the plugin was compiled.
    pub size: u32,
    /// The ABI's major version as the plugin was compiled.
    pub abi_major: u16,
    /// The ABI's minor version.
    pub abi_minor: u16,
    /// The size of [`Backend`] as the plugin was compiled.
    pub backend_size: u32,
    /// The size of [`Host`] as the plugin was compiled.
    pub host_size: u32,
    /// The plugin's name.
    pub name: *const c_char,
    /// The plugin's version.
    pub version: *const c_char,
    /// A `capabilities` document; null: none beyond the defaults.
    pub capabilities: *const c_char,
    /// Frees what [`OpenFn`] put into its reply.
    pub buf_free: Option<BufFreeFn>,
}

/// `lbex_plugin_query`.
pub type QueryFn = unsafe extern "C" fn() -> *const PluginInfo;

/// `lbex_plugin_open`.
pub type OpenFn = unsafe extern "C" fn(
    host: *const Host,
    settings: *const u8,
    settings_len: usize,
    backend: *mut *const Backend,
    reply: *mut Buf,
) -> i32;

/// Frees a buffer of the plugin's.
pub type BufFreeFn = unsafe extern "C" fn(buf: *mut Buf);

/// `struct lbex_backend`: a backend that a plugin opened. Lives until its `close` has returned.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Backend {
    /// The size of this table as the plugin was compiled.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// The plugin's own; the first argument of every function here.
    pub ctx: *mut c_void,
    /// Makes the proxy serve a `desired` or `delta` document; replies with a `report`.
    pub apply: Option<ApplyFn>,
    /// Looks at the proxy; replies with an `observation`.
    pub observe: Option<ObserveFn>,
    /// Asks the call in progress to return soon. The only function that comes from another thread.
    pub cancel: Option<CancelFn>,
    /// Frees what a function of this table put into its reply.
    pub buf_free: Option<BackendBufFreeFn>,
    /// Ends the backend, and leaves the proxy running.
    pub close: Option<CloseFn>,
    /// Since ABI 1.1; may be null. Ends the proxy.
    pub stop: Option<StopFn>,
}

/// What a table has in its field `size`.
#[allow(clippy::cast_possible_truncation)]
const fn size<T>() -> u32 {
    size_of::<T>() as u32
}

impl PluginInfo {
    /// The size of this table in this version.
    pub const SIZE: u32 = size::<Self>();
}

impl Host {
    /// The size of this table in this version.
    pub const SIZE: u32 = size::<Self>();
}

impl Backend {
    /// The size of this table in this version.
    pub const SIZE: u32 = size::<Self>();
    /// Its size in ABI 1.0: without so much there is no backend.
    pub const SIZE_1_0: usize = std::mem::offset_of!(Backend, stop);
}

/// [`Backend::apply`].
pub type ApplyFn = unsafe extern "C" fn(
    ctx: *mut c_void,
    document: *const u8,
    document_len: usize,
    timeout_ms: u32,
    reply: *mut Buf,
) -> i32;
/// [`Backend::observe`].
pub type ObserveFn = unsafe extern "C" fn(ctx: *mut c_void, timeout_ms: u32, reply: *mut Buf) -> i32;
/// [`Backend::cancel`].
pub type CancelFn = unsafe extern "C" fn(ctx: *mut c_void);
/// [`Backend::buf_free`].
pub type BackendBufFreeFn = unsafe extern "C" fn(ctx: *mut c_void, buf: *mut Buf);
/// [`Backend::close`].
pub type CloseFn = unsafe extern "C" fn(ctx: *mut c_void);
/// [`Backend::stop`].
pub type StopFn = unsafe extern "C" fn(ctx: *mut c_void, drain_ms: u32, timeout_ms: u32, reply: *mut Buf) -> i32;

/// `struct lbex_host`: what LBEX offers to a plugin. Lives as long as the process.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Host {
    /// The size of this table as LBEX was compiled.
    pub size: u32,
    /// The ABI's major version of LBEX.
    pub abi_major: u16,
    /// The ABI's minor version of LBEX.
    pub abi_minor: u16,
    /// LBEX's own; the first argument of every function here.
    pub ctx: *mut c_void,
    /// Logs a line.
    pub log: Option<LogFn>,
    /// Asks LBEX to observe at once.
    pub wake: Option<WakeFn>,
}

/// [`Host::log`].
pub type LogFn = unsafe extern "C" fn(ctx: *mut c_void, level: i32, text: *const c_char, len: usize);
/// [`Host::wake`].
pub type WakeFn = unsafe extern "C" fn(ctx: *mut c_void);
