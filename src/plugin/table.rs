//! Calls a plugin. Everything here runs on the plugin's thread, but for [`Canceller::cancel`].
#![allow(unsafe_code)]

use std::ffi::c_void;

use lbex_plugin_abi::tables::{
    ApplyFn, Backend, BackendBufFreeFn, Buf, CancelFn, CloseFn, Host, MAX_DOCUMENT, ObserveFn, StopFn, code,
};

use super::fault::Fault;
use super::library::Library;
use super::memory;

/// Up to which size a reply that is too large may be meant so, in bytes; beyond, its length is a lie.
const LARGEST_MISTAKE: usize = 4 << 30;

/// What a call returned, and what it replied.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) code: i32,
    pub(super) bytes: Vec<u8>,
}

/// A backend that a plugin opened, with all functions that it has to have.
pub(super) struct OpenBackend {
    ctx: *mut c_void,
    apply: ApplyFn,
    observe: ObserveFn,
    cancel: CancelFn,
    buf_free: BackendBufFreeFn,
    close: CloseFn,
    stop: Option<StopFn>,
}

/// Cancels the call in progress, from another thread.
#[derive(Clone, Copy)]
pub(super) struct Canceller {
    ctx: *mut c_void,
    cancel: CancelFn,
}

// SAFETY: the header says that `cancel` comes from another thread.
unsafe impl Send for Canceller {}

impl Canceller {
    /// The backend is open, and a call of it is in progress.
    pub(super) fn cancel(self) {
        // SAFETY: whoever holds this gives it up before the backend is closed.
        unsafe { (self.cancel)(self.ctx) }
    }
}

impl OpenBackend {
    /// Opens a backend of `library`. `None` with every reply that is not `OK`.
    pub(super) fn open(
        library: &Library,
        host: &'static Host,
        settings: &[u8],
    ) -> Result<(Reply, Option<Self>), Fault> {
        let mut table: *const Backend = std::ptr::null();
        let mut reply = Buf::EMPTY;
        // SAFETY: as the header wants it: the host's table lives for ever, the settings until it returns.
        let code = unsafe { (library.open)(host, settings.as_ptr(), settings.len(), &raw mut table, &raw mut reply) };
        let bytes = take("lbex_plugin_open", reply, |buf| {
            if let Some(free) = library.buf_free {
                // SAFETY: the plugin's own buffer, once.
                unsafe { free(buf) }
            }
        });
        if code != code::OK {
            return Ok((Reply { code, bytes: bytes? }, None));
        }
        let backend = Self::new(table)?;
        match bytes {
            Ok(bytes) => Ok((Reply { code, bytes }, Some(backend))),
            Err(fault) => {
                backend.close();
                Err(fault)
            }
        }
    }

    fn new(address: *const Backend) -> Result<Self, Fault> {
        if address.is_null() {
            return Err(Fault::NoBackend);
        }
        let what = "its backend's table";
        // SAFETY: a number.
        let size: u32 = unsafe { memory::table(what, address.cast(), size_of::<u32>()) }?;
        if (size as usize) < Backend::SIZE_1_0 {
            return Err(Fault::SmallTable { size, least: Backend::SIZE_1_0 });
        }
        // SAFETY: numbers, pointers, and functions that may be absent.
        let table: Backend = unsafe { memory::table(what, address, size as usize) }?;
        Ok(Self {
            ctx: table.ctx,
            apply: table.apply.ok_or(Fault::NoFunction("apply"))?,
            observe: table.observe.ok_or(Fault::NoFunction("observe"))?,
            cancel: table.cancel.ok_or(Fault::NoFunction("cancel"))?,
            buf_free: table.buf_free.ok_or(Fault::NoFunction("buf_free"))?,
            close: table.close.ok_or(Fault::NoFunction("close"))?,
            stop: table.stop,
        })
    }

    pub(super) fn canceller(&self) -> Canceller {
        Canceller { ctx: self.ctx, cancel: self.cancel }
    }

    pub(super) fn apply(&self, document: &[u8], timeout_ms: u32) -> Result<Reply, Fault> {
        // SAFETY: the backend is open, and the document lives until it returns.
        self.reply("apply", |reply| unsafe {
            (self.apply)(self.ctx, document.as_ptr(), document.len(), timeout_ms, reply)
        })
    }

    pub(super) fn observe(&self, timeout_ms: u32) -> Result<Reply, Fault> {
        // SAFETY: the backend is open.
        self.reply("observe", |reply| unsafe { (self.observe)(self.ctx, timeout_ms, reply) })
    }

    /// A plugin that has no such function does not do such a thing.
    pub(super) fn stop(&self, drain_ms: u32, timeout_ms: u32) -> Result<Reply, Fault> {
        let Some(stop) = self.stop else {
            return Ok(Reply { code: code::UNSUPPORTED, bytes: Vec::new() });
        };
        // SAFETY: the backend is open.
        self.reply("stop", |reply| unsafe { stop(self.ctx, drain_ms, timeout_ms, reply) })
    }

    pub(super) fn close(self) {
        // SAFETY: the backend is open, and nobody uses it from here on.
        unsafe { (self.close)(self.ctx) }
    }

    fn reply(&self, name: &'static str, call: impl FnOnce(*mut Buf) -> i32) -> Result<Reply, Fault> {
        let mut reply = Buf::EMPTY;
        let code = call(&raw mut reply);
        // SAFETY: the plugin's own buffer, once.
        let bytes = take(name, reply, |buf| unsafe { (self.buf_free)(self.ctx, buf) })?;
        Ok(Reply { code, bytes })
    }
}

/// Copies what a plugin replied, and gives it back: also a buffer that is too large, or it would be lost each time. What is not as it
/// says is not given back: who lies about a buffer may well free what is none.
fn take(call: &'static str, mut reply: Buf, free: impl FnOnce(*mut Buf)) -> Result<Vec<u8>, Fault> {
    if reply.data.is_null() {
        return Ok(Vec::new());
    }
    let length = reply.len;
    if length > MAX_DOCUMENT {
        if length <= LARGEST_MISTAKE && memory::is_there(reply.data as usize, length) {
            free(&raw mut reply);
        }
        return Err(Fault::TooLarge { call, length });
    }
    let bytes = memory::bytes("its reply", reply.data as usize, reply.len)?;
    free(&raw mut reply);
    Ok(bytes)
}
