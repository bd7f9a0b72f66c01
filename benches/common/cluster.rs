//! The objects of a benchmark's cluster, and manifests of them.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use lbex_test_harness::objects::{EndpointSlice, Object, Service, service, slice};
use serde_json::Value;

/// How many objects go into one manifest file.
const PER_FILE: usize = 200;

/// A Service with one TCP port for which LBEX listens on `listen`, of upstream type `pod`, and its EndpointSlice.
pub(crate) fn pod_service(name: &str, listen: u16, endpoints: &[(String, u16)]) -> [Box<dyn Object>; 2] {
    let service = service(name).ask().tcp("tcp", 80, 0).listen("tcp", listen).lbex("upstream-type", "pod");
    let port = endpoints.first().map_or(80, |(_, port)| *port);
    let slice = endpoints
        .iter()
        .fold(slice(&format!("{name}-1"), name).tcp("tcp", port), |slice, (address, _)| slice.ready(address, "node-a"));
    [Box::new(service), Box::new(slice)]
}

/// A Service of upstream type `node`, node-set `host`: its traffic goes to the nodes that its endpoints are on.
pub(crate) fn node_service(name: &str, listen: u16, node_port: u16) -> Service {
    service(name).ask().tcp("tcp", 80, node_port).listen("tcp", listen)
}

/// The EndpointSlice of such a Service, with one endpoint on that node.
pub(crate) fn slice_on(name: &str, node: &str) -> EndpointSlice {
    slice(&format!("{name}-1"), name).tcp("tcp", 8080).ready("10.0.0.1", node)
}

/// Writes objects as YAML manifests into a folder, some hundred to a file.
pub(crate) fn write_manifests(folder: &Path, objects: &[Box<dyn Object>]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (number, chunk) in objects.chunks(PER_FILE).enumerate() {
        let text: String = chunk.iter().map(|object| yaml_document(&object.json())).collect();
        std::fs::write(folder.join(format!("objects-{number:04}.yaml")), text)?;
    }
    Ok(())
}

/// Puts a manifest file in place at once, as editors and careful scripts do.
pub(crate) fn replace_manifest(folder: &Path, name: &str, object: &dyn Object) -> io::Result<()> {
    let new = folder.join(format!(".{name}.new"));
    std::fs::write(&new, yaml_document(&object.json()))?;
    std::fs::rename(new, folder.join(name))
}

/// A YAML document in block style, as `kubectl get -o yaml` writes it.
fn yaml_document(value: &Value) -> String {
    let mut text = String::from("---");
    yaml(value, 0, &mut text);
    text.push('\n');
    text
}

fn yaml(value: &Value, depth: usize, text: &mut String) {
    let indent = |text: &mut String| {
        text.push('\n');
        text.push_str(&"  ".repeat(depth));
    };
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                indent(text);
                text.push_str(key);
                text.push(':');
                yaml(value, depth + 1, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                indent(text);
                text.push('-');
                yaml(item, depth + 1, text);
            }
        }
        // JSON's scalars and empty collections are YAML's, quotes included.
        scalar => {
            let _ = write!(text, " {scalar}");
        }
    }
}
