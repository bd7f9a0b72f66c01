//! A way to the API server that can be cut.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::netns::Netns;

/// Carries connections to a server, until it is cut.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    cut: watch::Sender<bool>,
    task: AbortHandle,
}

impl Link {
    /// From a port of its own on 127.0.0.1.
    pub async fn to(server: SocketAddr) -> Result<Self> {
        Self::from(TcpListener::bind("127.0.0.1:0").await?, server)
    }

    /// From inside a network namespace, where it has the server's own address.
    pub fn into(netns: &Netns, server: SocketAddr) -> Result<Self> {
        let listener = netns.enter(|| std::net::TcpListener::bind(server))??;
        listener.set_nonblocking(true)?;
        Self::from(TcpListener::from_std(listener)?, server)
    }

    fn from(listener: TcpListener, server: SocketAddr) -> Result<Self> {
        let address = listener.local_addr()?;
        let (cut, is_cut) = watch::channel(false);
        let task = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                tokio::spawn(carry(client, server, is_cut.clone()));
            }
        });
        Ok(Self { address, cut, task: task.abort_handle() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections; new ones end at once.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Carries new connections again.
    pub fn mend(&self) {
        self.cut.send_replace(false);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr, mut is_cut: watch::Receiver<bool>) {
    let carried = async {
        let mut server = TcpStream::connect(server).await?;
        copy_bidirectional(&mut client, &mut server).await
    };
    // How a connection ends is up to its two ends.
    tokio::select! {
        _ = carried => {}
        _ = is_cut.wait_for(|cut| *cut) => {}
    }
}
