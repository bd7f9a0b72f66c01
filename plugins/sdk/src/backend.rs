//! The trait that an author implements.

use std::collections::BTreeMap;
use std::time::Duration;

use lbex_plugin_abi::documents::{Action, Capabilities, Observation, Refusal, ReloadReason, Settings};
use lbex_plugin_abi::tables::code;

use crate::{Call, Changes, Host, State};

/// A proxy that LBEX can drive. Methods are called one at a time, on one thread.
///
/// LBEX may end at any time, and the proxy is to go on serving without it: dropping a backend leaves the proxy as it is, and opening
/// one adopts a proxy that runs. Only [`Backend::stop`] ends it.
pub trait Backend: Send + Sized + 'static {
    /// The plugin's name: 1 to 64 of `a-z`, `0-9` and `-`. `--backend NAME` finds `libNAME.so` and `liblbex_NAME.so` in the plugin folder.
    const NAME: &'static str;

    /// What the plugin can do, as far as it is known before anything is opened. Cheap, and touches nothing: `lbex backends` asks for it.
    fn capabilities() -> Capabilities;

    /// Finds what the proxy needs, and touches nothing that runs. An error says what is missing and what to do about it: where LBEX is
    /// just starting, it ends with that; else it tries again later.
    fn open(settings: Settings, host: Host) -> Result<Self, Error>;

    /// What the plugin can do, now that it is open: with the version that was found, say. The default: as before.
    fn opened(&self) -> Capabilities {
        Self::capabilities()
    }

    /// Makes the proxy serve `state`, starting it if needed, and returns when the data plane confirms it. `changes` says what differs
    /// from the last call that returned `Ok`. Idempotent: the same again is [`Action::Unchanged`], or repairs what somebody else
    /// did to the proxy. What cannot be served is named in [`Outcome::refused`], and the rest goes ahead. After an error the next call
    /// brings the same changes again.
    fn apply(&mut self, state: &State, changes: &Changes, call: &Call) -> Result<Outcome, Error>;

    /// Changes servers without a reload, at once: in `changes` nothing but [`Listener::servers`](crate::Listener::servers) differs. Is
    /// called only where the capabilities say `live_servers`. Services that cannot be changed so are named in [`Outcome::refused`], and
    /// come with the next [`Backend::apply`]; an error leaves all of them to it. The default does that.
    fn push(&mut self, state: &State, changes: &Changes, call: &Call) -> Result<Outcome, Error> {
        let _ = (state, changes, call);
        Err(Error::Unsupported("this plugin changes nothing without a reload".to_owned()))
    }

    /// Looks at the proxy, changing nothing. Called every second, with a second's time. The SDK fills in the revision. An error says
    /// that nothing could be seen, which counts when it comes several times in a row.
    fn observe(&mut self, call: &Call) -> Result<Observation, Error>;

    /// Ends the proxy: no new connections, those that exist may go on for `drain` at the most. The default cannot.
    fn stop(&mut self, drain: Duration, call: &Call) -> Result<(), Error> {
        let _ = (drain, call);
        Err(Error::Unsupported("this plugin cannot end its proxy".to_owned()))
    }
}

/// What came of an [`Backend::apply`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How it was put into effect. Default: unchanged.
    pub action: Action,
    /// Every reload since the last outcome, with its reason; also those of calls that failed.
    pub reloads: Vec<ReloadReason>,
    /// All Services that are not served as desired, by `namespace/name`; also those that were refused before and did not change since.
    /// Of [`Backend::push`]: those that it did not change.
    pub refused: BTreeMap<String, Vec<Refusal>>,
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The same again may succeed: LBEX tries, with growing pauses.
    #[error("{0}")]
    Retry(String),
    /// The same again will fail: LBEX waits for the next change.
    #[error("{0}")]
    Invalid(String),
    /// The plugin does not do such a thing.
    #[error("{0}")]
    Unsupported(String),
    /// The plugin does not know what the proxy has: LBEX sends the whole state.
    #[error("the whole desired state is needed")]
    Resync,
}

impl Error {
    /// An error after which the same again may succeed.
    pub fn retry(why: impl std::fmt::Display) -> Self {
        Self::Retry(why.to_string())
    }

    /// An error after which the same again will fail.
    pub fn invalid(why: impl std::fmt::Display) -> Self {
        Self::Invalid(why.to_string())
    }

    pub(crate) fn code(&self) -> i32 {
        match self {
            Self::Retry(_) => code::RETRY,
            Self::Invalid(_) => code::INVALID,
            Self::Unsupported(_) => code::UNSUPPORTED,
            Self::Resync => code::RESYNC,
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::retry(error)
    }
}
