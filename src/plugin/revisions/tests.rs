//! A model: a plugin that does as the header says, which takes, refuses or loses documents as it likes. Once it takes everything, it has
//! what is desired.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lbex_core::desired::{Algorithm, Delta, DesiredState, Listener, Servers, ServiceChange, ServiceConfig, Upstream};
use lbex_core::model::Protocol;
use lbex_core::names::ServiceKey;
use lbex_plugin_abi::documents::{Delta as DeltaDocument, Desired as DesiredDocument, Service};
use lbex_plugin_abi::{read, service_from_core};
use proptest::prelude::*;

use super::*;

fn key(name: u8) -> ServiceKey {
    ServiceKey::new("default", &format!("s{name}")).unwrap()
}

/// A Service whose listener is at `port`, and whose server is number `server`.
fn config(name: u8, port: u16, server: u8) -> Arc<ServiceConfig> {
    let listener = Listener {
        protocol: Protocol::Tcp,
        port: 1000 + u16::from(name) * 10 + port,
        addresses: vec!["0.0.0.0".parse().unwrap()].into(),
        allow: Vec::new().into(),
        connect_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(1),
        upstream: Upstream {
            algorithm: Algorithm::RoundRobin,
            servers: Servers::Addresses(vec![([10, 0, 0, server], 80).into()].into()),
        },
    };
    Arc::new(ServiceConfig { service: key(name), created: None, listeners: vec![listener] })
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Taken,
    /// Live: this Service is refused.
    TakenBut(u8),
    NotTaken,
    Lost,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Change(u8, Option<(u16, u8)>),
    Apply(Fate),
    Push(Fate),
    /// The engine applies an older state while a change comes.
    ChangeDuringApply(u8, Option<(u16, u8)>, Fate),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = || prop_oneof![4 => Just(Fate::Taken), 1 => (0_u8..4).prop_map(Fate::TakenBut), 1 => Just(Fate::NotTaken), 1 => Just(Fate::Lost)];
    let change = || (0_u8..4, prop::option::weighted(0.9, (0_u16..2, 1_u8..5)));
    let step = prop_oneof![
        4 => change().prop_map(|(name, to)| Step::Change(name, to)),
        2 => fate().prop_map(Step::Apply),
        3 => fate().prop_map(Step::Push),
        1 => (change(), fate()).prop_map(|((name, to), fate)| Step::ChangeDuringApply(name, to, fate)),
    ];
    prop::collection::vec(step, 1..40)
}

/// What the plugin has.
#[derive(Default)]
struct Plugin {
    revision: Option<String>,
    services: BTreeMap<String, Arc<Service>>,
}

impl Plugin {
    /// Whether the document was taken; the live ones only change servers.
    fn take(&mut self, bytes: &[u8], without: &BTreeSet<String>) {
        if let Ok(desired) = read::<DesiredDocument>(bytes) {
            (self.revision, self.services) = (Some(desired.revision), desired.services);
            return;
        }
        let delta: DeltaDocument = read(bytes).unwrap();
        assert_eq!(self.revision.as_deref(), Some(delta.from.as_str()), "a delta begins with what the plugin has");
        for (name, service) in delta.services {
            if delta.live {
                let (before, after) = (&self.services[&name], service.as_ref().unwrap());
                assert_eq!(before.listeners[0].port, after.listeners[0].port, "live deltas change servers only");
            }
            if without.contains(&name) {
                continue;
            }
            match service {
                Some(service) => self.services.insert(name, service),
                None => self.services.remove(&name),
            };
        }
        self.revision = Some(delta.revision);
    }
}

/// LBEX's engine, the plugin, and what LBEX knows of it.
struct World {
    known: Known,
    plugin: Plugin,
    desired: DesiredState,
    /// What the driver has not applied.
    unapplied: Delta,
}

