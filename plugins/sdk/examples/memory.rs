//! A whole plugin in one file: a 'proxy' that keeps what it should serve in memory, and refuses Services whose namespace its
//! configuration names.

use lbex_plugin_sdk::{
    Action, Algorithm, Backend, Call, Capabilities, Changes, Error, Host, Instead, Level, Observation, Outcome,
    Refusal, Settings, State,
};

struct Memory {
    host: Host,
    refused_namespace: Option<String>,
    serves: Option<State>,
}

impl Memory {
    fn refusals(&self, state: &State) -> Outcome {
        let refused = |name: &&String| {
            let namespace = name.split_once('/').map(|(namespace, _)| namespace);
            namespace.is_some() && namespace == self.refused_namespace.as_deref()
        };
        let refusal = || Refusal {
            listener: None,
            code: "NamespaceRefused".to_owned(),
            message: "the plugin's configuration refuses its namespace".to_owned(),
            instead: Instead::LeftOut,
            retry: false,
        };
        let refused = state.services.keys().filter(refused).map(|name| (name.clone(), vec![refusal()])).collect();
        Outcome { refused, ..Outcome::default() }
    }
}

impl Backend for Memory {
    const NAME: &'static str = "memory";

    fn capabilities() -> Capabilities {
        Capabilities {
            description: "a proxy in memory".to_owned(),
            algorithms: vec![Algorithm::RoundRobin, Algorithm::LeastConn],
            live_servers: true,
            ..Capabilities::default()
        }
    }

    fn open(settings: Settings, host: Host) -> Result<Self, Error> {
        let refused_namespace = match settings.config.as_deref().map(str::trim) {
            None | Some("") => None,
            Some(text) => match text.strip_prefix("refuse ") {
                Some(namespace) => Some(namespace.to_owned()),
                None => return Err(Error::Invalid(format!("the configuration is not `refuse NAMESPACE`: {text:?}"))),
            },
        };
        Ok(Self { host, refused_namespace, serves: None })
    }

    fn apply(&mut self, state: &State, changes: &Changes, _: &Call) -> Result<Outcome, Error> {
        let action = match (&self.serves, changes) {
            (None, _) => Action::Started,
            (Some(serves), _) if serves.services == state.services => Action::Unchanged,
            _ => Action::Reloaded,
        };
        self.serves = Some(state.clone());
        self.host.log(Level::Info, &format!("{} Service(s)", state.services.len()));
        Ok(Outcome { action, ..self.refusals(state) })
    }

    fn push(&mut self, state: &State, _: &Changes, _: &Call) -> Result<Outcome, Error> {
        self.serves = Some(state.clone());
        Ok(Outcome { action: Action::Live, ..Outcome::default() })
    }

    fn observe(&mut self, _: &Call) -> Result<Observation, Error> {
        let detail = match &self.serves {
            Some(state) => format!("serves {} Service(s)", state.services.len()),
            None => "serves nothing yet".to_owned(),
        };
        Ok(Observation { healthy: self.serves.is_some(), detail, ..Observation::default() })
    }

    fn stop(&mut self, _: std::time::Duration, _: &Call) -> Result<(), Error> {
        self.serves = None;
        Ok(())
    }
}

lbex_plugin_sdk::plugin!(Memory);
