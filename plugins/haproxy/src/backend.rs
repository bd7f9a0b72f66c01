//! The backend: desired state in, a serving HAProxy out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lbex_plugin_sdk::{
    Action, Algorithm, Backend, Call, Capabilities, Changes, Error, Host, Instead, Observation, Outcome, Protocol,
    Refusal, ReloadReason, Settings, State,
};
use lbex_port_holders::Holders;

use crate::config::Config;
use crate::control::{Info, Processes};
use crate::drains::Drains;
use crate::isolate::{Failure, Verdict, isolate};
use crate::plan::{Plan, Refusals, binds, planned, same_layout, sections, text, verdict};
use crate::ports::probe;
use crate::process::{COMMAND, Program, is_gone, owner};
use crate::render::{Global, Proxy, file, proxies, refusal};
use crate::servers::{Server, by_proxy, commands, leaving, read};

/// An HAProxy.
#[derive(Debug)]
pub struct HaProxy {
    config: Config,
    global: Global,
    program: Program,
    /// What HAProxy confirmed last; `None`: nothing since LBEX started.
    serves: Option<Serves>,
    /// Sections that HAProxy's check refused, by their text, with why.
    verdicts: BTreeMap<String, String>,
    drains: Drains,
    /// Whether servers differ from the configuration on disk.
    to_write: bool,
    /// Reloads that no outcome has told of yet.
    reloads: Vec<ReloadReason>,
}

#[derive(Debug)]
struct Serves {
    pid: u32,
    layout: String,
    plan: Plan,
    refused: Refusals,
}

impl Backend for HaProxy {
    const NAME: &'static str = "haproxy";

    fn capabilities() -> Capabilities {
        Capabilities {
            description: "HAProxy".to_owned(),
            protocols: vec![Protocol::Tcp],
            algorithms: vec![Algorithm::RoundRobin, Algorithm::LeastConn, Algorithm::ClientIp],
            live_servers: true,
            drains: true,
            ..Capabilities::default()
        }
    }

    fn open(settings: Settings, _: Host) -> Result<Self, Error> {
        let config = Config::read(settings.config.as_deref())?;
        let dir = config.run_dir.clone().unwrap_or_else(|| settings.state_dir.clone().into());
        let program = Program::find(&config.haproxy, &dir)?;
        let global = Global {
            socket: program.control.worker.clone(),
            owner: owner(config.user.as_deref())?,
            threads: config.threads,
            max_connections: config.max_connections,
            retries: config.retries,
            shutdown_timeout: settings.shutdown_timeout,
        };
        Ok(Self {
            config,
            global,
            program,
            serves: None,
            verdicts: BTreeMap::new(),
            drains: Drains::default(),
            to_write: false,
            reloads: Vec::new(),
        })
    }

    fn opened(&self) -> Capabilities {
        Capabilities { description: format!("HAProxy {}", self.program.version), ..Self::capabilities() }
    }

    fn apply(&mut self, state: &State, _: &Changes, call: &Call) -> Result<Outcome, Error> {
        let mut refused = Refusals::new();
        let mut plan = planned(state, &mut refused);
        let running = self.running(call)?;
        self.probe_ports(&mut plan, &mut refused, running.as_ref(), call);
        let checked = self.without_known_culprits(&mut plan, &mut refused);
        let mut layout = file(&self.global, sections(&plan)).layout;
        let serves = |layout: &str| running.as_ref().is_some_and(|info| info.layout.as_deref() == Some(layout));
        if !serves(&layout) && !checked {
            self.check(&mut plan, &mut refused, call)?;
            layout = file(&self.global, sections(&plan)).layout;
        }
        let (mut action, info) = match running {
            Some(info) if info.layout.as_deref() == Some(&layout) => (Action::Unchanged, info),
            running => self.change_layout(&plan, running.as_ref(), call)?,
        };
        let all: Vec<&Proxy> = plan.values().flatten().collect();
        if self.change_servers(&all, true, call)? && action == Action::Unchanged {
            action = Action::Live;
        }
        if action == Action::Live {
            self.program.write(&file(&self.global, sections(&plan)).text)?;
        }
        self.to_write = false;
        self.serves = Some(Serves { pid: info.pid, layout, plan, refused: refused.clone() });
        Ok(Outcome { action, reloads: std::mem::take(&mut self.reloads), refused })
    }

