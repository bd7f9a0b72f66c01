//! The table in the kernel: what LBEX knows of it, and how it comes to be what it should.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use lbex_plugin_sdk::{Call, Error};
use serde_json::Value;

use crate::change::{change, close, replace};
use crate::flows::{Flow, carried, forget, forget_stale, in_use};
use crate::netlink::Netlink;
use crate::nft::Nft;
use crate::plan::{Facts, Key, Ruleset};
use crate::render::{BASE_CHAINS, Table, chain_name};
use crate::saved::Saved;
use crate::seen::{Seen, generation, look};

/// How long the kernel may take for one answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How often what drains is looked at.
const DRAIN_STEP: Duration = Duration::from_millis(200);

/// What is known of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// There is none.
    Absent,
    /// It is ours and holds this.
    Holds(Ruleset),
    /// It is ours, and somebody has changed it. It has these chains.
    Changed(BTreeSet<String>),
}

/// What LBEX put there last.
#[derive(Debug)]
struct Put {
    ruleset: Ruleset,
    /// The kernel's number of the ruleset, with which the table was as LBEX made it.
    generation: u32,
    /// `None`: not read since.
    fingerprint: Option<String>,
    saved: bool,
}

#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) table: Table,
    nft: Nft,
    saved: Saved,
    put: Option<Put>,
    /// UDP listeners that changed: a packet that was on its way meanwhile may have left a flow as it was before.
    again: BTreeSet<Key>,
}

fn netlink(call: &Call) -> Result<Netlink, Error> {
    Netlink::open(ANSWER.min(call.remaining())).map_err(failed)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: io::Error) -> Error {
    let hint = if error.raw_os_error() == Some(nix::errno::Errno::EPERM as i32) {
        ": LBEX needs root or the capability CAP_NET_ADMIN"
    } else {
        ""
    };
    Error::retry(format_args!("failed to ask the kernel: {error}{hint}"))
}

impl Kernel {
    pub(crate) fn new(table: Table, nft: Nft, saved: Saved) -> Self {
        Self { table, nft, saved, put: None, again: BTreeSet::new() }
    }

    /// What LBEX has put there; `None`: nothing since it started.
    pub(crate) fn ruleset(&self) -> Option<&Ruleset> {
        self.put.as_ref().map(|put| &put.ruleset)
    }

    /// Finds out what the table holds.
    pub(crate) fn known(&mut self, call: &Call) -> Result<Known, Error> {
        let mut netlink = netlink(call)?;
        if let Some(put) = &self.put
            && generation(&mut netlink).map_err(failed)? == put.generation
        {
            return Ok(Known::Holds(put.ruleset.clone()));
        }
        let (generation, seen) = look(&mut netlink, &self.table.name).map_err(failed)?;
        let Some(seen) = seen else { return Ok(Known::Absent) };
        self.is_ours(&seen)?;
        match &mut self.put {
            Some(put) if put.fingerprint.as_ref() == Some(&seen.fingerprint) => {
                put.generation = generation;
                Ok(Known::Holds(put.ruleset.clone()))
            }
            None => match self.saved.read(&seen.fingerprint) {
                Some(ruleset) => {
                    let fingerprint = Some(seen.fingerprint);
                    self.put = Some(Put { ruleset: ruleset.clone(), generation, fingerprint, saved: true });
                    Ok(Known::Holds(ruleset))
                }
                None => Ok(Known::Changed(seen.chains)),
            },
            Some(_) => Ok(Known::Changed(seen.chains)),
        }
    }

    /// An error where somebody else has a table of that name.
    fn is_ours(&self, seen: &Seen) -> Result<(), Error> {
        match &seen.owner {
            Some(owner) if *owner == self.table.owner => Ok(()),
            owner => {
                let whose = owner.as_deref().unwrap_or("somebody else");
                Err(Error::invalid(format_args!(
                    "the table inet {name} belongs to {whose}, and this is {}: give another name as table in the file of --backend-config, or remove it with nft delete table inet {name}",
                    self.table.owner,
                    name = self.table.name,
                )))
            }
        }
    }

    /// Makes the table hold `wanted`, and sees that it does. Whether anything had to be done.
    pub(crate) fn make(&mut self, known: &Known, wanted: Ruleset, facts: &Facts, call: &Call) -> Result<bool, Error> {
        let now = match known {
            Known::Holds(ruleset) => Some(ruleset),
            Known::Absent | Known::Changed(_) => None,
        };
        let mut keys: BTreeSet<Key> = wanted.keys().copied().collect();
        let commands = match now {
            Some(now) => {
                keys.extend(now.keys());
                keys.retain(|key| now.get(key) != wanted.get(key));
                change(&self.table, now, &wanted, keys.iter().copied())
            }
            None => replace(&self.table, &wanted),
        };
        if !commands.is_empty()
            && let Err(error) = self.nft.apply(&commands, call)
        {
            // Whatever it was, next time the table is looked at.
            self.put = None;
            return Err(error);
        }
        if !commands.is_empty() || self.put.as_ref().is_none_or(|put| put.fingerprint.is_none()) {
            self.confirm(wanted, call)?;
        }
        self.forget(keys, facts, call)?;
        self.save()?;
        Ok(!commands.is_empty())
    }

