//! What of LBEX a binary may be without.

/// What a setting or a command is of use to. A binary that is without it shows neither, and says so where one is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Every LBEX.
    Every,
    /// The backend `nginx`.
    Nginx,
    /// The backend `nginx-plus`.
    NginxPlus,
    /// Plugins.
    Plugins,
    /// Backends that are not LBEX's own: plugins, and those that somebody has linked in.
    Others,
}

impl Part {
    /// The part that a backend called `name` is, if it is one of LBEX's own.
    pub(crate) fn of_backend(name: &str) -> Option<Self> {
        [Self::Nginx, Self::NginxPlus].into_iter().find(|part| part.backend() == Some(name))
    }

    /// What `--backend` calls it, where it is one backend.
    pub(super) fn backend(self) -> Option<&'static str> {
        match self {
            Self::Nginx => Some("nginx"),
            Self::NginxPlus => Some("nginx-plus"),
            Self::Every | Self::Plugins | Self::Others => None,
        }
    }

    /// What a binary says that is without it.
    pub(crate) fn is_missing(self) -> &'static str {
        match self {
            Self::Every => "this binary is without it",
            Self::Nginx => "this binary is without the backend nginx, which the Cargo feature backend-nginx brings",
            Self::NginxPlus => {
                "this binary is without the backend nginx-plus, which the Cargo feature backend-nginx-plus brings"
            }
            Self::Plugins | Self::Others => "this binary loads no plugins, which the Cargo feature plugins brings",
        }
    }
}
