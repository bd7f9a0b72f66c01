//! The sockets on which NGINX asks for endpoints, in the supervisor's descriptor store.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// Their names in the store.
const UDP: &str = "lbex-push-udp";
const TCP: &str = "lbex-push-tcp";

/// The sockets that the supervisor keeps over a restart of LBEX.
#[derive(Debug, Default)]
pub struct KeptSockets {
    left: Mutex<Left>,
    refused: Vec<String>,
}

#[derive(Debug, Default)]
struct Left {
    udp: Option<UdpSocket>,
    tcp: Option<TcpListener>,
}

impl KeptSockets {
    /// Takes what the supervisor handed over, and closes what is none of LBEX's. Reads and changes the environment: to be called
    /// before any thread is started.
    pub fn from_environment() -> Self {
        let mut this = Self::default();
        // This sees to it that no program gets them that LBEX starts.
        let names = match sd_notify::listen_fds_with_names() {
            Ok(names) => names.map(|(_, name)| name).collect::<Vec<_>>(),
            Err(error) => {
                this.refused.push(format!("the descriptors that the supervisor left are not used: {error}"));
                return this;
            }
        };
        if names.is_empty() {
            return this;
        }
        let mut descriptors = ListenFd::from_env();
        let mut left = Left::default();
        for (index, name) in names.iter().enumerate() {
            if let Err(why) = left.take(&mut descriptors, index, name) {
                this.refused.push(format!("a descriptor that the supervisor left, {name:?}, is closed: {why}"));
                if let Err(error) = close(&mut descriptors, index) {
                    this.refused.push(format!("a descriptor that the supervisor left cannot be closed: {error}"));
                }
            }
        }
        this.left = Mutex::new(left);
        this
    }

    /// What was left and is not used, and why.
    pub fn refused(&self) -> &[String] {
        &self.refused
    }

    /// Those that an earlier LBEX left, once.
    pub fn take(&self) -> Option<(UdpSocket, TcpListener)> {
        match self.take_left() {
            Left { udp: Some(udp), tcp: Some(tcp) } => Some((udp, tcp)),
            Left { udp: None, tcp: None } => None,
            _ => {
                tracing::warn!("the supervisor left one of the two sockets only, {UDP} and {TCP}: it is closed");
                None
            }
        }
    }

    /// Has the supervisor keep these, and no others, where there is one.
    pub fn keep(&self, udp: &UdpSocket, tcp: &TcpListener) -> io::Result<()> {
        if !super::listens() {
            return Ok(());
        }
        forget_all()?;
        store(UDP, udp.as_fd())?;
        store(TCP, tcp.as_fd())
    }

    /// Closes those that an earlier LBEX left, and has the supervisor let go of them.
    pub fn forget(&self) -> io::Result<()> {
        let left = self.take_left();
        if left.udp.is_none() && left.tcp.is_none() { Ok(()) } else { forget_all() }
    }

    fn take_left(&self) -> Left {
        std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Left {
    /// Takes a descriptor if it is what its name says.
    fn take(&mut self, descriptors: &mut ListenFd, index: usize, name: &str) -> io::Result<()> {
        match name {
            UDP if self.udp.is_none() => self.udp = descriptors.take_udp_socket(index)?,
            TCP if self.tcp.is_none() => self.tcp = descriptors.take_tcp_listener(index)?,
            UDP | TCP => return Err(io::Error::other("there is one of that name already")),
            _ => return Err(io::Error::other("LBEX knows no such name")),
        }
        Ok(())
    }
}

/// Closes a descriptor that was not taken.
fn close(descriptors: &mut ListenFd, index: usize) -> io::Result<()> {
    match descriptors.take_raw_fd(index)? {
        Some(descriptor) => Ok(nix::unistd::close(descriptor)?),
        None => Ok(()),
    }
}

fn store(name: &str, socket: BorrowedFd<'_>) -> io::Result<()> {
    // The store is not to let go of a socket that reports an error.
    let state = [NotifyState::FdStore, NotifyState::FdName(name), NotifyState::Custom("FDPOLL=0")];
    sd_notify::notify_with_fds(&state, &[socket])
}

/// Has the supervisor let go of what it keeps by now: it gathers whatever it is given.
fn forget_all() -> io::Result<()> {
    [UDP, TCP]
        .into_iter()
        .try_for_each(|name| sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]))
}
