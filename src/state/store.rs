//! Where the last good state is kept.

use std::io;

use async_trait::async_trait;

use super::{SavedState, StateFile};

/// Keeps the last good state. Calls come one at a time.
#[async_trait]
pub trait Store: Send + Sync {
    /// Replaces what is kept, or changes nothing and says why.
    async fn save(&self, state: SavedState) -> io::Result<Before>;

    /// Whether what was kept is certainly gone: somebody may have removed it.
    async fn is_gone(&self) -> bool;

    /// Where, for people.
    fn place(&self) -> String;
}

/// What a write found in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// What was kept before.
    Something,
    /// Nothing: it is the first, or somebody removed what was kept.
    Nothing,
}

#[async_trait]
impl Store for StateFile {
    async fn save(&self, state: SavedState) -> io::Result<Before> {
        let file = self.clone();
        let written = tokio::task::spawn_blocking(move || file.save(&state)).await;
        written.map_err(io::Error::other).flatten()
    }

    async fn is_gone(&self) -> bool {
        matches!(tokio::fs::try_exists(self.path()).await, Ok(false))
    }

    fn place(&self) -> String {
        self.path().display().to_string()
    }
}