impl World {
    fn change(&mut self, name: u8, to: Option<(u16, u8)>) {
        let after = to.map(|(port, server)| config(name, port, server));
        let before = self.desired.services.get(&key(name)).cloned();
        let Some(change) = ServiceChange::between(before, after) else { return };
        let from = self.desired.generation;
        let mut delta = Delta { from, to: from + 1, changes: BTreeMap::from([(key(name), change)]) };
        let pushed = self.known.changed(&delta, true);
        self.desired.advance(&delta);
        let _ = delta.take_out(&pushed, Some(&self.unapplied));
        self.unapplied.merge(delta);
    }

    /// What the plugin did with a document, told as the backend tells it.
    fn tell(&mut self, document: Document, fate: Fate) {
        match fate {
            Fate::TakenBut(name) if matches!(document.content, Content::Live(_)) => {
                self.plugin.take(&document.bytes, &BTreeSet::from([key(name).to_string()]));
                self.known.has(document, &BTreeSet::from([key(name)]));
            }
            Fate::Taken | Fate::TakenBut(_) => {
                self.plugin.take(&document.bytes, &BTreeSet::new());
                self.known.has(document, &BTreeSet::new());
            }
            Fate::NotTaken if document.whole => self.known.forget(),
            Fate::NotTaken => self.known.has_not(document),
            Fate::Lost => {
                self.plugin = Plugin::default();
                self.known.forget();
            }
        }
    }

    fn apply(&mut self, fate: Fate, meanwhile: Option<(u8, Option<(u16, u8)>)>) {
        let generation = self.desired.generation;
        let nothing = Delta { from: generation, to: generation, ..Delta::default() };
        let delta = std::mem::replace(&mut self.unapplied, nothing);
        let document = self.known.for_apply(&self.desired.clone(), &delta).unwrap();
        if let Some((name, to)) = meanwhile {
            self.change(name, to);
        }
        self.tell(document, fate);
        if !matches!(fate, Fate::Taken | Fate::TakenBut(_)) {
            let mut unapplied = delta;
            unapplied.merge(std::mem::take(&mut self.unapplied));
            unapplied.bring_up_to(&self.desired);
            self.unapplied = unapplied;
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Change(name, to) => self.change(name, to),
            Step::Apply(fate) => self.apply(fate, None),
            Step::ChangeDuringApply(name, to, fate) => self.apply(fate, Some((name, to))),
            Step::Push(fate) => {
                if let Some(document) = self.known.for_push().unwrap() {
                    self.tell(document, fate);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn the_plugin_has_in_the_end_what_is_desired(steps in steps()) {
        let known = Known::new("p".to_owned());
        let mut world =
            World { known, plugin: Plugin::default(), desired: DesiredState::default(), unapplied: Delta::default() };
        for step in steps {
            world.run(step);
        }
        // What is on its way goes, what is left is applied: as the driver does it.
        world.run(Step::Push(Fate::Taken));
        world.apply(Fate::Taken, None);
        let wanted: BTreeMap<String, Service> =
            world.desired.services.iter().map(|(key, config)| (key.to_string(), service_from_core(config))).collect();
        let found: BTreeMap<String, Service> =
            world.plugin.services.into_iter().map(|(name, service)| (name, Service::clone(&service))).collect();
        prop_assert_eq!(found, wanted);
        prop_assert!(world.known.touched.is_empty(), "{:?}", world.known.touched);
    }

    #[test]
    fn what_was_pushed_alone_arrives_without_an_apply(servers in prop::collection::vec((0_u8..3, 1_u8..6), 1..20)) {
        let known = Known::new("p".to_owned());
        let mut world =
            World { known, plugin: Plugin::default(), desired: DesiredState::default(), unapplied: Delta::default() };
        (0..3).for_each(|name| world.change(name, Some((0, 0))));
        world.apply(Fate::Taken, None);
        for (name, server) in servers {
            world.change(name, Some((0, server)));
            world.run(Step::Push(Fate::Taken));
        }
        prop_assert!(world.unapplied.changes.is_empty(), "nothing is left for an apply");
        for (key, config) in &world.desired.services {
            prop_assert_eq!(&*world.plugin.services[&key.to_string()], &service_from_core(config));
        }
    }
}
