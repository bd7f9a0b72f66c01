//! Puts a configuration that was checked in front of NGINX, and keeps what was confirmed.

use std::sync::Arc;
use std::time::Instant;

use lbex_core::backend::{Action, BackendError, ReloadReason};
use lbex_core::names::ServiceKey;

use super::NginxBackend;
use super::choose::{Choice, in_the_way_of_themselves};
use super::patience;
use super::reason::reason;
use super::refuse::retry;
use super::running::{Running, parts};
use super::state::State;
use super::warm::Warm;
use crate::check::{Complaint, complaints};
use crate::confirm::Confirmed;
use crate::files::Stored;
use crate::limits::{Host, Shortage, limits, wanted_files};
use crate::process::{FileLimit, ProcessError, ProcessId, StartOptions, proc, raise_file_limit, raise_file_limit_of};
use crate::render::{MainFile, zone_size};

/// What became of a configuration.
pub(super) enum Outcome {
    Served(Action),
    Refused(Vec<Complaint>),
}

impl NginxBackend {
    /// Looks at the NGINX that runs; the first time, at what an earlier LBEX left. Where none runs, makes room for one: what a
    /// killed one left still holds the ports.
    pub(super) async fn look(&self, state: &mut State) -> Result<Option<Running>, BackendError> {
        let stored = if state.read { Vec::new() } else { self.stored().await? };
        let running = if let Some(master) = self.nginx.status().await {
            Some(self.running(state, master, &stored).await)
        } else {
            let cleaned = self.nginx.clean_up().await.map_err(retry)?;
            if !cleaned.orphans.is_empty() || !cleaned.files.is_empty() {
                tracing::info!(workers = ?cleaned.orphans, files = ?cleaned.files, "cleaned up after an NGINX that was killed");
            }
            None
        };
        if !state.read {
            let served = running.as_ref().and_then(|running| running.generation.as_deref());
            let adopted = stored.iter().find(|stored| Some(stored.generation.as_str()) == served);
            // With nothing to adopt, the last good one is still what a Service falls back to.
            let good = adopted.or_else(|| stored.iter().find(|stored| stored.whole));
            state.good = good.map(parts).unwrap_or_default();
            state.zone = good.and_then(|stored| MainFile::zone_in(&stored.text));
            state.read = true;
        }
        Ok(running)
    }

    /// The last good main file, and the one in place, where they are LBEX's.
    async fn stored(&self) -> Result<Vec<Stored>, BackendError> {
        let files = self.files.clone();
        let read = move || Ok([files.stored_last_good()?, files.stored_main()?].into_iter().flatten().collect());
        proc::blocking(read).await.map_err(|error: crate::files::FileError| retry(error))
    }

    /// What the host allows, after the limits of this process and of the running NGINX were raised to what is wanted.
    pub(super) fn host(&self, state: &State, running: Option<&Running>) -> Host {
        let wanted = wanted_files(state.demand(), self.cpus).next_multiple_of(1024);
        let own = raise_file_limit(wanted);
        let theirs = running.and_then(|running| raise_limit_of_master(running.master.id, wanted)).unwrap_or(own);
        // Workers of root raise their own limit.
        let worker = if nix::unistd::geteuid().is_root() { theirs.hard.max(own.hard) } else { theirs.hard };
        Host { cpus: self.cpus, master: theirs.soft, worker }
    }

    /// The main file of a choice.
    pub(super) fn main_file(&self, state: &State, choice: &Choice, host: &Host) -> Result<MainFile, BackendError> {
        let limits = limits(choice.demand(), host);
        let parts = || choice.parts.values().map(Arc::as_ref);
        MainFile::render(&self.templates, &self.input, &limits, self.zone(state, choice), parts())
            .map_err(|error| BackendError::Permanent(error.to_string()))
    }

    /// The size of the zone of a choice, in KiB.
    fn zone(&self, state: &State, choice: &Choice) -> u64 {
        match (&self.pusher, &self.plus) {
            (Some(pusher), _) => pusher.room(state.zone, choice.upstreams()).kib,
            (None, Some(plus)) => plus.zone(state, choice),
            (None, None) => {
                zone_size(choice.upstreams(), choice.parts.values().map(|part| u64::from(part.servers)).sum())
            }
        }
    }

