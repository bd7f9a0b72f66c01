//! One open backend: documents in, documents out. Safe code; `entry` is what makes it one of C.

use std::sync::Arc;
use std::time::Duration;

use lbex_plugin_abi::documents::{Delta, Desired, Report};
use lbex_plugin_abi::tables::code;
use lbex_plugin_abi::{Document, read, write};
use serde::Deserialize;

use crate::call::Cancel;
use crate::{Backend, Call, Changes, Error, Outcome, State};

/// What a call returns: a code, and a document or a text.
pub(crate) type Reply = (i32, Vec<u8>);

pub(crate) struct Instance<B> {
    backend: B,
    /// What the proxy was last made to serve; `None`: LBEX has to say.
    state: Option<State>,
}

/// As much of a document as says which it is.
#[derive(Deserialize)]
struct Head {
    schema: String,
}

impl<B: Backend> Instance<B> {
    pub(crate) fn new(backend: B) -> Self {
        Self { backend, state: None }
    }

    pub(crate) fn apply(&mut self, document: &[u8], timeout: Duration, cancel: &Arc<Cancel>) -> Reply {
        let call = cancel.begin(timeout);
        match self.take_in(document, &call) {
            Ok((revision, outcome)) => {
                let Outcome { action, reloads, refused } = outcome;
                let done = if refused.is_empty() { code::OK } else { code::PARTIAL };
                let report = Report { revision, action, reloads, refused, ..Report::default() };
                replied(done, &report)
            }
            Err(error) => failed(&error),
        }
    }

    fn take_in(&mut self, document: &[u8], call: &Call) -> Result<(String, Outcome), Error> {
        let head: Head = serde_json::from_slice(document)
            .map_err(|error| Error::Invalid(format!("the document cannot be read: {error}")))?;
        match head.schema.as_str() {
            Desired::SCHEMA => self.whole(read(document).map_err(Error::invalid)?, call),
            Delta::SCHEMA => self.change(read(document).map_err(Error::invalid)?, call),
            other => Err(Error::Invalid(format!(
                "the document has the schema {other:?}, and {:?} or {:?} is expected",
                Desired::SCHEMA,
                Delta::SCHEMA
            ))),
        }
    }

    fn whole(&mut self, desired: Desired, call: &Call) -> Result<(String, Outcome), Error> {
        self.state = None;
        let state = State::from(desired);
        let outcome = self.backend.apply(&state, &Changes::All, call)?;
        let revision = state.revision.clone();
        self.state = Some(state);
        Ok((revision, outcome))
    }

    fn change(&mut self, delta: Delta, call: &Call) -> Result<(String, Outcome), Error> {
        let state = self.state.as_mut().filter(|state| state.revision == delta.from).ok_or(Error::Resync)?;
        let live = delta.live;
        let (changes, undo) = state.advance(delta);
        let outcome =
            if live { self.backend.push(state, &changes, call) } else { self.backend.apply(state, &changes, call) };
        match outcome {
            Ok(outcome) => {
                if live {
                    // They come again, and have to be seen as changes then.
                    state.take_back(&changes, outcome.refused.keys());
                }
                Ok((state.revision.clone(), outcome))
            }
            Err(Error::Resync) => {
                self.state = None;
                Err(Error::Resync)
            }
            Err(error) => {
                state.go_back(&changes, undo);
                Err(error)
            }
        }
    }

    pub(crate) fn observe(&mut self, timeout: Duration, cancel: &Arc<Cancel>) -> Reply {
        let call = cancel.begin(timeout);
        match self.backend.observe(&call) {
            Ok(mut observation) => {
                observation.revision = self.state.as_ref().map(|state| state.revision.clone());
                replied(code::OK, &observation)
            }
            Err(error) => failed(&error),
        }
    }

    pub(crate) fn stop(&mut self, drain: Duration, timeout: Duration, cancel: &Arc<Cancel>) -> Reply {
        let call = cancel.begin(timeout);
        self.state = None;
        match self.backend.stop(drain, &call) {
            Ok(()) => (code::OK, Vec::new()),
            Err(error) => failed(&error),
        }
    }

    pub(crate) fn capabilities(&self) -> Reply {
        replied(code::OK, &self.backend.opened())
    }
}

fn replied<D: Document>(done: i32, document: &D) -> Reply {
    match write(document) {
        Ok(bytes) => (done, bytes),
        // A number that is not finite, say.
        Err(error) => (code::INVALID, format!("the plugin's answer cannot be written: {error}").into_bytes()),
    }
}

pub(crate) fn failed(error: &Error) -> Reply {
    (error.code(), error.to_string().into_bytes())
}