    fn push(&mut self, state: &State, changes: &Changes, call: &Call) -> Result<Outcome, Error> {
        let (Some(serves), Changes::Services(changes)) = (&self.serves, changes) else {
            return Err(Error::Unsupported("nothing is confirmed yet".to_owned()));
        };
        let mut late = Refusals::new();
        let mut next = Plan::new();
        for name in changes.keys() {
            let planned = state.services.get(name).map(|service| proxies(name, service));
            match (planned, serves.plan.get(name)) {
                (Some(Ok(planned)), Some(now)) if same_layout(&planned, now) && !serves.refused.contains_key(name) => {
                    next.insert(name.clone(), planned);
                }
                _ => {
                    let message = "it is not served as it is, which takes more than a change of servers".to_owned();
                    late.insert(name.clone(), vec![refusal(None, "NotLive", message)]);
                }
            }
        }
        self.change_servers(&next.values().flatten().collect::<Vec<_>>(), false, call)?;
        if let Some(serves) = &mut self.serves {
            serves.plan.append(&mut next);
        }
        self.to_write = true;
        Ok(Outcome { action: Action::Live, refused: late, ..Outcome::default() })
    }

    fn observe(&mut self, call: &Call) -> Result<Observation, Error> {
        let info = match self.program.control.info(call.remaining()) {
            Ok(info) => info,
            Err(error) if is_gone(&error) => return Ok(not_there("HAProxy does not run")),
            Err(error) => return Err(Error::retry(format_args!("HAProxy does not answer: {error}"))),
        };
        let Some(layout) = &info.layout else {
            return Ok(not_there("HAProxy runs with a configuration that is not LBEX's"));
        };
        let in_step = self.serves.as_ref().is_none_or(|serves| serves.pid == info.pid && serves.layout == *layout);
        if in_step {
            self.keep_house(call)?;
        }
        let old = self.program.processes(call)?.old;
        // A client's connection and the server's.
        let held = old.iter().filter_map(|pid| self.program.control.old_connections(*pid, call.remaining()).ok());
        let held: u64 = held.map(|connections| 2 * connections).sum();
        Ok(Observation {
            healthy: true,
            detail: format!("HAProxy {} (process {})", info.version, info.pid),
            in_step: Some(in_step),
            draining: u32::try_from(old.len()).unwrap_or(u32::MAX),
            draining_connections: Some(held),
            metrics: self.metrics(&info),
            ..Observation::default()
        })
    }

    fn stop(&mut self, drain: Duration, call: &Call) -> Result<(), Error> {
        self.serves = None;
        self.program.stop(drain, call)
    }
}

