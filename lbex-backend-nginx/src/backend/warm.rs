//! Takes an NGINX to names that it has not asked for yet without a moment in which it knows no servers: first with addresses
//! beside the names, and when it has asked, without. (A reload carries over what names resolved to; a start or an upgrade in place
//! begins with nothing.)

use std::collections::BTreeMap;
use std::sync::Arc;

use lbex_core::backend::BackendError;
use lbex_core::names::ServiceKey;

use super::NginxBackend;
use super::choose::Choice;
use super::patience;
use super::refuse::retry;
use super::running::Running;
use super::state::State;
use crate::limits::Host;
use crate::render::{Claim, MainFile, Part, Write};

/// A main file that goes before another.
pub(super) struct Warm {
    pub(super) main: MainFile,
    /// Which Services it concerns.
    pub(super) services: BTreeMap<ServiceKey, Arc<Part>>,
}

impl NginxBackend {
    /// What has to go before `choice`, if anything.
    pub(super) async fn warm(
        &self,
        state: &State,
        choice: &Choice,
        running: Option<&Running>,
        host: &Host,
    ) -> Result<Option<Warm>, BackendError> {
        let Some(pusher) = &self.pusher else { return Ok(None) };
        let known = running.filter(|running| !running.begins_anew());
        let cold = choice.parts.iter().filter(|(key, part)| is_cold(key, part, running, known));
        let services: BTreeMap<_, _> = cold.map(|(key, part)| (key.clone(), part.clone())).collect();
        let order = |(key, part): (_, &Arc<Part>)| Some((pusher.config(key)?, Write::Both, part.groups.clone()));
        let orders: Vec<_> = services.iter().filter_map(order).collect();
        if orders.is_empty() {
            return Ok(None);
        }
        let rendered = self.render_and_write(orders).await?;
        let parts = rendered.into_iter().map(|rendered| (rendered.key, Arc::new(rendered.part)));
        let mut before = choice.clone();
        // One that is served as it last was may have other listeners than its servers are for.
        before.parts.extend(
            parts.filter(|(key, part)| choice.parts.get(key).is_some_and(|chosen| chosen.claims == part.claims)),
        );
        let main = self.main_file(state, &before, host)?;
        match self.check_text(&main.text, patience::check(&before)).await.map_err(retry)? {
            Ok(()) => Ok(Some(Warm { main, services })),
            Err(complaint) => {
                tracing::warn!(complaint = %complaint.message, "NGINX refuses to begin with addresses; it begins with none");
                Ok(None)
            }
        }
    }
}

/// Whether a Service would have no servers at first although NGINX already listens for it, or is about to begin.
fn is_cold(key: &ServiceKey, part: &Part, running: Option<&Running>, known: Option<&Running>) -> bool {
    let Some(known) = known else { return !part.groups.is_empty() };
    let asked = known.parts.get(key).map(|part| &part.groups);
    let new = |port: u16| {
        let mut of_listener = part.groups.iter().filter(|group| group.listener == port).peekable();
        of_listener.peek().is_some() && !of_listener.any(|group| asked.is_some_and(|asked| asked.contains(group)))
    };
    let listens = |claim: &&Claim| running.is_some_and(|running| running.claims.contains(claim));
    part.claims.iter().filter(listens).any(|claim| new(claim.address.port()))
}
