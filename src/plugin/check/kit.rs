//! A plugin that is called by hand.

use std::path::Path;
use std::time::{Duration, Instant};

use lbex_plugin_abi::documents::{Capabilities, Delta, Desired, Observation, Report, Settings};
use lbex_plugin_abi::tables::code;
use lbex_plugin_abi::{Document, read, report_to_core, write};
use tempfile::TempDir;

use super::documents::Services;
use super::said::Said;
use crate::plugin::backend::OpenError;
use crate::plugin::deadlines::Deadlines;
use crate::plugin::fault::text;
use crate::plugin::library::PluginInfo;
use crate::plugin::table::Reply;
use crate::plugin::thread::{Call, PluginThread};

/// The plugin, and what it was last given.
pub(super) struct Kit {
    pub(super) info: PluginInfo,
    pub(super) capabilities: Capabilities,
    pub(super) deadlines: Deadlines,
    pub(super) said: Said,
    /// A call that was waited for in vain: nobody waits for it again.
    hangs: bool,
    thread: PluginThread,
    settings: Vec<u8>,
    told: Result<String, String>,
    number: u32,
    // The plugin's folder, which goes with this.
    _folder: TempDir,
}

/// What came of a document.
pub(super) struct Answer {
    pub(super) code: i32,
    /// With 'done' and 'done in part'.
    pub(super) report: Option<Report>,
    pub(super) text: String,
    pub(super) took: Duration,
}

impl Answer {
    pub(super) fn is_done(&self) -> bool {
        self.report.is_some()
    }

    /// What it was, for a message about what it should have been.
    pub(super) fn words(&self) -> String {
        if self.text.is_empty() { format!("code {}", self.code) } else { format!("code {}: {}", self.code, self.text) }
    }
}

impl Kit {
    pub(super) async fn open(library: &Path, config: Option<&Path>, deadlines: Deadlines) -> Result<Self, OpenError> {
        let (thread, info) = PluginThread::start(library, deadlines.open).await?;
        let config_text = config.map(OpenError::read_config).transpose()?;
        let folder = tempfile::Builder::new()
            .prefix("lbex-check-")
            .tempdir()
            .map_err(|source| crate::plugin::PrefixError::Io { verb: "create", path: std::env::temp_dir(), source })?;
        let settings = Settings {
            lbex_version: env!("CARGO_PKG_VERSION").to_owned(),
            state_dir: folder.path().to_string_lossy().into_owned(),
            config_file: config.map(|path| path.to_string_lossy().into_owned()),
            config: config_text,
            ..Settings::default()
        };
        let settings = write(&settings).map_err(OpenError::Settings)?;
        let mut kit = Self {
            capabilities: info.capabilities.clone(),
            info,
            deadlines,
            said: Said::default(),
            hangs: false,
            thread,
            settings,
            told: Ok(String::new()),
            number: 0,
            _folder: folder,
        };
        let (plugin, version) = (kit.info.name.clone(), kit.info.version.clone());
        match kit.open_again().await {
            Ok(Some(capabilities)) => kit.capabilities = capabilities,
            Ok(None) => {}
            Err(reason) => return Err(OpenError::Refused { plugin, version, reason }),
        }
        let what = &kit.capabilities;
        kit.told = match text(what.description.as_bytes()) {
            empty if empty.is_empty() => Err("its capabilities have no description".to_owned()),
            _ if what.protocols.is_empty() => Err("it carries neither TCP nor UDP".to_owned()),
            description => Ok(description),
        };
        Ok(kit)
    }

    pub(super) fn told(&self) -> Result<String, String> {
        self.told.clone()
    }

    /// Opens a backend; what it says then.
    pub(super) async fn open_again(&mut self) -> Result<Option<Capabilities>, String> {
        let reply = self.call(Call::Open(self.settings.clone()), self.deadlines.open).await?;
        match reply.code {
            code::OK if reply.bytes.is_empty() => Ok(None),
            code::OK => {
                read(&reply.bytes).map(Some).map_err(|error| format!("its reply to lbex_plugin_open is {error}"))
            }
            code => Err(format!("lbex_plugin_open returned {code}: {}", text(&reply.bytes))),
        }
    }

    pub(super) async fn close(&mut self) -> Result<(), String> {
        self.call(Call::Close, self.deadlines.grace).await.map(drop)
    }

    async fn call(&mut self, call: Call, limit: Duration) -> Result<Reply, String> {
        self.wait_for_last().await?;
        let name = call.name();
        let begin = Instant::now();
        let fault = match self.thread.call(call, limit, self.deadlines.grace).await {
            Ok(reply) => {
                self.said.took(name, begin.elapsed(), limit);
                return Ok(reply);
            }
            Err(fault) => fault,
        };
        if name != "lbex_plugin_open" && self.thread.is_in().is_none() {
            self.ensure_open().await;
        }
        Err(format!("{name}: {fault}"))
    }

