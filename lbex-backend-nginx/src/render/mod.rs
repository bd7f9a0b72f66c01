//! The desired state as text for NGINX (contract section 5): one file per Service, and a main file that includes them.
//!
//! Pure and deterministic, byte for byte. The templates are as somebody who knows NGINX would write them by hand; what
//! reaches them are numbers, addresses, words of enums and validated names, never text from the cluster.

mod main_file;
mod part;
mod service_file;
mod user;
mod zone;

use tera::Tera;

use crate::binary::{NginxCapabilities, NginxVersion};

pub use main_file::{MainFile, MainInput};
pub use part::{Claim, Part, ServiceFileName};
pub use service_file::{Form, Write, fits_names, render_service, render_service_as, upstream_name};
pub use user::worker_user;
pub use zone::{Room, zone_size};

/// What of NGINX's language differs from version to version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// `least_time` in a stream upstream.
    pub least_time: bool,
    /// `proxy_half_close`: from 1.21.4.
    pub half_close: bool,
    /// Servers are names whose addresses LBEX tells NGINX ([`crate::push`]); `None`: addresses, and a reload for each change.
    pub push: Option<PushDialect>,
}

/// How servers that are names are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushDialect {
    /// Consistent hashing tells the addresses of one name apart. Without that, Services with session affinity have their servers
    /// as addresses.
    pub hash_by_address: bool,
    /// `resolver ADDRESS push=on`: NGINX asks again at once.
    pub immediate: bool,
}

impl Dialect {
    /// What this NGINX understands; servers are addresses.
    pub fn of(version: NginxVersion, capabilities: NginxCapabilities) -> Self {
        Self { least_time: capabilities.least_time, half_close: version >= NginxVersion::new(1, 21, 4), push: None }
    }

    /// The same with servers that are names, where this NGINX can ask for their addresses.
    #[must_use]
    pub fn pushing(self, capabilities: NginxCapabilities) -> Self {
        let push =
            PushDialect { hash_by_address: capabilities.hash_by_address, immediate: capabilities.immediate_push };
        Self { push: capabilities.upstream_resolve.then_some(push), ..self }
    }
}

/// A template did not render: a defect of LBEX, not of the cluster.
#[derive(Debug, thiserror::Error)]
#[error("failed to render NGINX's configuration of {what}: {reason}; this is a defect of LBEX")]
pub struct RenderError {
    /// Which file.
    pub what: String,
    /// What the template engine said.
    pub reason: String,
}

/// The templates, parsed once.
#[derive(Debug)]
pub struct Templates(Tera);

const SERVICE: &str = "service.conf";
const MAIN: &str = "nginx.conf";

impl Templates {
    /// Parses the built-in templates.
    pub fn new() -> Result<Self, RenderError> {
        let mut tera = Tera::new();
        // No HTML here.
        tera.autoescape_on(Vec::<&'static str>::new());
        tera.add_raw_templates([
            (SERVICE, include_str!("templates/service.conf.tera")),
            (MAIN, include_str!("templates/nginx.conf.tera")),
        ])
        .map_err(|error| RenderError { what: "any Service".to_owned(), reason: error.to_string() })?;
        Ok(Self(tera))
    }

    fn render<T: serde::Serialize>(&self, template: &str, what: &str, view: &T) -> Result<String, RenderError> {
        let failed = |error: tera::Error| RenderError { what: what.to_owned(), reason: error.to_string() };
        let context = tera::Context::from_serialize(view).map_err(failed)?;
        self.0.render(template, &context).map_err(failed)
    }
}
