//! The OS thread that a plugin is called on: one call at a time, bytes in, bytes out. A call that does not return keeps this thread, and
//! nothing else; it is never killed.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use lbex_plugin_abi::tables::{Host, code};
use tokio::sync::oneshot;

use super::fault::Fault;
use super::host::HostContext;
use super::library::{Library, LoadError, PluginInfo};
use super::table::{Canceller, OpenBackend, Reply};

/// As much as a main thread has: libraries in C expect it.
const STACK: usize = 8 << 20;

/// What a plugin is asked to do.
#[derive(Debug)]
pub(super) enum Call {
    /// Open a backend with these settings.
    Open(Vec<u8>),
    /// Apply this document.
    Apply { document: Vec<u8>, timeout: Duration },
    /// Look at the proxy.
    Observe { timeout: Duration },
    /// End the proxy.
    Stop { drain: Duration, timeout: Duration },
    /// Close the backend, if one is open.
    Close,
}

impl Call {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Open(_) => "lbex_plugin_open",
            Self::Apply { .. } => "apply",
            Self::Observe { .. } => "observe",
            Self::Stop { .. } => "stop",
            Self::Close => "close",
        }
    }
}

type Answer = oneshot::Sender<Result<Reply, Fault>>;

/// The thread, seen from the others.
#[derive(Debug)]
pub(super) struct PluginThread {
    calls: mpsc::Sender<(Call, Answer)>,
    now: Arc<Mutex<Now>>,
    context: &'static HostContext,
}

/// What the thread is doing.
#[derive(Debug, Default)]
struct Now {
    /// Since when it is in which call.
    call: Option<(&'static str, Instant)>,
    /// Cancels that; there is none while a backend is being opened.
    canceller: Option<CancelSlot>,
    /// Whether a backend is open.
    open: bool,
}

struct CancelSlot(Canceller);

impl std::fmt::Debug for CancelSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CancelSlot")
    }
}

fn lock(now: &Mutex<Now>) -> MutexGuard<'_, Now> {
    now.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PluginThread {
    /// Starts a thread, and loads the library at `path` on it.
    pub(super) async fn start(path: &Path, limit: Duration) -> Result<(Self, PluginInfo), LoadError> {
        let (calls, inbox) = mpsc::channel();
        let (tell, told) = oneshot::channel();
        let now = Arc::new(Mutex::new(Now::default()));
        let thread = (path.to_owned(), now.clone());
        let started = std::thread::Builder::new().name("lbex-plugin".to_owned()).stack_size(STACK).spawn(move || {
            let (path, now) = thread;
            run(&path, tell, &now, &inbox);
        });
        if let Err(error) = started {
            return Err(LoadError::System {
                path: path.to_owned(),
                reason: format!("failed to start a thread: {error}"),
            });
        }
        match tokio::time::timeout(limit, told).await {
            Ok(Ok(Ok((info, context)))) => Ok((Self { calls, now, context }, info)),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => Err(LoadError::System { path: path.to_owned(), reason: "its thread has ended".to_owned() }),
            Err(_) => Err(LoadError::Overrun { path: path.to_owned(), limit }),
        }
    }

    /// Calls the plugin. After `limit` the call is cancelled, and given up `grace` later: its backend is then closed as soon as it does
    /// return, and until then [`Self::is_in`] tells. The same happens where this future is dropped.
    pub(super) async fn call(&self, call: Call, limit: Duration, grace: Duration) -> Result<Reply, Fault> {
        let name = call.name();
        let (tell, mut told) = oneshot::channel();
        if self.calls.send((call, tell)).is_err() {
            return Err(Fault::ThreadEnded);
        }
        if let Ok(answer) = tokio::time::timeout(limit, &mut told).await {
            return answer.unwrap_or(Err(Fault::ThreadEnded));
        }
        self.cancel();
        match tokio::time::timeout(grace, told).await {
            Ok(answer) => answer.unwrap_or(Err(Fault::ThreadEnded)),
            Err(_) => Err(Fault::Overrun { call: name, limit }),
        }
    }

    /// On a thread of its own: `cancel` may hang as well. The plugin's thread begins no call before it has returned.
    fn cancel(&self) {
        let now = self.now.clone();
        let cancel = move || {
            let now = lock(&now);
            if let (Some(_), Some(CancelSlot(canceller))) = (now.call, &now.canceller) {
                canceller.cancel();
            }
        };
        if let Err(error) = std::thread::Builder::new().name("lbex-cancel".to_owned()).spawn(cancel) {
            tracing::warn!(%error, "failed to start the thread that cancels a plugin's call");
        }
    }

    /// Which call it is in, and for how long. `None` too where a `cancel` hangs, of which nothing can be known.
    pub(super) fn is_in(&self) -> Option<(&'static str, Duration)> {
        match self.now.try_lock() {
            Ok(now) => now.call.map(|(name, since)| (name, since.elapsed())),
            Err(std::sync::TryLockError::Poisoned(now)) => now.into_inner().call.map(|(name, at)| (name, at.elapsed())),
            Err(std::sync::TryLockError::WouldBlock) => Some(("cancel", Duration::ZERO)),
        }
    }

    /// Whether a backend is open. Only of use while no call is in progress.
    pub(super) fn is_open(&self) -> bool {
        self.now.try_lock().is_ok_and(|now| now.open)
    }

    /// What the plugin calls.
    pub(super) fn context(&self) -> &'static HostContext {
        self.context
    }
}

