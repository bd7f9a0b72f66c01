//! Clients: those that come and go all the time, and those that stay.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::backends::{Conversation, udp_ask};
use lbex_test_harness::wait::{SOON, eventually};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{ANSWER, at};

/// Clients of each protocol at one time.
const CLIENTS: usize = 3;

/// Clients that come and go until they are told to end.
pub(super) struct Load {
    enough: watch::Sender<bool>,
    clients: JoinSet<Result<()>>,
    served: Arc<AtomicUsize>,
    /// UDP clients that had to ask again.
    repeated: Arc<AtomicUsize>,
}

impl Load {
    /// TCP clients, each with a question of its own after the greeting.
    pub(super) fn tcp(servers: &[SocketAddr]) -> Self {
        Self::start(servers, false)
    }

    /// TCP clients and UDP clients.
    pub(super) fn both(servers: &[SocketAddr]) -> Self {
        Self::start(servers, true)
    }

    fn start(servers: &[SocketAddr], udp: bool) -> Self {
        let (enough, told) = watch::channel(false);
        let mut this = Self { enough, clients: JoinSet::new(), served: Arc::default(), repeated: Arc::default() };
        for number in 0..CLIENTS {
            let (servers, told, served) = (servers.to_vec(), told.clone(), this.served.clone());
            this.clients.spawn(async move {
                for server in servers.iter().cycle().skip(number).take_while(|_| !*told.borrow()) {
                    tcp_client(*server).await.with_context(|| format!("a TCP client of {server}"))?;
                    served.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Ok(())
            });
        }
        for number in (0..CLIENTS).filter(|_| udp) {
            let (servers, told, served) = (servers.to_vec(), told.clone(), this.served.clone());
            let repeated = this.repeated.clone();
            this.clients.spawn(async move {
                for server in servers.iter().cycle().skip(number).take_while(|_| !*told.borrow()) {
                    let tries = udp_client(*server).await.with_context(|| format!("a UDP client of {server}"))?;
                    repeated.fetch_add(tries - 1, Ordering::SeqCst);
                    served.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Ok(())
            });
        }
        this
    }

    /// How many were served so far.
    pub(super) fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    /// How many questions over UDP had no answer so far.
    pub(super) fn repeated(&self) -> usize {
        self.repeated.load(Ordering::SeqCst)
    }

    /// Waits until `more` are served.
    pub(super) async fn goes_on(&mut self, more: usize) -> Result<()> {
        let enough = self.served() + more;
        eventually("clients are served", SOON, || {
            let served = self.served();
            async move {
                ensure!(served >= enough, "{served} of {enough}");
                Ok(())
            }
        })
        .await
    }

    /// Ends it. Fails if a client failed; answers how many were served.
    pub(super) async fn finish(mut self) -> Result<usize> {
        self.enough.send(true)?;
        while let Some(client) = self.clients.join_next().await {
            client??;
        }
        Ok(self.served())
    }
}

async fn tcp_client(server: SocketAddr) -> io::Result<()> {
    Conversation::open(server).await?.say("here").await
}

/// A UDP client asks again, as they do: a worker may be retired while the answer is on its way. Answers how often it asked.
async fn udp_client(server: SocketAddr) -> io::Result<usize> {
    let mut tries = 0;
    loop {
        tries += 1;
        match udp_ask(server, "here", ANSWER).await {
            Ok(_) => return Ok(tries),
            Err(error) if tries == 3 => return Err(error),
            Err(_) => {}
        }
    }
}

/// A UDP client that stays.
#[derive(Debug)]
struct Session {
    socket: UdpSocket,
    name: String,
}

impl Session {
    async fn open(server: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind(at(0)).await?;
        socket.connect(server).await?;
        let mut this = Self { socket, name: String::new() };
        this.name = this.ask("hello").await?;
        Ok(this)
    }

    /// Who answers.
    async fn ask(&self, question: &str) -> Result<String> {
        let mut buffer = [0; 256];
        self.socket.send(question.as_bytes()).await?;
        let length = timeout(ANSWER, self.socket.recv(&mut buffer)).await.context("no answer")??;
        let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let (name, echo) = answer.split_once(' ').with_context(|| format!("{answer:?}"))?;
        ensure!(echo == question, "asked {question:?}, got {answer:?}");
        Ok(name.to_owned())
    }
}

/// Connections and UDP sessions that stay, all at one endpoint.
#[derive(Debug, Default)]
pub(super) struct Held {
    connections: Vec<Conversation>,
    sessions: Vec<Session>,
    questions: usize,
}

impl Held {
    /// Opens `count` connections that reach the endpoint `name`; those that reach another one are closed.
    pub(super) async fn hold_tcp(&mut self, server: SocketAddr, name: &str, count: usize) -> Result<()> {
        let enough = self.connections.len() + count;
        for _ in 0..count * 50 {
            let connection = Conversation::open(server).await?;
            if connection.name() == name {
                self.connections.push(connection);
            }
            if self.connections.len() == enough {
                return Ok(());
            }
        }
        anyhow::bail!("{} of {enough} connections reached {name}", self.connections.len());
    }

    /// Opens `count` UDP sessions with the endpoint `name`.
    pub(super) async fn hold_udp(&mut self, server: SocketAddr, name: &str, count: usize) -> Result<()> {
        let enough = self.sessions.len() + count;
        for _ in 0..count * 50 {
            let session = Session::open(server).await?;
            if session.name == name {
                self.sessions.push(session);
            }
            if self.sessions.len() == enough {
                return Ok(());
            }
        }
        anyhow::bail!("{} of {enough} UDP sessions reached {name}", self.sessions.len());
    }

    /// Fails unless each is where it was.
    pub(super) async fn check(&mut self) -> Result<()> {
        self.questions += 1;
        let question = format!("question {}", self.questions);
        for connection in &mut self.connections {
            let name = connection.name().to_owned();
            connection.say(&question).await.with_context(|| format!("a held connection to {name}"))?;
        }
        for session in &self.sessions {
            let name = session.ask(&question).await.with_context(|| format!("a UDP session with {}", session.name))?;
            ensure!(name == session.name, "a UDP session with {} was moved to {name}", session.name);
        }
        Ok(())
    }
}
