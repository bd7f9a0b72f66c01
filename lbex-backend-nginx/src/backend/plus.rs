//! What is different where the NGINX is NGINX Plus: upstreams have a `state` in place of servers, which whoever holds this backend
//! changes through the API on [`Layout::api_socket`](crate::prefix::Layout::api_socket). A change of servers changes no file, and so needs no
//! reload.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use lbex_core::backend::{BackendError, ReloadReason};
use nix::unistd::{Group, User};

use super::NginxBackend;
use super::choose::Choice;
use super::patience;
use super::refuse::retry;
use super::state::State;
use crate::render::Room;

/// How much more memory a server takes in NGINX Plus than in an open-source NGINX: it keeps more of each. (Its documentation: 128
/// servers by address in 256 KiB.)
const TIMES: u64 = 2;

/// For NGINX Plus.
#[derive(Debug)]
pub(super) struct Plus {
    /// The folder of its `state` files.
    pub(super) states: PathBuf,
    /// The least size of the zone, in KiB: it has turned out to be too small.
    least_zone: AtomicU64,
}

impl Plus {
    /// Makes the folder, which belongs to `user`, NGINX's `user` directive: workers write there.
    pub(super) fn new(states: PathBuf, user: Option<&str>) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(&states) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        std::fs::set_permissions(&states, Permissions::from_mode(0o700))?;
        if let Some((user, group)) = user.and_then(|names| names.split_once(' ')) {
            let user = User::from_name(user)?.map(|user| user.uid);
            let group = Group::from_name(group)?.map(|group| group.gid);
            std::os::unix::fs::lchown(&states, user.map(Into::into), group.map(Into::into))?;
        }
        Ok(Self { states, least_zone: AtomicU64::new(0) })
    }

    /// The size of the zone of a choice, in KiB.
    pub(super) fn zone(&self, state: &State, choice: &Choice) -> u64 {
        zone(state.zone, choice.upstreams(), state.plus_servers).max(self.least_zone.load(Ordering::Relaxed))
    }
}

/// The size of a zone for `upstreams` with `servers` in all, where it has the size `now`, in KiB.
pub(super) fn zone(now: Option<u64>, upstreams: u64, servers: u64) -> u64 {
    Room::new(now, upstreams, TIMES * servers).kib
}

impl NginxBackend {
    /// The folder where NGINX Plus keeps the servers of each upstream, in a file with the upstream's name and `.conf`; `None` for
    /// an open-source NGINX.
    pub fn states(&self) -> Option<&Path> {
        self.plus.as_ref().map(|plus| plus.states.as_path())
    }

    /// NGINX Plus has said that its zone is full: the next [`apply`](lbex_core::backend::ProxyBackend::apply) gives it one that is
    /// twice as large.
    pub async fn enlarge_zone(&self) {
        let state = self.state.lock().await;
        if let (Some(plus), Some(now)) = (&self.plus, state.zone) {
            plus.least_zone.fetch_max(2 * now, Ordering::Relaxed);
        }
    }

    /// Has NGINX read the configuration that was last confirmed again: it serves something else.
    pub async fn reload_again(&self) -> Result<(), BackendError> {
        let mut state = self.state.lock().await;
        let Some(generation) = state.confirmed.clone() else { return Ok(()) };
        state.new_workers = Some(Instant::now());
        state.reloads.push(ReloadReason::Repair);
        let limit = patience::take_over(&Choice { parts: state.good.clone(), ..Choice::default() });
        self.nginx.reload(&generation, limit).await.map_err(retry)?;
        Ok(())
    }
}
