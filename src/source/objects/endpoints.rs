//! `discovery.k8s.io/v1` EndpointSlice and `v1` Endpoints.

use std::net::IpAddr;
use std::sync::Arc;

use lbex_core::model::{Endpoint, EndpointList, EndpointListKey, EndpointPort, EndpointSubset, EndpointsApi};
use lbex_core::names::ServiceKey;
use serde::Deserialize;

use super::checks;
use super::error::{FieldError, ObjectError};
use super::meta::Meta;

/// An EndpointSlice.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSliceObject {
    /// `metadata`.
    #[serde(default, deserialize_with = "checks::or_default")]
    pub metadata: Meta,
    address_type: Option<String>,
    #[serde(default, deserialize_with = "checks::or_default")]
    endpoints: Vec<SliceEndpoint>,
    #[serde(default, deserialize_with = "checks::or_default")]
    ports: Vec<PortEntry>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SliceEndpoint {
    #[serde(default, deserialize_with = "checks::or_default")]
    addresses: Vec<String>,
    #[serde(default, deserialize_with = "checks::or_default")]
    conditions: Conditions,
    node_name: Option<Arc<str>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

/// A port of a slice or a subset.
#[derive(Debug, Clone, Default, Deserialize)]
struct PortEntry {
    name: Option<Arc<str>>,
    protocol: Option<String>,
    port: Option<i64>,
}

/// The address family of a slice; `None`: either, as the type is not given.
type Family = Option<fn(&IpAddr) -> bool>;

impl EndpointSliceObject {
    /// Checks it and makes LBEX's own list of it. `None`: it concerns no Service that LBEX could serve, as it has no label
    /// `kubernetes.io/service-name` (an owner alone does not make it a Service's: kube-proxy reads the label, and others
    /// leave it out for that reason) or holds DNS names.
    pub fn into_model(self) -> Result<Option<EndpointList>, ObjectError> {
        let shown = self.metadata.shown();
        self.check().map_err(|error| error.of("EndpointSlice", &shown))
    }

    fn check(self) -> Result<Option<EndpointList>, FieldError> {
        let Some(service) = &self.metadata.labels.service_name else { return Ok(None) };
        let family: Family = match self.address_type.as_deref() {
            None | Some("") => None,
            Some("IPv4") => Some(IpAddr::is_ipv4),
            Some("IPv6") => Some(IpAddr::is_ipv6),
            Some("FQDN") => return Ok(None),
            Some(other) => return Err(FieldError::invalid("addressType", other, "IPv4, IPv6, FQDN")),
        };
        let namespace = self.metadata.namespace_label()?;
        let service = ServiceKey::new(namespace.as_str(), service).map_err(|_| {
            let field = "metadata.labels[kubernetes.io/service-name]";
            FieldError::invalid(field, service, "the name of a Service")
        })?;
        let key = list_key(EndpointsApi::Slices, &self.metadata)?;
        let endpoints = self.endpoints.into_iter().enumerate();
        let endpoints =
            endpoints.map(|(n, e)| e.check(family).map_err(|error| error.within(&format!("endpoints[{n}]"))));
        let mut endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        endpoints.shrink_to_fit();
        let subset = EndpointSubset { endpoints, ports: ports("ports", self.ports)? };
        Ok(Some(EndpointList { key, service, subsets: [subset].into() }))
    }
}

impl SliceEndpoint {
    fn check(self, family: Family) -> Result<Endpoint, FieldError> {
        const FIELD: &str = "addresses[0]";
        let Some(text) = self.addresses.first() else { return Err(FieldError::missing(FIELD, "an address")) };
        let address = checks::address(FIELD, text)?;
        if family.is_some_and(|of_family| !of_family(&address)) {
            return Err(FieldError::invalid(FIELD, text, "an address of the slice's addressType"));
        }
        let ready = self.conditions.ready.unwrap_or(true);
        Ok(Endpoint {
            address,
            ready,
            serving: self.conditions.serving.unwrap_or(ready),
            terminating: self.conditions.terminating.unwrap_or(false),
            node: node_name(self.node_name)?,
        })
    }
}

/// An Endpoints object.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct EndpointsObject {
    /// `metadata`.
    #[serde(default)]
    pub metadata: Meta,
    #[serde(default, deserialize_with = "checks::or_default")]
    subsets: Vec<Subset>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subset {
    #[serde(default, deserialize_with = "checks::or_default")]
    addresses: Vec<Address>,
    #[serde(default, deserialize_with = "checks::or_default")]
    not_ready_addresses: Vec<Address>,
    #[serde(default, deserialize_with = "checks::or_default")]
    ports: Vec<PortEntry>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Address {
    ip: Option<String>,
    node_name: Option<Arc<str>>,
}

impl EndpointsObject {
    /// Checks it and makes LBEX's own list of it. Endpoints do not say what is terminating: what is not ready is not serving.
    pub fn into_model(self) -> Result<EndpointList, ObjectError> {
        let shown = self.metadata.shown();
        self.check().map_err(|error| error.of("Endpoints", &shown))
    }

    fn check(self) -> Result<EndpointList, FieldError> {
        let service = self.metadata.service_key()?;
        let key = list_key(EndpointsApi::Endpoints, &self.metadata)?;
        let subsets = self.subsets.into_iter().enumerate();
        let subsets = subsets.map(|(n, s)| s.check().map_err(|error| error.within(&format!("subsets[{n}]"))));
        Ok(EndpointList { key, service, subsets: subsets.collect::<Result<_, _>>()? })
    }
}

impl Subset {
    fn check(self) -> Result<EndpointSubset, FieldError> {
        let mut endpoints = Vec::with_capacity(self.addresses.len() + self.not_ready_addresses.len());
        let groups = [("addresses", self.addresses, true), ("notReadyAddresses", self.not_ready_addresses, false)];
        for (field, addresses, ready) in groups {
            for (n, address) in addresses.into_iter().enumerate() {
                let within = |error: FieldError| error.within(&format!("{field}[{n}]"));
                endpoints.push(address.check(ready).map_err(within)?);
            }
        }
        Ok(EndpointSubset { endpoints, ports: ports("ports", self.ports)? })
    }
}

impl Address {
    fn check(self, ready: bool) -> Result<Endpoint, FieldError> {
        let Some(text) = &self.ip else { return Err(FieldError::missing("ip", "an address")) };
        let (address, node) = (checks::address("ip", text)?, node_name(self.node_name)?);
        Ok(Endpoint { address, ready, serving: ready, terminating: false, node })
    }
}

fn node_name(text: Option<Arc<str>>) -> Result<Option<Arc<str>>, FieldError> {
    text.filter(|name| !name.is_empty()).map(|name| checks::subdomain("nodeName", Some(&name))).transpose()
}

fn list_key(api: EndpointsApi, metadata: &Meta) -> Result<EndpointListKey, FieldError> {
    let name: Arc<str> = metadata.name().into();
    let namespace = metadata.namespace_label()?.as_str().into();
    Ok(EndpointListKey { api, namespace, name: checks::subdomain("metadata.name", Some(&name))? })
}

/// The ports. One without a number means all ports; nothing can be sent to that, so it is left out.
fn ports(field: &str, wire: Vec<PortEntry>) -> Result<Vec<EndpointPort>, FieldError> {
    let check = |(n, port): (usize, PortEntry)| {
        let number = port.port?;
        let checked = (|| {
            let protocol = checks::protocol(port.protocol.as_deref())?;
            Ok(EndpointPort { name: checks::port_name(port.name)?, protocol, port: checks::port("port", number)? })
        })();
        Some(checked.map_err(|error: FieldError| error.within(&format!("{field}[{n}]"))))
    };
    let mut ports = wire.into_iter().enumerate().filter_map(check).collect::<Result<Vec<_>, _>>()?;
    ports.shrink_to_fit();
    Ok(ports)
}
