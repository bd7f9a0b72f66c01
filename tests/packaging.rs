//! What a host gets, without a host: the settings file, the units, the package and the tarball. `make test-install` has the rest.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lbex::settings::{SETTINGS, Setting};
use lbex_test_harness::Scratch;

const LBEX: &str = env!("CARGO_BIN_EXE_lbex");
const UNITS: [&str; 2] = ["lbex.service", "lbex-nginx.service"];

fn packaging(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(path)
}

/// Runs it, and fails with what it printed unless it succeeds.
fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let print = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        print(&output.stdout),
        print(&output.stderr)
    );
    output
}

fn stdout(command: &mut Command) -> String {
    String::from_utf8(run(command).stdout).expect("text")
}

/// Something small with this LBEX's words, since packing the program itself takes long.
fn stand_in(scratch: &Scratch) -> PathBuf {
    let path = scratch.join("lbex");
    fs::write(&path, format!("#!/bin/sh\nexec '{LBEX}' \"$@\"\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

/// Values to show for settings without a default.
const EXAMPLES: &[(&str, &str)] = &[
    ("proxy", "127.0.0.1:8001"),
    ("kubeconfig", "/etc/lbex/kubeconfig"),
    ("manifests", "/etc/lbex/manifests"),
    ("namespace", "[team-a, team-b]"),
    ("service-name", "default/web"),
    ("service-pool", "edge"),
    ("listen-address", "[192.0.2.10, \"2001:db8::10\"]"),
    ("allow-endpoint-cidrs", "[169.254.20.0/24]"),
    ("nginx-prefix", "/var/lib/lbex"),
    ("health-address", "192.0.2.10"),
    ("plugin-dir", "/usr/lib/lbex/plugins"),
    ("backend-config", "/etc/lbex/backend.json"),
    ("nginx-plus-api", "https://10.0.0.1:8443/api"),
    ("nginx-plus-ca", "/etc/lbex/plus-ca.pem"),
    ("nginx-plus-client-cert", "/etc/lbex/plus-client.pem"),
    ("nginx-plus-client-key", "/etc/lbex/plus-client.key"),
    ("nginx-plus-token-file", "/etc/lbex/plus-token"),
    ("nginx-plus-password-file", "/etc/lbex/plus-password"),
];

/// What the units say themselves, which goes before the file.
const IN_UNITS: [&str; 2] = ["nginx-prefix", "start-nginx"];

/// The settings file of the package: made from the table of settings, so that nothing about a setting is written twice.
fn settings_file() -> String {
    let mut text = "\
# LBEX's settings, every one of them, each with its default or, where it has none, an example.
#
# To begin, say how to reach the cluster (kubeconfig), then: systemctl enable --now lbex
# LBEX reads this file when it starts: systemctl restart lbex. NGINX serves on meanwhile.
# The kubeconfig must be readable for the group lbex, and for nobody else:
#   install -m 640 -o root -g lbex KUBECONFIG /etc/lbex/kubeconfig
"
    .to_owned();
    let mut group = None;
    let kept = |s: &&Setting| !s.command_line_only && s.name != "config";
    for setting in SETTINGS.iter().filter(kept) {
        if group != Some(setting.group) {
            group = Some(setting.group);
            write!(text, "\n\n# === {} ===\n", setting.group.heading().unwrap_or("General")).expect("written");
        }
        text.push('\n');
        wrapped(&format!("{}.", setting.help.trim_end_matches('.')), &mut text);
        wrapped(&format!("Allowed: {}.", setting.allowed), &mut text);
        if let Some(words) = setting.default_words {
            wrapped(&format!("Default: {words}."), &mut text);
        }
        if IN_UNITS.contains(&setting.name) {
            wrapped("(The units lbex.service and lbex-nginx.service set this one: change it there.)", &mut text);
        }
        let example = || EXAMPLES.iter().find(|(name, _)| *name == setting.name).map(|(_, example)| *example);
        let value = setting.default.or_else(example).unwrap_or_else(|| panic!("an example for {}", setting.name));
        writeln!(text, "#{}: {}", setting.name, quoted(setting, value)).expect("written");
    }
    text
}

/// As YAML wants it.
fn quoted(setting: &Setting, value: &str) -> String {
    let plain = setting.kind.may_be_bare()
        || value.starts_with('[')
        || value.parse::<u16>().is_ok()
        || !(value == "off" || value.contains([':', ',', '-']) || value == "true");
    if plain { value.to_owned() } else { format!("\"{value}\"") }
}

fn wrapped(words: &str, text: &mut String) {
    let mut line = String::from("#");
    for word in words.split_whitespace() {
        if line.len() + 1 + word.len() > 120 {
            writeln!(text, "{line}").expect("written");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    writeln!(text, "{line}").expect("written");
}

#[test]
fn the_settings_file_explains_every_setting() {
    let path = packaging("host/lbex.yaml");
    let wanted = settings_file();
    let found = fs::read_to_string(&path).unwrap_or_default();
    if found != wanted && std::env::var_os("LBEX_TEST_WRITE").is_some() {
        fs::write(&path, &wanted).expect("written");
        return;
    }
    assert!(
        found == wanted,
        "{} is not what the table of settings says: LBEX_TEST_WRITE=1 cargo test --test packaging",
        path.display()
    );
}

/// The names of the keys that are commented out.
fn keys(text: &str) -> BTreeSet<&str> {
    let commented = text.lines().filter_map(|line| Some(line.strip_prefix('#')?.split_once(": ")?.0));
    commented.filter(|key| !key.is_empty() && !key.contains(' ')).collect()
}

#[test]
fn the_settings_file_parses_as_it_is_and_with_every_setting_switched_on() {
    let scratch = Scratch::new("settings").expect("a folder");
    let manifests = scratch.join("manifests");
    fs::create_dir(&manifests).expect("made");
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n";
    fs::write(manifests.join("a.yaml"), namespace).expect("written");
    let text = fs::read_to_string(packaging("host/lbex.yaml")).expect("read");
    let names: BTreeSet<&str> =
        SETTINGS.iter().filter(|s| !s.command_line_only && s.name != "config").map(|s| s.name).collect();
    assert_eq!(keys(&text), names);

    let render = |text: &str| {
        let path = scratch.join("lbex.yaml");
        fs::write(&path, text).expect("written");
        let mut command = Command::new(LBEX);
        command
            .args(["render", "--config"])
            .arg(&path)
            .arg("--manifests")
            .arg(&manifests)
            .env_clear()
            .env("HOME", "/root");
        let output = command.output().expect("it runs");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert_eq!(render(&text), "", "as it is");
    // What excludes each other, and what only other backends read.
    let out = ["proxy", "kubeconfig", "backend-config"];
    let on = |line: &str| {
        let key = line.strip_prefix('#').and_then(|line| line.split_once(": ")).map(|(key, _)| key);
        let switch =
            key.is_some_and(|key| names.contains(key) && !out.contains(&key) && !key.starts_with("nginx-plus"));
        if switch { line[1..].to_owned() } else { line.to_owned() }
    };
    let all: Vec<String> = text.lines().map(on).collect();
    assert_eq!(render(&(all.join("\n") + "\n")), "", "all switched on");
    assert!(render(&text.replace("#health-port: 7331", "health-prt: 1")).contains("health-prt"), "a wrong key is seen");
}

#[test]
fn the_units_are_hardened_and_systemd_has_nothing_to_say_about_them() {
    let scratch = Scratch::new("units").expect("a folder");
    let units: Vec<PathBuf> = UNITS
        .iter()
        .map(|unit| {
            let text = fs::read_to_string(packaging("host").join(unit)).expect("read");
            let path = scratch.join(unit);
            fs::write(&path, text.replace("ExecStart=/usr/bin/lbex ", &format!("ExecStart={LBEX} "))).expect("written");
            path
        })
        .collect();
    let verify = |units: &[PathBuf]| {
        let output =
            Command::new("systemd-analyze").args(["verify", "--man=no"]).args(units).output().expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(verify(&units), (true, String::new()));
    for unit in &units {
        run(Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", "--threshold=20"])
            .arg(unit));
    }
    let text = fs::read_to_string(&units[0]).expect("read");
    fs::write(&units[0], text.replace("WatchdogSec=", "WatchDogSec=")).expect("written");
    assert!(verify(&units).1.contains("WatchDogSec"), "a key that does not exist is seen");
}

/// It was last heard half the time before, and somebody may stop it for a minute.
#[test]
fn an_lbex_that_was_stopped_for_a_minute_is_not_taken_for_stuck() {
    let unit = fs::read_to_string(packaging("host/lbex.service")).expect("a unit");
    let time = unit.lines().find_map(|line| line.strip_prefix("WatchdogSec=")).expect("a watchdog");
    let minutes: u64 = time.strip_suffix("min").and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{time}"));
    assert!(minutes * 60 / 2 > 60, "{time}");
}

#[test]
fn neither_unit_ends_or_restarts_with_the_other() {
    for unit in UNITS {
        let text = fs::read_to_string(packaging("host").join(unit)).expect("read");
        for bond in ["PartOf=", "BindsTo=", "Requires=", "Requisite=", "Conflicts=", "PropagatesStopTo="] {
            assert!(!text.contains(bond), "{unit} has {bond}");
        }
    }
}

#[test]
fn the_package_has_everything_in_its_place_and_the_same_bytes_each_time() {
    let scratch = Scratch::new("deb").expect("a folder");
    let binary = stand_in(&scratch);
    let build = |folder: &str| {
        let mut command = Command::new(packaging("deb/build"));
        command.args(["x86_64"]).arg(&binary).arg(scratch.join(folder)).env("SOURCE_DATE_EPOCH", "1700000000");
        PathBuf::from(stdout(&mut command).trim_end())
    };
    let (one, other) = (build("one"), build("other"));
    assert_eq!(fs::read(&one).expect("read"), fs::read(&other).expect("read"));

    let listing = stdout(Command::new("dpkg-deb").arg("--contents").arg(&one));
    for line in [
        "-rwxr-xr-x root/root ./usr/bin/lbex",
        "-rw-r--r-- root/root ./usr/lib/systemd/system/lbex.service",
        "-rw-r--r-- root/root ./usr/lib/systemd/system/lbex-nginx.service",
        "-rw-r--r-- root/root ./usr/lib/sysusers.d/lbex.conf",
        "-rw-r--r-- root/root ./usr/lib/tmpfiles.d/lbex.conf",
        "-rw-r--r-- root/root ./etc/logrotate.d/lbex",
        "-rw-r----- root/root ./etc/lbex/lbex.yaml",
        "-rw-r--r-- root/root ./usr/share/man/man1/lbex.1.gz",
        "-rw-r--r-- root/root ./usr/share/bash-completion/completions/lbex",
        "-rw-r--r-- root/root ./usr/share/zsh/vendor-completions/_lbex",
        "-rw-r--r-- root/root ./usr/share/fish/vendor_completions.d/lbex.fish",
        "-rw-r--r-- root/root ./usr/share/doc/lbex/copyright",
        "-rw-r--r-- root/root ./usr/share/doc/lbex/NOTICE",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let has = |row: &&str| words.iter().all(|word| row.split_whitespace().any(|found| found == *word));
        assert!(listing.lines().any(|row| has(&row)), "{line} is not in\n{listing}");
    }
    let control = stdout(Command::new("dpkg-deb").arg("--field").arg(&one));
    assert!(control.contains(&format!("Version: {}\n", env!("CARGO_PKG_VERSION"))), "{control}");
    assert!(control.contains("Architecture: amd64\n"), "{control}");
}

#[test]
fn the_tarball_installs_itself_keeps_what_was_edited_and_removes_itself() {
    let scratch = Scratch::new("tarball").expect("a folder");
    let binary = stand_in(&scratch);
    let build = |folder: &str| {
        let mut command = Command::new(packaging("tarball/build"));
        command.args(["x86_64"]).arg(&binary).arg(scratch.join(folder)).env("SOURCE_DATE_EPOCH", "1700000000");
        PathBuf::from(stdout(&mut command).trim_end())
    };
    let (one, other) = (build("one"), build("other"));
    assert!(one.ends_with("linux_amd64.tar.gz"), "{}", one.display());
    assert_eq!(fs::read(&one).expect("read"), fs::read(&other).expect("read"));

    run(Command::new("tar").arg("-xzf").arg(&one).arg("-C").arg(scratch.path()));
    let folder = scratch.join(format!("lbex-{}-linux-amd64", env!("CARGO_PKG_VERSION")));
    let host = scratch.join("host");
    let install = |arguments: &[&str]| {
        let mut command = Command::new(folder.join("install.sh"));
        stdout(command.arg("--destdir").arg(&host).args(arguments))
    };
    install(&[]);
    let settings = host.join("etc/lbex/lbex.yaml");
    assert_eq!(fs::read(&settings).expect("read"), fs::read(packaging("host/lbex.yaml")).expect("read"));
    let version = stdout(Command::new(host.join("usr/bin/lbex")).arg("--version"));
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");

    fs::write(&settings, "kubeconfig: /etc/lbex/kubeconfig\n").expect("edited");
    assert!(install(&[]).contains("was changed and stays"));
    assert_eq!(fs::read_to_string(&settings).expect("read"), "kubeconfig: /etc/lbex/kubeconfig\n");
    install(&["--remove"]);
    assert!(settings.exists() && !host.join("usr/bin/lbex").exists());
    install(&["--purge"]);
    let left = stdout(Command::new("find").arg(&host).args(["!", "-type", "d"]));
    assert_eq!(left, "", "nothing is left");

    let refused = Command::new(folder.join("install.sh")).arg("--what").output().expect("it runs");
    assert_eq!(refused.status.code(), Some(2));
}

/// A copy of the repository's commit, in which a release may be tried.
fn clone(scratch: &Scratch) -> PathBuf {
    let folder = scratch.join("clone");
    let from = env!("CARGO_MANIFEST_DIR");
    run(Command::new("git").args(["clone", "--quiet", "--shared", from]).arg(&folder));
    folder
}

#[test]
fn a_release_says_what_is_missing_before_it_builds_anything() {
    let scratch = Scratch::new("release").expect("a folder");
    let folder = clone(&scratch);
    // This commit's script may be older than the file in the work tree.
    let script = folder.join("packaging/release/release");
    let release = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(&script);
        command.args(arguments).env_remove("GITHUB_TOKEN").env_remove("VERSION").envs(variables.iter().copied());
        // Nothing may be built: there is no Cargo.
        let output = command.env("CARGO", "/bin/false").output().expect("it runs");
        assert!(!output.status.success() && !folder.join("dist").exists());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let token = [("GITHUB_TOKEN", "none")];
    assert!(release(&[], &[]).contains("GITHUB_TOKEN is not set"));
    assert!(release(&["--what"], &token).contains("unknown argument --what"));
    let other = release(&["--dry-run"], &[("VERSION", "99.0.0")]);
    assert!(other.contains("VERSION is 99.0.0 and Cargo.toml says"), "{other}");
    let no_key = release(&["--dry-run"], &[("SIGNING_KEY", "/none")]);
    assert!(no_key.contains("SIGNING_KEY is /none"), "{no_key}");

    let changelog = folder.join("CHANGELOG.md");
    fs::write(&changelog, "# Changelog\n\n## [Unreleased]\n").expect("written");
    for arguments in [&[][..], &["--dry-run"]] {
        let dirty = release(arguments, &token);
        assert!(dirty.contains("changes that are not committed"), "{dirty}");
    }
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"];
        run(Command::new("git").current_dir(&folder).args(identity).args(arguments));
    };
    git(&["commit", "--quiet", "-m", "Say nothing", "CHANGELOG.md"]);
    let silent = release(&["--dry-run"], &[]);
    assert!(silent.contains("CHANGELOG.md has no entry"), "{silent}");
    git(&["tag", &format!("v{}", env!("CARGO_PKG_VERSION")), "HEAD^"]);
    let twice = release(&["--dry-run"], &[]);
    assert!(twice.contains("there is a tag") && twice.contains("of another commit"), "{twice}");
}

#[test]
fn the_scripts_are_without_what_shellcheck_warns_of() {
    let scripts = [
        "common",
        "deb/build",
        "deb/postinst",
        "deb/postrm",
        "deb/prerm",
        "host/stage",
        "image/build",
        "release/publish",
        "release/release",
        "release/reproduce",
        "static/build",
        "static/cc",
        "tarball/build",
        "tarball/install.sh",
    ];
    let mut command = Command::new("shellcheck");
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("-x").args(scripts.map(|script| format!("packaging/{script}")));
    run(command.arg("tests/tools/install.sh"));
}

#[test]
fn the_bill_of_materials_names_what_is_linked_and_the_nginx_inside() {
    let sbom = || {
        let mut command = Command::new(packaging("release/sbom"));
        stdout(command.args(["x86_64-unknown-linux-musl", env!("CARGO_PKG_VERSION"), "1700000000"]))
    };
    let text = sbom();
    let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let names: BTreeSet<&str> =
        document["components"].as_array().expect("a list").iter().filter_map(|c| c["name"].as_str()).collect();
    assert!(names.is_superset(&BTreeSet::from(["tokio", "kube-client", "rustls", "ring", "nginx"])), "{names:?}");
    // Those are for builds and tests.
    assert!(names.is_disjoint(&BTreeSet::from(["proptest", "insta", "clap_derive", "diffy"])), "{names:?}");
    assert_eq!(text, sbom());
}
