//! The NGINX that runs, as LBEX finds it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lbex_core::names::ServiceKey;

use super::NginxBackend;
use super::state::State;
use crate::files::Stored;
use crate::probe::Probe;
use crate::process::Master;
use crate::render::{Claim, MainFile, Part};

/// The NGINX that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) master: Master,
    /// What it answers with.
    pub(super) generation: Option<String>,
    /// Whether it is known what it serves.
    pub(super) known: bool,
    /// What it serves, as far as is known.
    pub(super) parts: BTreeMap<ServiceKey, Arc<Part>>,
    /// What it listens on, as far as is known.
    pub(super) claims: BTreeSet<Claim>,
    /// Its processes.
    pub(super) pids: BTreeSet<i32>,
    /// It runs another binary than LBEX would start.
    pub(super) other_binary: bool,
    /// Somebody removed a socket on which it is asked, or told something.
    pub(super) cut_off: bool,
}

impl Running {
    pub(super) fn serves(&self, main: &MainFile) -> bool {
        self.generation.as_deref() == Some(&main.generation) && !self.cut_off
    }

    /// Whether a socket that was probed cannot be had for a reason that is none of its own. Where it is not known what it listens on,
    /// a socket may be its own though nobody could be seen to hold it, and a probe that failed proves nothing: it would cost a
    /// Service that is served its listener, and NGINX tells at the reload.
    pub(super) fn is_hindered(&self, probe: &Probe) -> bool {
        match probe {
            Probe::Free => false,
            Probe::InUse { holder: Some(holder) } => !self.pids.contains(&holder.pid),
            Probe::InUse { holder: None } | Probe::Failed { .. } => self.known,
            Probe::NoPermission { .. } | Probe::AddressNotAvailable => true,
        }
    }

    /// Whether taking over a configuration means new processes that know nothing of these.
    pub(super) fn begins_anew(&self) -> bool {
        self.other_binary
    }
}

impl NginxBackend {
    /// Whether the path of the API of NGINX Plus leads nowhere. NGINX itself never removes it while it serves.
    pub(super) fn lacks_api_socket(&self) -> bool {
        self.input.api_socket.as_ref().is_some_and(|path| !path.exists())
    }

    pub(super) async fn running(&self, state: &State, master: Master, stored: &[Stored]) -> Running {
        let generation = self.nginx.serving_generation().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "NGINX runs and does not answer");
            None
        });
        let cut_off = (generation.is_none() && !self.nginx.has_socket()) || self.lacks_api_socket();
        let parts = generation.as_ref().and_then(|generation| match &state.confirmed {
            Some(confirmed) if confirmed == generation => Some(state.good.clone()),
            _ => stored.iter().find(|stored| stored.generation == *generation).map(parts),
        });
        let known = parts.is_some();
        let parts = parts.unwrap_or_default();
        let claims = claims(parts.values().map(Arc::as_ref));
        let pids = master.all_workers().map(|worker| worker.id.pid).chain([master.id.pid]).collect();
        let other_binary = master.runs(&self.binary) == Some(false);
        Running { master, generation, known, parts, claims, pids, other_binary, cut_off }
    }
}

pub(super) fn parts(stored: &Stored) -> BTreeMap<ServiceKey, Arc<Part>> {
    stored.parts.iter().map(|(key, part)| (key.clone(), Arc::new(part.clone()))).collect()
}

fn claims<'a>(parts: impl IntoIterator<Item = &'a Part>) -> BTreeSet<Claim> {
    parts.into_iter().flat_map(|part| part.claims.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::PortHolder;
    use crate::process::ProcessId;

    fn running(known: bool) -> Running {
        let id = ProcessId { pid: 10, started: 1 };
        let master = Master {
            id,
            executable: None,
            executable_deleted: false,
            workers: Vec::new(),
            older_workers: Vec::new(),
            old_master: None,
        };
        let (parts, claims) = (BTreeMap::new(), BTreeSet::new());
        Running {
            master,
            generation: None,
            known,
            parts,
            claims,
            pids: [10, 11].into(),
            other_binary: false,
            cut_off: !known,
        }
    }

    #[test]
    fn a_service_keeps_its_listener_while_it_is_not_known_who_holds_it() {
        let held_by = |pid| Probe::InUse { holder: Some(PortHolder { pid, name: "nginx".to_owned() }) };
        let failed = Probe::Failed { reason: "Too many open files".to_owned() };
        for known in [false, true] {
            let running = running(known);
            assert!(!running.is_hindered(&Probe::Free) && !running.is_hindered(&held_by(11)), "its own");
            assert!(running.is_hindered(&held_by(12)) && running.is_hindered(&Probe::AddressNotAvailable));
            assert_eq!(running.is_hindered(&Probe::InUse { holder: None }), known);
            assert_eq!(running.is_hindered(&failed), known);
        }
    }
}