    /// A call that was given up in the case before may still return; LBEX's thread then closes the backend.
    async fn wait_for_last(&mut self) -> Result<(), String> {
        let begin = Instant::now();
        let mut waited = false;
        while let Some((name, since)) = self.thread.is_in() {
            if self.hangs || begin.elapsed() > 4 * self.deadlines.grace {
                self.hangs = true;
                return Err(format!("it has not returned from {name} for {since:.1?}"));
            }
            waited = true;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if waited {
            self.ensure_open().await;
        }
        Ok(())
    }

    /// So that the next case can be tried. Where that fails too, that case says so.
    async fn ensure_open(&self) {
        if self.thread.is_open() {
            return;
        }
        let open = Call::Open(self.settings.clone());
        if let Err(again) = self.thread.call(open, self.deadlines.open, self.deadlines.grace).await {
            tracing::warn!("it cannot be opened again: {again}");
        }
    }

    /// A revision that was not there before.
    pub(super) fn revision(&mut self) -> String {
        self.number += 1;
        format!("check-{}", self.number)
    }

    /// Sends all of these with next to no time, and cancels that.
    pub(super) async fn cancel(&mut self, services: &Services) -> Result<Reply, String> {
        let revision = self.revision();
        let document = written(&Desired { revision, services: services.clone(), ..Desired::default() })?;
        self.wait_for_last().await?;
        let timeout = Duration::from_millis(1);
        let reply = self.thread.call(Call::Apply { document, timeout }, timeout, self.deadlines.grace).await;
        reply.map_err(|fault| fault.to_string())
    }

    /// Sends bytes to be applied. `Err`: something that closes a plugin.
    pub(super) async fn send(&mut self, bytes: Vec<u8>, revision: &str, limit: Duration) -> Result<Answer, String> {
        let begin = Instant::now();
        let reply = self.call(Call::Apply { document: bytes, timeout: limit }, limit).await?;
        let took = begin.elapsed();
        let report = match reply.code {
            code::OK | code::PARTIAL => {
                let report = believed(&reply, revision)?;
                self.said.report(&reply.bytes, &report, self.info.abi.1);
                Some(report)
            }
            code::RETRY..=code::RESYNC => None,
            code => return Err(format!("apply returned {code}: {}", text(&reply.bytes))),
        };
        let text = if report.is_some() { String::new() } else { text(&reply.bytes) };
        Ok(Answer { code: reply.code, report, text, took })
    }

    /// Sends everything. The revision that the plugin then has.
    pub(super) async fn desire(&mut self, services: &Services) -> Result<(String, Answer), String> {
        let revision = self.revision();
        let services = services.clone();
        let bytes = written(&Desired { revision: revision.clone(), services, ..Desired::default() })?;
        let answer = self.send(bytes, &revision, self.deadlines.apply).await?;
        Ok((revision, answer))
    }

    /// Sends what becomes of some Services.
    pub(super) async fn change(
        &mut self,
        from: &str,
        services: &Services,
        live: bool,
    ) -> Result<(String, Answer), String> {
        let revision = self.revision();
        let services = services.iter().map(|(name, service)| (name.clone(), Some(service.clone()))).collect();
        let (from, limit) = (from.to_owned(), if live { self.deadlines.push } else { self.deadlines.apply });
        let bytes = written(&Delta { from, revision: revision.clone(), live, services, ..Delta::default() })?;
        let answer = self.send(bytes, &revision, limit).await?;
        Ok((revision, answer))
    }

    pub(super) async fn observe(&mut self) -> Result<Observation, String> {
        let limit = self.deadlines.observe;
        let reply = self.call(Call::Observe { timeout: limit }, limit).await?;
        match reply.code {
            code::OK => {
                let observation = read(&reply.bytes).map_err(|error| format!("its reply to observe is {error}"))?;
                self.said.observation(&reply.bytes, &observation, self.info.abi.1);
                Ok(observation)
            }
            code => Err(format!("observe returned {code}: {}", text(&reply.bytes))),
        }
    }

    pub(super) async fn stop(&mut self) -> Result<String, String> {
        let limit = self.deadlines.stop;
        let reply = self.call(Call::Stop { drain: Duration::ZERO, timeout: limit }, limit).await?;
        match reply.code {
            code::OK => Ok(String::new()),
            code::UNSUPPORTED => Ok("it cannot, and says so".to_owned()),
            code => Err(format!("stop returned {code}: {}", text(&reply.bytes))),
        }
    }
}

pub(super) fn written<D: Document>(document: &D) -> Result<Vec<u8>, String> {
    write(document).map_err(|error| error.to_string())
}

fn believed(reply: &Reply, revision: &str) -> Result<Report, String> {
    let report: Report = read(&reply.bytes).map_err(|error| format!("its reply to apply is {error}"))?;
    if report.revision != revision {
        return Err(format!("its report is about revision {:?}, and {revision:?} was sent", report.revision));
    }
    if (reply.code == code::PARTIAL) == report.refused.is_empty() {
        return Err(format!("it returned {}, and its report refuses {} Service(s)", reply.code, report.refused.len()));
    }
    match report_to_core(report.clone(), revision, 0) {
        Ok(_) => Ok(report),
        Err(error) => Err(format!("its report cannot be believed: {error}")),
    }
}
