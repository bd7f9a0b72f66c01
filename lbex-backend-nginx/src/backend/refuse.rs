//! What is said to a Service's author, and to the engine.

use std::fmt::Display;

use lbex_core::backend::BackendError;

use super::choose::Why;
use crate::check::Complaint;
use crate::probe::Probe;
use crate::render::Claim;

/// An error after which trying again may help.
pub(super) fn retry(error: impl Display) -> BackendError {
    BackendError::Retry(error.to_string())
}

/// Why a Service cannot have a socket; `None` if it can.
pub(super) fn cannot_listen(claim: Claim, probe: &Probe) -> Option<Why> {
    let code = match probe {
        Probe::Free => return None,
        Probe::InUse { .. } => "PortInUse",
        Probe::NoPermission { .. } => "PermissionDenied",
        Probe::AddressNotAvailable => "AddressNotAvailable",
        Probe::Failed { .. } => "ListenFailed",
    };
    let message = match probe {
        Probe::NoPermission { .. } => format!("LBEX has no permission to listen on {claim}: {probe}"),
        Probe::InUse { .. } => format!("{claim} is {probe}"),
        _ => format!("NGINX cannot listen on {claim}: {probe}"),
    };
    // A port may become free, an address may come, the first unprivileged port may be lowered.
    Some(Why { code, message, retry: true })
}

/// Why a Service's file is not used.
pub(super) fn refused(complaint: &Complaint) -> Why {
    Why {
        code: "ConfigurationRefused",
        message: format!("NGINX refuses the configuration of this Service: {}", one_line(&complaint.message)),
        retry: !complaint.lasting(),
    }
}

/// A socket that was free when it was tried, and is not any more.
pub(super) fn not_opened(claim: Claim, complaint: &Complaint) -> Why {
    let message = one_line(&complaint.message);
    let code = match () {
        () if message.contains("(98:") => "PortInUse",
        () if message.contains("(13:") => "PermissionDenied",
        () if message.contains("(99:") => "AddressNotAvailable",
        () if message.contains("(24:") => "FileLimit",
        () => "ListenFailed",
    };
    Why { code, message: format!("NGINX cannot listen on {claim}: {message}"), retry: true }
}

/// There was no time to find out.
pub(super) fn undecided() -> Why {
    Why {
        code: "ConfigurationRefused",
        message: "NGINX refuses the new configuration, and LBEX has not yet found out because of which Services; this one is among \
                  those that changed"
            .to_owned(),
        retry: true,
    }
}

/// NGINX refuses, and it is no Service's fault that LBEX could name.
pub(super) fn given_up(complaints: &[Complaint]) -> BackendError {
    let words: Vec<String> = complaints.iter().map(|complaint| one_line(&complaint.message)).collect();
    BackendError::Retry(format!(
        "NGINX refuses the configuration, and what it served before it serves still: {}",
        words.join("; ")
    ))
}

/// NGINX's words, fit for a log line.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.chars().count() <= LONGEST { clean } else { clean.chars().take(LONGEST).chain("...".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Transport;

    #[test]
    fn a_right_that_is_missing_may_be_given_while_lbex_runs() {
        let claim = Claim { transport: Transport::Tcp, address: "0.0.0.0:80".parse().expect("an address") };
        let why = cannot_listen(claim, &Probe::NoPermission { first_unprivileged: 1024 }).expect("a reason");
        assert!(why.retry && why.message.contains("ip_unprivileged_port_start"), "{why:?}");
    }
}
