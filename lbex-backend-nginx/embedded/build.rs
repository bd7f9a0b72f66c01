//! Builds the NGINX that LBEX carries: stream only, no HTTP, no OpenSSL, no PCRE, libc alone.
//!
//! The source comes from the crate `nginx-src`. Its own `build()` wants OpenSSL and PCRE, so NGINX's
//! `auto/configure` and `make` run here, on a copy in `OUT_DIR`: the registry's copy is never written to.
//! The copy gets LBEX's changes (`patches/`, docs/embedded-nginx.md).
//!
//! Needs a C compiler (`CC_` with the target behind it, else `CC`, else `cc`), `make` (`MAKE`, else `make`) and `sh`. For a target of
//! another machine also what runs its programs here (`CARGO_TARGET_..._RUNNER`, such as `qemu-aarch64-static`): NGINX's `configure` runs
//! what it compiles. For a musl target NGINX is linked statically, and needs no libc.

mod patches;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs, io};

use sha2::{Digest, Sha256};

/// Set in the environment of this program when it runs itself to learn where `nginx-src` lies.
const PRINT_SOURCE: &str = "LBEX_EMBEDDED_PRINT_SOURCE";

/// The arguments of NGINX's `configure`, one a line. The paths are those of a running LBEX, which gives its prefix with
/// `-p` and everything else relative to it, so that nothing of the building machine is compiled in.
const CONFIGURE: &str = include_str!("configure.args");

/// Names of changes to leave out, separated by commas, to see what NGINX does without them. `nginx -V` names what is in.
const WITHOUT: &str = "LBEX_NGINX_WITHOUT";

/// The folder of LBEX's changes.
const PATCHES: &str = "patches";

fn main() -> ExitCode {
    if env::var_os(PRINT_SOURCE).is_some() {
        nginx_src::print_cargo_metadata();
        return ExitCode::SUCCESS;
    }
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("the embedded NGINX cannot be built: {message}");
            eprintln!("(to build LBEX without it: --no-default-features --features backend-nginx)");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let target = Target::wanted()?;
    for name in ["CC", "MAKE", "CFLAGS", WITHOUT, &target.compiler_variable(), &target.runner_variable()] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    for path in ["build.rs", "patches.rs", "configure.args", PATCHES] {
        println!("cargo::rerun-if-changed={path}");
    }
    let source = source_folder()?;
    println!("cargo::rerun-if-changed={}", source.join("src/core/nginx.h").display());
    let out = PathBuf::from(variable("OUT_DIR")?);
    let work = out.join("nginx-source");
    if work.exists() {
        fs::remove_dir_all(&work).map_err(|e| failed("remove", &work, &e))?;
    }
    copy_folder(&source, &work)?;

    let changes = change(&work)?;
    configure(&work, &changes, &target)?;
    make(&work)?;

    let binary = work.join("objs/nginx");
    let bytes = fs::read(&binary).map_err(|e| failed("read", &binary, &e))?;
    let carried = out.join("nginx");
    fs::write(&carried, &bytes).map_err(|e| failed("write", &carried, &e))?;
    let report = out.join("nginx-V.txt");
    fs::write(&report, report_of(&binary, &target)?).map_err(|e| failed("write", &report, &e))?;
    println!("cargo::rustc-env=LBEX_NGINX_VERSION={}", version_of(&work)?);
    println!("cargo::rustc-env=LBEX_NGINX_SHA256={}", hex(&Sha256::digest(&bytes)));
    fs::remove_dir_all(&work).map_err(|e| failed("remove", &work, &e))
}

/// What NGINX is built for.
struct Target {
    triple: String,
    /// No libc is needed where it runs.
    is_static: bool,
    /// The command before programs for it; `None` where this machine runs them itself.
    runner: Option<String>,
}

impl Target {
    fn wanted() -> Result<Self, String> {
        let (host, triple) = (variable("HOST")?, variable("TARGET")?);
        if !triple.contains("linux") {
            return Err(format!("LBEX runs on Linux, the target is {triple}"));
        }
        let machine = |triple: &str| triple.split('-').next().unwrap_or_default().to_owned();
        let is_foreign = machine(&host) != machine(&triple);
        let mut target = Self { is_static: triple.ends_with("musl"), triple, runner: None };
        if is_foreign {
            let name = target.runner_variable();
            target.runner = env::var(&name).ok().filter(|runner| !runner.trim().is_empty());
            if target.runner.is_none() {
                return Err(format!(
                    "this machine is {host}, the target is {}, and NGINX's configure runs what it compiles: {name} has to name what \
                     runs such programs here, for instance qemu-aarch64-static (Debian: apt-get install qemu-user-static)",
                    target.triple
                ));
            }
        }
        Ok(target)
    }

