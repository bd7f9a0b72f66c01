//! The program `lbex`.

use std::process::ExitCode;

use lbex::registry::Backends;

fn main() -> ExitCode {
    lbex::main(&Backends::built_in())
}
