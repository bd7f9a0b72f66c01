//! `v1` Service.

use std::net::IpAddr;
use std::sync::Arc;

use lbex_core::model::{Service, ServicePort, ServiceType};
use serde::Deserialize;

use super::checks;
use super::error::{FieldError, ObjectError};
use super::meta::Meta;

/// A Service. One that is being deleted is as any other until it is gone: its clients are.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ServiceObject {
    /// `metadata`.
    #[serde(default, deserialize_with = "checks::or_default")]
    pub metadata: Meta,
    #[serde(default, deserialize_with = "checks::or_default")]
    spec: Spec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    r#type: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs", default, deserialize_with = "checks::or_default")]
    cluster_ips: Vec<String>,
    external_name: Option<Arc<str>>,
    load_balancer_class: Option<Arc<str>>,
    #[serde(default, deserialize_with = "checks::or_default")]
    load_balancer_source_ranges: Vec<Arc<str>>,
    session_affinity: Option<String>,
    external_traffic_policy: Option<String>,
    #[serde(default, deserialize_with = "checks::or_default")]
    ports: Vec<PortEntry>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PortEntry {
    name: Option<Arc<str>>,
    protocol: Option<String>,
    port: Option<i64>,
    node_port: Option<i64>,
}

impl ServiceObject {
    /// Checks it and makes LBEX's own Service of it.
    pub fn into_model(self) -> Result<Service, ObjectError> {
        let shown = self.metadata.shown();
        self.check().map_err(|error| error.of("Service", &shown))
    }

    fn check(self) -> Result<Service, FieldError> {
        let Self { metadata, spec } = self;
        let key = metadata.service_key()?;
        metadata.annotations.check()?;
        let kind = match spec.r#type.as_deref() {
            None | Some("" | "ClusterIP") => ServiceType::ClusterIp,
            Some("NodePort") => ServiceType::NodePort,
            Some("LoadBalancer") => ServiceType::LoadBalancer,
            Some("ExternalName") => ServiceType::ExternalName,
            Some(_) => ServiceType::Unknown,
        };
        let external = kind == ServiceType::ExternalName;
        let (cluster_ips, headless) = if external { (Vec::new(), false) } else { spec.cluster_ips()? };
        Ok(Service {
            key,
            created: metadata.created()?,
            uid: metadata.standard.uid.unwrap_or_default().into(),
            kind,
            load_balancer_class: spec.load_balancer_class.filter(|class| !class.is_empty()),
            annotations: metadata.annotations.values,
            unquoted: metadata.annotations.unquoted,
            cluster_ips,
            headless,
            external_name: spec.external_name.filter(|name| !name.is_empty()),
            ports: ports(spec.ports)?,
            client_ip_affinity: word("sessionAffinity", spec.session_affinity.as_deref(), ["None", "ClientIP"])?,
            local_traffic_only: word(
                "externalTrafficPolicy",
                spec.external_traffic_policy.as_deref(),
                ["Cluster", "Local"],
            )?,
            source_ranges: spec.load_balancer_source_ranges,
        })
    }
}

impl Spec {
    /// The ClusterIPs, and whether there are none on purpose.
    fn cluster_ips(&self) -> Result<(Vec<IpAddr>, bool), FieldError> {
        let one = self
            .cluster_ip
            .as_ref()
            .filter(|_| self.cluster_ips.is_empty())
            .into_iter()
            .map(|ip| ("spec.clusterIP".to_owned(), ip));
        let many = self.cluster_ips.iter().enumerate().map(|(n, ip)| (format!("spec.clusterIPs[{n}]"), ip));
        let mut addresses = Vec::new();
        for (field, text) in one.chain(many).filter(|(_, text)| !text.is_empty()) {
            if text == "None" {
                return Ok((Vec::new(), true));
            }
            let address = checks::address(&field, text)?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Ok((addresses, false))
    }
}

/// Whether a field with two words has the second; absent is the first.
fn word(field: &str, text: Option<&str>, [first, second]: [&'static str; 2]) -> Result<bool, FieldError> {
    match text {
        None | Some("") => Ok(false),
        Some(text) if text == first => Ok(false),
        Some(text) if text == second => Ok(true),
        Some(text) => {
            let allowed = if first == "None" { "None, ClientIP" } else { "Cluster, Local" };
            Err(FieldError::invalid(format!("spec.{field}"), text, allowed))
        }
    }
}

fn ports(wire: Vec<PortEntry>) -> Result<Vec<ServicePort>, FieldError> {
    let several = wire.len() > 1;
    let mut ports: Vec<ServicePort> = Vec::with_capacity(wire.len());
    for (index, port) in wire.into_iter().enumerate() {
        let parent = format!("spec.ports[{index}]");
        let port = port.check(several).map_err(|error| error.within(&parent))?;
        for other in &ports {
            if several && other.name == port.name {
                let allowed = "a name that no other port of the Service has";
                return Err(FieldError::invalid(format!("{parent}.name"), &port.name, allowed));
            }
            if other.port == port.port && other.protocol == port.protocol {
                let allowed = "a port that no other port of the Service with its protocol has";
                return Err(FieldError::number(format!("{parent}.port"), port.port.into(), allowed));
            }
        }
        ports.push(port);
    }
    Ok(ports)
}

impl PortEntry {
    fn check(self, named: bool) -> Result<ServicePort, FieldError> {
        let name = checks::port_name(self.name)?;
        if named && name.is_empty() {
            return Err(FieldError::missing("name", "a name for every port of a Service with several"));
        }
        let Some(port) = self.port else { return Err(FieldError::missing("port", "a port number, 1-65535")) };
        let node_port = match self.node_port {
            None | Some(0) => None,
            Some(number) => Some(checks::port("nodePort", number)?),
        };
        let protocol = checks::protocol(self.protocol.as_deref())?;
        Ok(ServicePort { name, protocol, port: checks::port("port", port)?, node_port })
    }
}
