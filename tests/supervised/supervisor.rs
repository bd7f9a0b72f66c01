//! A stand-in for systemd, as far as LBEX uses it: a notify socket, a descriptor store, and LBEX started with what is in it.

use std::fmt::Write as _;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::lbex::{Builder, Lbex};
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::wait::{SOON, eventually};
use lbex_test_harness::{Scratch, programs};
use nix::unistd::geteuid;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::support::binary;

/// The user `nobody` of the usual systems; only the number counts.
const NOBODY: u32 = 65_534;

/// Descriptors for a child are copied to numbers from here on, which nobody else has.
const HIGH: i32 = 300;

/// Only one test at a time makes descriptors that children inherit.
static HANDING_OVER: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Who LBEX runs as. Without root, both are whoever runs the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    Same,
    Ordinary,
}

#[derive(Debug, Default)]
struct State {
    said: Vec<String>,
    store: Vec<(String, OwnedFd)>,
}

/// The stand-in.
#[derive(Debug)]
pub(crate) struct Supervisor {
    home: Scratch,
    user: User,
    binary: PathBuf,
    socket: Arc<UnixDatagram>,
    state: Arc<Mutex<State>>,
    reader: Option<JoinHandle<()>>,
}

impl Supervisor {
    pub(crate) fn new(user: User) -> Result<Self> {
        let home = Scratch::for_nginx("supervised")?;
        std::fs::create_dir(home.join("prefix"))?;
        let mut lbex = binary().to_owned();
        if user == User::Ordinary && geteuid().is_root() {
            chown(home.join("prefix"), Some(NOBODY), Some(NOBODY))?;
            lbex = for_everybody(binary(), home.join("lbex"))?;
        }
        let socket = Arc::new(UnixDatagram::bind(home.join("notify"))?);
        std::fs::set_permissions(home.join("notify"), PermissionsExt::from_mode(0o666))?;
        let state = Arc::new(Mutex::new(State::default()));
        let (read, into) = (socket.clone(), state.clone());
        let reader = std::thread::spawn(move || while receive(&read, &into) {});
        Ok(Self { home, user, binary: lbex, socket, state, reader: Some(reader) })
    }

    /// The value for `--nginx`, one that its user can run.
    pub(crate) fn nginx(&self, nginx: Nginx) -> Result<String> {
        let flag = nginx.flag()?;
        let path = Path::new(&flag);
        if self.user == User::Same || !geteuid().is_root() || !path.is_absolute() {
            return Ok(flag);
        }
        Ok(for_everybody(path, self.home.join("nginx"))?.display().to_string())
    }

    fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until LBEX says `what`, and forgets what it has said.
    pub(crate) async fn hears(&self, what: &str) -> Result<()> {
        eventually(&format!("LBEX says {what}"), SOON, || async {
            self.state(|state| {
                ensure!(state.said.iter().any(|said| said == what), "{:?}", state.said);
                state.said.clear();
                Ok(())
            })
        })
        .await
    }

    /// What comes from now on is new.
    pub(crate) fn forget_what_was_said(&self) {
        self.state(|state| state.said.clear());
    }

    /// Waits until it keeps so many descriptors.
    pub(crate) async fn keeps(&self, count: usize) -> Result<()> {
        eventually(&format!("{count} descriptors are kept"), SOON, || async {
            self.state(|state| {
                ensure!(state.store.len() == count, "{:?}", state.store);
                Ok(())
            })
        })
        .await
    }

    /// A copy of a descriptor in the store.
    pub(crate) fn kept(&self, name: &str) -> Result<OwnedFd> {
        self.state(|state| {
            let (_, kept) = state.store.iter().find(|(stored, _)| stored == name).context(name.to_owned())?;
            Ok(kept.try_clone()?)
        })
    }

    /// Puts a descriptor into the store.
    pub(crate) fn put(&self, name: &str, descriptor: impl Into<OwnedFd>) {
        self.state(|state| state.store.push((name.to_owned(), descriptor.into())));
    }

    /// Closes all descriptors in the store.
    pub(crate) fn forget(&self) {
        self.state(|state| state.store.clear());
    }

    /// Starts LBEX with everything in the store.
    pub(crate) async fn start(&self, configure: impl FnOnce(Builder) -> Builder) -> Result<Lbex> {
        let _one_at_a_time = HANDING_OVER.lock().await;
        let (copies, names) = self.state(|state| -> Result<(Vec<OwnedFd>, Vec<String>)> {
            let copies =
                state.store.iter().map(|(_, kept)| fcntl_dupfd_cloexec(kept, HIGH)).collect::<Result<_, _>>()?;
            Ok((copies, state.store.iter().map(|(name, _)| name.clone()).collect()))
        })?;
        for copy in &copies {
            fcntl_setfd(copy, FdFlags::empty())?;
        }
        let numbers: Vec<i32> = copies.iter().map(AsRawFd::as_raw_fd).collect();
        let mut redirections = String::new();
        for (place, number) in (3..).zip(&numbers) {
            write!(redirections, " {place}<&{number} {number}<&-")?;
        }
        let variables = match numbers.len() {
            0 => String::new(),
            count => format!("export LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={};", names.join(":")),
        };
        let mut wrapper = vec![
            "/bin/bash".to_owned(),
            "-c".into(),
            format!("exec{redirections}; {variables} exec \"$@\""),
            "bash".into(),
        ];
        if self.user == User::Ordinary && geteuid().is_root() {
            let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
            wrapper.push("/usr/bin/setpriv".to_owned());
            wrapper.extend(ids);
            wrapper.extend(["--clear-groups".to_owned(), "--bounding-set=-all".to_owned()]);
        }
        let builder = Lbex::builder(&self.binary).under(wrapper).prefix(&self.home.join("prefix"));
        let builder = builder.env("NOTIFY_SOCKET", &self.home.join("notify").display().to_string());
        configure(builder.env("WATCHDOG_USEC", "400000")).start().await
    }
}

/// Where a program was built need not be readable by others.
fn for_everybody(program: &Path, copy: PathBuf) -> Result<PathBuf> {
    programs::copy(program, &copy)?;
    Ok(copy)
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Err(error) = self.socket.shutdown(Shutdown::Both) {
            eprintln!("the notify socket is not closed: {error}");
        } else if self.reader.take().is_some_and(|reader| reader.join().is_err()) {
            eprintln!("the thread that reads the notify socket has panicked");
        }
    }
}

/// Reads one message. False: there will be no more.
fn receive(socket: &UnixDatagram, state: &Mutex<State>) -> bool {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC);
    let length = match received {
        Ok(received) if received.bytes > 0 => received.bytes,
        _ => return false,
    };
    let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
    let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored").to_owned();
    let state = &mut *state.lock().unwrap_or_else(PoisonError::into_inner);
    let has = |what: &str| text.lines().any(|line| line == what);
    if has("FDSTOREREMOVE=1") {
        state.store.retain(|(stored, _)| *stored != name);
    } else if has("FDSTORE=1") {
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                state.store.extend(descriptors.map(|descriptor| (name.clone(), descriptor)));
            }
        }
    } else {
        state.said.extend(text.lines().map(ToOwned::to_owned));
    }
    true
}