    /// Puts the candidate, which is `main` and was checked, in place, and has NGINX take it over.
    pub(super) async fn put(
        &self,
        state: &mut State,
        choice: &Choice,
        main: &MainFile,
        running: Option<&Running>,
        host: &Host,
    ) -> Result<Outcome, BackendError> {
        say_shortage(state, choice, host);
        let warm = self.warm(state, choice, running, host).await?;
        let result = match &warm {
            None => self.take_over(state, choice, main, running, host).await,
            Some(warm) => self.take_over_warm(state, choice, main, warm, running, host).await,
        };
        let error = match result {
            Ok(action) => return Ok(Outcome::Served(action)),
            Err(error) => error,
        };
        let (ProcessError::Refused { lines } | ProcessError::StartFailed { lines, .. }) = &error else {
            // Whether it is served is open, so the file stays: the next call looks again.
            return Err(retry(error));
        };
        tracing::warn!(%error, "NGINX did not take over the configuration");
        let files = self.files.clone();
        proc::blocking(move || files.restore_last_good()).await.map_err(retry)?;
        Ok(Outcome::Refused(complaints(lines)))
    }

    /// Puts a main file in place, and has NGINX take it over.
    async fn take_over(
        &self,
        state: &mut State,
        choice: &Choice,
        main: &MainFile,
        running: Option<&Running>,
        host: &Host,
    ) -> Result<Action, ProcessError> {
        self.place(main).await?;
        match running {
            None => self.start(state, choice, main).await,
            Some(running) => self.change(state, choice, main, running, host).await,
        }
    }

    /// The same with one before it that has the servers' addresses too.
    async fn take_over_warm(
        &self,
        state: &mut State,
        choice: &Choice,
        main: &MainFile,
        warm: &Warm,
        running: Option<&Running>,
        host: &Host,
    ) -> Result<Action, ProcessError> {
        self.aim_at(&[main, &warm.main]);
        let begin = Instant::now();
        let action = self.take_over(state, choice, &warm.main, running, host).await?;
        let began = match action {
            Action::Started => Some(begin),
            // What was reloaded before that is another one.
            Action::Upgraded => state.new_workers,
            _ => None,
        };
        if let Some(pusher) = &self.pusher {
            let names = pusher.warmed(&warm.services, began).await;
            if names > 0 {
                tracing::warn!(names, "NGINX has not asked for the endpoints of all Services yet");
            }
        }
        self.place(main).await?;
        let why = match action {
            Action::Started => ReloadReason::Start,
            Action::Upgraded => ReloadReason::Upgrade,
            // The second half of what the first was for.
            _ => state.reloads.last().copied().unwrap_or(ReloadReason::Options),
        };
        self.reload(state, choice, main, why).await?;
        Ok(action)
    }

    async fn place(&self, main: &MainFile) -> Result<(), ProcessError> {
        let (files, text) = (self.files.clone(), main.text.clone());
        let placed = proc::blocking(move || files.write_candidate(&text).and_then(|()| files.promote())).await;
        placed.map_err(|error| ProcessError::Io { verb: error.verb, path: error.path, source: error.source })
    }

    async fn reload(
        &self,
        state: &mut State,
        choice: &Choice,
        main: &MainFile,
        why: ReloadReason,
    ) -> Result<Confirmed, ProcessError> {
        state.new_workers = Some(Instant::now());
        state.reloads.push(why);
        self.nginx.reload(&main.generation, patience::take_over(choice)).await
    }

    async fn start(&self, state: &mut State, choice: &Choice, main: &MainFile) -> Result<Action, ProcessError> {
        let now = Instant::now();
        if let Some(pause) = state.starts.pause(now) {
            tracing::warn!(?pause, "NGINX ended again and again; waiting before it is started once more");
            tokio::time::sleep(pause).await;
        }
        state.starts.started(Instant::now());
        let open_files = wanted_files(state.demand(), self.cpus).next_multiple_of(1024);
        let options =
            StartOptions { open_files, generation: main.generation.clone(), limit: patience::take_over(choice) };
        let started = self.nginx.start(&self.binary, &options).await?;
        tracing::info!(pid = started.master.id.pid, took = ?started.took, nginx = %self.binary, "NGINX started");
        Ok(Action::Started)
    }

    async fn change(
        &self,
        state: &mut State,
        choice: &Choice,
        main: &MainFile,
        running: &Running,
        host: &Host,
    ) -> Result<Action, ProcessError> {
        if running.cut_off {
            self.give_socket_back(state, choice, main, running).await?;
        }
        if running.other_binary {
            state.new_workers = Some(Instant::now());
            match self.nginx.upgrade(&self.binary, &main.generation, patience::take_over(choice)).await {
                Ok(_) => return Ok(Action::Upgraded),
                Err(error) => tracing::warn!(%error, "NGINX goes on with the binary it has"),
            }
        }
        self.make_way(state, choice, main, running, host).await?;
        let why = why(state, choice, main, running);
        let confirmed = self.reload(state, choice, main, why).await?;
        tracing::info!(why = why.as_str(), generation = main.generation, answered = ?confirmed.answered, complete = ?confirmed.complete, "reloaded");
        Ok(Action::Reloaded)
    }

