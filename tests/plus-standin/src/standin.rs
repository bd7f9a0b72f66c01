//! The stand-in as tests hold it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::rustls::ServerConfig;

use crate::access::{Credentials, Place};
use crate::api::{Server, State, Upstream};
use crate::calls::Call;
use crate::faults::Rule;
use crate::serve::Listener;
use crate::shared::Shared;
use crate::traffic::Traffic;

/// How a [`StandIn`] is started. Made by [`StandIn::builder`].
#[derive(Debug, Default)]
pub struct Builder {
    state: State,
    places: Vec<Place>,
    tls: Option<Arc<ServerConfig>>,
    credentials: Option<Credentials>,
    traffic: Option<Box<dyn Traffic>>,
    control: bool,
}

impl Builder {
    /// Listens on a port of 127.0.0.1; 0 is any.
    #[must_use]
    pub fn tcp(mut self, port: u16) -> Self {
        self.places.push(Place::Tcp(port));
        self
    }

    /// Listens on a UNIX socket.
    #[must_use]
    pub fn unix(mut self, path: impl Into<PathBuf>) -> Self {
        self.places.push(Place::Unix(path.into()));
        self
    }

    /// Speaks TLS, with these certificates; a verifier of client certificates in it makes clients show theirs.
    #[must_use]
    pub fn tls(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Lets in only who says this.
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Has only these versions of the API.
    #[must_use]
    pub fn versions(mut self, versions: &[u32]) -> Self {
        self.state.versions = versions.to_vec();
        self
    }

    /// `api` without `write=on`.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.state.write = false;
        self
    }

    /// Has an upstream with a zone and these servers.
    #[must_use]
    pub fn upstream(mut self, name: &str, servers: &[SocketAddr]) -> Self {
        let servers = servers.iter().map(|server| Server::new(0, *server));
        self.state.upstreams.insert(name.to_owned(), Upstream::with(name, servers));
        self
    }

    /// Begins with this state, in place of what was said before.
    #[must_use]
    pub fn state(mut self, state: State) -> Self {
        self.state = state;
        self
    }

    /// Carries traffic as the state says: each call that changes something is answered when new connections go accordingly.
    #[must_use]
    pub fn traffic(mut self, traffic: impl Traffic + 'static) -> Self {
        self.traffic = Some(Box::new(traffic));
        self
    }

    /// Lets a [`Control`](crate::Control) say what is to go wrong: for one that runs as a process.
    #[must_use]
    pub(crate) fn control(mut self) -> Self {
        self.control = true;
        self
    }

    /// Starts it: once this has returned, it answers.
    pub async fn start(self) -> Result<StandIn> {
        let initial = self.state.clone();
        let shared = Arc::new(Shared::new(self.state, self.credentials, self.traffic, self.control));
        let (commands, inbox) = mpsc::unbounded_channel();
        let (ready, started) = oneshot::channel();
        let server = Thread { shared: shared.clone(), places: self.places, tls: self.tls };
        let thread =
            std::thread::Builder::new().name("plus-standin".to_owned()).spawn(move || server.run(inbox, ready))?;
        let mut this = StandIn { shared, initial, commands, addresses: Vec::new(), thread: Some(thread) };
        this.addresses = started.await.map_err(|_| anyhow!("the stand-in's thread has ended"))??;
        Ok(this)
    }
}

/// A stand-in for the REST API of one NGINX Plus. It answers on a thread of its own until it is dropped.
#[derive(Debug)]
pub struct StandIn {
    shared: Arc<Shared>,
    initial: State,
    commands: mpsc::UnboundedSender<Command>,
    addresses: Vec<Place>,
    thread: Option<JoinHandle<()>>,
}

impl StandIn {
    /// Options; as it is: no upstreams, nothing listens.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where it listens over TCP, the first of those places.
    ///
    /// Panics if it does not.
    pub fn address(&self) -> SocketAddr {
        let port = self.addresses.iter().find_map(|place| match place {
            Place::Tcp(port) => Some(*port),
            Place::Unix(_) => None,
        });
        Place::loopback(port.expect("it listens over TCP"))
    }

    /// Adds a fault; of several that a call could have, the first that was added counts.
    pub fn inject(&self, rule: Rule) {
        self.shared.lock().rules.push(rule);
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.shared.lock().rules.clear();
    }

