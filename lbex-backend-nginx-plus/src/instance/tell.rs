//! How an instance and its upstreams stand, for those who ask.

use std::sync::Arc;

use lbex_core::backend::ApiStanding;
use lbex_core::names::ServiceKey;

use super::state::{Group, Standing, State};
use crate::api::{ApiError, PeerState, Problem};

impl State {
    pub(super) fn trouble(&self) -> Option<Arc<ApiError>> {
        self.trouble.as_ref().map(|trouble| trouble.error.clone())
    }

    pub(super) fn answers(&self) -> bool {
        self.info.is_some() && self.trouble.is_none()
    }

    pub(super) fn standing(&self, name: &str, version: u64) -> Standing {
        match self.groups.get(name) {
            None => Standing::Unknown,
            Some(group) if group.settled >= version => group.standing.clone(),
            Some(_) => Standing::Waiting,
        }
    }

    pub(super) fn is_settled(&self, tickets: &[(Arc<str>, u64)]) -> bool {
        let lost = self.trouble.as_ref().is_some_and(|trouble| !trouble.probation);
        lost || self.answers()
            && tickets.iter().all(|(name, version)| self.standing(name, *version) != Standing::Waiting)
    }

    pub(super) fn refusals(&self) -> Vec<(ServiceKey, Arc<str>, Arc<ApiError>)> {
        let refusal = |(name, group): (&Arc<str>, &Group)| match &group.standing {
            Standing::Refused(error) if !group.leaving => Some((group.service.clone(), name.clone(), error.clone())),
            _ => None,
        };
        self.groups.iter().filter_map(refusal).collect()
    }

    pub(super) fn stands(&self) -> ApiStanding {
        let mut standing = ApiStanding {
            answers: self.answers(),
            servers: PeerState::ALL.into_iter().map(|state| (state.as_str(), 0)).collect(),
            active: self.live.active,
            removed_busy: self.live.removed_busy,
            drift: self.drift,
            changes: self.changes,
            failures: self.failures,
            ..ApiStanding::default()
        };
        for (state, count) in &self.live.servers {
            standing.servers.insert(state.as_str(), *count);
        }
        for group in self.groups.values() {
            let of = match &group.standing {
                _ if group.settled < group.version => &mut standing.behind,
                Standing::InStep => &mut standing.in_step,
                Standing::Refused(error) if error.problem == Problem::UpstreamNotFound => &mut standing.missing,
                Standing::Refused(_) => &mut standing.refused,
                Standing::Waiting | Standing::Unknown => &mut standing.behind,
            };
            *of += 1;
        }
        standing
    }
}
