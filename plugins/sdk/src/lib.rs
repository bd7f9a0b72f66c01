//! Write a backend for LBEX in Rust: implement [`Backend`], name the type in one line, and build a `cdylib`.
//!
//! ```
//! use lbex_plugin_sdk::{Backend, Call, Capabilities, Changes, Error, Host, Observation, Outcome, Settings, State};
//!
//! struct Nothing;
//!
//! impl Backend for Nothing {
//!     const NAME: &'static str = "nothing";
//!
//!     fn capabilities() -> Capabilities {
//!         Capabilities { description: "a proxy that carries nothing".to_owned(), ..Capabilities::default() }
//!     }
//!
//!     fn open(_: Settings, _: Host) -> Result<Self, Error> {
//!         Ok(Self)
//!     }
//!
//!     fn apply(&mut self, _: &State, _: &Changes, _: &Call) -> Result<Outcome, Error> {
//!         Ok(Outcome::default())
//!     }
//!
//!     fn observe(&mut self, _: &Call) -> Result<Observation, Error> {
//!         Ok(Observation { healthy: true, detail: "carries nothing".to_owned(), ..Observation::default() })
//!     }
//! }
//!
//! lbex_plugin_sdk::plugin!(Nothing);
//! # fn main() {}
//! ```
//!
//! What the SDK takes off a plugin: reading and writing documents, putting deltas together to the whole state and asking for the
//! whole where one does not fit, deadlines and cancellation ([`Call`]), panics (none crosses the border: the backend is then closed and
//! opened anew), memory that crosses, and logs: what the plugin says through the crate `tracing` is in LBEX's log.
//!
//! A backend's methods are called one at a time, on one thread. It may have threads, and a runtime, of its own: create it in
//! [`Backend::open`], use it with `block_on` in the methods. LBEX shares none with it.

#[cfg(not(panic = "unwind"))]
compile_error!(
    "a plugin has to be built with panic = \"unwind\": a panic that aborts would end LBEX; take `panic = \"abort\"` out of the profile"
);

mod backend;
mod call;
#[doc(hidden)]
pub mod entry;
mod host;
mod instance;
mod program;
mod state;
#[cfg(feature = "tracing")]
mod subscriber;

pub use backend::{Backend, Error, Outcome};
pub use call::Call;
pub use host::{Host, Level};
pub use lbex_plugin_abi as abi;
pub use lbex_plugin_abi::documents::{
    Action, Algorithm, Capabilities, Dns, Instead, Listener, ListenerName, Method, Observation, Protocol, Refusal,
    ReloadReason, ReservedPort, Server, Service, Settings, Until,
};
pub use program::{Ended, find_program};
pub use state::{Change, Changes, State};

/// The author's guide: what it shows builds.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/plugins.md")]
struct Guide;

/// Makes a type that implements [`Backend`] the plugin that this `cdylib` is. The plugin's version is the crate's.
#[macro_export]
macro_rules! plugin {
    ($backend:ty) => {
        #[doc(hidden)]
        #[allow(unsafe_code, unreachable_pub, missing_docs)]
        #[unsafe(no_mangle)]
        pub extern "C" fn lbex_plugin_query() -> *const $crate::abi::tables::PluginInfo {
            static INFO: $crate::entry::Info = $crate::entry::Info::new();
            INFO.table::<$backend>(env!("CARGO_PKG_VERSION"))
        }

        #[doc(hidden)]
        #[allow(unsafe_code, unreachable_pub, missing_docs, clippy::missing_safety_doc)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn lbex_plugin_open(
            host: *const $crate::abi::tables::Host,
            settings: *const u8,
            settings_len: usize,
            backend: *mut *const $crate::abi::tables::Backend,
            reply: *mut $crate::abi::tables::Buf,
        ) -> i32 {
            unsafe { $crate::entry::open::<$backend>(host, settings, settings_len, backend, reply) }
        }
    };
}
