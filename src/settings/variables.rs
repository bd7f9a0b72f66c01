//! The environment as a layer of settings (contract section 2).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use lbex_core::names::Quoted;

use super::error::{SettingError, SettingErrors};
use super::nearest;
use super::raw::{Origin, RawSettings, RawValue};
use super::setting::{Setting, find};
use super::table::SETTINGS;

/// The environment that LBEX was started with, passed in so that nothing else reads it.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// The value of a variable that is no setting of LBEX's, such as `HOME`; an empty one is none.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|v| !v.is_empty())
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Reads the variables `LBEX_*`. Returns the layer, and warnings about variables that mean nothing to LBEX.
///
/// An empty variable counts as unset. Those that Kubernetes puts into Pods for Services called `lbex` or `lbex-something`
/// are passed over, even where one has the name of a setting (`LBEX_HEALTH_PORT=tcp://10.0.0.1:7331`).
pub(super) fn read(environment: &Environment) -> Result<(RawSettings, Vec<String>), SettingErrors> {
    let mut layer = RawSettings::default();
    let mut warnings = Vec::new();
    let mut errors = Vec::new();
    for (name, value) in &environment.0 {
        let Some(name) = name.to_str().filter(|n| n.starts_with("LBEX_")) else { continue };
        let setting = setting_of(name);
        match (setting, value.to_str()) {
            (_, Some("")) => {}
            (_, Some(text)) if is_injected(name, text) => {}
            (Some(setting), Some(text)) => {
                let value = RawValue::new(text, Origin::Variable(name.to_owned()));
                match layer.get(setting).first() {
                    None => layer.add(setting, value),
                    Some(one) if one.text == value.text => {}
                    Some(one) => errors.push(SettingError::Twice { setting, one: one.clone(), other: value }),
                }
            }
            (Some(_), None) => {
                let shown = Quoted(&value.to_string_lossy()).to_string();
                errors.push(SettingError::NotText { name: name.to_owned(), shown });
            }
            (None, _) => warnings.push(unknown(name)),
        }
    }
    if errors.is_empty() { Ok((layer, warnings)) } else { Err(SettingErrors(errors)) }
}

fn setting_of(variable: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|s| s.variables().any(|v| v == variable))
}

fn unknown(name: &str) -> String {
    let flag = name.trim_start_matches("LBEX_").to_ascii_lowercase();
    let hint = match find(&flag) {
        Some(setting) => format!("--{} can be given on the command line only", setting.name),
        None => match nearest::among(&flag, SETTINGS.iter().filter(|s| !s.command_line_only).map(|s| s.name)) {
            Some(near) => format!("did you mean LBEX_{}?", near.to_ascii_uppercase().replace('-', "_")),
            None => "no setting has this name".to_owned(),
        },
    };
    format!("unknown variable {name} is ignored: {hint}")
}

