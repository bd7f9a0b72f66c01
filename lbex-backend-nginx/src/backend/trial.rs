//! Tries a choice before it is put in front of NGINX: new sockets are probed, the whole is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lbex_core::backend::BackendError;
use lbex_core::names::ServiceKey;

use super::NginxBackend;
use super::choose::{Blocked, Choice, Why};
use super::patience;
use super::refuse::{self, retry};
use super::running::Running;
use super::state::State;
use super::touched::DAMAGED;
use crate::check::{CheckError, Complaint, Judge, isolate};
use crate::limits::Host;
use crate::probe::probe_all;
use crate::process::proc;
use crate::render::{Claim, MainFile, Part};

/// How long the search for Services that NGINX refuses may take, in one call.
const SEARCH: Duration = Duration::from_secs(5);

/// What one call of `apply` found out. Verdicts that last go into [`State`] instead.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) blocked: Blocked,
    free: BTreeSet<Claim>,
    deadline: Option<Instant>,
}

impl Trial {
    pub(super) fn new() -> Self {
        Self { blocked: Blocked::new(), free: BTreeSet::new(), deadline: None }
    }

    pub(super) fn block(&mut self, part: &Part, why: Why) {
        let reasons = self.blocked.entry(part.file.clone()).or_default();
        if !reasons.contains(&why) {
            reasons.push(why);
        }
    }
}

impl NginxBackend {
    /// Tries the sockets that NGINX does not have yet. Answers whether any cannot be had.
    pub(super) async fn probe(&self, choice: &Choice, running: Option<&Running>, trial: &mut Trial) -> bool {
        let new = |claim: &Claim| {
            !trial.free.contains(claim) && !running.is_some_and(|running| running.claims.contains(claim))
        };
        let claims = choice.parts.values().flat_map(|part| part.claims.iter().map(move |claim| (part, *claim)));
        let (parts, claims): (Vec<&Arc<Part>>, Vec<Claim>) = claims.filter(|(_, claim)| new(claim)).unzip();
        let sockets = claims.iter().map(|claim| (claim.transport, claim.address)).collect();
        let pids = running.map(|running| running.pids.clone()).unwrap_or_default();
        let mut refused = false;
        for ((part, claim), probe) in parts.into_iter().zip(claims).zip(probe_all(sockets, pids).await) {
            let hindered = running.is_none_or(|running| running.is_hindered(&probe));
            match refuse::cannot_listen(claim, &probe).filter(|_| hindered) {
                None => {
                    trial.free.insert(claim);
                }
                Some(why) => {
                    refused = true;
                    trial.block(part, why);
                }
            }
        }
        refused
    }

    /// Has NGINX check the whole. Answers whether something was refused, and is blocked now.
    pub(super) async fn check(
        &self,
        state: &mut State,
        choice: &Choice,
        main: &MainFile,
        host: &Host,
        trial: &mut Trial,
    ) -> Result<bool, BackendError> {
        let Err(complaint) = self.check_text(&main.text, patience::check(choice)).await.map_err(retry)? else {
            return Ok(false);
        };
        if self.forget_damaged(state, choice).await {
            return Err(retry(DAMAGED));
        }
        tracing::warn!(complaint = %complaint.message, "NGINX refuses the new configuration; looking for the Service");
        let deadline = *trial.deadline.get_or_insert_with(|| Instant::now() + SEARCH);
        let is_new = |key: &ServiceKey, part: &Arc<Part>| state.good.get(key).is_none_or(|good| good.file != part.file);
        let (changed, same): (BTreeMap<_, _>, BTreeMap<_, _>) =
            choice.parts.clone().into_iter().partition(|(key, part)| is_new(key, part));
        // What did not change was fine before: the few that did are tried without it, which is quicker. If those are fine by
        // themselves, it is a matter of how they go together.
        for base in [BTreeMap::new(), same] {
            let mut judge = Bench { backend: self, state: &*state, choice, base, host };
            let found = isolate(&mut judge, changed.keys().cloned().collect(), deadline).await?;
            let anything = !found.guilty.is_empty() || !found.undecided.is_empty();
            for (key, complaint) in found.guilty {
                if let Some(part) = choice.parts.get(&key) {
                    sentence(state, trial, part, &complaint);
                }
            }
            for part in found.undecided.iter().filter_map(|key| choice.parts.get(key)) {
                trial.block(part, refuse::undecided());
            }
            if anything {
                return Ok(true);
            }
        }
        // Only what did not change can be meant.
        let named = complaint.file.as_ref().and_then(|(key, file)| choice.parts.get(key).filter(|p| p.file == *file));
        let owner = complaint.socket.and_then(|claim| choice.owner(claim)).map(|(_, part, _)| part);
        let Some(part) = named.or(owner) else { return Err(refuse::given_up(&[complaint])) };
        trial.block(part, refuse::refused(&complaint));
        Ok(true)
    }

