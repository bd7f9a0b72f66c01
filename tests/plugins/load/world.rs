//! Hundreds of Services in a folder of manifests, which change all the time, and what the plugin has of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::Scratch;
use lbex_test_harness::objects::{Object, list, service, slice};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::support::faulty;

/// How many Services a file has.
const IN_A_FILE: usize = 10;
/// How often a file changes: its servers, and each fifth time its listeners.
const EVERY: Duration = Duration::from_millis(100);

/// Listener port and server of each Service.
pub(crate) type Served = BTreeMap<String, (u64, String)>;

/// See above.
pub(crate) struct World {
    folder: Scratch,
    library: PathBuf,
    services: Vec<Service>,
    changes: usize,
    /// What was found last in what the plugin serves: it is looked at often, and seldom changes.
    found: std::sync::Mutex<(String, Served)>,
}

#[derive(Clone, Copy)]
struct Service {
    /// Whether it is at its other port.
    moved: bool,
    server: u16,
}

impl World {
    pub(crate) fn new(services: usize) -> Result<Self> {
        let folder = Scratch::new("load")?;
        std::fs::create_dir(folder.join("manifests"))?;
        let library = faulty(folder.path(), &[])?;
        let services = vec![Service { moved: false, server: 0 }; services];
        let world = Self { folder, library, services, changes: 0, found: std::sync::Mutex::default() };
        (0..world.services.len().div_ceil(IN_A_FILE)).try_for_each(|file| world.write(file))?;
        Ok(world)
    }

    /// What LBEX is to be told of it.
    pub(crate) fn flags(&self) -> Vec<String> {
        vec![
            format!("--backend={}", self.library.display()),
            format!("--manifests={}", self.folder.join("manifests").display()),
            format!("--nginx-prefix={}", self.prefix().display()),
            "--reload-interval=50ms".to_owned(),
        ]
    }

    pub(crate) fn prefix(&self) -> PathBuf {
        self.folder.join("prefix")
    }

    /// The next file changes.
    fn change(&mut self) -> Result<()> {
        self.changes += 1;
        let file = self.changes % self.services.len().div_ceil(IN_A_FILE);
        let moves = self.changes.is_multiple_of(5);
        for service in self.services.iter_mut().skip(file * IN_A_FILE).take(IN_A_FILE) {
            service.server = service.server.wrapping_add(1);
            service.moved ^= moves;
        }
        self.write(file)
    }

    fn write(&self, file: usize) -> Result<()> {
        let mut objects: Vec<Box<dyn Object>> = Vec::new();
        for (number, service_now) in self.services.iter().enumerate().skip(file * IN_A_FILE).take(IN_A_FILE) {
            let name = format!("s{number}");
            let port = u16::try_from(service_now.port(number))?;
            let one = service(&name).ask().lbex("upstream-type", "pod").listen("http", port).tcp("http", 80, 30080);
            objects.push(Box::new(one));
            let slice = slice(&name, &name).tcp("http", 8080).ready(service_now.address(number), "node");
            objects.push(Box::new(slice));
        }
        let hidden = self.folder.join(".next");
        std::fs::write(&hidden, list(objects.iter().map(AsRef::as_ref)))?;
        Ok(std::fs::rename(hidden, self.folder.join(format!("manifests/part-{file}.json")))?)
    }

    /// What the plugin should have.
    pub(crate) fn desired(&self) -> Served {
        let one = |(number, service): (usize, &Service)| {
            (format!("default/s{number}"), (service.port(number), service.address(number)))
        };
        self.services.iter().enumerate().map(one).collect()
    }

    /// What it has.
    fn served(text: &str) -> Result<Served> {
        let all: Value = serde_json::from_str(text)?;
        let one = |(name, service): (&String, &Value)| {
            let listener = &service["listeners"][0];
            let server = listener["servers"][0]["address"].as_str().unwrap_or_default();
            (name.clone(), (listener["port"].as_u64().unwrap_or_default(), server.to_owned()))
        };
        Ok(all["services"].as_object().context("no services")?.iter().map(one).collect())
    }

    /// An error where the plugin has something else than it should.
    pub(crate) fn ensure_served(&self) -> Result<()> {
        let path = self.prefix().join("plugins/faulty/serves.json");
        let text = std::fs::read_to_string(path).context("it has nothing yet")?;
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.0 != text {
            let served = Self::served(&text)?;
            *found = (text, served);
        }
        let (wanted, served) = (self.desired(), &found.1);
        let different = wanted.iter().find(|(name, wanted)| served.get(*name) != Some(wanted));
        if let Some((name, wanted)) = different {
            anyhow::bail!("{name} should be {wanted:?}, and is {:?}", served.get(name));
        }
        ensure!(wanted.len() == served.len(), "it has {} Services, and should have {}", served.len(), wanted.len());
        Ok(())
    }
}

impl Service {
    /// None that LBEX has itself: those are above. The plugin binds none of them.
    fn port(self, number: usize) -> u64 {
        number as u64 + if self.moved { 2_000 } else { 1_000 }
    }

    fn address(self, number: usize) -> String {
        let ([.., high, low], [a, b]) = (number.to_be_bytes(), self.server.to_be_bytes());
        format!("10.{}.{}.{}", 2 * high + a, low, b.max(1))
    }
}

/// The world, which changes until this is dropped, but for the times when it is locked.
pub(crate) struct Changing {
    pub(crate) world: Arc<Mutex<World>>,
    task: JoinHandle<Result<()>>,
}

impl Changing {
    pub(crate) fn start(world: World) -> Self {
        let world = Arc::new(Mutex::new(world));
        let changing = world.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                changing.lock().await.change()?;
            }
        });
        Self { world, task }
    }

    pub(crate) fn ensure_goes_on(&self) -> Result<()> {
        ensure!(!self.task.is_finished(), "the manifests cannot be written");
        Ok(())
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        self.task.abort();
    }
}
