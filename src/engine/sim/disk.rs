//! The simulated disk, with the last good state on it. It outlives LBEX.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;

use super::broken::Broken;
use super::state::Sim;
use crate::state::{Before, SavedState, Store};

/// What is on it.
#[derive(Default)]
pub(super) struct Disk {
    /// The last good state, and the newest plan that it has anything of.
    pub(super) saved: Option<(SavedState, usize)>,
    /// Until when writing fails.
    pub(super) full_until: u64,
}

/// One LBEX's way to it.
pub(super) struct SimStore(pub(super) Sim);

#[async_trait]
impl Store for SimStore {
    async fn save(&self, state: SavedState) -> io::Result<Before> {
        let takes = self.0.with(|state| state.dice.u64(0..100));
        sleep(Duration::from_millis(takes)).await;
        self.0.with(|world| {
            if world.now() < world.disk.full_until {
                world.note(|| "the disk is full".to_owned());
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            if world.breaks(Broken::SavesNothing) {
                return Ok(Before::Something);
            }
            world.note(|| format!("generation {} is saved", state.desired.generation));
            let plan = world.check_saved(&state.desired);
            let before = world.disk.saved.replace((state, plan));
            Ok(before.map_or(Before::Nothing, |_| Before::Something))
        })
    }

    async fn is_gone(&self) -> bool {
        self.0.with(|state| state.disk.saved.is_none())
    }

    fn place(&self) -> String {
        "the disk".to_owned()
    }
}
