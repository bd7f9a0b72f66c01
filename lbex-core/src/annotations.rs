//! The annotations of contract section 4, by name.

/// Asks for LBEX when its value is [`CLASS_VALUE`].
pub const CLASS: &str = "kubernetes.io/loadbalancer-class";
/// The value of [`CLASS`] that asks for LBEX.
pub const CLASS_VALUE: &str = "loadbalancer-lbex";
/// Followed by a Service port's name (or [`UNNAMED`]): the port that LBEX listens on for it.
pub const PORT_PREFIX: &str = "loadbalancer-port.lbex/";
/// Stands for the port's name in a one-port Service.
pub const UNNAMED: &str = "unnamed";
/// The original's older spelling of a one-port Service's listener port.
pub const PORT: &str = "loadbalancer.lbex/port";
/// `round_robin`, `least_conn` or `least_time`.
pub const ALGORITHM: &str = "loadbalancer.lbex/algorithm";
/// What `least_time` measures.
pub const METHOD: &str = "loadbalancer.lbex/method";
/// DNS resolvers for ExternalName.
pub const RESOLVER: &str = "loadbalancer.lbex/resolver";
/// How long a connection attempt to an endpoint may take.
pub const CONNECT_TIMEOUT: &str = "loadbalancer.lbex/connect-timeout";
/// After how much silence a connection or UDP session ends.
pub const IDLE_TIMEOUT: &str = "loadbalancer.lbex/idle-timeout";
/// `node`, `pod` or `cluster-ip`.
pub const UPSTREAM_TYPE: &str = "loadbalancer.lbex/upstream-type";
/// `host` or `all`.
pub const NODE_SET: &str = "loadbalancer.lbex/node-set";
/// `internal` or `external`.
pub const NODE_ADDRESS_TYPE: &str = "loadbalancer.lbex/node-address-type";
/// The pool of LBEX instances that serves the Service.
pub const POOL: &str = "loadbalancer.lbex/service-pool";

/// Every annotation under `loadbalancer.lbex/` that means something.
pub const KNOWN: [&str; 10] = [
    PORT,
    ALGORITHM,
    METHOD,
    RESOLVER,
    CONNECT_TIMEOUT,
    IDLE_TIMEOUT,
    UPSTREAM_TYPE,
    NODE_SET,
    NODE_ADDRESS_TYPE,
    POOL,
];

/// Whether LBEX reads an annotation of this name at all. Those under its two prefixes are kept even when unknown, so that a
/// misspelt one can be told to its author.
pub fn is_read(name: &str) -> bool {
    name == CLASS || name.starts_with(PORT_PREFIX) || name.starts_with("loadbalancer.lbex/")
}
