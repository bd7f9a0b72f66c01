//! One name: which addresses it has, who asks for them, and who waits until they are applied.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::asker::{Asker, Current, Versions};
use super::waiter::Waiter;

/// Resolvers of one name at the most. NGINX has one, and one more for each reload whose workers still drain.
const MOST_ASKERS: usize = 8;

/// How often answers are sent again before their asker no longer counts.
pub(super) const MOST_TRIES: u8 = 6;

/// A name that is known, or asked for.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) current: Current,
    pub(super) askers: Vec<Asker>,
    /// Who waits, and for which versions: later changes do not make them wait for longer.
    pub(super) waiters: Vec<(Arc<Waiter>, Versions)>,
    pub(super) asked: bool,
    pub(super) queued: bool,
}

impl Entry {
    pub(super) fn new(current: Current) -> Self {
        Self { current, askers: Vec::new(), waiters: Vec::new(), asked: false, queued: false }
    }

    /// Whether NGINX has applied what is true now: all resolvers that react have, and there is one.
    pub(super) fn is_current(&self) -> bool {
        has_applied(&self.askers, self.current.versions())
    }

    pub(super) fn wait(&mut self, waiter: &Arc<Waiter>) {
        waiter.one_more();
        self.waiters.push((waiter.clone(), self.current.versions()));
    }

    /// Nobody is to wait for it any more.
    pub(super) fn release(&self) {
        self.waiters.iter().for_each(|(waiter, _)| waiter.one_done());
    }

    pub(super) fn is_dead(&self) -> bool {
        self.asked && self.askers.is_empty() && self.waiters.is_empty() && self.current.is_empty()
    }

    pub(super) fn tell_waiters(&mut self) {
        let Self { askers, waiters, .. } = self;
        waiters.retain(|(waiter, versions)| {
            let done = has_applied(askers, *versions);
            if done {
                waiter.one_done();
            }
            !done
        });
        if waiters.is_empty() {
            *waiters = Vec::new();
        }
    }

    pub(super) fn asker(&mut self, from: SocketAddr, now: Duration) -> &mut Asker {
        self.asked = true;
        let index = self.askers.iter().position(|asker| asker.from == from).unwrap_or_else(|| {
            if self.askers.len() == MOST_ASKERS {
                // The one that was not heard of for longest is the least likely to be there still.
                let oldest = self.askers.iter().enumerate().min_by_key(|(_, asker)| asker.heard);
                let oldest = oldest.map_or(0, |(index, _)| index);
                self.askers.remove(oldest);
            }
            // Nearly always one: a vector that grows by itself begins with four.
            self.askers.reserve_exact(1);
            self.askers.push(Asker::new(from, now));
            self.askers.len() - 1
        });
        &mut self.askers[index]
    }
}

/// Whether all resolvers that react have these versions, or later ones, and there is one.
fn has_applied(askers: &[Asker], versions: Versions) -> bool {
    let mut reacting = askers.iter().filter(|asker| !asker.retired && !is_deaf(asker)).peekable();
    reacting.peek().is_some() && reacting.all(|asker| asker.has_applied(versions))
}

/// Whether it does not react to answers any more.
pub(super) fn is_deaf(asker: &Asker) -> bool {
    asker.sent.is_some_and(|(_, tries)| tries >= MOST_TRIES)
}
