//! The backend: desired state in, a table of nftables out.

use std::collections::BTreeMap;
use std::time::Duration;

use lbex_plugin_sdk::{
    Action, Algorithm, Backend, Call, Capabilities, Changes, Error, Host, Instead, Observation, Outcome, Protocol,
    Refusal, ReloadReason, Settings, State,
};
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::host;
use crate::kernel::{Kernel, Known};
use crate::nft::Nft;
use crate::plan::{Facts, Ruleset, plan};
use crate::ports::take_out_held;
use crate::render::{Table, chain_name, sample};
use crate::saved::Saved;
use crate::words::of_one_family;

/// Why Services, or parts of them, are not served as desired.
type Refusals = BTreeMap<String, Vec<Refusal>>;

/// How long the trial at the beginning may take.
const TRIAL: Duration = Duration::from_secs(5);

/// The kernel of this host.
#[derive(Debug)]
pub struct Nftables {
    version: String,
    kernel: Kernel,
    refused: Refusals,
    /// What was last said of Services whose servers have addresses of one family.
    said: Option<String>,
}

impl Backend for Nftables {
    const NAME: &'static str = "nftables";

    fn capabilities() -> Capabilities {
        Capabilities {
            description: "nftables".to_owned(),
            protocols: vec![Protocol::Tcp, Protocol::Udp],
            algorithms: vec![Algorithm::RoundRobin, Algorithm::ClientIp],
            live_servers: true,
            drains: true,
            timeouts: false,
            ..Capabilities::default()
        }
    }

    fn open(settings: Settings, _: Host) -> Result<Self, Error> {
        let config = Config::read(settings.config.as_deref())?;
        let nft = Nft::find(&config.nft)?;
        let table = Table {
            name: config.table,
            owner: owner(&settings.state_dir),
            keep_client_address: config.keep_client_address,
        };
        let call = Call::with_timeout(TRIAL);
        nft.check(&sample(&table), &call).map_err(|error| {
            Error::invalid(format_args!(
                "this host cannot do what the nftables backend needs (root or CAP_NET_ADMIN, Linux 5.10 with nf_tables and its NAT, nft 1.0.6): {error}"
            ))
        })?;
        tracing::info!(
            "{} serves by the table inet {}: a client goes to one server, no other server is tried, and how long silence and attempts to connect may last is the kernel's matter",
            nft.version,
            table.name
        );
        let saved = Saved::new(settings.state_dir.as_ref(), &table);
        let version = nft.version.clone();
        let kernel = Kernel::new(table, nft, saved);
        Ok(Self { version, kernel, refused: Refusals::new(), said: None })
    }

    fn opened(&self) -> Capabilities {
        Capabilities { description: self.version.clone(), ..Self::capabilities() }
    }

    fn apply(&mut self, state: &State, _: &Changes, call: &Call) -> Result<Outcome, Error> {
        let facts = host::facts()?;
        let known = self.kernel.known(call)?;
        let (wanted, refused) = wanted(state, &facts, &known);
        self.say_families(&wanted);
        let changed = self.kernel.make(&known, wanted, &facts, call)?;
        self.refused.clone_from(&refused);
        let (action, reloads) = match known {
            _ if !changed => (Action::Unchanged, Vec::new()),
            Known::Holds(_) => (Action::Live, Vec::new()),
            Known::Absent => (Action::Started, Vec::new()),
            Known::Changed(_) => (Action::Reloaded, vec![ReloadReason::Repair]),
        };
        Ok(Outcome { action, reloads, refused })
    }

