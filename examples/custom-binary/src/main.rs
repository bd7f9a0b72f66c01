//! LBEX with a proxy of one's own linked in.

mod relay;

use std::process::ExitCode;

use lbex::registry::Backends;

fn main() -> ExitCode {
    // `Backends::built_in()` instead would have those of LBEX's Cargo features too: NGINX beside the relay.
    lbex::main(&Backends::none().with(relay::InProcess))
}
