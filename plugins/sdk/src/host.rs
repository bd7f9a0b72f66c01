//! What LBEX offers to a plugin.
#![allow(unsafe_code)]

use std::fmt;

use lbex_plugin_abi::tables::{self, level};

/// How severe a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something may be wrong.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    fn code(self) -> i32 {
        match self {
            Self::Error => level::ERROR,
            Self::Warn => level::WARN,
            Self::Info => level::INFO,
            Self::Debug => level::DEBUG,
            Self::Trace => level::TRACE,
        }
    }
}

/// LBEX, as a plugin sees it. May be used on any thread, for as long as the process lives.
#[derive(Clone, Copy)]
pub struct Host(Option<&'static tables::Host>);

// SAFETY: `lbex_plugin.h` promises that the table lives as long as the process and that its functions may be called on any thread.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("attached", &self.0.is_some()).finish()
    }
}

impl Host {
    /// No LBEX, for an author's own tests: lines go to standard error.
    pub fn detached() -> Self {
        Self(None)
    }

    /// # Safety
    /// `table` is null, or what LBEX handed to `lbex_plugin_open`.
    pub(crate) unsafe fn new(table: *const tables::Host) -> Self {
        // SAFETY: the caller's promise; every LBEX's table is at least as large as that of ABI 1.0, which is this one.
        Self(unsafe { table.as_ref() })
    }

    /// Logs a line. LBEX adds time and plugin; it cuts lines that are longer than 8 KiB, and leaves out some of thousands in a second.
    pub fn log(self, level: Level, text: &str) {
        match self.0.and_then(|host| Some((host, host.log?))) {
            // SAFETY: the text lives until the call returns, and LBEX copies it.
            Some((host, log)) => unsafe { log(host.ctx, level.code(), text.as_ptr().cast(), text.len()) },
            None => eprintln!("{level:?}: {text}"),
        }
    }

    /// Asks LBEX to observe at once: the proxy has died, or come back.
    pub fn wake(self) {
        if let Some((host, wake)) = self.0.and_then(|host| Some((host, host.wake?))) {
            // SAFETY: the table is LBEX's.
            unsafe { wake(host.ctx) }
        }
    }
}
