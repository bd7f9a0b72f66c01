//! How LBEX ends when it does not end as asked.

use std::fmt;
use std::process::ExitCode;

/// Why LBEX ends, in words, and its exit code (contract section 2).
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    error: anyhow::Error,
}

/// The exit code of an LBEX that ends because of a defect of its own: a panic, a part that is gone or stuck.
pub const DEFECT: u8 = 101;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Exit code 1.
    Cluster,
    /// Exit code 2.
    Usage,
    /// Exit code [`DEFECT`].
    Defect,
}

impl Failure {
    /// The cluster cannot be reached or refuses, or its access data are bad (a kubeconfig, a service account): exit code 1.
    /// Also for `lbex validate` where something is wrong with a Service.
    pub fn cluster(error: impl Into<anyhow::Error>) -> Self {
        Self { kind: Kind::Cluster, error: error.into() }
    }

    /// Wrong usage or settings, no usable NGINX, the prefix or a port of LBEX's own taken: exit code 2.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { kind: Kind::Usage, error: error.into() }
    }

    /// A part of LBEX is gone that never should be: exit code [`DEFECT`].
    pub fn defect(error: impl Into<anyhow::Error>) -> Self {
        Self { kind: Kind::Defect, error: error.into() }
    }

    /// The number of the exit code.
    pub fn code(&self) -> u8 {
        match self.kind {
            Kind::Cluster => 1,
            Kind::Usage => 2,
            Kind::Defect => DEFECT,
        }
    }

    /// The exit code.
    pub fn exit_code(&self) -> ExitCode {
        self.code().into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // With what caused it, on one line.
        write!(f, "{:#}", self.error)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl From<crate::settings::SettingErrors> for Failure {
    fn from(errors: crate::settings::SettingErrors) -> Self {
        Self::usage(errors)
    }
}

impl From<crate::logging::LoggingError> for Failure {
    fn from(error: crate::logging::LoggingError) -> Self {
        Self::usage(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_causes() {
        let inner = std::io::Error::other("connection refused");
        let failure = Failure::cluster(anyhow::Error::new(inner).context("the API server cannot be reached"));
        assert_eq!(
            (failure.code(), failure.to_string().as_str()),
            (1, "the API server cannot be reached: connection refused")
        );
        assert_eq!(Failure::usage(anyhow::anyhow!("no")).code(), 2);
    }
}
