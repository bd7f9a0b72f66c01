//! Servers and clients that do as little as possible themselves, on threads of their own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How much is written at a time.
const CHUNK: usize = 64 << 10;

/// The payload of a datagram, in bytes.
const DATAGRAM: usize = 64;

/// How long an answer to a datagram may take before it counts as lost.
const LOST: Duration = Duration::from_millis(250);

/// A server that says one byte and closes.
pub(crate) fn serve_connections(listener: TcpListener) {
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // The client may be gone: its affair.
            stream.write_all(b"x").ok();
        }
    });
}

/// A server that sends without end.
pub(crate) fn serve_bytes(listener: TcpListener) {
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let chunk = vec![0; CHUNK];
                while stream.write_all(&chunk).is_ok() {}
            });
        }
    });
}

/// A server that sends each datagram back.
pub(crate) fn serve_datagrams(socket: UdpSocket) {
    thread::spawn(move || {
        let mut buffer = [0; 2 * DATAGRAM];
        loop {
            // Errors tell of clients that went away.
            if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                socket.send_to(&buffer[..length], peer).ok();
            }
        }
    });
}

/// New connections per second, each brought to its end, by as many clients at a time.
pub(crate) fn connections(server: SocketAddr, clients: usize, period: Duration) -> Result<f64> {
    in_parallel(clients, period, |deadline, count| {
        let mut answer = Vec::new();
        while Instant::now() < deadline {
            answer.clear();
            TcpStream::connect(server)?.read_to_end(&mut answer)?;
            if answer != b"x" {
                return Err(io::Error::new(ErrorKind::InvalidData, "a connection was closed without an answer"));
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    })
}

/// Bytes per second over as many held connections.
pub(crate) fn bytes(server: SocketAddr, clients: usize, period: Duration) -> Result<f64> {
    in_parallel(clients, period, |deadline, count| {
        let mut stream = TcpStream::connect(server)?;
        let mut buffer = vec![0; CHUNK];
        while Instant::now() < deadline {
            let length = stream.read(&mut buffer)?;
            if length == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "a held connection was closed"));
            }
            count.fetch_add(length as u64, Ordering::Relaxed);
        }
        Ok(())
    })
}

/// Datagrams sent and answered per second, by as many clients that each wait for the answer before the next.
pub(crate) fn datagrams(server: SocketAddr, clients: usize, period: Duration) -> Result<f64> {
    in_parallel(clients, period, |deadline, count| {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(LOST))?;
        let mut buffer = [0; 2 * DATAGRAM];
        while Instant::now() < deadline {
            socket.send(&[0; DATAGRAM])?;
            match socket.recv(&mut buffer) {
                Ok(_) => drop(count.fetch_add(1, Ordering::Relaxed)),
                // It costs its time, and does not count.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })
}

/// Runs `work` on as many threads until the period is over; what they counted in all, per second.
fn in_parallel(
    threads: usize,
    period: Duration,
    work: impl Fn(Instant, &AtomicU64) -> io::Result<()> + Sync,
) -> Result<f64> {
    let count = AtomicU64::new(0);
    let begin = Instant::now();
    let deadline = begin + period;
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(deadline, &count))).collect();
        for thread in running {
            match thread.join() {
                Ok(result) => result?,
                Err(_) => bail!("a client has panicked"),
            }
        }
        anyhow::Ok(())
    })?;
    #[allow(clippy::cast_precision_loss)] // far below 2^53
    let counted = count.load(Ordering::Relaxed) as f64;
    Ok(counted / begin.elapsed().as_secs_f64())
}