    /// Where an address changes to one that covers it, or the other way round, NGINX has to close the old socket first.
    async fn make_way(
        &self,
        state: &mut State,
        choice: &Choice,
        main: &MainFile,
        running: &Running,
        host: &Host,
    ) -> Result<(), ProcessError> {
        let waiting = in_the_way_of_themselves(choice, &running.claims);
        if waiting.is_empty() {
            return Ok(());
        }
        tracing::info!(services = waiting.len(), "addresses change to overlapping ones: reloading twice");
        let mut without = choice.clone();
        without.parts.retain(|key, _| !waiting.contains(key));
        let between = self.main_file(state, &without, host).map_err(|error| ProcessError::Io {
            verb: "write",
            path: self.nginx.layout().main_conf(),
            source: std::io::Error::other(error.to_string()),
        })?;
        self.place(&between).await?;
        self.reload(state, &without, &between, ReloadReason::Listeners).await?;
        self.place(main).await
    }

    /// NGINX listens on a socket that no path leads to any more, and keeps it over a reload. So it listens on another one in between,
    /// and then makes this one anew. Clients notice nothing. The socket of the API of NGINX Plus goes with it.
    async fn give_socket_back(
        &self,
        state: &mut State,
        choice: &Choice,
        main: &MainFile,
        running: &Running,
    ) -> Result<(), ProcessError> {
        let which = match running.generation {
            None => "on which NGINX is asked what it serves",
            Some(_) => "of the API of NGINX Plus",
        };
        tracing::warn!("the socket {which} was removed: reloading twice, to have it again");
        let layout = self.nginx.layout();
        let (asked, socket) = (layout.generation_socket(), layout.spare_socket());
        let (api, spare) = (layout.api_socket(), layout.spare_api_socket());
        let between = main.on_sockets([(asked.as_path(), socket.as_path()), (&api, &spare)]);
        self.nginx.restore_pid_file(running.master.id)?;
        self.place(&between).await?;
        state.new_workers = Some(Instant::now());
        state.reloads.push(ReloadReason::Repair);
        self.nginx.reload_on(socket, &between.generation, patience::take_over(choice)).await?;
        self.place(main).await
    }

    /// Remembers what was confirmed, and removes what nothing needs any more.
    pub(super) async fn keep(
        &self,
        state: &mut State,
        choice: &Choice,
        main: &MainFile,
        generation: u64,
    ) -> Result<(), BackendError> {
        state.good.clone_from(&choice.parts);
        state.confirmed = Some(main.generation.clone());
        state.applied = Some(generation);
        state.pending.clear();
        state.zone = MainFile::zone_in(&main.text);
        self.served(main);
        if let Some(pusher) = &self.pusher {
            let room = pusher.room(state.zone, choice.upstreams()).servers();
            pusher.confirmed(&choice.parts, |key| state.wanted.contains_key(key), generation, room);
        }
        let (files, text) = (self.files.clone(), main.text.clone());
        proc::blocking(move || files.keep(&text)).await.map_err(retry)?;
        self.leave(state).await
    }
}

/// Why the NGINX that runs is reloaded.
fn why(state: &State, choice: &Choice, main: &MainFile, running: &Running) -> ReloadReason {
    let as_confirmed = running.generation.is_some() && running.generation == state.confirmed;
    // An LBEX that adopts an NGINX looks for what is different; one that knows what it wrote and finds something else mends it.
    if !as_confirmed && (state.confirmed.is_some() || running.parts.is_empty()) {
        return ReloadReason::Repair;
    }
    let late = |key: &ServiceKey| state.by_address.contains_key(key);
    reason(&running.parts, &choice.parts, MainFile::zone_in(&main.text) == state.zone, late)
}

/// Logs a shortage of files when it is new.
fn say_shortage(state: &mut State, choice: &Choice, host: &Host) {
    let shortage = limits(choice.demand(), host).shortage;
    let said = |now: &Shortage| {
        // Not with every Service that comes, but again when the limit is another or half of the room is gone.
        state.shortage.is_some_and(|said| said.limit == now.limit && said.connections / 2 < now.connections)
    };
    if shortage.as_ref().is_some_and(said) {
        return;
    }
    if let Some(shortage) = shortage {
        tracing::warn!("{shortage}");
    }
    state.shortage = shortage;
}

/// Raises the limit of a master that was started when there was less to serve, or by an LBEX that might do less. The workers of the
/// next reload get theirs from it.
fn raise_limit_of_master(master: ProcessId, wanted: u64) -> Option<FileLimit> {
    let limit = raise_file_limit_of(master, wanted)?;
    if limit.soft > limit.before {
        let FileLimit { before, soft, .. } = limit;
        tracing::info!(
            pid = master.pid,
            "the running NGINX may open {soft} files per process instead of {before}; {wanted} are wanted"
        );
    }
    Some(limit)
}
