//! What the chart makes is valid: for the schemas of a real API server, and for the server itself and its admission.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::wait::eventually;
use lbex_test_harness::{Scratch, programs};
use serde_json::{Value, json};

use super::{NAMESPACE, objects, schemas, template, value_files};

/// Stands in for the Prometheus operator's definition, with the fields that the chart uses and no others.
fn service_monitor() -> Value {
    let text = json!({"type": "string"});
    let labels = json!({"type": "object", "additionalProperties": text});
    let spec = json!({"type": "object", "required": ["selector", "endpoints"], "properties": {
        "selector": {"type": "object", "properties": {"matchLabels": labels}},
        "endpoints": {"type": "array", "items": {"type": "object", "properties": {"port": text, "interval": text}}},
    }});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "servicemonitors.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": {"kind": "ServiceMonitor", "plural": "servicemonitors", "singular": "servicemonitor", "listKind": "ServiceMonitorList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {
                "openAPIV3Schema": {"type": "object", "properties": {"spec": spec}},
            }}],
        },
    })
}

/// kubeconform's verdict on a rendering.
fn conforms(location: &str, rendered: &str) -> Result<()> {
    let mut command = Command::new(programs::find("kubeconform")?);
    command.args(["-strict", "-summary", "-schema-location", location, "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    std::io::Write::write_all(&mut child.stdin.take().context("no standard input")?, rendered.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && said.contains("Skipped: 0"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The Pod that a rendered workload makes.
fn pod(list: &[Value]) -> Result<Value> {
    let workload = list.iter().find(|object| object["kind"] == "DaemonSet" || object["kind"] == "Deployment");
    let template = &workload.context("no workload")?["spec"]["template"];
    Ok(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lbex-1"}, "spec": template["spec"]}))
}

#[tokio::test]
async fn every_set_of_values_is_valid() -> Result<()> {
    let server = ApiServer::shared().await?;
    server.kubectl(&["apply", "-f", "-"], &service_monitor().to_string()).await?;
    for (name, level) in [(NAMESPACE, "privileged"), ("baseline", "baseline"), ("restricted", "restricted")] {
        let labels = json!({"pod-security.kubernetes.io/enforce": level});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        server.kubectl(&["apply", "-f", "-"], &namespace.to_string()).await?;
    }
    let openapi: Value = eventually("the schemas have ServiceMonitor", std::time::Duration::from_secs(60), || async {
        let openapi = server.kubectl(&["get", "--raw", "/openapi/v2"], "").await?;
        ensure!(openapi.contains("com.coreos.monitoring.v1.ServiceMonitor\""), "not yet");
        Ok(serde_json::from_str(&openapi)?)
    })
    .await?;
    let folder = Scratch::new("schemas")?;
    let location = schemas::write(&openapi, folder.path())?;
    // The schemas can say no.
    let wrong = template("lbex", &[])?.replace("dnsPolicy:", "dnsPolicies:");
    ensure!(conforms(&location, &wrong).is_err(), "a field that does not exist is taken");

    let mut kinds = std::collections::BTreeSet::new();
    for file in value_files()? {
        let rendered = template("lbex", &["--values", &file.display().to_string()])?;
        let name = file.display().to_string();
        conforms(&location, &rendered).context(name.clone())?;
        let apply = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-"];
        let list = objects(&server.kubectl(&apply, &rendered).await.context(name.clone())?)?;
        kinds.extend(list.iter().map(|object| object["kind"].as_str().unwrap_or_default().to_owned()));
        // Pods on the host network need a privileged namespace, others are good for the strictest level.
        let pod = pod(&list)?;
        let on_host = pod["spec"]["hostNetwork"] == json!(true);
        for (level, expected) in [("lbex-system", true), ("baseline", !on_host), ("restricted", !on_host)] {
            let create = ["create", "--dry-run=server", "--namespace", level, "-f", "-"];
            let made = server.kubectl(&create, &pod.to_string()).await;
            ensure!(made.is_ok() == expected, "{name}: a Pod in {level}: {made:?}");
            ensure!(
                expected || made.is_err_and(|error| error.to_string().contains("hostNetwork")),
                "{name}: refused for another reason"
            );
        }
    }
    let all = [
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "DaemonSet",
        "Deployment",
        "Namespace",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Role",
        "RoleBinding",
        "Service",
        "ServiceAccount",
        "ServiceMonitor",
    ];
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), all);
    Ok(())
}
