//! Each fault by itself.

use anyhow::{Context, Result, ensure};
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::wait::SOON;

use crate::faults::{ALL, Needs};
use crate::schedule::Schedule;
use crate::verdict::run;
use crate::world::{Kind, World, inside};

/// What operators are told.
const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// Runs the fault of this name; what LBEX says about it is what docs/operations.md says that it says.
pub(crate) fn happens(name: &str) -> Result<()> {
    let entry = ALL.iter().find(|entry| entry.name == name).context("no such fault")?;
    for text in entry.says {
        ensure!(OPERATIONS.contains(text), "docs/operations.md does not have {text:?}");
    }
    inside(|netns| async move {
        let kind = match entry.needs {
            Needs::Real => real().await?,
            Needs::User => Kind::OfUser,
            Needs::Any | Needs::Scripted => Kind::Scripted,
        };
        let told = async |world: &World| {
            let lbex = world.lbex().await;
            for text in entry.says {
                lbex.wait_log(text, SOON).await?;
            }
            Ok(())
        };
        run(name, &netns, kind, &Schedule::of(entry), told).await
    })
}

/// A real API server that answers watches from etcd, so that what etcd forgets is forgotten.
pub(crate) async fn real() -> Result<Kind> {
    Ok(Kind::Real(Box::new(ApiServer::builder().without_watch_cache().start().await?)))
}
