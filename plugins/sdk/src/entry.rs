//! The functions that LBEX calls. Each contains panics, and none believes a null pointer.
#![allow(unsafe_code)]

use std::any::Any;
use std::ffi::{CString, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use lbex_plugin_abi::documents::Settings;
use lbex_plugin_abi::tables::{self, ABI_MAJOR, ABI_MINOR, Buf, MAGIC, PluginInfo, code};
use lbex_plugin_abi::{read, write};

use crate::Backend;
use crate::backend::Error;
use crate::call::Cancel;
use crate::host::{Host, Level};
use crate::instance::{Instance, Reply, failed};

/// What `lbex_plugin_query` answers: made when first asked for, and never freed.
pub struct Info(OnceLock<Table>);

struct Table(PluginInfo);

// SAFETY: what the table points to is never written to again, and never freed.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Info {
    /// Nothing yet.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The table of the plugin `B`; null where even that panics.
    pub fn table<B: Backend>(&self, version: &str) -> *const PluginInfo {
        let make = || {
            let capabilities = catch_unwind(|| write(&B::capabilities())).ok().and_then(Result::ok);
            Table(PluginInfo {
                magic: MAGIC,
                size: PluginInfo::SIZE,
                abi_major: ABI_MAJOR,
                abi_minor: ABI_MINOR,
                backend_size: tables::Backend::SIZE,
                host_size: tables::Host::SIZE,
                name: lasting(B::NAME.as_bytes()),
                version: lasting(version.as_bytes()),
                capabilities: capabilities.map_or(std::ptr::null(), |text| lasting(&text)),
                buf_free: Some(buf_free),
            })
        };
        catch_unwind(AssertUnwindSafe(|| &raw const self.0.get_or_init(make).0)).unwrap_or(std::ptr::null())
    }
}

fn lasting(text: &[u8]) -> *const std::ffi::c_char {
    let text: Vec<u8> = text.iter().copied().filter(|byte| *byte != 0).collect();
    CString::new(text).unwrap_or_default().into_raw()
}

/// What `Backend::ctx` points to.
struct Context<B> {
    /// The table that LBEX holds.
    table: tables::Backend,
    cancel: Arc<Cancel>,
    /// `None` after a panic: nobody knows what it left behind.
    instance: Mutex<Option<Instance<B>>>,
}

/// `lbex_plugin_open`.
///
/// # Safety
/// As `lbex_plugin.h` says.
pub unsafe fn open<B: Backend>(
    host: *const tables::Host,
    settings: *const u8,
    settings_len: usize,
    backend: *mut *const tables::Backend,
    reply: *mut Buf,
) -> i32 {
    // SAFETY: LBEX hands over its table, or null.
    let host = unsafe { Host::new(host) };
    begin(host);
    // SAFETY: LBEX hands over that many bytes.
    let settings = unsafe { bytes(settings, settings_len) };
    let opened = catch_unwind(|| {
        let settings: Settings = read(settings).map_err(Error::invalid)?;
        let instance = Instance::new(B::open(settings, host)?);
        let told = instance.capabilities();
        Ok((instance, told))
    });
    let told = match opened {
        Ok(Ok((instance, told))) => {
            // SAFETY: LBEX hands over where to put it.
            unsafe { *backend = Context::table(instance) };
            told
        }
        Ok(Err(error)) => failed(&error),
        Err(panic) => panicked("open", panic.as_ref()),
    };
    // SAFETY: LBEX hands over where to put it.
    unsafe { put(told, reply) }
}

impl<B: Backend> Context<B> {
    /// Puts `instance` into a place of its own, which [`close`] frees.
    fn table(instance: Instance<B>) -> *const tables::Backend {
        let table = tables::Backend {
            size: tables::Backend::SIZE,
            reserved: 0,
            ctx: std::ptr::null_mut(),
            apply: Some(apply::<B>),
            observe: Some(observe::<B>),
            cancel: Some(cancel::<B>),
            buf_free: Some(backend_buf_free),
            close: Some(close::<B>),
            stop: Some(stop::<B>),
        };
        let context = Self { table, cancel: Arc::default(), instance: Mutex::new(Some(instance)) };
        let context = Box::into_raw(Box::new(context));
        // SAFETY: it was just made, and nobody else has it.
        unsafe {
            (*context).table.ctx = context.cast();
            &raw const (*context).table
        }
    }

