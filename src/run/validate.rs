//! `lbex validate FILES`: what each Service would get, and what is wrong.

use std::fmt::Write as _;

use lbex_core::backend::Capabilities;
use lbex_core::desired::{Listener, Servers};
use lbex_core::names::ServiceKey;
use lbex_core::planner::{Planner, Status};
use lbex_core::rejection::{Effect, Rejection};
use lbex_core::settings::PlanSettings;

use super::{Output, rules};
use crate::cli::Failure;
use crate::settings::{BackendSettings, NginxSettings, ValidateSettings};
use crate::source::manifests::{ProblemKind, load};

/// How many servers of a listener are listed.
const SERVERS_SHOWN: usize = 8;

/// For people. Exit code 0: all is well; 1: something is wrong, or gets a Warning; 2: a path cannot be read.
pub(super) async fn validate(settings: ValidateSettings) -> Result<Output, Failure> {
    let capabilities = capabilities(&settings.backend, &settings.nginx).await;
    let loaded = load(&settings.files, &settings.namespaces);
    let unreadable = loaded.unreadable();
    let mut text = String::new();
    for problem in &loaded.problems {
        line(&mut text, format_args!("{problem}"));
    }
    let bad_files = loaded.problems.iter().any(|problem| problem.kind != ProblemKind::Hint);
    let planning = PlanSettings { capabilities, ..settings.planning };
    let mut planner = Planner::new(rules(planning, &settings.selection));
    loaded.into_changes().into_iter().for_each(|change| planner.ingest(change));
    planner.plan();
    let counts = services(&planner, &mut text);
    line(&mut text, format_args!("{counts}"));
    let exit_code = match () {
        () if unreadable => 2,
        () if bad_files || counts.wrong > 0 => 1,
        () => 0,
    };
    Ok(Output { text, exit_code: exit_code.into() })
}

/// What all Services together come to.
#[derive(Default)]
struct Counts {
    served: usize,
    partly: usize,
    not_served: usize,
    elsewhere: usize,
    not_asking: usize,
    /// Services with anything wrong or adjusted.
    wrong: usize,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { served, partly, not_served, elsewhere, not_asking, wrong } = self;
        let all = served + partly + not_served + elsewhere + not_asking;
        write!(f, "{all} Service(s): {served} served, {partly} served in part, {not_served} not served, ")?;
        write!(
            f,
            "{elsewhere} for other instances, {not_asking} that do not ask for LBEX; {wrong} with something wrong"
        )
    }
}

fn services(planner: &Planner, text: &mut String) -> Counts {
    let mut counts = Counts::default();
    for service in planner.cluster().services() {
        let key = &service.key;
        let (words, count) = match planner.status(key) {
            Status::NotAsking => ("does not ask for LBEX", &mut counts.not_asking),
            Status::NotServed if is_for_another(planner, key) => ("for another instance", &mut counts.elsewhere),
            Status::NotServed => ("NOT SERVED", &mut counts.not_served),
            Status::PartlyServed => ("served in part", &mut counts.partly),
            Status::Served => ("served", &mut counts.served),
        };
        *count += 1;
        line(text, format_args!("{key}: {words}"));
        counts.wrong += usize::from(describe(planner, key, text));
    }
    counts
}

/// The listeners and rejections of a Service. True: something is wrong, or not done as asked.
fn describe(planner: &Planner, key: &ServiceKey, text: &mut String) -> bool {
    let config = planner.desired().services.get(key);
    for listener in config.iter().flat_map(|config| &config.listeners) {
        line(text, format_args!("  {}", shown(listener)));
    }
    let rejections = rejections(planner, key);
    for rejection in rejections {
        let word = match rejection.effect() {
            Effect::NotServed if rejection.reason.is_for_another_instance() => "note",
            Effect::NotServed => "not served",
            Effect::Adjusted => "warning",
            Effect::Note => "note",
        };
        line(text, format_args!("  {word}: {rejection}"));
    }
    let wrong = |r: &Rejection| r.effect() != Effect::Note && !r.reason.is_for_another_instance();
    rejections.iter().any(wrong)
}

fn rejections<'a>(planner: &'a Planner, key: &ServiceKey) -> &'a [Rejection] {
    planner.rejections().get(key).map_or(&[][..], |rejections| rejections)
}

/// Whether it is not served because another instance is to serve it.
fn is_for_another(planner: &Planner, key: &ServiceKey) -> bool {
    rejections(planner, key).iter().any(|rejection| rejection.reason.is_for_another_instance())
}

fn shown(listener: &Listener) -> String {
    let Listener { protocol, port, upstream, .. } = listener;
    let algorithm = upstream.algorithm.as_str();
    let servers = match &upstream.servers {
        Servers::Addresses(all) if all.is_empty() => {
            "no endpoints (connections are closed, datagrams dropped)".to_owned()
        }
        Servers::Addresses(all) => {
            let first: Vec<_> = all.iter().take(SERVERS_SHOWN).map(ToString::to_string).collect();
            let more = all.len().saturating_sub(SERVERS_SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{}{more}", first.join(", "))
        }
        Servers::Dns { name, port, .. } => format!("{name}:{port} (by DNS)"),
    };
    format!("{protocol} {port} -> {algorithm}: {servers}")
}

/// Writing to a String cannot fail.
pub(super) fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = writeln!(text, "{arguments}");
}

/// What the backend that would be used can do; where that cannot be told, what every one of its kind can.
async fn capabilities(backend: &BackendSettings, nginx: &NginxSettings) -> Capabilities {
    match backend.offer().capabilities(nginx).await {
        Ok(capabilities) => capabilities,
        Err(error) => {
            let any = backend.offer().at_least();
            tracing::warn!("planning for any backend like it ({}): {error}", any.description);
            any
        }
    }
}
