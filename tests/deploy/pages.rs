//! The pages on installing LBEX: every command that is in one of their `sh` blocks is run, in order, in one shell.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::objects::{Objects, node, service};
use lbex_test_harness::programs;

use crate::gce::Project;

/// A page's commands: what is in its `sh` blocks. Fails where there are blocks of another kind, whose commands nobody would run.
fn commands(page: &str) -> Result<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page))?;
    let (mut script, mut open) = (String::new(), false);
    for line in text.lines() {
        match line.trim_start().strip_prefix("```") {
            Some("") => open = false,
            Some(kind) => {
                ensure!(kind == "sh", "{page} has a block of kind {kind:?}");
                open = true;
            }
            None if open => script.extend([line.trim_start_matches("   "), "\n"]),
            None => {}
        }
    }
    ensure!(!script.is_empty(), "{page} has no commands");
    Ok(script)
}

/// Runs commands as somebody would who pastes them, from the top folder; fails at the first that does. Returns what they printed.
async fn run(script: &str, change: impl FnOnce(&mut Command)) -> Result<String> {
    let mut command = Command::new(programs::find("bash")?);
    command.args(["-euxo", "pipefail", "-c", script]).current_dir(env!("CARGO_MANIFEST_DIR"));
    change(command.stdin(Stdio::null()));
    let output =
        tokio::process::Command::from(command).kill_on_drop(true).output().await.context("failed to run bash")?;
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}:\n{printed}\n{said}", output.status);
    Ok(printed.into_owned())
}

#[tokio::test]
async fn installing_in_a_cluster() -> Result<()> {
    let server = ApiServer::builder().controller_manager().scheduler().kwok("198.18.64.0/24").start().await?;
    let objects = Objects::new(server.client().await?, "default".to_owned());
    for name in ["edge-1", "inner-1"] {
        objects.create(&node(name).internal(std::net::Ipv4Addr::LOCALHOST)).await?;
    }
    let script = commands("docs/install-kubernetes.md")?;
    let home = lbex_test_harness::Scratch::new("home")?;
    // The kubectl of the tests, not one of the machine's.
    let folders = ["kubectl", "helm"].map(|name| programs::find(name).map(|path| path.parent().map(Path::to_owned)));
    let mut path = Vec::new();
    for folder in folders {
        path.extend(folder?);
    }
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let path = std::env::join_paths(path)?;
    let printed = run(&script, |command| {
        command.env("KUBECONFIG", server.kubeconfig_admin()).env("HOME", home.path()).env("PATH", path);
    })
    .await?;
    // On the edge node, and on no other; the Service is as an LBEX wants it.
    let pod = printed.lines().find(|line| line.starts_with("lbex-")).context("no Pod")?;
    ensure!(pod.contains("Running") && pod.contains("edge-1"), "{pod}");
    ensure!(!printed.contains("inner-1"), "{printed}");
    let web = objects.get("Service", "web").await?;
    assert_eq!(web["metadata"]["annotations"]["loadbalancer-port.lbex/unnamed"], "8080");
    Ok(())
}

#[tokio::test]
async fn installing_on_google_cloud() -> Result<()> {
    let server = ApiServer::shared().await?;
    let objects = Objects::new(server.client().await?, server.namespace().await?);
    objects.create(&service("web").tcp("http", 80, lbex_test_harness::ports::free_port()?)).await?;
    let project = Project::new()?;
    let script = commands("docs/install-gce.md")?;
    // The page's kubectl is the user's own; that of the scripts is the stand-in's.
    run(&script, |command| {
        project.set_up(command);
        command.env("STANDIN_KUBECTL", programs::find("kubectl").unwrap_or_default());
        command.env("STANDIN_KUBECONFIG", server.kubeconfig_admin()).env("STANDIN_NAMESPACE", objects.namespace());
    })
    .await?;
    ensure!(project.state()?.is_empty(), "left: {:?}", project.state()?);
    let calls = project.take_calls()?;
    for script in ["start-update", "managed delete", "list-errors"] {
        ensure!(calls.iter().any(|call| call.contains(script)), "{script} was not called");
    }
    let web = objects.get("Service", "web").await?;
    assert_eq!(web["metadata"]["annotations"]["loadbalancer-port.lbex/http"], "8080");
    Ok(())
}

#[test]
fn what_the_pages_link_to_exists() -> Result<()> {
    for page in ["docs/install-kubernetes.md", "docs/install-gce.md", "deploy/helm/lbex/README.md"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        let text = std::fs::read_to_string(&path)?;
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            ensure!(path.parent().context("a folder")?.join(link).exists(), "{page} links to {link}");
        }
    }
    Ok(())
}
