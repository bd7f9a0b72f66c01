//! The settings file as a layer of settings: YAML, TOML or JSON; keys are names of flags.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::{FileFormat, Format, Value, ValueKind};

use super::error::{KeyHint, SettingError, SettingErrors};
use super::nearest;
use super::raw::{Origin, RawSettings, RawValue};
use super::setting::{Kind, Setting, find};
use super::table::SETTINGS;

/// Reads the settings file that `given` names.
pub(super) fn read(given: &RawValue) -> Result<RawSettings, SettingErrors> {
    let path = PathBuf::from(&given.text);
    let unusable = |reason: String| SettingError::File { path: path.clone(), origin: given.origin.clone(), reason };
    let format = format_of(&path).ok_or_else(|| {
        unusable("its format is told by its ending, and this is none of .yaml, .yml, .toml and .json".to_owned())
    })?;
    let text = std::fs::read_to_string(&path).map_err(|e| unusable(e.to_string()))?;
    let keys = format.parse(None, &text).map_err(|e| unusable(one_line(&e.to_string())))?;
    layer(&path, keys.into_iter().collect())
}

/// Parsers' messages have several lines, some with a picture of the place: `1 | text` and `  |  ^`.
fn one_line(message: &str) -> String {
    let is_picture = |line: &str| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').starts_with('|');
    message.lines().map(str::trim).filter(|l| !l.is_empty() && !is_picture(l)).collect::<Vec<_>>().join(": ")
}

fn format_of(path: &Path) -> Option<FileFormat> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "yaml" | "yml" => Some(FileFormat::Yaml),
        "toml" => Some(FileFormat::Toml),
        "json" => Some(FileFormat::Json),
        _ => None,
    }
}

fn layer(path: &Path, keys: BTreeMap<String, Value>) -> Result<RawSettings, SettingErrors> {
    let mut layer = RawSettings::default();
    let mut errors = Vec::new();
    for (key, value) in keys {
        let setting = match find(&key) {
            Some(setting) if !setting.command_line_only && setting.name != "config" => setting,
            found => {
                errors.push(SettingError::UnknownKey { path: path.into(), nearest: hint(&key, found), key });
                continue;
            }
        };
        let origin = Origin::File { path: path.into(), key: key.clone() };
        match texts(setting, value.kind) {
            Err(found) => errors.push(wrong_type(path, key, setting, found)),
            Ok(texts) => {
                let values: Vec<_> = texts.into_iter().map(|t| RawValue::new(t, origin.clone())).collect();
                match (layer.get(setting).first(), values.first()) {
                    (Some(one), Some(other)) => {
                        errors.push(SettingError::Twice { setting, one: one.clone(), other: other.clone() });
                    }
                    _ => values.into_iter().for_each(|v| layer.add(setting, v)),
                }
            }
        }
    }
    if errors.is_empty() { Ok(layer) } else { Err(SettingErrors(errors)) }
}

fn hint(key: &str, found: Option<&Setting>) -> KeyHint {
    if found.is_some() {
        return KeyHint::CommandLineOnly;
    }
    let known = SETTINGS.iter().filter(|s| !s.command_line_only && s.name != "config").map(|s| s.name);
    nearest::among(key, known).map_or(KeyHint::None, KeyHint::Nearest)
}

fn wrong_type(path: &Path, key: String, setting: &Setting, found: &'static str) -> SettingError {
    let one = match setting.kind {
        Kind::Switch => "true or false",
        Kind::AutoSwitch => "auto, true or false",
        Kind::Number => "a number",
        Kind::Ports => "a port, a text, or a list of them",
        Kind::Choice(_) | Kind::Text | Kind::File | Kind::Folder => "a text (in quotes)",
        Kind::Duration => "a text such as 5s",
    };
    let list = if setting.many { ", or a list of such" } else { "" };
    SettingError::WrongType { path: path.into(), key, found: found.to_owned(), wanted: format!("{one}{list}") }
}

/// The texts of a value, or in words what it is if it is of a type that the setting does not take. A number where a text is
/// wanted is refused, for what was written (`0123`, `1.10`) is lost by then. An absent value (`null`) gives none.
fn texts(setting: &Setting, value: ValueKind) -> Result<Vec<String>, &'static str> {
    match value {
        ValueKind::Nil => Ok(vec![]),
        ValueKind::Array(values) if setting.many => values.into_iter().map(|v| scalar(setting, v.kind)).collect(),
        ValueKind::Array(values) if setting.kind == Kind::Ports => {
            let texts: Vec<_> = values.into_iter().map(|v| scalar(setting, v.kind)).collect::<Result<_, _>>()?;
            Ok(vec![texts.join(",")])
        }
        other => scalar(setting, other).map(|text| vec![text]),
    }
}

fn scalar(setting: &Setting, value: ValueKind) -> Result<String, &'static str> {
    let number = matches!(setting.kind, Kind::Number | Kind::Ports);
    match value {
        ValueKind::String(text) => Ok(text),
        ValueKind::Boolean(yes) if setting.kind.may_be_bare() => Ok(yes.to_string()),
        ValueKind::I64(n) if number => Ok(n.to_string()),
        ValueKind::I128(n) if number => Ok(n.to_string()),
        ValueKind::U64(n) if number => Ok(n.to_string()),
        ValueKind::U128(n) if number => Ok(n.to_string()),
        ValueKind::Boolean(_) => Err("a boolean"),
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => Err("a number"),
        ValueKind::Float(_) => Err("a number with a fraction"),
        ValueKind::Table(_) => Err("a table"),
        ValueKind::Array(_) => Err("a list"),
        ValueKind::Nil => Err("empty"),
    }
}
