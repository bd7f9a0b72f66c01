//! A server of a stream upstream, as the API reads and writes it.

use std::net::SocketAddr;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{ApiError, Code};

/// A server of a stream upstream. As JSON it is what the API answers with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Server {
    /// Its number within the upstream; never used again.
    pub id: u64,
    /// Address and port.
    pub server: SocketAddr,
    /// Its share. Default 1.
    pub weight: u32,
    /// The most connections at a time; 0, the default, is no limit.
    pub max_conns: u32,
    /// After how many failures it is left out for a time; 0 is never. Default 1.
    pub max_fails: u32,
    /// For how long, and within how long the failures count. Default `10s`.
    pub fail_timeout: String,
    /// How long its share takes to grow after it came back. Default `0s`.
    pub slow_start: String,
    /// Used only while no other is there.
    pub backup: bool,
    /// No new connections; those that exist go on.
    pub down: bool,
    /// It came from a domain name of the configuration: its address cannot be changed, and it cannot be removed.
    #[serde(skip)]
    pub immutable: bool,
}

impl Server {
    /// A server with the API's defaults.
    pub fn new(id: u64, server: SocketAddr) -> Self {
        Self {
            id,
            server,
            weight: 1,
            max_conns: 0,
            max_fails: 1,
            fail_timeout: "10s".to_owned(),
            slow_start: "0s".to_owned(),
            backup: false,
            down: false,
            immutable: false,
        }
    }

    /// Sets what a JSON object says.
    fn set(&mut self, object: &Map<String, Value>) -> Result<(), ApiError> {
        for (name, value) in object {
            match name.as_str() {
                "server" => self.server = address(value)?,
                "weight" => self.weight = number(value, 1).ok_or_else(|| invalid(Code::UpstreamBadWeight, name))?,
                "max_conns" => {
                    self.max_conns = number(value, 0).ok_or_else(|| invalid(Code::UpstreamBadMaxConns, name))?;
                }
                "max_fails" => {
                    self.max_fails = number(value, 0).ok_or_else(|| invalid(Code::UpstreamBadMaxFails, name))?;
                }
                "fail_timeout" => {
                    self.fail_timeout = time(value).ok_or_else(|| invalid(Code::UpstreamBadFailTimeout, name))?;
                }
                "slow_start" => {
                    self.slow_start = time(value).ok_or_else(|| invalid(Code::UpstreamBadSlowStart, name))?;
                }
                "backup" => self.backup = truth(name, value)?,
                "down" => self.down = truth(name, value)?,
                other => return Err(Code::UpstreamConfFormatError.because(format!("unknown parameter \"{other}\""))),
            }
        }
        Ok(())
    }

    /// A new server from the body of a POST.
    pub(super) fn posted(id: u64, object: &Map<String, Value>) -> Result<Self, ApiError> {
        let address = match object.get("server") {
            Some(value) => address(value)?,
            None => return Err(Code::UpstreamConfFormatError.because("missing \"server\" argument")),
        };
        let mut server = Self::new(id, address);
        server.set(object)?;
        Ok(server)
    }

    /// This server after the body of a PATCH.
    pub(super) fn patched(&self, object: &Map<String, Value>) -> Result<Self, ApiError> {
        for fixed in ["id", "backup", "service"] {
            if object.contains_key(fixed) {
                return Err(Code::UpstreamConfFormatError.because(format!("unknown parameter \"{fixed}\"")));
            }
        }
        let mut server = self.clone();
        server.set(object)?;
        if self.immutable && server.server != self.server {
            let text = format!("server \"{}\" address is immutable", self.id);
            return Err(Code::UpstreamServerImmutable.because(text));
        }
        Ok(server)
    }
}

/// Reads a body: one JSON object without objects or lists inside.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let value: Value = serde_json::from_slice(body).map_err(|_| Code::JsonError.because("json error"))?;
    let Value::Object(object) = value else {
        return Err(Code::UpstreamConfFormatError.because("nested object or list"));
    };
    if object.values().any(|value| value.is_object() || value.is_array()) {
        return Err(Code::UpstreamConfFormatError.because("nested object or list"));
    }
    Ok(object)
}

fn invalid(code: Code, name: &str) -> ApiError {
    code.because(format!("invalid \"{name}\""))
}

fn address(value: &Value) -> Result<SocketAddr, ApiError> {
    let Value::String(text) = value else {
        return Err(Code::UpstreamConfFormatError.because("invalid \"server\" value"));
    };
    // The real one takes names too, with a resolver; the stand-in has none.
    text.parse().map_err(|_| Code::UpstreamBadAddress.because(format!("\"{text}\" while parsing")))
}

fn number(value: &Value, least: u32) -> Option<u32> {
    value.as_u64().and_then(|number| number.try_into().ok()).filter(|number| *number >= least)
}

fn truth(name: &str, value: &Value) -> Result<bool, ApiError> {
    value.as_bool().ok_or_else(|| Code::UpstreamConfFormatError.because(format!("invalid \"{name}\" value")))
}

/// A time in NGINX's words: a number with or without a unit, or several with units, the larger first.
fn time(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits == 0 {
            return None;
        }
        rest = &rest[digits..];
        let unit = ["ms", "s", "m", "h", "d", "w", "M", "y"].into_iter().find(|unit| rest.starts_with(unit));
        rest = &rest[unit.map_or(0, str::len)..];
    }
    (!text.is_empty()).then(|| text.to_owned())
}
