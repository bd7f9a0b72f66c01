//! The program `lbex`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match lbex::cli::parse(std::env::args_os(), std::env::vars_os()).and_then(lbex::run::run) {
        Ok(exit_code) => exit_code,
        Err(failure) => {
            eprintln!("lbex: {failure}");
            failure.exit_code()
        }
    }
}
