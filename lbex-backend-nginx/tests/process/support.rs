//! An NGINX in a prefix of its own, for tests of processes.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use lbex_backend_nginx::binary::{NginxBinary, NginxChoice, find};
use lbex_backend_nginx::prefix::{Layout, Prefix};
use lbex_backend_nginx::process::{Nginx, ProcessError, StartOptions, Started};
use nix::unistd::geteuid;

use crate::net::{free_port, own_address};

/// Long enough for the slowest machine; nothing waits this long unless it fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A prefix with an NGINX that ends with this value.
pub(crate) struct Site {
    pub(crate) nginx: Nginx,
    pub(crate) binary: NginxBinary,
    pub(crate) prefix: Prefix,
    // Removed last.
    folder: tempfile::TempDir,
}

impl Site {
    pub(crate) async fn new(choice: NginxChoice) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Workers run as another user and open the log again by its path.
        let open = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        fs::set_permissions(folder.path(), open).expect("opened");
        let prefix = Prefix::open(&folder.path().join("p")).expect("a prefix");
        let candidate = find(&choice).await.expect("NGINX (Debian: apt-get install nginx libnginx-mod-stream)");
        let binary = candidate.install(prefix.layout()).await.expect("installed");
        Self { nginx: Nginx::new(prefix.layout().clone()), binary, prefix, folder }
    }

    pub(crate) fn layout(&self) -> &Layout {
        self.prefix.layout()
    }

    /// A folder beside the prefix.
    pub(crate) fn outside(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Puts a configuration in place that answers with `generation`, and has these stream servers besides.
    pub(crate) fn configure(&self, generation: &str, servers: &str) {
        self.configure_for(&self.binary, generation, servers);
    }

    pub(crate) fn configure_for(&self, binary: &NginxBinary, generation: &str, servers: &str) {
        let mut text = String::new();
        for module in binary.stream.modules_to_load() {
            writeln!(text, "load_module {};", module.display()).expect("text");
        }
        if geteuid().is_root() {
            text.push_str("user nobody nogroup;\n");
        }
        let socket = self.layout().generation_socket();
        writeln!(
            text,
            "worker_processes 2;\npid run/nginx.pid;\nerror_log logs/error.log notice;\n\
             events {{ worker_connections 256; }}\n\
             stream {{\n server {{ listen unix:{}; return \"{generation}\"; }}\n{servers}\n}}",
            socket.display()
        )
        .expect("text");
        fs::write(self.layout().main_conf(), text).expect("written");
    }

    pub(crate) fn options(generation: &str) -> StartOptions {
        StartOptions { open_files: 1024, generation: generation.to_owned(), limit: LIMIT }
    }

    pub(crate) async fn start(&self, generation: &str) -> Result<Started, ProcessError> {
        self.nginx.start(&self.binary, &Self::options(generation)).await
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.layout().error_log()).unwrap_or_default()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let nginx = self.nginx.clone();
        let stopped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(nginx.stop(Duration::ZERO))
        });
        if std::thread::panicking() {
            eprintln!("--- error.log\n{}", self.log());
        } else {
            stopped.join().expect("no panic").expect("stopped");
        }
    }
}

/// `listen` and `return` of a TCP server.
pub(crate) fn returns(address: SocketAddr, text: &str) -> String {
    format!(" server {{ listen {address}; return \"{text}\"; }}\n")
}

/// `listen` and `proxy_pass` of a TCP server.
pub(crate) fn passes(address: SocketAddr, to: SocketAddr) -> String {
    format!(" server {{ listen {address}; proxy_pass {to}; }}\n")
}

/// A TCP address where nothing listens, on a part of loopback that no other test uses.
pub(crate) fn free_address() -> SocketAddr {
    let home = own_address();
    SocketAddr::new(home, free_port(home))
}

/// What a server says to a new client before it closes.
pub(crate) fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut client = TcpStream::connect_timeout(&address, LIMIT)?;
    client.set_read_timeout(Some(LIMIT))?;
    let mut text = String::new();
    client.read_to_string(&mut text)?;
    Ok(text)
}

/// A TCP server in this process that gives back every byte, on as many connections as come.
pub(crate) fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind((own_address(), 0)).expect("bound");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = &client;
                let mut writer = &client;
                std::io::copy(&mut reader, &mut writer)
            });
        }
    });
    address
}

/// A connection through NGINX that stays.
pub(crate) struct Held(TcpStream);

impl Held {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, LIMIT).expect("connected");
        stream.set_read_timeout(Some(LIMIT)).expect("set");
        let mut held = Self(stream);
        held.talk().expect("it talks");
        held
    }

    /// Sends a byte and waits for it to come back.
    pub(crate) fn talk(&mut self) -> std::io::Result<()> {
        let mut byte = [0];
        self.0.write_all(b"x")?;
        self.0.read_exact(&mut byte)
    }
}

/// Makes a module with each of these tests for the embedded NGINX and for the system's.
macro_rules! on_both_nginxes {
    ($($test:ident),+ $(,)?) => {
        #[cfg(feature = "embedded")]
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(lbex_backend_nginx::binary::NginxChoice::Embedded).await;
            })+
        }
        mod system {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(lbex_backend_nginx::binary::NginxChoice::System).await;
            })+
        }
    };
}
pub(crate) use on_both_nginxes;
