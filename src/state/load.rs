//! What to begin with: reads the last good state, and says what becomes of it.

use lbex_core::desired::DesiredState;
use lbex_core::settings::PlanSettings;

use super::fit::fit;
use super::{ReadError, SavedState, Scope, StateFile};
use crate::publish::Metrics;

/// How many listeners that are left out are named.
const NAMED: usize = 20;

/// The last good state of a prefix, where there is one that belongs to these settings; what may be served of it fitted to
/// `planning`. Whatever is wrong is logged and counted: LBEX then goes on as if there were none, and a file that cannot be used is
/// set aside. Blocks.
pub fn load(file: &StateFile, scope: &Scope, planning: &PlanSettings, metrics: &Metrics) -> Option<SavedState> {
    let saved = match file.read() {
        Ok(saved) => saved?,
        Err(error) => {
            metrics.last_good_failed();
            give_up(file, &error);
            return None;
        }
    };
    let (path, time, lbex) = (file.path().display(), saved.saved_at(), saved.lbex.escape_debug().to_string());
    if let Some(difference) = saved.scope.difference(scope) {
        tracing::warn!(
            "the last good state of {time} in {path} is not used, as it was saved for other settings: {difference}; the first \
             complete lists decide what is served"
        );
        return None;
    }
    let desired = say(fit(&saved.desired, planning));
    tracing::info!("found the last good state of {time}, saved by LBEX {lbex}: {} Service(s)", desired.services.len());
    Some(SavedState { desired, ..saved })
}

fn give_up(file: &StateFile, error: &ReadError) {
    let path = file.path().display();
    let done = match error {
        ReadError::Io { .. } => String::new(),
        ReadError::Newer(_) | ReadError::Damaged(_) => match file.set_aside() {
            Ok(aside) => format!("it is kept as {}; ", aside.display()),
            Err(failure) => format!("it could not be set aside ({failure}); "),
        },
    };
    tracing::error!("the last good state in {path} cannot be used: {error}; {done}LBEX goes on as if there were none");
}

fn say((desired, left_out): (DesiredState, Vec<super::LeftOut>)) -> DesiredState {
    for left_out in left_out.iter().take(NAMED) {
        tracing::warn!("the last good state's {} is left out: {}", left_out.listener, left_out.why);
    }
    if left_out.len() > NAMED {
        tracing::warn!("{} more listeners of the last good state are left out", left_out.len() - NAMED);
    }
    desired
}
