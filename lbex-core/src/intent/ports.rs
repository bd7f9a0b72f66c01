//! Which of a Service's ports are wanted, and where they listen (contract sections 2 and 4).

use super::{Asks, PortIntent};
use crate::annotations as names;
use crate::model::{Service, ServicePort};
use crate::rejection::{Reason, Rejection};
use crate::settings::PlanSettings;

/// The ports that can be served as far as the Service itself says; the others are told.
pub(super) fn wanted(
    service: &Service,
    asks: Asks,
    settings: &PlanSettings,
    found: &mut Vec<Rejection>,
) -> Vec<PortIntent> {
    if service.ports.len() > 1 {
        super::annotated::without_effect(service, names::PORT, super::annotated::ONE_PORT_ONLY, found);
    }
    let mut ports = Vec::new();
    for (index, port) in service.ports.iter().enumerate() {
        match wanted_port(service, asks, settings, index, port, found) {
            Ok(intent) => ports.push(intent),
            Err(reason) => found.push(Rejection::of_port(&port.label(), reason)),
        }
    }
    ports
}

fn wanted_port(
    service: &Service,
    asks: Asks,
    settings: &PlanSettings,
    index: usize,
    port: &ServicePort,
    found: &mut Vec<Rejection>,
) -> Result<PortIntent, Reason> {
    let protocol = port.protocol.ok_or(Reason::UnsupportedProtocol)?;
    if !settings.capabilities.carries(protocol) {
        return Err(Reason::ProtocolUnsupported { protocol, backend: settings.capabilities.description.clone() });
    }
    let listen = match annotated(service, port, found)? {
        Some(listen) => listen,
        None if settings.require_port && asks != Asks::ByClass => {
            return Err(Reason::PortAnnotationMissing { name: port.name.to_string() });
        }
        None => port.port,
    };
    if !settings.allowed_ports.contains(listen) {
        return Err(Reason::PortNotAllowed { port: listen, allowed: settings.allowed_ports.to_string() });
    }
    let collides = |address| settings.reserved.iter().find(|r| r.covers(protocol, address, listen));
    if let Some(reserved) = settings.listen.iter().find_map(|&address| collides(address)) {
        let (what, address) = (reserved.what, reserved.address);
        return Err(Reason::PortReserved { protocol, port: listen, what, address });
    }
    Ok(PortIntent { port: port.clone(), index, protocol, listen })
}

/// The listener port that annotations give: that of the port's name wins over `unnamed`, that over `loadbalancer.lbex/port`.
fn annotated(service: &Service, port: &ServicePort, found: &mut Vec<Rejection>) -> Result<Option<u16>, Reason> {
    let mut spellings = Vec::with_capacity(3);
    if !port.name.is_empty() {
        spellings.push(format!("{}{}", names::PORT_PREFIX, port.name));
    }
    if service.ports.len() == 1 {
        spellings.push(format!("{}{}", names::PORT_PREFIX, names::UNNAMED));
        spellings.push(names::PORT.to_owned());
    }
    spellings.dedup();
    let given = spellings.into_iter().filter_map(|name| {
        let value = service.annotations.get(name.as_str())?;
        Some((name, value.trim()))
    });
    let mut used: Option<(String, u16)> = None;
    for (name, value) in given {
        match &used {
            None => used = Some((name.clone(), parse_port(&name, value)?)),
            Some((_, listen)) if parse_port(&name, value) == Ok(*listen) => {}
            Some((annotation, listen)) => {
                let reason = Reason::PortsDiffer {
                    used: annotation.clone(),
                    used_port: *listen,
                    other: name,
                    other_value: value.to_owned(),
                };
                found.push(Rejection::of_port(&port.label(), reason));
            }
        }
    }
    Ok(used.map(|(_, listen)| listen))
}

fn parse_port(annotation: &str, value: &str) -> Result<u16, Reason> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    let parsed = digits.then(|| value.parse::<u16>().ok()).flatten().filter(|&p| p > 0);
    parsed.ok_or_else(|| Reason::InvalidPort { annotation: annotation.to_owned(), value: value.to_owned() })
}
