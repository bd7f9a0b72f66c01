//! Stands in for NGINX Plus in LBEX's tests: see `lbex_plus_standin::nginx`.

fn main() -> std::process::ExitCode {
    lbex_plus_standin::nginx::main()
}
