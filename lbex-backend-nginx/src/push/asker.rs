//! What one resolver of NGINX's has been told about one name, and what it waits for.
//!
//! NGINX asks for IPv4 and IPv6 addresses with a question each, both in the same instant, and applies the answers when it has both:
//! a *round*. Then, at once or a second later, it begins the next one, with new ids. So a question with a new id proves that the
//! answers before it were applied, and one with an id that was answered that the answer was lost.
//!
//! Nothing is answered before both questions of a round are there: else nobody could tell whether the second one belongs to the
//! same round. Where it does not come, an LBEX before this one has answered it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::wire::Family;

/// Stands for no address where an NGINX that is told of none would be slow to ask again: a connection to it fails at once.
pub(super) const NO_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::BROADCAST);

/// Addresses of one family, and which state of them this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) addresses: Arc<[IpAddr]>,
    pub(super) version: u64,
}

/// The versions of a name's addresses of each family.
pub(super) type Versions = [u64; 2];

/// What is true of a name now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Current {
    sets: [Set; 2],
}

impl Current {
    /// Of these addresses, which are sorted.
    pub(super) fn new(addresses: &[IpAddr], version: u64) -> Self {
        let set = |family: Family| Set {
            addresses: addresses.iter().copied().filter(|address| family.has(*address)).collect(),
            version,
        };
        Self { sets: Family::BOTH.map(set) }
    }

    /// Becomes `other`'s addresses; a family whose addresses stay keeps its version. Answers whether any changed.
    pub(super) fn become_(&mut self, other: Self) -> bool {
        let mut changed = false;
        for (mine, theirs) in self.sets.iter_mut().zip(other.sets) {
            if mine.addresses != theirs.addresses {
                *mine = theirs;
                changed = true;
            }
        }
        changed
    }

    /// Whether there is no address, or only that which stands for none.
    pub(super) fn is_empty(&self) -> bool {
        self.sets.iter().all(|set| set.addresses.iter().all(|address| *address == NO_SERVER))
    }

    pub(super) fn set(&self, family: Family) -> &Set {
        &self.sets[family.index()]
    }

    pub(super) fn versions(&self) -> Versions {
        Family::BOTH.map(|family| self.set(family).version)
    }

    /// Whether a question for this family is held until something changes. One with no addresses is not, so that it need not be
    /// repeated every five seconds; of two with none, one is.
    fn holds(&self, family: Family) -> bool {
        let has = |family: Family| !self.set(family).addresses.is_empty();
        has(family) || (family == Family::V4 && !has(Family::V6))
    }
}

/// A question's fate.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Slot {
    /// None in this round.
    Idle,
    /// Asked and not answered.
    Open { id: u16, since: Duration },
    /// Answered, with this.
    Answered { id: u16, told: Set },
}

/// What a question is to be answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) id: u16,
    pub(super) family: Family,
    pub(super) set: Set,
    /// In seconds.
    pub(super) ttl: u32,
}

/// What a question was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// The first of a round: answers before it were applied.
    NewRound,
    /// The other one of a round.
    SameRound,
    /// One that waits already.
    Repeated,
    /// One that was answered, by a datagram that was lost or crossed this one.
    Unanswered,
}

/// How long the second question of a round is waited for.
pub(super) const GRACE: Duration = Duration::from_millis(20);

/// How long a resolver that is not to follow any more keeps an answer, in seconds.
const RETIRED_TTL: u32 = 300;

/// A resolver that asks for one name.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    /// Its socket.
    pub(super) from: SocketAddr,
    /// When it first asked.
    pub(super) first: Duration,
    /// When it last asked anything.
    pub(super) heard: Duration,
    /// It belongs to workers that only finish their connections.
    pub(super) retired: bool,
    /// When the answers of this round were sent, and how often since then.
    pub(super) sent: Option<(Duration, u8)>,
    slots: [Slot; 2],
    /// What it has applied.
    has: [Option<Set>; 2],
}

impl Asker {
    pub(super) fn new(from: SocketAddr, now: Duration) -> Self {
        Self {
            from,
            first: now,
            heard: now,
            retired: false,
            sent: None,
            slots: [Slot::Idle, Slot::Idle],
            has: [None, None],
        }
    }

    /// Takes a question in.
    pub(super) fn hear(&mut self, family: Family, id: u16, now: Duration) -> Heard {
        self.heard = now;
        let index = family.index();
        match &self.slots[index] {
            Slot::Open { id: open, .. } if *open == id => return Heard::Repeated,
            Slot::Answered { id: answered, .. } if *answered == id => return Heard::Unanswered,
            _ => {}
        }
        let joins = self.slots[index] == Slot::Idle && matches!(self.slots[family.other().index()], Slot::Open { .. });
        if !joins {
            self.end_round();
        }
        self.slots[index] = Slot::Open { id, since: now };
        // The round is not complete after all.
        self.sent = None;
        if joins { Heard::SameRound } else { Heard::NewRound }
    }

