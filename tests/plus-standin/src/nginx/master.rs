//! The process that LBEX takes for NGINX's master.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use async_trait::async_trait;
use tokio::io::AsyncWriteExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::command::tell;
use super::config::Config;
use super::translate::translate;
use crate::StandIn;
use crate::access::Place;
use crate::api::State;
use crate::serve::Listener;
use crate::traffic::{Engine, Traffic};

/// What the master says when it serves.
pub(super) const SERVES: &str = "serves\n";

/// Kills the open-source NGINX, by its pid file, when the process whose pipe is this shell's standard input is gone.
const KEEPER: &str = "read -r _; kill -s KILL -- \"-$(cat \"$0\" 2>/dev/null)\" 2>/dev/null; exit 0";

/// The open-source NGINX with the configuration of NGINX Plus, translated.
#[derive(Debug)]
struct Translating {
    engine: Engine,
    config: Arc<Mutex<Arc<Config>>>,
    _keeper: Child,
}

impl Translating {
    async fn new(prefix: &Path, config: Arc<Mutex<Arc<Config>>>) -> Result<Self> {
        let engine = Engine::new(&prefix.join("standin")).await?;
        let mut keeper = Command::new("/bin/sh");
        keeper.args(["-c", KEEPER]).arg(engine.layout().pid_file()).stdin(Stdio::piped());
        let keeper = keeper.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("failed to run /bin/sh")?;
        Ok(Self { engine, config, _keeper: keeper })
    }
}

#[async_trait]
impl Traffic for Translating {
    async fn carry(&mut self, state: &State) -> Result<()> {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (pid, told) = self.engine.directives();
        let translated = translate(&config, state, &self.engine.layout().root().join("files"), &pid, &told);
        translated.write(&self.engine.layout().main_conf())?;
        self.engine.serve(&translated.main).await?;
        config.save(state).context("failed to write a state file")
    }

    async fn end(&mut self) -> Result<()> {
        self.engine.end(Duration::ZERO).await
    }
}

/// Serves until it is told to end.
pub(super) fn run(prefix: &Path, main: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match Master::start(prefix, main).await {
            Ok(master) => {
                tell(SERVES)?;
                master.obey().await
            }
            Err(error) => tell(&format!("{error:#}")),
        }
    })
}

struct Master {
    prefix: PathBuf,
    main: PathBuf,
    config: Arc<Mutex<Arc<Config>>>,
    /// What is said on the socket of [`Config::told`], and the task that says it there.
    says: watch::Sender<String>,
    saying: Option<(PathBuf, AbortHandle)>,
    plus: StandIn,
    signals: [(Signal, Told); 5],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Reload,
    Quit,
    End,
    Upgrade,
}

impl Master {
    async fn start(prefix: &Path, main: &Path) -> Result<Self> {
        let signals = [
            (signal(SignalKind::hangup())?, Told::Reload),
            (signal(SignalKind::quit())?, Told::Quit),
            (signal(SignalKind::terminate())?, Told::End),
            (signal(SignalKind::interrupt())?, Told::End),
            (signal(SignalKind::user_defined2())?, Told::Upgrade),
        ];
        let config = Config::read(main, prefix).map_err(|complaint| anyhow!("{complaint}"))?;
        let mut state = State { ppid: std::process::id(), ..State::default() };
        config.load(&mut state).context("failed to read a state file")?;
        let (pid, places, told) = (config.pid.clone(), config.api.clone(), config.told.clone());
        let config = Arc::new(Mutex::new(Arc::new(config)));
        let mut builder = StandIn::builder().state(state).control();
        for (place, _) in places {
            builder = match place {
                Place::Tcp(port) => builder.tcp(port),
                Place::Unix(path) => builder.unix(path),
            };
        }
        let plus = builder.traffic(Translating::new(prefix, config.clone()).await?).start().await?;
        let mut this = Self {
            prefix: prefix.to_owned(),
            main: main.to_owned(),
            config,
            says: watch::channel(String::new()).0,
            saying: None,
            plus,
            signals,
        };
        this.say(told).await?;
        std::fs::write(&pid, format!("{}\n", std::process::id()))
            .with_context(|| format!("failed to write {}", pid.display()))?;
        Ok(this)
    }

