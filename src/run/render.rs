//! `lbex render`: the configuration that would be written, to standard output; nothing is touched.

use std::process::ExitCode;
use std::time::Duration;

use lbex_core::planner::Planner;
use lbex_core::rejection::Effect;
use lbex_core::settings::PlanSettings;
use lbex_core::snapshot::Change;
use tokio::sync::mpsc;

use super::{Output, rules};
use crate::cli::Failure;
use crate::registry::Writer;
use crate::settings::{Settings, SourceSettings};
use crate::source::manifests::ProblemKind;
use crate::source::{self, Ignore, Persistence, SourceEvent};

/// How long the first complete lists of a cluster may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// One stream: each file under a line `# file: NAME`. Rejections go to the log. Exit code 1: a manifest file does not parse or an
/// object in one is not valid, so the stream is not all that was asked for; the log says what is missing.
pub(super) async fn render(settings: Settings) -> Result<Output, Failure> {
    let Writer { capabilities, write } = settings.backend.offer().writer(&settings).await?;
    let planning = PlanSettings { capabilities, ..settings.planning.clone() };
    let mut planner = Planner::new(rules(planning, &settings.selection));
    planner.ingest(Change::Host(crate::host::addresses()));
    let complete = take_in(&settings, &mut planner).await?;
    planner.plan();
    for (service, rejections) in planner.rejections() {
        for rejection in rejections.iter() {
            match rejection.effect() {
                Effect::NotServed | Effect::Adjusted => tracing::warn!("{service}: {rejection}"),
                Effect::Note => tracing::info!("{service}: {rejection}"),
            }
        }
    }
    let files = write(planner.desired())?;
    let text = files.iter().fold(String::new(), |stream, (name, text)| stream + "# file: " + name + "\n" + text + "\n");
    Ok(Output { text, exit_code: if complete { ExitCode::SUCCESS } else { ExitCode::from(1) } })
}

/// Everything, once. False: a part of the manifests had to be left out.
async fn take_in(settings: &Settings, planner: &mut Planner) -> Result<bool, Failure> {
    if let SourceSettings::Manifests(path) = &settings.source {
        let loaded = source::manifests::load(std::slice::from_ref(path), &settings.namespaces);
        let mut complete = true;
        for problem in &loaded.problems {
            match problem.kind {
                ProblemKind::Hint | ProblemKind::Duplicate => tracing::warn!("{problem}"),
                ProblemKind::Unreadable | ProblemKind::NotParsed | ProblemKind::InvalidObject => {
                    tracing::error!("{problem}");
                    complete = false;
                }
            }
        }
        if loaded.unreadable() {
            return Err(Failure::usage(anyhow::anyhow!("cannot read {}", path.display())));
        }
        loaded.into_changes().into_iter().for_each(|change| planner.ingest(change));
        return Ok(complete);
    }
    let (sender, mut events) = mpsc::channel(source::QUEUE);
    let _source = source::start(settings, Persistence::Once, std::sync::Arc::new(Ignore), sender).await?;
    let all = async {
        while let Some(event) = events.recv().await {
            match event {
                SourceEvent::Changes(changes) => changes.into_iter().for_each(|change| planner.ingest(change)),
                SourceEvent::Synced => return true,
                SourceEvent::Trouble(trouble) => tracing::warn!("{trouble}"),
                SourceEvent::Cluster(_) => {}
                SourceEvent::Recovered(recovered) => tracing::info!("{recovered}"),
            }
        }
        false
    };
    match tokio::time::timeout(PATIENCE, all).await {
        Ok(true) => Ok(true),
        Ok(false) => Err(Failure::cluster(anyhow::anyhow!("the source ended before its lists were complete"))),
        Err(_) => Err(Failure::cluster(anyhow::anyhow!("the lists were not complete after {PATIENCE:?}"))),
    }
}
