//! The thread that reads questions.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use lbex_core::model::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::Shared;
use super::peers::{Owners, Peers};
use super::socket::Sockets;
use super::wire::Question;

/// How many datagrams are read before anything else is done.
const AT_A_TIME: usize = 256;

/// TCP connections at the most; one more ends the oldest. NGINX makes one.
const MOST_CONNECTIONS: usize = 64;

/// How long a TCP connection may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Questions are a few dozen bytes long; what is longer is none.
const LONGEST_QUESTION: usize = 1024;

/// Starts it; it ends when `stop`'s sender is dropped.
pub(super) fn start(
    shared: Arc<Shared>,
    sockets: Sockets,
    owners: Owners,
    peers: Peers,
    stop: watch::Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (udp, tcp) = {
        let _inside = runtime.enter();
        (UdpSocket::from_std(sockets.udp)?, TcpListener::from_std(sockets.tcp)?)
    };
    std::thread::Builder::new().name("lbex-push".to_owned()).spawn(move || {
        runtime.block_on(async {
            // A task of its own: datagrams that never end must not keep it from its turn.
            tokio::spawn(accept(shared.clone(), tcp, owners));
            serve(&shared, &udp, peers, stop).await;
        });
    })
}

async fn serve(shared: &Shared, udp: &UdpSocket, mut peers: Peers, mut stop: watch::Receiver<()>) {
    loop {
        let next = tick(shared, &mut peers);
        tokio::select! {
            biased;
            _ = stop.changed() => return,
            ready = udp.readable() => match ready.and_then(|()| read(shared, udp, &mut peers)) {
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => rest(&error).await,
            },
            () = shared.wake.notified() => {}
            () = tokio::time::sleep(next) => {}
        }
    }
}

/// Takes connections. Those of others than NGINX end at once.
async fn accept(shared: Arc<Shared>, tcp: TcpListener, owners: Owners) {
    let mut connections = JoinSet::new();
    let mut by_age: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            Some(_) = connections.join_next() => continue,
            accepted = tcp.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                rest(&error).await;
                continue;
            }
        };
        if !owners.is_nginx(Protocol::Tcp, from) {
            shared.ignored.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(owners.pause).await;
            continue;
        }
        by_age.retain(|connection| !connection.is_finished());
        if by_age.len() >= MOST_CONNECTIONS {
            by_age.pop_front().inspect(AbortHandle::abort);
        }
        let shared = shared.clone();
        by_age.push_back(connections.spawn(async move {
            if let Err(error) = by_tcp(&shared, stream, from).await {
                tracing::debug!(%error, "a TCP connection for endpoints ended");
            }
        }));
    }
}

/// A socket that fails again and again must not take a whole processor.
async fn rest(error: &io::Error) {
    tracing::warn!(%error, "the socket on which NGINX asks for endpoints fails");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Does what time has made due. Answers how long nothing is.
fn tick(shared: &Shared, peers: &mut Peers) -> Duration {
    let mut out = Vec::new();
    let now = shared.now();
    let (next, doubted) = {
        let mut table = shared.lock();
        (table.tick(now, &mut out), table.doubted())
    };
    out.iter().for_each(|answer| shared.send(answer));
    for gone in peers.gone(now, doubted) {
        tracing::debug!(%gone, "a worker of NGINX's that asked for endpoints is gone");
        shared.lock().leave(gone);
    }
    // The clock of the runtime counts milliseconds.
    next.saturating_sub(now).max(Duration::from_millis(1))
}

fn read(shared: &Shared, udp: &UdpSocket, peers: &mut Peers) -> io::Result<()> {
    let mut buffer = [0; LONGEST_QUESTION];
    for _ in 0..AT_A_TIME {
        let (length, from) = match udp.try_recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // An answer reached nobody, which is known when its question is not repeated.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error),
        };
        let now = shared.now();
        match Question::read(&buffer[..length]) {
            Ok(question) if peers.is_nginx(now, from) => {
                let mut out = Vec::new();
                shared.lock().ask(now, from, &question, &mut out);
                out.iter().for_each(|answer| shared.send(answer));
            }
            _ => {
                shared.ignored.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

/// Questions on a TCP connection, each with its length before it (RFC 1035, 4.2.2).
async fn by_tcp(shared: &Shared, mut stream: TcpStream, from: SocketAddr) -> io::Result<()> {
    let mut question = vec![0; LONGEST_QUESTION];
    loop {
        let Ok(length) = timeout(PATIENCE, stream.read_u16()).await else { return Ok(()) };
        let length = match length {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            length => usize::from(length?),
        };
        let Some(bytes) = question.get_mut(..length) else { return Err(io::ErrorKind::InvalidData.into()) };
        timeout(PATIENCE, stream.read_exact(bytes)).await??;
        let answer = Question::read(bytes).ok().and_then(|question| shared.lock().ask_by_tcp(from, &question));
        let bytes = answer.map(|answer| answer.question.answer(&answer.addresses, answer.ttl, usize::from(u16::MAX)));
        let Some(bytes) = bytes else {
            shared.ignored.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        timeout(PATIENCE, stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat())).await??;
    }
}
