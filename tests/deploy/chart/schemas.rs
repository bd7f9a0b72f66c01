//! Schemas for kubeconform, made from an API server's own `/openapi/v2`: strict ones, a file for each kind.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// Writes the schemas of all kinds to a folder; returns kubeconform's `-schema-location` for them.
pub(super) fn write(openapi: &Value, folder: &Path) -> Result<String> {
    let definitions = openapi["definitions"].as_object().context("no definitions")?;
    for (name, definition) in definitions {
        for kind in definition["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
            let text = |key: &str| kind[key].as_str().unwrap_or_default().to_lowercase();
            let group = text("group");
            let group =
                group.split('.').next().map(|group| if group.is_empty() { String::new() } else { format!("{group}-") });
            let file = format!("{}-{}{}.json", text("kind"), group.unwrap_or_default(), text("version"));
            std::fs::write(folder.join(file), schema(name, definitions).to_string())?;
        }
    }
    Ok(format!("{}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json", folder.display()))
}

/// A definition with all that it refers to.
fn schema(name: &str, definitions: &Map<String, Value>) -> Value {
    let (mut all, mut open, mut seen) = (Map::new(), vec![name.to_owned()], BTreeSet::new());
    while let Some(name) = open.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let definition = strict(&definitions[&name]);
        references(&definition, &mut open);
        all.insert(name, definition);
    }
    json!({"$schema": "http://json-schema.org/draft-07/schema#", "$ref": format!("#/definitions/{name}"), "definitions": all})
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(name) =
                map.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/definitions/"))
            {
                found.push(name.to_owned());
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

/// No fields but those that are known; and numbers where Kubernetes takes them for text.
fn strict(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut map: Map<String, Value> = map.iter().map(|(key, value)| (key.clone(), strict(value))).collect();
            if map.get("format") == Some(&json!("int-or-string")) {
                return json!({"type": ["string", "integer"]});
            }
            if map.get("properties").is_some_and(Value::is_object) && !map.contains_key("additionalProperties") {
                map.insert("additionalProperties".to_owned(), json!(false));
            }
            Value::Object(map)
        }
        Value::Array(list) => list.iter().map(strict).collect(),
        other => other.clone(),
    }
}
