//! The NGINX that LBEX carries inside its binary.
//!
//! Stream only (TCP and UDP, no HTTP), with the realip module and thread support; it needs libc and nothing
//! else. It is built by this crate's build script from the source in the crate `nginx-src`, and lies here as
//! bytes. `lbex-backend-nginx` writes it into LBEX's prefix and runs it from there. Its licence is in the file
//! `NOTICE` beside this crate, and in [`NOTICE`].

/// The executable, an ELF file for the machine that LBEX was built for.
pub const NGINX: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/nginx"));

/// NGINX's version, for instance `1.28.3`.
pub const VERSION: &str = env!("LBEX_NGINX_VERSION");

/// What [`NGINX`] prints when it is run with `-V`. Its first line names LBEX's changes:
/// `nginx version: nginx/1.28.3 (lbex immediate-push ...)`.
pub const REPORT: &str = include_str!(concat!(env!("OUT_DIR"), "/nginx-V.txt"));

/// SHA-256 of [`NGINX`], in 64 lower-case hexadecimal digits. Two builds with one version (another compiler,
/// another patch) differ in it.
pub const SHA256: &str = env!("LBEX_NGINX_SHA256");

/// NGINX's licence, which must travel with every copy of LBEX that carries it.
pub const NOTICE: &str = include_str!("../NOTICE");

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn carries_a_stream_only_nginx_that_names_its_version_and_no_path_of_the_building_machine() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("nginx");
        std::fs::write(&path, NGINX).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");

        let output = Command::new(&path).arg("-V").output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(&format!("nginx version: nginx/{VERSION}")), "{text}");
        assert!(text.contains("--with-stream ") && text.contains("--without-http "), "{text}");

        let build_folder = env!("OUT_DIR").as_bytes();
        assert!(!NGINX.windows(build_folder.len()).any(|window| window == build_folder));
    }

    #[test]
    fn the_hash_is_sixty_four_hexadecimal_digits_and_the_notice_is_nginxs_licence() {
        assert_eq!(SHA256.len(), 64);
        assert!(SHA256.bytes().all(|b| b.is_ascii_hexdigit()));
        assert!(NOTICE.contains("Igor Sysoev"));
    }
}
