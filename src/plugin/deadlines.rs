//! How long calls may take.

use std::time::Duration;

/// How long each call may take. After that it is cancelled, and after `grace` the plugin counts as hanging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Loading the library, and opening a backend. Default 10 s.
    pub open: Duration,
    /// Applying a desired state or what changed of it. Default 60 s.
    pub apply: Duration,
    /// Changing servers without a reload. Default 5 s.
    pub push: Duration,
    /// Looking at the proxy. Default 900 ms.
    pub observe: Duration,
    /// Ending the proxy, beyond the time that its connections have. Default 10 s.
    pub stop: Duration,
    /// What a call gets after it was cancelled; a look gets a tenth. Default 5 s.
    pub grace: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            open: Duration::from_secs(10),
            apply: Duration::from_secs(60),
            push: Duration::from_secs(5),
            observe: Duration::from_millis(900),
            stop: Duration::from_secs(10),
            grace: Duration::from_secs(5),
        }
    }
}
