//! What needs helm alone.

use anyhow::{Result, ensure};

use super::{chart, helm, root, template};

#[test]
fn helm_has_nothing_to_say_about_the_chart() -> Result<()> {
    for values in super::value_files()? {
        helm(&[
            "lint",
            "--strict",
            "--quiet",
            "--values",
            &values.display().to_string(),
            &chart().display().to_string(),
        ])?;
    }
    Ok(())
}

#[test]
fn the_manifests_are_what_the_chart_makes() -> Result<()> {
    let folder = lbex_test_harness::Scratch::new("manifests")?;
    let mut command = std::process::Command::new(root().join("deploy/manifests/render"));
    command.arg(folder.path()).env("HELM", lbex_test_harness::programs::find("helm")?);
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for name in ["daemonset.yaml", "deployment.yaml"] {
        let (new, kept) = (
            std::fs::read_to_string(folder.join(name))?,
            std::fs::read_to_string(root().join("deploy/manifests").join(name))?,
        );
        ensure!(new == kept, "deploy/manifests/{name} is not what the chart makes: run `make manifests`");
        ensure!(kept.contains("\nkind: Namespace\n") && kept.contains("\nkind: ClusterRole\n"), "{name}:\n{kept}");
    }
    Ok(())
}

#[test]
fn the_archive_is_the_chart_and_the_same_bytes_each_time() -> Result<()> {
    let folder = lbex_test_harness::Scratch::new("chart")?;
    let mut made = Vec::new();
    for name in ["one", "other"] {
        let output = std::process::Command::new(root().join("deploy/helm/build")).arg(folder.join(name)).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        made.push(String::from_utf8(output.stdout)?.trim().to_owned());
    }
    ensure!(std::fs::read(&made[0])? == std::fs::read(&made[1])?, "{made:?} differ");
    let rendered = helm(&["template", "lbex", &made[0], "--namespace", super::NAMESPACE])?;
    assert_eq!(rendered, template("lbex", &[])?);
    Ok(())
}

#[test]
fn other_settings_make_other_pods() -> Result<()> {
    let mark = |set: &str| -> Result<String> {
        let rendered = template("lbex", &["--set", set])?;
        let line = rendered.lines().find(|line| line.contains("lbex.io/settings:"));
        Ok(line.unwrap_or_default().to_owned())
    };
    ensure!(mark("settings.service-pool=a")? == mark("settings.service-pool=a")?, "the same settings differ");
    ensure!(mark("settings.service-pool=a")? != mark("settings.service-pool=b")?, "other settings are the same");
    Ok(())
}

#[test]
fn the_chart_has_this_version() -> Result<()> {
    let text = std::fs::read_to_string(chart().join("Chart.yaml"))?;
    for key in ["version", "appVersion"] {
        let line = format!("\n{key}: {}\n", env!("CARGO_PKG_VERSION"));
        ensure!(text.contains(&line), "Chart.yaml has no line {line:?}");
    }
    Ok(())
}

#[test]
fn values_that_are_none_are_refused_by_name() -> Result<()> {
    // What is set, and what the message has.
    let wrong = [
        ("kind=StatefulSet", "kind"),
        ("replica=3", "replica"),
        ("hostNetwork=maybe", "hostNetwork"),
        ("healthPort=0", "healthPort"),
        ("healthPort=65536", "healthPort"),
        ("metrics.port=http", "metrics"),
        ("healthPort=7332", "healthPort and metrics.port have to differ"),
        ("image.digest=latest", "digest"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("settings.health-port=80", "settings"),
        ("settings.nginx-prefix=/tmp", "settings"),
        ("settings.Bad_Key=1", "settings"),
        ("watchNamespaces={a,a}", "watchNamespaces"),
        ("watchNamespaces={A}", "watchNamespaces"),
        ("podDisruptionBudget.minAvailable=50%", "minAvailable"),
        ("maxUnavailable=0", "maxUnavailable"),
        ("networkPolicy.enabled=true", "NetworkPolicies do not apply to Pods on the host network"),
        ("service.enabled=true", "on the host network LBEX is reached at its nodes"),
        ("hostNetwork=false,service.enabled=true", "service.ports has to name"),
        ("metrics.enabled=false,metrics.serviceMonitor.enabled=true", "needs metrics.enabled"),
    ];
    for (set, message) in wrong {
        let Err(error) = template("lbex", &["--set", set]) else { anyhow::bail!("{set} is taken") };
        ensure!(format!("{error:#}").contains(message), "{set}: {error:#}");
    }
    Ok(())
}

#[test]
fn every_value_is_described_and_checked() -> Result<()> {
    let schema: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(chart().join("values.schema.json"))?)?;
    let values = std::fs::read_to_string(chart().join("values.yaml"))?;
    let known = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str())
        .filter(|key| *key != "global");
    for key in known {
        ensure!(values.lines().any(|line| line.starts_with(&format!("{key}:"))), "values.yaml has no {key}");
    }
    Ok(())
}