    /// What was answered is applied.
    fn end_round(&mut self) {
        let was_complete = !self.slots.iter().any(|slot| matches!(slot, Slot::Open { .. }));
        for (slot, has) in self.slots.iter_mut().zip(&mut self.has) {
            match std::mem::replace(slot, Slot::Idle) {
                Slot::Answered { told, .. } if was_complete => *has = Some(told),
                // A new question although these were not all answered: the resolver began anew, and has what it had.
                Slot::Answered { .. } | Slot::Open { .. } => {}
                // Somebody else answered it: it may have anything.
                Slot::Idle => *has = None,
            }
        }
    }

    /// The answers that are due. [`Asker::answered`] says that one was sent.
    pub(super) fn due(&self, current: &Current, now: Duration) -> Vec<Reply> {
        Family::BOTH.into_iter().filter_map(|family| self.due_for(family, current, now)).collect()
    }

    fn due_for(&self, family: Family, current: &Current, now: Duration) -> Option<Reply> {
        let Slot::Open { id, since } = self.slots[family.index()] else { return None };
        if self.slots[family.other().index()] == Slot::Idle && now < since + GRACE {
            return None;
        }
        let want = current.set(family);
        let other = current.set(family.other());
        let reply = |set: &Set, ttl| Reply { id, family, set: set.clone(), ttl };
        if self.retired {
            return Some(reply(want, RETIRED_TTL));
        }
        let stale = self.has[family.index()].as_ref().is_none_or(|has| has.version != want.version);
        let (other_stale, overtaken) = match &self.slots[family.other().index()] {
            // What it was told in this round counts only when the round is complete.
            Slot::Answered { told, .. } => {
                let applied = self.has[family.other().index()].as_ref().is_some_and(|has| has.version == told.version);
                (!applied || told.version != other.version, told.version != other.version)
            }
            Slot::Idle | Slot::Open { .. } => {
                (self.has[family.other().index()].as_ref().is_none_or(|has| has.version != other.version), false)
            }
        };
        if overtaken {
            // The other answer of this round is out of date: complete the round with what it has, so that none of both is
            // missing in between, and tell all in the next.
            return Some(reply(self.has[family.index()].as_ref().unwrap_or(want), 0));
        }
        (stale || other_stale || !current.holds(family)).then(|| reply(want, 0))
    }

    /// The answers of this round once more: those that were sent.
    pub(super) fn again(&self) -> Vec<Reply> {
        let slots = Family::BOTH.into_iter().zip(&self.slots);
        let answered = slots.filter_map(|(family, slot)| match slot {
            Slot::Answered { id, told } => {
                let ttl = if self.retired { RETIRED_TTL } else { 0 };
                Some(Reply { id: *id, family, set: told.clone(), ttl })
            }
            _ => None,
        });
        answered.collect()
    }

    /// The answer to this question once more, if it was given.
    pub(super) fn again_for(&self, family: Family) -> Option<Reply> {
        self.again().into_iter().find(|reply| reply.family == family)
    }

    /// A reply was sent. Answers whether nothing of this round is open any more: then the next question is awaited.
    pub(super) fn answered(&mut self, reply: &Reply, now: Duration) -> bool {
        self.slots[reply.family.index()] = Slot::Answered { id: reply.id, told: reply.set.clone() };
        let complete = !self.slots.iter().any(|slot| matches!(slot, Slot::Open { .. }));
        if complete {
            self.sent = Some((now, 0));
        }
        complete
    }

    /// Whether it has applied these versions, or later ones.
    pub(super) fn has_applied(&self, versions: Versions) -> bool {
        self.has.iter().zip(versions).all(|(has, version)| has.as_ref().is_some_and(|has| has.version >= version))
    }

    /// Since when its oldest question waits.
    pub(super) fn open_since(&self) -> Option<Duration> {
        let open = self.slots.iter().filter_map(|slot| match slot {
            Slot::Open { since, .. } => Some(*since),
            _ => None,
        });
        open.min()
    }

    /// Its questions that wait.
    pub(super) fn open(&self) -> impl Iterator<Item = (u16, Family)> {
        Family::BOTH.into_iter().zip(&self.slots).filter_map(|(family, slot)| match slot {
            Slot::Open { id, .. } => Some((*id, family)),
            _ => None,
        })
    }

    /// Until when the second question of its round is waited for, if it is.
    pub(super) fn alone_until(&self) -> Option<Duration> {
        match &self.slots {
            [Slot::Open { since, .. }, Slot::Idle] | [Slot::Idle, Slot::Open { since, .. }] => Some(*since + GRACE),
            _ => None,
        }
    }

    /// Ends the wait of its questions, as if what it has were out of date: the answers that are due then begin a new round.
    pub(super) fn refresh(&mut self) {
        self.has = [None, None];
    }
}