    /// Forgets that files were written which are not there as they were: their Services are not to blame. Answers whether any.
    async fn forget_damaged(&self, state: &mut State, choice: &Choice) -> bool {
        let (files, parts) = (self.files.clone(), choice.parts.clone());
        let find = move || parts.into_iter().filter(|(_, part)| files.is_damaged(&part.file)).collect::<Vec<_>>();
        let damaged = proc::blocking(find).await;
        for (key, part) in &damaged {
            // A last good one that is not wanted any more cannot be made again.
            if state.good.get(key).is_some_and(|good| good.file == part.file) {
                state.good.remove(key);
            }
            // All that is wanted is.
            state.applied = None;
        }
        !damaged.is_empty()
    }

    pub(super) async fn check_text(&self, text: &str, limit: Duration) -> Result<Result<(), Complaint>, CheckError> {
        let (files, text) = (self.files.clone(), text.to_owned());
        let path = files.candidate();
        proc::blocking(move || files.write_candidate(&text)).await.map_err(|error| CheckError::Io {
            verb: error.verb,
            path: error.path,
            source: error.source,
        })?;
        self.checker.check(&path, limit).await
    }
}

fn sentence(state: &mut State, trial: &mut Trial, part: &Part, complaint: &Complaint) {
    let why = match complaint.socket {
        Some(claim) => refuse::not_opened(claim, complaint),
        None => refuse::refused(complaint),
    };
    tracing::warn!(file = %part.file, message = %why.message, "NGINX refuses a Service");
    let names_it = complaint.file.as_ref().is_some_and(|(_, file)| *file == part.file);
    if names_it && complaint.lasting() {
        state.verdicts.insert(part.file.clone(), vec![why]);
    } else {
        trial.block(part, why);
    }
}

/// Blocks the Services whose sockets or files NGINX complained of when it took over the configuration.
pub(super) fn blame(choice: &Choice, complaints: &[Complaint], trial: &mut Trial) -> Result<(), BackendError> {
    let mut blamed = false;
    for complaint in complaints {
        if let Some((key, part, claim)) = complaint.socket.and_then(|claim| choice.owner(claim)) {
            tracing::warn!(service = %key, %claim, message = %complaint.message, "NGINX cannot listen");
            trial.block(part, refuse::not_opened(claim, complaint));
            blamed = true;
        } else if let Some(part) = complaint.file.as_ref().and_then(|(key, _)| choice.parts.get(key)) {
            trial.block(part, refuse::refused(complaint));
            blamed = true;
        }
    }
    if blamed { Ok(()) } else { Err(refuse::given_up(complaints)) }
}

/// Tries choices of which some Services are left out.
struct Bench<'a> {
    backend: &'a NginxBackend,
    state: &'a State,
    choice: &'a Choice,
    /// What is part of every try.
    base: BTreeMap<ServiceKey, Arc<Part>>,
    host: &'a Host,
}

impl Judge for Bench<'_> {
    type Error = BackendError;

    async fn judge(&mut self, services: &BTreeSet<ServiceKey>) -> Result<Result<(), Complaint>, BackendError> {
        let mut trial = Choice { parts: self.base.clone(), ..Choice::default() };
        let parts = services.iter().filter_map(|key| Some((key.clone(), self.choice.parts.get(key)?.clone())));
        trial.parts.extend(parts);
        let main = self.backend.main_file(self.state, &trial, self.host)?;
        self.backend.check_text(&main.text, patience::check(&trial)).await.map_err(retry)
    }
}
