//! Settings of the backend `nginx-plus`, and that no other backend gets them.

use lbex_core::duration::LONGEST;

use super::BackendSettings;
use super::error::SettingError;
use super::lower::{Reader, known};
use super::values::{duration, or_off};

/// Settings that only this backend reads.
const OWN: [&str; 7] = [
    "nginx-plus-api",
    "nginx-plus-ca",
    "nginx-plus-client-cert",
    "nginx-plus-client-key",
    "nginx-plus-token-file",
    "nginx-plus-password-file",
    "drain-timeout",
];

impl Reader<'_> {
    /// `--backend`, and what is only its own.
    pub(super) fn backend(&mut self) -> BackendSettings {
        let setting = known("backend");
        let given = self.given("backend").cloned();
        let name = given.as_ref().map_or_else(|| "nginx".to_owned(), |value| value.text.clone());
        #[cfg(feature = "backend-nginx-plus")]
        if name == "nginx-plus" {
            return BackendSettings::NginxPlus(self.plus());
        }
        match (name.as_str(), given) {
            ("nginx", _) if cfg!(feature = "backend-nginx") => {}
            ("nginx" | "nginx-plus", Some(value)) => {
                self.refuse(setting, &value, "this build of LBEX is without it".to_owned());
            }
            (_, given) => self.errors.extend(given.map(|value| SettingError::NotYet { setting, value })),
        }
        self.no_plus();
        BackendSettings::Nginx
    }

    /// Refuses what another backend would not heed. What asks for nothing is fine.
    fn no_plus(&mut self) {
        let drain = self.one("drain-timeout", or_off(duration(std::time::Duration::ZERO..=LONGEST)));
        for name in OWN {
            if let Some(value) = self.given(name).cloned()
                && (name != "drain-timeout" || drain.is_some())
            {
                let reason = match name {
                    "drain-timeout" => {
                        "only --backend nginx-plus drains; with others removed endpoints get no new connections, and those that they \
                         have go on"
                    }
                    _ => "only --backend nginx-plus reads it",
                };
                self.refuse(known(name), &value, reason.to_owned());
            }
        }
    }

    #[cfg(feature = "backend-nginx-plus")]
    fn plus(&mut self) -> super::PlusSettings {
        use lbex_backend_nginx_plus::api::{AccessFiles, ApiUrl, Credentials};

        use super::values::path;

        let mut apis = self.each("nginx-plus-api", str::parse::<ApiUrl>);
        apis.sort_unstable();
        apis.dedup();
        let client = match (self.maybe("nginx-plus-client-cert", path), self.maybe("nginx-plus-client-key", path)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (certificate, _) => {
                let name = if certificate.is_some() { "nginx-plus-client-cert" } else { "nginx-plus-client-key" };
                if let Some(value) = self.given(name).cloned() {
                    let reason = "--nginx-plus-client-cert and --nginx-plus-client-key go together";
                    self.refuse(known(name), &value, reason.to_owned());
                }
                None
            }
        };
        let token = self.maybe("nginx-plus-token-file", path);
        let password = self.maybe("nginx-plus-password-file", path);
        self.exclude("nginx-plus-token-file", "nginx-plus-password-file");
        let credentials = token.map(Credentials::Bearer).or(password.map(Credentials::Basic));
        if credentials.is_some() && apis.iter().any(ApiUrl::is_plain_http) {
            self.warn("credentials for NGINX Plus go over HTTP without TLS: anybody on the way can read them");
        }
        if self.given("endpoint-updates").is_some_and(|value| value.text != "auto") {
            self.warn("--endpoint-updates is not used: NGINX Plus gets changes of endpoints through its API");
        }
        if self.given("nginx-plus-api").is_none() {
            for name in OWN.iter().filter(|name| **name != "drain-timeout") {
                if let Some(value) = self.given(name).cloned() {
                    let reason = "it is for NGINX Plus elsewhere, which --nginx-plus-api names";
                    self.refuse(known(name), &value, reason.to_owned());
                }
            }
        } else if self.given("nginx").is_some() {
            self.warn("--nginx is not used: with --nginx-plus-api LBEX starts no NGINX");
        }
        super::PlusSettings {
            apis,
            files: AccessFiles { ca: self.maybe("nginx-plus-ca", path), client, credentials },
            drain: self
                .one("drain-timeout", or_off(duration(std::time::Duration::ZERO..=LONGEST)))
                .filter(|time| !time.is_zero()),
        }
    }
}