impl HaProxy {
    /// The HAProxy that runs; `None`: none does.
    fn running(&self, call: &Call) -> Result<Option<Info>, Error> {
        match self.program.control.info(COMMAND.min(call.remaining())) {
            Ok(info) => Ok(Some(info)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(Error::retry(format_args!("HAProxy does not answer: {error}"))),
        }
    }

    /// Takes out listeners that cannot be bound. Those that HAProxy has are not tried: they are in use, by it.
    fn probe_ports(&self, plan: &mut Plan, refused: &mut Refusals, running: Option<&Info>, call: &Call) {
        let same = |serves: &&Serves| {
            running.is_some_and(|info| info.pid == serves.pid && info.layout.as_ref() == Some(&serves.layout))
        };
        let bound = self.serves.as_ref().filter(same).map(|serves| binds(&serves.plan)).unwrap_or_default();
        let processes = running.and_then(|_| self.program.processes(call).ok());
        let holders = Holders::new(processes.map(all_pids).unwrap_or_default());
        for (name, proxies) in plan.iter_mut() {
            proxies.retain(|proxy| {
                let tried = proxy.binds.iter().filter(|bind| !bound.contains(bind));
                let Some(refusal) = tried.into_iter().find_map(|bind| probe(*bind, &holders).err()) else {
                    return true;
                };
                refused.entry(name.clone()).or_default().push(refusal);
                false
            });
        }
    }

    /// Puts aside what HAProxy is known to refuse. Whether all that is left is known to be good.
    fn without_known_culprits(&mut self, plan: &mut Plan, refused: &mut Refusals) -> bool {
        if !self.verdicts.is_empty() {
            let wanted: BTreeSet<String> = plan.values().map(|proxies| text(proxies)).collect();
            self.verdicts.retain(|text, _| wanted.contains(text));
        }
        let culprit = |proxies: &Vec<Proxy>| self.verdicts.get(&text(proxies)).cloned();
        let culprits: BTreeMap<String, String> =
            plan.iter().filter_map(|(name, proxies)| Some((name.clone(), culprit(proxies)?))).collect();
        self.put_aside(culprits, plan, refused);
        self.serves.as_ref().is_some_and(|serves| {
            let known = |(name, proxies): (&String, &Vec<Proxy>)| {
                serves.plan.get(name).is_some_and(|known| same_layout(known, proxies))
            };
            plan.iter().all(known)
        })
    }

    /// Takes out Services that HAProxy refuses, each with why. One that is being served stays as it was, with its servers of now, unless
    /// another Service has a port of it now.
    fn put_aside(&self, culprits: BTreeMap<String, String>, plan: &mut Plan, refused: &mut Refusals) {
        let wanted: Vec<_> =
            culprits.into_iter().filter_map(|(name, why)| Some((plan.remove(&name)?, name, why))).collect();
        let mut taken = binds(plan);
        for (wanted, name, why) in wanted {
            let was = self.serves.as_ref().and_then(|serves| serves.plan.get(&name)).cloned().unwrap_or_default();
            let mut stays = was;
            if stays.iter().flat_map(|proxy| &proxy.binds).any(|bind| taken.contains(bind)) {
                stays.clear();
            }
            for proxy in &mut stays {
                taken.extend(&proxy.binds);
                if let Some(now) = wanted.iter().find(|now| now.port == proxy.port) {
                    proxy.servers.clone_from(&now.servers);
                }
            }
            let instead = if stays.is_empty() { Instead::LeftOut } else { Instead::LastGood };
            let message = format!("HAProxy refuses its configuration: {why}");
            let refusal = Refusal { instead, ..refusal(None, "ConfigurationRefused", message) };
            refused.entry(name.clone()).or_default().push(refusal);
            if !stays.is_empty() {
                plan.insert(name, stays);
            }
        }
    }

    /// Takes out the Services that HAProxy's check refuses.
    fn check(&mut self, plan: &mut Plan, refused: &mut Refusals, call: &Call) -> Result<(), Error> {
        let names: Vec<&str> = plan.keys().map(String::as_str).collect();
        let found = isolate(&names, |some| {
            let some: BTreeSet<&str> = some.iter().copied().collect();
            let file = file(&self.global, sections(plan).filter(|(name, _)| some.contains(name)));
            Ok(match self.program.check(&file.text, call)? {
                None => Verdict::Good,
                Some(words) => verdict(&file, &words),
            })
        });
        let culprits = found.map_err(|failure| match failure {
            Failure::Check(error) => error,
            Failure::Nobody(why) => Error::invalid(format_args!("HAProxy refuses the configuration: {why}")),
        })?;
        for (name, why) in &culprits {
            if let Some(proxies) = plan.get(name) {
                self.verdicts.insert(text(proxies), why.clone());
            }
        }
        self.put_aside(culprits, plan, refused);
        Ok(())
    }

    /// Starts or reloads HAProxy with this plan.
    fn change_layout(&mut self, plan: &Plan, running: Option<&Info>, call: &Call) -> Result<(Action, Info), Error> {
        let file = file(&self.global, sections(plan));
        self.program.write(&file.text)?;
        let Some(running) = running else {
            return Ok((Action::Started, self.program.start(&file.layout, call)?));
        };
        let known = self.serves.as_ref().filter(|serves| running.layout.as_ref() == Some(&serves.layout));
        self.reloads.push(match known {
            None => ReloadReason::Repair,
            Some(serves) if binds(&serves.plan) == binds(plan) => ReloadReason::Options,
            Some(_) => ReloadReason::Listeners,
        });
        Ok((Action::Reloaded, self.program.reload(&file.layout, call)?))
    }

    /// Brings the servers of these sections, which are all or some, to what is desired, and sees that they are. Whether one was changed.
    fn change_servers(&mut self, sections: &[&Proxy], all: bool, call: &Call) -> Result<bool, Error> {
        let mut running = self.servers(sections, all, call)?;
        let to_do = Self::to_do(sections, &running);
        if !to_do.is_empty() {
            let said = self.program.control.ask(&to_do, COMMAND.min(call.remaining()))?;
            running = self.servers(sections, all, call)?;
            if let Some(left) = Self::to_do(sections, &running).first() {
                let said = said.lines().find(|line| !line.is_empty() && !line.starts_with("New server"));
                return Err(Error::retry(format_args!(
                    "HAProxy did not do {left:?}: {}",
                    said.unwrap_or("it says nothing")
                )));
            }
        }
        let left = sections.iter().flat_map(|proxy| leaving(proxy, running_of(&running, proxy)));
        let names: BTreeSet<&str> = sections.iter().map(|proxy| proxy.name.as_str()).collect();
        self.drains.set(|section| all || names.contains(section), left);
        Ok(!to_do.is_empty())
    }

    fn to_do(sections: &[&Proxy], running: &BTreeMap<String, Vec<Server>>) -> Vec<String> {
        sections.iter().flat_map(|proxy| commands(proxy, running_of(running, proxy))).collect()
    }

    fn servers(&self, some: &[&Proxy], all: bool, call: &Call) -> Result<BTreeMap<String, Vec<Server>>, Error> {
        let questions: Vec<String> = if all {
            vec!["show servers state".to_owned()]
        } else {
            some.iter().map(|proxy| format!("show servers state {}", proxy.name)).collect()
        };
        let answers = self.program.control.ask(&questions, COMMAND.min(call.remaining()))?;
        let servers = read(&answers).ok_or_else(|| Error::retry("HAProxy does not say which servers it has"))?;
        Ok(by_proxy(servers))
    }

    /// What can wait: servers that drain, and the configuration on disk.
    fn keep_house(&mut self, call: &Call) -> Result<(), Error> {
        self.drains.go_on(&self.program.control, self.config.drain_timeout(), call.remaining())?;
        if let Some(serves) = self.serves.as_ref().filter(|_| self.to_write) {
            self.program.write(&file(&self.global, sections(&serves.plan)).text)?;
            self.to_write = false;
        }
        Ok(())
    }

    #[allow(clippy::cast_precision_loss, reason = "a measure")]
    fn metrics(&self, info: &Info) -> BTreeMap<String, f64> {
        let pairs = [
            ("connections", info.connections as f64),
            ("max_connections", info.max_connections as f64),
            ("draining_servers", self.drains.len() as f64),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn not_there(detail: &str) -> Observation {
    Observation { healthy: false, detail: detail.to_owned(), in_step: Some(false), ..Observation::default() }
}

fn all_pids(processes: Processes) -> Vec<u32> {
    [vec![processes.master], processes.workers, processes.old].concat()
}

fn running_of<'a>(running: &'a BTreeMap<String, Vec<Server>>, proxy: &Proxy) -> &'a [Server] {
    running.get(&proxy.name).map_or(&[], Vec::as_slice)
}
