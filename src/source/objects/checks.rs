//! Rules that several kinds share.

use std::net::IpAddr;
use std::sync::Arc;

use lbex_core::intent::is_unicast;
use lbex_core::model::Protocol;
use lbex_core::names::Label;
use serde::{Deserialize, Deserializer};

use super::error::FieldError;

/// Reads `null` as the default, as Kubernetes does.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(de: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(de)?.unwrap_or_default())
}

/// A port number.
pub(super) fn port(field: &str, value: i64) -> Result<u16, FieldError> {
    let valid = u16::try_from(value).ok().filter(|&port| port > 0);
    valid.ok_or_else(|| FieldError::number(field, value, "a port number, 1-65535"))
}

/// A transport protocol; absent means TCP, one that LBEX does not carry is `None`.
pub(super) fn protocol(text: Option<&str>) -> Result<Option<Protocol>, FieldError> {
    match text {
        None | Some("" | "TCP") => Ok(Some(Protocol::Tcp)),
        Some("UDP") => Ok(Some(Protocol::Udp)),
        Some("SCTP") => Ok(None),
        Some(other) => Err(FieldError::invalid("protocol", other, "TCP, UDP, SCTP (in capitals)")),
    }
}

/// A port's name: absent, or a DNS label.
pub(super) fn port_name(text: Option<Arc<str>>) -> Result<Arc<str>, FieldError> {
    match text {
        None => Ok("".into()),
        Some(name) if name.is_empty() || Label::new(&name).is_ok() => Ok(name),
        Some(name) => Err(FieldError::invalid("name", &name, "1-63 of a-z, 0-9 and '-' (a DNS label)")),
    }
}

/// An address that traffic can be sent to. An IPv4 address in IPv6 clothing (`::ffff:10.0.0.1`) is refused, as a new one is by
/// Kubernetes: it would be a second name for one destination.
pub(super) fn address(field: &str, text: &str) -> Result<IpAddr, FieldError> {
    usable_address(text).ok_or_else(|| FieldError::invalid(field, text, "a unicast IPv4 or IPv6 address"))
}

/// The same, where one that is not valid is merely left out.
pub(super) fn usable_address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    (is_unicast(&address) && !mapped).then_some(address)
}

/// A DNS subdomain (RFC 1123), what Kubernetes allows as the name of a Node or an EndpointSlice.
pub(super) fn subdomain(field: &str, text: Option<&Arc<str>>) -> Result<Arc<str>, FieldError> {
    const ALLOWED: &str = "1-253 of a-z, 0-9, '-' and '.', each part beginning and ending with a letter or digit";
    let Some(name) = text.filter(|name| !name.is_empty()) else { return Err(FieldError::missing(field, ALLOWED)) };
    let part = |part: &str| {
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = part.as_bytes();
        bytes.first().is_some_and(inner)
            && bytes.last().is_some_and(inner)
            && bytes.iter().all(|b| inner(b) || *b == b'-')
    };
    if name.len() <= 253 && name.split('.').all(part) {
        Ok(name.clone())
    } else {
        Err(FieldError::invalid(field, name, ALLOWED))
    }
}