    fn push(&mut self, state: &State, changes: &Changes, call: &Call) -> Result<Outcome, Error> {
        let Changes::Services(changes) = changes else {
            return Err(Error::Unsupported("nothing is confirmed yet".to_owned()));
        };
        if !matches!(self.kernel.known(call)?, Known::Holds(_)) {
            return Err(Error::Unsupported("somebody has changed the table".to_owned()));
        }
        let facts = host::facts()?;
        let now = self.kernel.ruleset().cloned().unwrap_or_default();
        let (mut next, mut late) = (Ruleset::new(), Refusals::new());
        for name in changes.keys() {
            let planned = state.services.get(name).map(|service| plan(name, service, &facts));
            match planned {
                Some((parts, refused))
                    if refused.is_empty()
                        && !self.refused.contains_key(name)
                        && parts
                            .iter()
                            .all(|(key, part)| now.get(key).is_some_and(|now| now.service == part.service)) =>
                {
                    next.extend(parts);
                }
                _ => {
                    late.insert(name.clone(), vec![not_live()]);
                }
            }
        }
        self.kernel.push(next, &facts, call)?;
        Ok(Outcome { action: Action::Live, refused: late, ..Outcome::default() })
    }

    fn observe(&mut self, call: &Call) -> Result<Observation, Error> {
        let as_made = self.kernel.is_as_made(call)?;
        let name = &self.kernel.table.name;
        let Some(in_step) = as_made else {
            let detail = format!("there is no table inet {name} of this LBEX");
            return Ok(Observation { healthy: false, detail, in_step: Some(false), ..Observation::default() });
        };
        let detail = if in_step {
            match self.kernel.ruleset() {
                Some(ruleset) => format!("the table inet {name}, {} listener(s)", ruleset.len()),
                None => format!("the table inet {name}"),
            }
        } else {
            format!("somebody has changed the table inet {name}")
        };
        if in_step {
            self.kernel.keep_house(&host::facts()?, call)?;
        }
        Ok(Observation {
            healthy: true,
            detail,
            in_step: Some(in_step),
            metrics: self.metrics(),
            ..Observation::default()
        })
    }

    fn stop(&mut self, drain: Duration, call: &Call) -> Result<(), Error> {
        self.kernel.stop(drain, &host::facts()?, call)
    }
}

impl Nftables {
    fn say_families(&mut self, wanted: &Ruleset) {
        let words = of_one_family(wanted);
        if let Some(words) = words.as_ref().filter(|_| words != self.said) {
            tracing::info!("{words}");
        }
        self.said = words;
    }

    #[allow(clippy::cast_precision_loss, reason = "a measure")]
    fn metrics(&self) -> BTreeMap<String, f64> {
        let pairs = [
            ("listeners", self.kernel.ruleset().map(|ruleset| ruleset.len() as f64)),
            ("conntrack_entries", host::conntrack("count")),
            ("conntrack_max", host::conntrack("max")),
        ];
        pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// All listeners that can be served, and why the others cannot.
fn wanted(state: &State, facts: &Facts, known: &Known) -> (Ruleset, Refusals) {
    let (mut ruleset, mut refused) = (Ruleset::new(), Refusals::new());
    for (name, service) in &state.services {
        let (parts, refusals) = plan(name, service, facts);
        ruleset.extend(parts);
        if !refusals.is_empty() {
            refused.insert(name.clone(), refusals);
        }
    }
    let held = take_out_held(&mut ruleset, |key| match known {
        Known::Absent => false,
        Known::Holds(there) => there.contains_key(key),
        Known::Changed(chains) => chains.contains(&chain_name(key)),
    });
    for (service, refusal) in held {
        refused.entry(service).or_default().push(refusal);
    }
    (ruleset, refused)
}

fn not_live() -> Refusal {
    Refusal {
        listener: None,
        code: "NotLive".to_owned(),
        message: "it is not served as it is, which takes more than a change of servers".to_owned(),
        instead: Instead::LeftOut,
        retry: false,
    }
}

/// Who says that a table is theirs: nftables takes 128 bytes.
fn owner(state_dir: &str) -> String {
    let words = format!("LBEX {state_dir}");
    if words.len() < 120 && !words.contains(char::is_control) {
        return words;
    }
    format!("LBEX {:x}", Sha256::digest(state_dir))
}
