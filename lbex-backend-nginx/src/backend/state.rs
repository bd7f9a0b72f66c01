//! What the backend remembers from call to call, and how a delta changes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lbex_core::backend::{BackendError, ReloadReason};
use lbex_core::desired::{Delta, DesiredState, ServiceConfig};
use lbex_core::names::ServiceKey;

use super::NginxBackend;
use super::choose::{Blocked, Choice, Room, Wanted, choose, demand};
use super::live::count;
use super::refuse::retry;
use super::trial::Trial;
use crate::limits::{Demand, Host, Shortage, room_for_listeners, workers};
use crate::process::proc;
use crate::push::ServerGroup;
use crate::render::{Form, Part, ServiceFileName, Write, render_service_as};

/// Everything that one call of `apply` leaves to the next.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The generation of the desired state that was last applied; `None` before the first.
    pub(super) applied: Option<u64>,
    /// Services that calls since then, which failed, took up.
    pub(super) pending: BTreeSet<ServiceKey>,
    /// Every Service's part as it should be.
    pub(super) wanted: BTreeMap<ServiceKey, Wanted>,
    /// Every Service's part in the configuration that was last confirmed.
    pub(super) good: BTreeMap<ServiceKey, Arc<Part>>,
    /// That configuration's generation.
    pub(super) confirmed: Option<String>,
    /// Whether what an earlier LBEX left was read.
    pub(super) read: bool,
    /// Files that NGINX refuses. At most one for each Service: only those wanted are kept.
    pub(super) verdicts: Blocked,
    /// When NGINX was started.
    pub(super) starts: Starts,
    /// The shortage that was last logged.
    pub(super) shortage: Option<Shortage>,
    /// The size of the zone that NGINX has, in KiB.
    pub(super) zone: Option<u64>,
    /// How many servers NGINX Plus is to have in all; 0 for an open-source NGINX.
    pub(super) plus_servers: u64,
    /// Services whose servers are written as addresses until then: NGINX did not take them otherwise.
    pub(super) by_address: BTreeMap<ServiceKey, Instant>,
    /// Why NGINX was reloaded, each time since the last report.
    pub(super) reloads: Vec<ReloadReason>,
    /// When NGINX was last told to make new workers, until those before are told that they need not ask any more.
    pub(super) new_workers: Option<Instant>,
}

impl State {
    /// What to serve, after what was found out so far.
    pub(super) fn choose(&self, trial: &Trial, host: &Host) -> Choice {
        let mut blocked = self.verdicts.clone();
        blocked.extend(trial.blocked.clone());
        let room = Room { files: room_for_listeners(host), workers: workers(host) };
        choose(&self.wanted, &self.good, &blocked, room)
    }

    /// What the listening sockets of all that is wanted take.
    pub(super) fn demand(&self) -> Demand {
        self.wanted.values().fold(Demand::default(), |sum, want| sum + demand(&want.part))
    }

    /// These Services get their servers as addresses for a while.
    pub(super) fn write_addresses(&mut self, services: &BTreeSet<ServiceKey>) {
        let until = Instant::now() + BY_ADDRESS;
        self.by_address.extend(services.iter().map(|key| (key.clone(), until)));
    }

    fn form(&self, key: &ServiceKey) -> (Write, BTreeSet<ServerGroup>) {
        let known = self.good.get(key).map(|part| part.groups.clone()).unwrap_or_default();
        (if self.by_address.contains_key(key) { Write::Addresses } else { Write::Names }, known)
    }

    /// Forgets verdicts on files that nobody wants any more.
    fn forget_verdicts(&mut self) {
        let wanted: BTreeSet<&ServiceFileName> =
            self.wanted.values().map(|want| &want.part.file).chain(self.good.values().map(|part| &part.file)).collect();
        self.verdicts.retain(|file, _| wanted.contains(file));
    }
}

/// Keeps an NGINX that dies again and again from being started without pause.
#[derive(Debug, Default)]
pub(super) struct Starts {
    last: Option<Instant>,
    /// How many followed each other closely.
    quick: u32,
}

impl Starts {
    /// Starts that are further apart are each the first.
    const CLOSE: Duration = Duration::from_secs(60);
    /// The longest pause.
    const LONGEST: Duration = Duration::from_secs(30);

    /// How long to wait before the next start. The first three come at once.
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        let since = now.duration_since(self.last?);
        let pause = match self.quick {
            0..=2 => Duration::ZERO,
            n => Duration::from_secs(1 << (n - 3).min(5)).min(Self::LONGEST),
        };
        pause.checked_sub(since).filter(|left| !left.is_zero())
    }

    /// NGINX is started now.
    pub(super) fn started(&mut self, now: Instant) {
        let close = self.last.is_some_and(|last| now.duration_since(last) < Self::CLOSE);
        self.quick = if close { self.quick + 1 } else { 1 };
        self.last = Some(now);
    }
}