    /// The environment variable that names the C compiler of this target alone.
    fn compiler_variable(&self) -> String {
        format!("CC_{}", self.triple.replace('-', "_"))
    }

    /// Cargo's own variable for what runs programs of this target.
    fn runner_variable(&self) -> String {
        format!("CARGO_TARGET_{}_RUNNER", self.triple.to_ascii_uppercase().replace('-', "_"))
    }

    /// The C compiler that the environment names.
    fn compiler(&self) -> Option<String> {
        let named = |name: &str| env::var(name).ok().filter(|compiler| !compiler.trim().is_empty());
        named(&self.compiler_variable()).or_else(|| named("CC"))
    }

    /// A command that runs this program.
    fn run(&self, program: &Path) -> Command {
        let Some(runner) = &self.runner else { return Command::new(program) };
        let mut words = runner.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).arg(program);
        command
    }

    /// An argument of `configure` as this target needs it.
    fn adapt(&self, argument: &str) -> String {
        if !self.is_static {
            return argument.to_owned();
        }
        if let Some(options) = argument.strip_prefix("--with-ld-opt=-pie ") {
            return format!("--with-ld-opt=-static-pie {options}");
        }
        // musl's headers compare an unsigned with a signed number in CMSG_NXTHDR, and NGINX is built with -Werror.
        if argument.starts_with("--with-cc-opt=") {
            format!("{argument} -Wno-sign-compare")
        } else {
            argument.to_owned()
        }
    }

    /// Has `configure` run what it compiles by the runner.
    fn teach_configure(&self, work: &Path) -> Result<(), String> {
        let Some(runner) = &self.runner else { return Ok(()) };
        let places = [
            ("auto/feature", "/bin/sh -c $NGX_AUTOTEST", format!("/bin/sh -c \"{runner} $NGX_AUTOTEST\"")),
            ("auto/feature", "`$NGX_AUTOTEST`", format!("`{runner} $NGX_AUTOTEST`")),
            ("auto/types/sizeof", "`$NGX_AUTOTEST`", format!("`{runner} $NGX_AUTOTEST`")),
            ("auto/endianness", "if $NGX_AUTOTEST ", format!("if {runner} $NGX_AUTOTEST ")),
        ];
        for (file, from, to) in places {
            let path = work.join(file);
            let text = fs::read_to_string(&path).map_err(|e| failed("read", &path, &e))?;
            if !text.contains(from) {
                return Err(format!("{file} of NGINX no longer has {from:?}, by which it runs what it compiles"));
            }
            fs::write(&path, text.replace(from, &to)).map_err(|e| failed("write", &path, &e))?;
        }
        Ok(())
    }
}

/// The folder of NGINX's source inside the crate `nginx-src`.
///
/// The crate has it as a private constant, and names its own folder only in the lines that it prints for
/// Cargo; so this program runs itself once to read them. (`cargo metadata` would tell too, but wants every
/// package of every platform downloaded, and this crate's source is here already.)
fn source_folder() -> Result<PathBuf, String> {
    let itself = env::current_exe().map_err(|e| format!("this build script does not find itself: {e}"))?;
    let output = Command::new(&itself)
        .env(PRINT_SOURCE, "1")
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| failed("run", &itself, &e))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let source = text
        .lines()
        .find_map(|line| line.split_once("rerun-if-changed=")?.1.strip_suffix("/src/lib.rs"))
        .map(|root| Path::new(root).join("nginx"))
        .ok_or_else(|| format!("the crate nginx-src does not say where it lies; it printed: {text:?}"))?;
    if source.join("auto/configure").is_file() {
        Ok(source)
    } else {
        Err(format!("the crate nginx-src has no auto/configure in {}", source.display()))
    }
}

