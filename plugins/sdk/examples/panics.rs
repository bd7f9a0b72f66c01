//! A plugin that panics where its configuration says: `open`, `apply`, `observe`, `stop` or `drop`. For tests.

use lbex_plugin_sdk::{Backend, Call, Capabilities, Changes, Error, Host, Observation, Outcome, Settings, State};

struct Panics(String);

impl Panics {
    fn at(&self, place: &str) {
        assert_ne!(self.0, place, "as it was told");
    }
}

impl Backend for Panics {
    const NAME: &'static str = "panics";

    fn capabilities() -> Capabilities {
        Capabilities { description: "nothing good".to_owned(), ..Capabilities::default() }
    }

    fn open(settings: Settings, _: Host) -> Result<Self, Error> {
        let this = Self(settings.config.unwrap_or_default());
        this.at("open");
        Ok(this)
    }

    fn apply(&mut self, _: &State, _: &Changes, _: &Call) -> Result<Outcome, Error> {
        self.at("apply");
        Ok(Outcome::default())
    }

    fn observe(&mut self, _: &Call) -> Result<Observation, Error> {
        self.at("observe");
        tracing::info!(number = 7, "looked");
        Ok(Observation { healthy: true, ..Observation::default() })
    }

    fn stop(&mut self, _: std::time::Duration, _: &Call) -> Result<(), Error> {
        self.at("stop");
        Ok(())
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.at("drop");
        }
    }
}

lbex_plugin_sdk::plugin!(Panics);