    /// The same for some listeners, at once: that it was done is the kernel's word, which [`Self::keep_house`] compares with what it has.
    pub(crate) fn push(&mut self, next: Ruleset, facts: &Facts, call: &Call) -> Result<(), Error> {
        let Some(put) = &mut self.put else { return Err(Error::Resync) };
        let mut wanted = put.ruleset.clone();
        wanted.extend(next.clone());
        let commands = change(&self.table, &put.ruleset, &wanted, next.keys().copied());
        if commands.is_empty() {
            return Ok(());
        }
        let before = put.generation;
        self.nft.apply(&commands, call)?;
        let now = generation(&mut netlink(call)?).map_err(failed)?;
        if now == before.wrapping_add(1) {
            *put = Put { ruleset: wanted, generation: now, fingerprint: None, saved: false };
        } else {
            self.confirm(wanted, call)?;
        }
        self.forget(next.into_keys().collect(), facts, call)
    }

    /// Reads the table, which was made to hold `ruleset` a moment ago.
    fn confirm(&mut self, ruleset: Ruleset, call: &Call) -> Result<(), Error> {
        let (generation, seen) = look(&mut netlink(call)?, &self.table.name).map_err(failed)?;
        let chains = ruleset.keys().map(chain_name).chain(BASE_CHAINS.map(ToOwned::to_owned)).collect();
        match seen {
            Some(seen) if seen.chains == chains => {
                let fingerprint = Some(seen.fingerprint);
                self.put = Some(Put { ruleset, generation, fingerprint, saved: false });
                Ok(())
            }
            _ => {
                self.put = None;
                Err(Error::retry(format_args!("somebody changes the table inet {} at this moment", self.table.name)))
            }
        }
    }

    /// Ends UDP flows that these listeners would no longer send where they go.
    fn forget(&mut self, mut keys: BTreeSet<Key>, facts: &Facts, call: &Call) -> Result<(), Error> {
        let Some(put) = &self.put else { return Ok(()) };
        forget_stale(&mut netlink(call)?, &keys, &put.ruleset, facts).map_err(failed)?;
        self.again.append(&mut keys);
        Ok(())
    }

    /// Whether the table is as LBEX made it; `None`: there is none, or it is somebody else's.
    pub(crate) fn is_as_made(&mut self, call: &Call) -> Result<Option<bool>, Error> {
        let mut netlink = netlink(call)?;
        let now = generation(&mut netlink).map_err(failed)?;
        if self.put.as_ref().is_some_and(|put| put.generation == now && put.fingerprint.is_some()) {
            return Ok(Some(true));
        }
        let (now, seen) = look(&mut netlink, &self.table.name).map_err(failed)?;
        let Some(seen) = seen else { return Ok(None) };
        let ours = self.is_ours(&seen).is_ok();
        let Some(put) = self.put.as_mut().filter(|_| ours) else { return Ok(ours.then_some(true)) };
        match &put.fingerprint {
            Some(known) if *known != seen.fingerprint => return Ok(Some(false)),
            // Read for the first time since it was changed, and somebody else has changed something since.
            None if put.generation != now => return Ok(Some(false)),
            _ => {}
        }
        put.generation = now;
        put.fingerprint = Some(seen.fingerprint);
        Ok(Some(true))
    }

    /// What can wait: flows that slipped through, and the file.
    pub(crate) fn keep_house(&mut self, facts: &Facts, call: &Call) -> Result<(), Error> {
        if let Some(put) = self.put.as_ref().filter(|_| !self.again.is_empty()) {
            forget_stale(&mut netlink(call)?, &self.again, &put.ruleset, facts).map_err(failed)?;
            self.again.clear();
        }
        self.save()
    }

    fn save(&mut self) -> Result<(), Error> {
        if let Some(put) = &mut self.put
            && !put.saved
            && let Some(fingerprint) = &put.fingerprint
        {
            self.saved.write(fingerprint, &put.ruleset)?;
            put.saved = true;
        }
        Ok(())
    }

    /// Lets nobody new in, waits until those that are there have ended, for `drain` at the most, and removes the table.
    pub(crate) fn stop(&mut self, drain: Duration, facts: &Facts, call: &Call) -> Result<(), Error> {
        let ruleset = match self.known(call)? {
            Known::Absent => return self.gone(),
            Known::Changed(_) => Ruleset::new(),
            Known::Holds(ruleset) => ruleset,
        };
        let closing = close(&self.table, &ruleset);
        self.put = None;
        if !closing.is_empty() {
            self.nft.apply(&closing, call)?;
        }
        let left = Self::drain(&ruleset, drain, facts, call)?;
        let delete: [Value; 1] = [self.table.delete()];
        self.nft.apply(&delete, call)?;
        // Without the table the kernel would send their packets to nobody.
        forget(&mut netlink(call)?, left.into_iter()).map_err(failed)?;
        self.gone()
    }

    fn gone(&mut self) -> Result<(), Error> {
        self.put = None;
        Ok(self.saved.remove()?)
    }

    /// Those that are left.
    fn drain(ruleset: &Ruleset, drain: Duration, facts: &Facts, call: &Call) -> Result<Vec<Flow>, Error> {
        let begin = std::time::Instant::now();
        loop {
            let flows = carried(&mut netlink(call)?, ruleset, facts).map_err(failed)?;
            let over = begin.elapsed() >= drain || in_use(&flows).is_empty();
            if over || !call.sleep(DRAIN_STEP.min(drain.saturating_sub(begin.elapsed()))) {
                return Ok(flows);
            }
        }
    }
}

impl Drop for Kernel {
    /// What was pushed in the last second is in no file yet.
    fn drop(&mut self) {
        let call = Call::with_timeout(ANSWER);
        if let Err(error) = self.is_as_made(&call).and_then(|_| self.save()) {
            tracing::warn!("what the table inet {} holds is not saved: {error}", self.table.name);
        }
    }
}