/// Applies LBEX's changes to the copy, except those that [`WITHOUT`] names; the names of those applied.
fn change(work: &Path) -> Result<Vec<String>, String> {
    let without = env::var(WITHOUT).unwrap_or_default();
    let mut left_out: Vec<&str> = without.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let mut applied = Vec::new();
    for change in patches::changes_in(Path::new(PATCHES))? {
        if let Some(index) = left_out.iter().position(|name| *name == change.name) {
            left_out.remove(index);
            println!("cargo::warning=NGINX is built without the change {} ({WITHOUT})", change.name);
            continue;
        }
        patches::apply(&change, work)?;
        applied.push(change.name);
    }
    if left_out.is_empty() {
        Ok(applied)
    } else {
        Err(format!("{WITHOUT}: there is no change {}", left_out.join(", ")))
    }
}

fn configure(work: &Path, changes: &[String], target: &Target) -> Result<(), String> {
    target.teach_configure(work)?;
    let mut command = Command::new("sh");
    command.arg("auto/configure").args(CONFIGURE.lines().map(|argument| target.adapt(argument))).current_dir(work);
    // What `nginx -V` calls itself; lbex-backend-nginx reads the words.
    command.arg(format!("--build={}", [&["lbex".to_owned()], changes].concat().join(" ")));
    let compiler = target.compiler();
    if let Some(compiler) = &compiler {
        command.arg(format!("--with-cc={compiler}"));
    }
    let compiler = compiler.unwrap_or_else(|| "cc".to_owned());
    let program = compiler.split_whitespace().next().unwrap_or("cc");
    present(program, "--version", "a C compiler (Debian: apt-get install gcc libc6-dev)")?;
    run(&mut command, "NGINX's configure").map_err(|message| {
        let log = fs::read_to_string(work.join("objs/autoconf.err")).unwrap_or_default();
        format!("{message}\n{}", last_lines(&log, 30))
    })
}

fn make(work: &Path) -> Result<(), String> {
    let program = env::var("MAKE").ok().filter(|m| !m.trim().is_empty()).unwrap_or_else(|| "make".to_owned());
    present(&program, "--version", "make (Debian: apt-get install make)")?;
    let mut command = Command::new(&program);
    command.arg("build").current_dir(work);
    // Cargo's own job server, so that both together use no more cores than Cargo was given.
    match env::var_os("CARGO_MAKEFLAGS") {
        Some(flags) => command.env("MAKEFLAGS", flags),
        None => command.arg(format!("-j{}", env::var("NUM_JOBS").unwrap_or_else(|_| "1".to_owned()))),
    };
    run(&mut command, "make")
}

/// Whether `program` can be run at all; the error says what to install.
fn present(program: &str, flag: &str, what: &str) -> Result<(), String> {
    match Command::new(program).arg(flag).stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(format!("`{program}` is missing: install {what}")),
        Err(e) => Err(format!("`{program}` cannot be run: {e}")),
    }
}

fn run(command: &mut Command, name: &str) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{name} cannot be run: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let mut message = format!("{name} failed ({})", output.status);
    for stream in [&output.stdout, &output.stderr] {
        let _ = write!(message, "\n{}", last_lines(&String::from_utf8_lossy(stream), 30));
    }
    Err(message)
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), String> {
    fs::create_dir_all(to).map_err(|e| failed("create", to, &e))?;
    for entry in fs::read_dir(from).map_err(|e| failed("read", from, &e))? {
        let entry = entry.map_err(|e| failed("read", from, &e))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_folder(&source, &target)?;
        } else {
            // Not fs::copy: a vendored source may be read-only, and the copy has to be writable.
            let bytes = fs::read(&source).map_err(|e| failed("read", &source, &e))?;
            fs::write(&target, bytes).map_err(|e| failed("write", &target, &e))?;
        }
    }
    Ok(())
}

/// What `nginx -V` says.
fn report_of(binary: &Path, target: &Target) -> Result<String, String> {
    let output = target.run(binary).arg("-V").output().map_err(|e| failed("run", binary, &e))?;
    String::from_utf8(output.stderr).map_err(|e| format!("{} -V does not print text: {e}", binary.display()))
}

/// The version in `src/core/nginx.h`.
fn version_of(work: &Path) -> Result<String, String> {
    let header = work.join("src/core/nginx.h");
    let text = fs::read_to_string(&header).map_err(|e| failed("read", &header, &e))?;
    text.lines()
        .find_map(|line| line.strip_prefix("#define NGINX_VERSION"))
        .map(|rest| rest.trim().trim_matches('"').to_owned())
        .ok_or_else(|| format!("{} has no NGINX_VERSION", header.display()))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|e| format!("Cargo's variable {name}: {e}"))
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> String {
    format!("failed to {verb} {}: {error}", path.display())
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
