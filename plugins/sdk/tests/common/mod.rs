//! Loads an example as LBEX loads a plugin: through the two functions that it exports.
#![allow(unsafe_code, dead_code, unreachable_pub)]

use std::ffi::{c_char, c_void};
use std::path::PathBuf;
use std::sync::Mutex;

use lbex_plugin_sdk::Settings;
use lbex_plugin_sdk::abi::documents::{Observation, Report};
use lbex_plugin_sdk::abi::tables::{
    ABI_MAJOR, ABI_MINOR, Backend, Buf, Host, OPEN_SYMBOL, OpenFn, PluginInfo, QUERY_SYMBOL, QueryFn, code,
};
use lbex_plugin_sdk::abi::{Document, read, write};

/// Where cargo puts examples, seen from where it puts tests.
fn library(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join(format!("examples/lib{example}.so"))
}

pub struct Loaded {
    pub info: *const PluginInfo,
    pub backend: *const Backend,
    pub logged: &'static Mutex<Vec<String>>,
}

unsafe extern "C" fn log(ctx: *mut c_void, _: i32, text: *const c_char, len: usize) {
    let (logged, text) =
        unsafe { (&*ctx.cast::<Mutex<Vec<String>>>(), std::slice::from_raw_parts(text.cast::<u8>(), len)) };
    logged.lock().unwrap().push(String::from_utf8(text.to_vec()).unwrap());
}

impl Loaded {
    pub fn open(config: Option<&str>) -> Result<Self, (i32, String)> {
        Self::load("memory", config)
    }

    pub fn load(example: &str, config: Option<&str>) -> Result<Self, (i32, String)> {
        let library: &'static _ = Box::leak(Box::new(unsafe { libloading::Library::new(library(example)) }.unwrap()));
        let logged: &'static Mutex<Vec<String>> = Box::leak(Box::default());
        let host: &'static Host = Box::leak(Box::new(Host {
            size: Host::SIZE,
            abi_major: ABI_MAJOR,
            abi_minor: ABI_MINOR,
            ctx: std::ptr::from_ref(logged).cast_mut().cast(),
            log: Some(log),
            wake: None,
        }));
        let settings = Settings { config: config.map(str::to_owned), ..Settings::default() };
        let settings = write(&settings).unwrap();
        let mut backend = std::ptr::null();
        let mut reply = Buf::EMPTY;
        unsafe {
            let query: libloading::Symbol<QueryFn> = library.get(QUERY_SYMBOL.as_bytes()).unwrap();
            let open: libloading::Symbol<OpenFn> = library.get(OPEN_SYMBOL.as_bytes()).unwrap();
            let info = query();
            let done = open(host, settings.as_ptr(), settings.len(), &raw mut backend, &raw mut reply);
            let text = taken(&mut reply, |buf| (*info).buf_free.unwrap()(buf));
            match done {
                code::OK => Ok(Self { info, backend, logged }),
                other => Err((other, String::from_utf8(text).unwrap())),
            }
        }
    }

    pub fn reply<D: Document>(&self, call: impl FnOnce(&Backend, *mut Buf) -> i32) -> (i32, Result<D, String>) {
        let backend = unsafe { &*self.backend };
        let mut reply = Buf::EMPTY;
        let done = call(backend, &raw mut reply);
        let bytes = taken(&mut reply, |buf| unsafe { backend.buf_free.unwrap()(backend.ctx, buf) });
        let document = read(&bytes).map_err(|_| String::from_utf8(bytes).unwrap());
        (done, document)
    }

    pub fn apply<D: Document>(&self, document: &D) -> (i32, Result<Report, String>) {
        let bytes = write(document).unwrap();
        self.reply(|backend, reply| unsafe {
            backend.apply.unwrap()(backend.ctx, bytes.as_ptr(), bytes.len(), 5000, reply)
        })
    }

    pub fn observe(&self) -> Observation {
        let (done, observation) =
            self.reply(|backend, reply| unsafe { backend.observe.unwrap()(backend.ctx, 1000, reply) });
        assert_eq!(done, code::OK);
        observation.unwrap()
    }
}

fn taken(reply: &mut Buf, free: impl FnOnce(*mut Buf)) -> Vec<u8> {
    if reply.data.is_null() {
        return Vec::new();
    }
    let bytes = unsafe { std::slice::from_raw_parts(reply.data, reply.len) }.to_vec();
    free(reply);
    bytes
}
