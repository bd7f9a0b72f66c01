//! What LBEX's end-to-end tests share: a real Kubernetes API server, echo backends, network
//! namespaces, and LBEX with its NGINX as processes.
//!
//! The tests see LBEX from outside: they write objects to an API server (or manifest files), send
//! real packets through a real NGINX, and look at what answers. The pieces:
//!
//! | module | holds |
//! | --- | --- |
//! | [`apiserver`] | etcd, kube-apiserver, and on demand the controller manager, the scheduler and kwok |
//! | [`liar`] | an API server that says what a test tells it to say |
//! | [`link`] | a way to a server that can be cut |
//! | [`objects`] | short ways to build and write Services, Nodes, EndpointSlices, Endpoints |
//! | [`backends`] | servers that answer with their own name over TCP and UDP, and clients that ask them |
//! | [`clock`] | a clock on the wall that jumps when a test says so |
//! | [`netns`] | network namespaces with addresses that may stand in EndpointSlices |
//! | [`lbex`] | LBEX as a process: health, metrics, log, signals, and no NGINX left behind |
//! | [`manifests`] | an LBEX on a folder of manifests, and who answers at its ports |
//! | [`nginx`] | the NGINX builds that tests run on, and the NGINX processes of a folder |
//! | [`process`] | programs that end when the test does, in whatever way it ends |
//! | [`wait`] | the one place that polls |
//! | [`ports`] | ports that are free and stay so |
//! | [`programs`] | where `tests/tools/install.sh` put what tests need |
//! | [`tls`] | certificates that are good or bad as wanted, and servers that speak TLS with them |
//! | [`http`] | GET and POST without a client library |
//!
//! **Nothing is left behind.** Each program runs below a small shell that waits for the end of its
//! standard input, whose other end the test process alone holds. When that closes, by a drop or because
//! the test process is gone (`kill -9` included), the shell kills the program and its process group.
//! Temporary folders and the NGINX that LBEX leaves running on purpose go the same way.
//!
//! ```no_run
//! use lbex_test_harness::{apiserver::ApiServer, backends::{Echo, tcp_ask}, lbex::Lbex, objects::{Objects, slice, service}};
//! use lbex_test_harness::{ports::free_port, wait::{eventually, SOON}};
//! # async fn example(binary: &std::path::Path) -> anyhow::Result<()> {
//! let server = ApiServer::shared().await?;
//! let objects = Objects::new(server.client().await?, server.namespace().await?);
//! let backend = Echo::new("a").start()?;
//! let port = free_port()?;
//! objects
//!     .create(&service("web").ask().tcp("http", 80, backend.port()).listen("http", port))
//!     .await?;
//! let lbex = Lbex::start(binary, ["--kubeconfig", server.kubeconfig_admin().to_str().unwrap()], [("LBEX_NAMESPACE", objects.namespace())]).await?;
//! lbex.wait_healthy().await?;
//! let answer = eventually("the Service answers", SOON, || tcp_ask(([127, 0, 0, 1], port).into())).await?;
//! assert_eq!(answer, "a");
//! # Ok(()) }
//! ```

pub mod apiserver;
pub mod backends;
pub mod clock;
pub mod http;
pub mod lbex;
pub mod liar;
pub mod link;
pub mod manifests;
pub mod netns;
pub mod nginx;
pub mod objects;
pub mod ports;
pub mod process;
pub mod programs;
pub mod tls;
pub mod wait;

mod scratch;

pub use scratch::Scratch;