/// Whether Kubernetes made this variable, for a Service in the Pod's namespace: `X_SERVICE_HOST`, `X_SERVICE_PORT[_NAME]`,
/// `X_PORT=tcp://...`, `X_PORT_80_TCP[_PROTO|_PORT|_ADDR]`.
fn is_injected(name: &str, value: &str) -> bool {
    if name.ends_with("_SERVICE_HOST") || name.ends_with("_SERVICE_PORT") || name.contains("_SERVICE_PORT_") {
        return true;
    }
    if name.ends_with("_PORT") && ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme)) {
        return true;
    }
    name.match_indices("_PORT_").any(|(at, word)| {
        let mut parts = name[at + word.len()..].split('_');
        let number = parts.next().is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        let protocol = parts.next().is_some_and(|p| ["TCP", "UDP", "SCTP"].contains(&p));
        let tail = parts.next().is_none_or(|t| ["PROTO", "PORT", "ADDR"].contains(&t));
        number && protocol && tail && parts.next().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(variables: &[(&str, &str)]) -> (RawSettings, Vec<String>) {
        read(&variables.iter().copied().collect()).unwrap()
    }

    #[test]
    fn every_setting_but_those_of_the_command_line_has_a_variable() {
        for setting in SETTINGS {
            let name = format!("LBEX_{}", setting.name.to_ascii_uppercase().replace('-', "_"));
            let (read, warnings) = layer(&[(&name, "some")]);
            if setting.command_line_only {
                assert!(read.get(setting).is_empty(), "{name}");
                assert!(warnings[0].contains("on the command line only"), "{warnings:?}");
            } else {
                assert_eq!(read.get(setting), [RawValue::new("some", Origin::Variable(name))]);
                assert_eq!(warnings, [""; 0]);
            }
        }
    }

    #[test]
    fn what_kubernetes_injects_is_passed_over() {
        let (read, warnings) = layer(&[
            ("LBEX_SERVICE_HOST", "10.0.0.1"),
            ("LBEX_SERVICE_PORT", "7331"),
            ("LBEX_SERVICE_PORT_HEALTH", "7331"),
            ("LBEX_PORT", "tcp://10.0.0.1:7331"),
            ("LBEX_PORT_7331_TCP", "tcp://10.0.0.1:7331"),
            ("LBEX_PORT_7331_TCP_PROTO", "tcp"),
            ("LBEX_PORT_7331_TCP_PORT", "7331"),
            ("LBEX_PORT_7331_TCP_ADDR", "10.0.0.1"),
            ("LBEX_HEALTH_PORT", "tcp://10.0.0.1:7331"),
            ("LBEX_HEALTH_SERVICE_HOST", "10.0.0.1"),
            ("LBEX_REQUIRE_PORT", "udp://10.0.0.1:53"),
            ("LBEX_DNS_PORT_53_UDP", "udp://10.0.0.1:53"),
        ]);
        assert_eq!((read, warnings), (RawSettings::default(), vec![]));
    }

    #[test]
    fn a_variable_of_ones_own_is_not_taken_for_injected() {
        let (read, _) = layer(&[("LBEX_HEALTH_PORT", "7000"), ("LBEX_PROXY", "tcp://10.0.0.1:1")]);
        assert_eq!(read.get(find("health-port").unwrap())[0].text, "7000");
        assert_eq!(read.get(find("proxy").unwrap())[0].text, "tcp://10.0.0.1:1");
    }

    #[test]
    fn unknown_ones_are_warned_of_and_empty_ones_are_unset() {
        let (read, warnings) = layer(&[
            ("LBEX_SERVICE_POL", "a"),
            ("LBEX_XYZZY", "1"),
            ("LBEX_NOTHING", ""),
            ("LBEX_PROXY", ""),
            ("PROXY", "x"),
        ]);
        assert_eq!(read, RawSettings::default());
        assert_eq!(
            warnings,
            [
                "unknown variable LBEX_SERVICE_POL is ignored: did you mean LBEX_SERVICE_POOL?",
                "unknown variable LBEX_XYZZY is ignored: no setting has this name",
            ]
        );
    }

    #[test]
    fn two_names_of_one_setting_must_agree() {
        let same = [("LBEX_REQUIRE_PORT", "false"), ("LBEX_REQUIRED_PORT", "false")];
        assert_eq!(layer(&same).0.get(find("require-port").unwrap()).len(), 1);
        let errors = read(&[("LBEX_REQUIRE_PORT", "true"), ("LBEX_REQUIRED_PORT", "false")].into_iter().collect());
        assert_eq!(
            errors.unwrap_err().to_string(),
            "--require-port: \"false\" from variable LBEX_REQUIRED_PORT and \"true\" from variable LBEX_REQUIRE_PORT are \
             values of one setting: give one of them"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_not_text_is_an_error() {
        use std::os::unix::ffi::OsStringExt;
        let bad = OsString::from_vec(b"a\xff".to_vec());
        let error = read(&Environment::from_iter([(OsString::from("LBEX_SERVICE_POOL"), bad)])).unwrap_err();
        assert!(error.to_string().starts_with("variable LBEX_SERVICE_POOL is not valid UTF-8: \"a"), "{error}");
    }
}