/// How long the servers of a Service are written as addresses after NGINX did not take them otherwise. Then the next change tries
/// again.
const BY_ADDRESS: Duration = Duration::from_secs(60);

/// For tests: changes a Service's text after it was rendered.
#[cfg(test)]
pub(super) type Edit = fn(&ServiceKey, &str) -> String;

/// How many Services are rendered before their files are written: the texts of all, 4 KiB each, would be the largest thing in
/// LBEX's memory.
const AT_A_TIME: usize = 256;

pub(super) struct Rendered {
    pub(super) key: ServiceKey,
    created: Option<i64>,
    text: String,
    pub(super) part: Part,
}

/// A Service to be rendered, and how.
pub(super) type Order = (Arc<ServiceConfig>, Write, BTreeSet<ServerGroup>);

impl NginxBackend {
    /// Renders the Services that changed, and writes their files; all of them where `delta` does not begin at what is known.
    /// Answers which they are.
    pub(super) async fn render(
        &self,
        state: &mut State,
        desired: &DesiredState,
        delta: &Delta,
    ) -> Result<BTreeSet<ServiceKey>, BackendError> {
        if let Some(pusher) = &self.pusher {
            let late = pusher.late();
            state.write_addresses(&late);
            state.pending.extend(late);
        }
        if self.plus.is_some() {
            state.plus_servers = desired.services.values().map(|config| count(config)).sum();
        }
        let changed: BTreeSet<ServiceKey> = if state.applied == Some(delta.from) {
            // What a failed call took up may have been taken back since: then the delta does not tell.
            state.pending.extend(delta.changes.keys().cloned());
            state.pending.clone()
        } else {
            state.wanted.clear();
            state.applied = None;
            desired.services.keys().cloned().collect()
        };
        self.render_some(state, desired, &changed).await?;
        Ok(changed)
    }

    /// Renders these Services, and writes their files.
    pub(super) async fn render_some(
        &self,
        state: &mut State,
        desired: &DesiredState,
        services: &BTreeSet<ServiceKey>,
    ) -> Result<(), BackendError> {
        let now = Instant::now();
        state.by_address.retain(|key, until| *until > now && desired.services.contains_key(key));
        let configs = || services.iter().filter_map(|key| desired.services.get(key));
        if let Some(pusher) = &self.pusher {
            configs().for_each(|config| pusher.set(desired.generation, config));
        }
        let orders = configs().map(|config| {
            let (write, known) = state.form(&config.service);
            (config.clone(), write, known)
        });
        let rendered = self.render_and_write(orders.collect()).await?;
        for key in services.iter().filter(|key| !desired.services.contains_key(*key)) {
            state.wanted.remove(key);
        }
        for Rendered { key, created, part, .. } in rendered {
            let part = Arc::new(part);
            if let Some(pusher) = &self.pusher {
                pusher.wants(&key, &part);
            }
            state.wanted.insert(key, Wanted { part, created });
        }
        state.forget_verdicts();
        Ok(())
    }

    /// Renders Services and writes their files, many at a time: each flush waits for the disk.
    pub(super) async fn render_and_write(&self, orders: Vec<Order>) -> Result<Vec<Rendered>, BackendError> {
        let (templates, dialect, files) = (self.templates.clone(), self.input.dialect, self.files.clone());
        let states = self.plus.as_ref().map(|plus| plus.states.clone());
        #[cfg(test)]
        let edit = *self.edit.lock().expect("not poisoned");
        proc::blocking(move || {
            let render = |(service, write, known): &Order| {
                let text = render_service_as(
                    &templates,
                    service,
                    dialect,
                    Form { write: *write, known, states: states.as_deref() },
                )?;
                let key = service.service.clone();
                #[cfg(test)]
                let text = edit.map_or(text.clone(), |edit| edit(&key, &text));
                let part = Part::read(ServiceFileName::of(&key, &text), &text);
                Ok(Rendered { key, created: service.created, text, part })
            };
            let mut all = Vec::with_capacity(orders.len());
            for some in orders.chunks(AT_A_TIME) {
                let rendered = some.iter().map(render).collect::<Result<Vec<_>, crate::render::RenderError>>();
                let mut rendered = rendered.map_err(|error| BackendError::Permanent(error.to_string()))?;
                let texts = rendered.iter().map(|one| (&one.part.file, one.text.as_str()));
                files.write_services(texts).map_err(retry)?;
                rendered.iter_mut().for_each(|one| one.text = String::new());
                all.append(&mut rendered);
            }
            Ok(all)
        })
        .await
    }
}