type Loaded = Result<(PluginInfo, &'static HostContext), LoadError>;

fn run(path: &Path, tell: oneshot::Sender<Loaded>, now: &Mutex<Now>, inbox: &mpsc::Receiver<(Call, Answer)>) {
    let library = match Library::load(path) {
        Ok(library) => library,
        Err(error) => {
            // Where nobody listens it came too late, which was told.
            drop(tell.send(Err(error)));
            return;
        }
    };
    let context = HostContext::new(&library.info.name);
    if tell.send(Ok((library.info.clone(), context))).is_err() {
        return;
    }
    let mut plugin = Plugin { library, host: context.table(), backend: None, now };
    for (call, answer) in inbox {
        let reply = plugin.call(call);
        if answer.is_closed() {
            plugin.close();
        }
        // First: who gets the answer may call again at once.
        lock(now).call = None;
        if answer.send(reply).is_err() {
            // Nobody waits any more: nobody knows either what the plugin has now.
            plugin.close();
        }
    }
    plugin.close();
}

/// The plugin, on its thread.
struct Plugin<'a> {
    library: Library,
    host: &'static Host,
    backend: Option<OpenBackend>,
    now: &'a Mutex<Now>,
}

impl Plugin<'_> {
    fn call(&mut self, call: Call) -> Result<Reply, Fault> {
        lock(self.now).call = Some((call.name(), Instant::now()));
        let Some(backend) = &self.backend else {
            return match call {
                Call::Open(settings) => self.open(&settings),
                Call::Close => Ok(Reply { code: code::OK, bytes: Vec::new() }),
                _ => Err(Fault::NoBackend),
            };
        };
        let reply = match call {
            Call::Apply { document, timeout } => backend.apply(&document, millis(timeout)),
            Call::Observe { timeout } => backend.observe(millis(timeout)),
            Call::Stop { drain, timeout } => backend.stop(millis(drain), millis(timeout)),
            Call::Open(settings) => {
                self.close();
                return self.open(&settings);
            }
            Call::Close => {
                self.close();
                return Ok(Reply { code: code::OK, bytes: Vec::new() });
            }
        };
        if self.backend.is_some() && reply.is_err() {
            self.close();
        }
        reply
    }

    fn open(&mut self, settings: &[u8]) -> Result<Reply, Fault> {
        let (reply, backend) = OpenBackend::open(&self.library, self.host, settings)?;
        {
            let mut now = lock(self.now);
            now.open = backend.is_some();
            now.canceller = backend.as_ref().map(|backend| CancelSlot(backend.canceller()));
        }
        self.backend = backend;
        Ok(reply)
    }

    fn close(&mut self) {
        {
            let mut now = lock(self.now);
            now.open = false;
            now.canceller = None;
        }
        if let Some(backend) = self.backend.take() {
            backend.close();
        }
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