    /// Calls `work` with the instance; a panic ends that.
    fn call(&self, name: &str, work: impl FnOnce(&mut Instance<B>, &Arc<Cancel>) -> Reply) -> Reply {
        let mut held = self.instance.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(instance) = held.as_mut() else {
            return (code::PANIC, b"the plugin has panicked before".to_vec());
        };
        match catch_unwind(AssertUnwindSafe(|| work(instance, &self.cancel))) {
            Ok(reply) => reply,
            Err(panic) => {
                // Its own end may panic as well.
                if catch_unwind(AssertUnwindSafe(|| *held = None)).is_err() {
                    std::mem::forget(held.take());
                }
                panicked(name, panic.as_ref())
            }
        }
    }
}

unsafe extern "C" fn apply<B: Backend>(
    ctx: *mut c_void,
    document: *const u8,
    document_len: usize,
    timeout_ms: u32,
    reply: *mut Buf,
) -> i32 {
    // SAFETY: LBEX hands over the context that it got, that many bytes, and where to put the reply.
    unsafe {
        let (context, document) = (&*ctx.cast::<Context<B>>(), bytes(document, document_len));
        put(context.call("apply", |instance, cancel| instance.apply(document, millis(timeout_ms), cancel)), reply)
    }
}

unsafe extern "C" fn observe<B: Backend>(ctx: *mut c_void, timeout_ms: u32, reply: *mut Buf) -> i32 {
    // SAFETY: as in `apply`.
    unsafe {
        let context = &*ctx.cast::<Context<B>>();
        put(context.call("observe", |instance, cancel| instance.observe(millis(timeout_ms), cancel)), reply)
    }
}

unsafe extern "C" fn stop<B: Backend>(ctx: *mut c_void, drain_ms: u32, timeout_ms: u32, reply: *mut Buf) -> i32 {
    // SAFETY: as in `apply`.
    unsafe {
        let context = &*ctx.cast::<Context<B>>();
        let stop = |instance: &mut Instance<B>, cancel: &Arc<Cancel>| {
            instance.stop(millis(drain_ms), millis(timeout_ms), cancel)
        };
        put(context.call("stop", stop), reply)
    }
}

unsafe extern "C" fn cancel<B: Backend>(ctx: *mut c_void) {
    // SAFETY: LBEX hands over the context that it got, which is shared: a call is in progress on another thread.
    unsafe { (*ctx.cast::<Context<B>>()).cancel.cancel() }
}

unsafe extern "C" fn close<B: Backend>(ctx: *mut c_void) {
    // SAFETY: `Context::table` made it so, and LBEX uses it no more.
    let context = unsafe { Box::from_raw(ctx.cast::<Context<B>>()) };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(context))) {
        panicked("close", panic.as_ref());
    }
}

unsafe extern "C" fn backend_buf_free(_: *mut c_void, buf: *mut Buf) {
    // SAFETY: as below.
    unsafe { buf_free(buf) }
}

unsafe extern "C" fn buf_free(buf: *mut Buf) {
    // SAFETY: LBEX hands back what `put` made, once.
    unsafe {
        let Some(buf) = buf.as_mut() else { return };
        let Buf { data, len } = std::mem::replace(buf, Buf::EMPTY);
        if !data.is_null() {
            drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(data, len)));
        }
    }
}

/// # Safety
/// `reply` is null, or can be written to.
unsafe fn put((code, bytes): Reply, reply: *mut Buf) -> i32 {
    // SAFETY: the caller's promise.
    if let Some(reply) = unsafe { reply.as_mut() } {
        *reply = Buf::EMPTY;
        if !bytes.is_empty() {
            let len = bytes.len();
            *reply = Buf { data: Box::into_raw(bytes.into_boxed_slice()).cast(), len };
        }
    }
    code
}

/// # Safety
/// `data` is null, or `len` bytes stand there until the caller returns.
unsafe fn bytes<'a>(data: *const u8, len: usize) -> &'a [u8] {
    // SAFETY: the caller's promise.
    if data.is_null() { &[] } else { unsafe { std::slice::from_raw_parts(data, len) } }
}

fn millis(timeout: u32) -> Duration {
    Duration::from_millis(timeout.into())
}

fn panicked(name: &str, panic: &(dyn Any + Send)) -> Reply {
    let what = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let what = what.unwrap_or("with something that is no text");
    (code::PANIC, format!("the plugin panicked in {name}: {what}").into_bytes())
}

/// What is done once in a process: where panics and log lines of this library go.
fn begin(host: Host) {
    static BEGUN: OnceLock<()> = OnceLock::new();
    BEGUN.get_or_init(|| {
        // This library has a standard library of its own, and so a hook of its own.
        std::panic::set_hook(Box::new(move |panic| host.log(Level::Error, &format!("the plugin panicked: {panic}"))));
        #[cfg(feature = "tracing")]
        crate::subscriber::install(host);
    });
}