    /// Says these words on this socket, and nothing on another.
    async fn say(&mut self, told: Option<(PathBuf, String)>) -> Result<()> {
        let (socket, words) = told.unzip();
        self.says.send_replace(words.unwrap_or_default());
        if self.saying.as_ref().map(|(at, _)| at) == socket.as_ref() {
            return Ok(());
        }
        if let Some((left, task)) = self.saying.take() {
            task.abort();
            Place::Unix(left).remove();
        }
        if let Some(socket) = socket {
            let listener = Listener::bind(&Place::Unix(socket.clone())).await?;
            self.saying = Some((socket, tokio::spawn(say(listener, self.says.subscribe())).abort_handle()));
        }
        Ok(())
    }

    async fn obey(mut self) -> Result<()> {
        loop {
            match self.told().await {
                Told::Reload => {
                    if let Err(error) = self.reload().await {
                        log("emerg", &format!("{error:#}"));
                    }
                }
                Told::Upgrade => log("alert", "the stand-in for NGINX Plus cannot be upgraded in place"),
                Told::Quit => return self.quit().await,
                Told::End => return self.end(),
            }
        }
    }

    async fn told(&mut self) -> Told {
        let [reload, quit, end, interrupt, upgrade] = &mut self.signals;
        tokio::select! {
            _ = reload.0.recv() => reload.1,
            _ = quit.0.recv() => quit.1,
            _ = end.0.recv() => end.1,
            _ = interrupt.0.recv() => interrupt.1,
            _ = upgrade.0.recv() => upgrade.1,
        }
    }

    fn put(&self, config: Arc<Config>) -> Arc<Config> {
        std::mem::replace(&mut *self.config.lock().unwrap_or_else(PoisonError::into_inner), config)
    }

    /// Takes the configuration in place over, or stays with the one before.
    async fn reload(&mut self) -> Result<()> {
        let new = Config::read(&self.main, &self.prefix).map_err(|complaint| anyhow!("{complaint}"))?;
        let (told, places) = (new.told.clone(), new.api.iter().map(|(place, _)| place.clone()).collect());
        let new = Arc::new(new);
        let old = self.put(new.clone());
        let (mut before, mut loaded) = (None, Ok(()));
        let carried = self.plus.change(|state| {
            before = Some(state.clone());
            loaded = new.load(state).context("failed to read a state file");
            state.reloaded();
        });
        let carried = carried.await;
        if let Err(error) = loaded.and(carried) {
            self.put(old);
            self.plus.change(|state| *state = before.unwrap_or_default()).await?;
            return Err(error);
        }
        self.plus.listen_at(places).await?;
        self.say(told).await
    }

    /// No new connections; it ends with the last of those that exist.
    async fn quit(mut self) -> Result<()> {
        self.plus.refuse().await?;
        let engine = lbex_backend_nginx::process::Nginx::new(lbex_backend_nginx::prefix::Layout::new(
            self.prefix.join("standin"),
        ));
        tokio::select! {
            ended = engine.stop(Duration::from_secs(24 * 3600)) => drop(ended?),
            // Told to end after all.
            () = async { while self.told().await != Told::End {} } => {}
        }
        self.end()
    }

    fn end(self) -> Result<()> {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        drop(self.plus);
        if let Some((socket, _)) = &config.told {
            std::fs::remove_file(socket).with_context(|| format!("failed to remove {}", socket.display()))?;
        }
        std::fs::remove_file(&config.pid).with_context(|| format!("failed to remove {}", config.pid.display()))
    }
}

/// Tells everyone who comes what is being served.
async fn say(listener: Listener, said: watch::Receiver<String>) {
    let Listener::Unix(listener) = listener else { return };
    loop {
        if let Ok((mut stream, _)) = listener.accept().await {
            let words = said.borrow().clone();
            // Who went away does not want to know.
            stream.write_all(words.as_bytes()).await.ok();
        }
    }
}

/// Writes a line to the error log, which is standard error.
fn log(level: &str, text: &str) {
    let line = format!("standin [{level}] {}#0: {}\n", std::process::id(), text.replace('\n', " "));
    // There is nobody else to tell.
    std::io::stderr().write_all(line.as_bytes()).ok();
}
