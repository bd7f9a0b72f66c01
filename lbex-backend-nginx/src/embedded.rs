//! The NGINX that this build of LBEX carries, if it carries one (Cargo feature `embedded`).

/// An NGINX inside the LBEX binary.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Embedded {
    /// The executable.
    pub bytes: &'static [u8],
    /// Its version, for instance `1.28.3`.
    pub version: &'static str,
    /// What it prints when it is run with `-V`.
    pub report: &'static str,
    /// SHA-256 of `bytes`, 64 hexadecimal digits.
    pub sha256: &'static str,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("version", &self.version).field("sha256", &self.sha256).finish_non_exhaustive()
    }
}

impl Embedded {
    /// The name of its file in the prefix's `bin/`: `nginx-VERSION-HASH`, with the first 12 digits of the hash,
    /// so that two builds never overwrite each other.
    pub fn file_name(&self) -> String {
        format!("nginx-{}-{}", self.version, &self.sha256[..12])
    }
}

/// The NGINX that this build carries; `None` if it was built without the feature `embedded`.
pub fn embedded() -> Option<Embedded> {
    #[cfg(feature = "embedded")]
    {
        Some(Embedded {
            bytes: lbex_embedded_nginx::NGINX,
            version: lbex_embedded_nginx::VERSION,
            report: lbex_embedded_nginx::REPORT,
            sha256: lbex_embedded_nginx::SHA256,
        })
    }
    #[cfg(not(feature = "embedded"))]
    {
        None
    }
}