    /// All calls so far, in the order in which they came.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.lock().calls.clone()
    }

    /// The calls so far that would change something, as [`Call::line`]s.
    pub fn writes(&self) -> Vec<String> {
        self.shared.lock().calls.iter().filter(|call| call.writes()).map(Call::line).collect()
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.shared.lock().calls.clear();
    }

    /// The state now.
    pub fn state(&self) -> State {
        self.shared.lock().state.clone()
    }

    /// The addresses of the servers of an upstream that are not `down`, sorted; empty if there is no such upstream.
    pub fn up(&self, upstream: &str) -> Vec<SocketAddr> {
        let inner = self.shared.lock();
        let servers = inner.state.servers(upstream).unwrap_or_default();
        let mut up: Vec<_> = servers.iter().filter(|server| !server.down).map(|server| server.server).collect();
        up.sort();
        up
    }

    /// Changes the state by hand: another operator, a reload, numbers to be seen. Traffic follows before this returns.
    pub async fn change(&self, change: impl FnOnce(&mut State)) -> Result<()> {
        change(&mut self.shared.lock().state);
        self.order(Command::Carry).await
    }

    /// Closes its sockets and every connection: the next client is refused.
    pub async fn refuse(&self) -> Result<()> {
        self.order(Command::Refuse).await
    }

    /// Listens again, at the same places.
    pub async fn accept(&self) -> Result<()> {
        self.order(Command::Accept).await
    }

    /// Listens at these places and at no others. Where it listens already it goes on as it is, also on a UNIX socket to which no path
    /// leads any more, as NGINX does at a reload.
    pub(crate) async fn listen_at(&self, places: Vec<Place>) -> Result<()> {
        self.order(|done| Command::Move(places, done)).await
    }

    /// Restarts: connections break, the process ids are others, the generation is the first again. With `keep`, servers are as they
    /// were (a `state` file), else as they were at the beginning.
    pub async fn restart(&self, keep: bool) -> Result<()> {
        self.refuse().await?;
        self.change(|state| {
            let ids = (state.pid + 1, state.ppid + 1);
            let before = std::mem::replace(state, self.initial.clone());
            if keep {
                state.upstreams = before.upstreams;
            }
            (state.pid, state.ppid) = ids;
            state.loaded = std::time::SystemTime::now();
        })
        .await?;
        self.accept().await
    }

    async fn order(&self, command: impl FnOnce(Done) -> Command) -> Result<()> {
        let (done, told) = oneshot::channel();
        let gone = || anyhow!("the stand-in's thread has ended");
        self.commands.send(command(done)).map_err(|_| gone())?;
        told.await.map_err(|_| gone())?
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let (closed, _) = mpsc::unbounded_channel();
        drop(std::mem::replace(&mut self.commands, closed));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the stand-in for NGINX Plus has panicked");
        }
    }
}

type Done = oneshot::Sender<Result<()>>;

#[derive(Debug)]
enum Command {
    Carry(Done),
    Refuse(Done),
    Accept(Done),
    Move(Vec<Place>, Done),
}

struct Thread {
    shared: Arc<Shared>,
    places: Vec<Place>,
    tls: Option<Arc<ServerConfig>>,
}

impl Thread {
    fn run(self, inbox: mpsc::UnboundedReceiver<Command>, ready: oneshot::Sender<Result<Vec<Place>>>) {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(self.obey(inbox, ready)),
            // Who waits learns it from the dropped sender.
            Err(error) => eprintln!("the stand-in has no runtime: {error}"),
        }
    }

    async fn obey(mut self, mut inbox: mpsc::UnboundedReceiver<Command>, ready: oneshot::Sender<Result<Vec<Place>>>) {
        let mut accepting = JoinSet::new();
        let started = match self.shared.begin().await {
            Ok(()) => self.listen(&mut accepting).await,
            Err(error) => Err(error),
        };
        // Whoever asked may have gone away; then the inbox is closed, too.
        ready.send(started.map(|()| self.places.clone())).ok();
        while let Some(command) = inbox.recv().await {
            let (done, result) = match command {
                Command::Carry(done) => (done, self.shared.changed().await),
                Command::Refuse(done) => {
                    accepting.shutdown().await;
                    (done, Ok(()))
                }
                Command::Accept(done) => (done, self.listen(&mut accepting).await),
                Command::Move(places, done) if places == self.places => (done, Ok(())),
                Command::Move(places, done) => {
                    accepting.shutdown().await;
                    let left = std::mem::replace(&mut self.places, places);
                    left.iter().for_each(Place::remove);
                    (done, self.listen(&mut accepting).await)
                }
            };
            done.send(result).ok();
        }
        if let Err(error) = self.shared.end().await {
            eprintln!("the stand-in's NGINX did not end: {error:#}");
        }
    }

    async fn listen(&mut self, accepting: &mut JoinSet<()>) -> Result<()> {
        for place in &mut self.places {
            let listener = Listener::bind(place).await?;
            if let (Listener::Tcp(listener), Place::Tcp(port)) = (&listener, &mut *place) {
                *port = listener.local_addr().context("no local address")?.port();
            }
            accepting.spawn(listener.serve(self.shared.clone(), self.tls.clone()));
        }
        Ok(())
    }
}
