//! A backend for LBEX: begin here. `proxy` is what you drive, and a file as it stands; `render` is what it is told.

mod proxy;
mod render;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use lbex_plugin_sdk::{
    Action, Backend, Call, Capabilities, Changes, Error, Host, Instead, Level, Observation, Outcome, Protocol, Refusal,
    Settings, State,
};
use proxy::Proxy;

/// One open backend.
pub struct MyProxy {
    host: Host,
    proxy: Proxy,
    /// What the proxy was last told; `None`: nothing yet.
    told: Option<String>,
}

impl Backend for MyProxy {
    const NAME: &'static str = "myproxy";

    /// LBEX asks for nothing beyond this: Services with UDP ports are refused before they come here.
    fn capabilities() -> Capabilities {
        Capabilities { description: "my proxy".to_owned(), protocols: vec![Protocol::Tcp], ..Capabilities::default() }
    }

    /// Finds the proxy, and touches nothing that runs. `settings.config` is what `--backend-config FILE` holds.
    fn open(settings: Settings, host: Host) -> Result<Self, Error> {
        let proxy = Proxy::find(Path::new(&settings.state_dir))?;
        Ok(Self { host, proxy, told: None })
    }

    /// Looks at what the proxy has, not at what it had: so this puts right what somebody else has done, and the same again is no reload.
    fn apply(&mut self, state: &State, _: &Changes, _: &Call) -> Result<Outcome, Error> {
        let refused = refused(state);
        let config = render::config(state, |name| !refused.contains_key(name));
        let action = match self.proxy.running()? {
            Some(running) if running == config => Action::Unchanged,
            Some(_) => Action::Reloaded,
            None => Action::Started,
        };
        if action != Action::Unchanged {
            self.proxy.load(&config)?;
            self.host.log(Level::Info, &format!("{action:?} with {} Service(s)", state.services.len()));
        }
        self.told = Some(config);
        Ok(Outcome { action, refused, ..Outcome::default() })
    }

    /// Every second. Not in step: LBEX applies everything again.
    fn observe(&mut self, _: &Call) -> Result<Observation, Error> {
        let running = self.proxy.running()?;
        let (healthy, detail) = match &running {
            None => (false, "it does not run"),
            Some(_) if self.told.is_none() => (false, "it runs, and has not been told anything by this LBEX"),
            Some(_) => (true, "it runs"),
        };
        let in_step = Some(healthy && running == self.told);
        Ok(Observation { healthy, detail: detail.to_owned(), in_step, ..Observation::default() })
    }

    /// The only way in which LBEX ends the proxy. Dropping `MyProxy` leaves it running.
    fn stop(&mut self, _drain: Duration, _: &Call) -> Result<(), Error> {
        Ok(self.proxy.end()?)
    }
}

/// What this proxy cannot do is refused by Service, in words for the Service's author; the rest goes ahead. One that lets in some
/// clients only must never be served to all.
fn refused(state: &State) -> BTreeMap<String, Vec<Refusal>> {
    let refusal = || Refusal {
        listener: None,
        code: "SourceRangesUnsupported".to_owned(),
        message: "my proxy cannot keep clients out, so loadBalancerSourceRanges cannot be served".to_owned(),
        instead: Instead::LeftOut,
        retry: false,
    };
    let limited = state.services.iter().filter(|(_, service)| service.listeners.iter().any(|l| !l.allow.is_empty()));
    limited.map(|(name, _)| (name.clone(), vec![refusal()])).collect()
}

lbex_plugin_sdk::plugin!(MyProxy);
