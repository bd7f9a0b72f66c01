//! The command line without a controller: `render`, `validate`, `--version`, `--help`, and what is wrong with settings.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use lbex_test_harness::Scratch;
use lbex_test_harness::nginx::Nginx;
use lbex_test_harness::objects::{list, node};
use lbex_test_harness::on_each_nginx;
use lbex_test_harness::ports::{free_port, free_ports};
use serde_json::json;

use crate::support::{Manifests, lbex_on, pods, pods_slice, servers};

/// Runs LBEX to its end, with these variables and no others of LBEX's.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
    let mut command = Command::new(crate::support::binary());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LBEX_")) {
        command.env_remove(name);
    }
    let run = command.args(arguments).envs(variables.iter().copied()).output();
    run.context("failed to run LBEX")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Checks the exit code, and that each of the words is in what was printed.
fn check(output: &Output, code: i32, words: &[&str]) {
    let text = format!("{}{}", out(output), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

fn check_run(arguments: &[&str], variables: &[(&str, &str)], code: i32, words: &[&str]) -> Result<()> {
    check(&run(arguments, variables)?, code, words);
    Ok(())
}

#[test]
fn version_and_help() -> Result<()> {
    for flag in ["--version", "-V", "-version"] {
        let version = format!("lbex {}\n", env!("CARGO_PKG_VERSION"));
        check_run(&[flag], &[], 0, &[&version, "commit: ", "built-in backends: nginx", "plugin ABI: "])?;
    }
    for arguments in [&["--help"][..], &["-h"], &["help"]] {
        let words =
            ["Usage: lbex", "Cluster access:", "--kubeconfig <PATH>", "Examples:", "Exit codes:", "render", "validate"];
        check_run(arguments, &[], 0, &words)?;
    }
    check_run(&["validate", "--help"], &[], 0, &["YAML or JSON files", "Exit code"])?;
    check_run(&["completions", "bash"], &[], 0, &["complete", "lbex"])?;
    check_run(&["man"], &[], 0, &[".TH lbex", "health\\-port"])
}

/// Arguments, variables, words of the error.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);

/// Whatever is wrong: exit code 2, with the setting, the value, where it came from, and what is allowed.
#[test]
fn wrong_settings() -> Result<()> {
    let folder = Scratch::new("settings")?;
    let file = folder.join("lbex.yaml");
    std::fs::write(&file, "udp-idle-timeout: soon\n")?;
    let file = file.display().to_string();
    let unknown = folder.join("unknown.toml");
    std::fs::write(&unknown, "helth-port = 1\n")?;
    let unknown = unknown.display().to_string();
    let cases: &[Case<'_>] = &[
        (&["--health-port=99999"], &[], &["--health-port", "99999", "command line", "1 to 65535"]),
        (&["--health_port", "x"], &[], &["--health-port", "\"x\"", "command line"]),
        (
            &[],
            &[("LBEX_RELOAD_INTERVAL", "1 fortnight")],
            &["--reload-interval", "1 fortnight", "LBEX_RELOAD_INTERVAL"],
        ),
        (&["--config", &file], &[], &["--udp-idle-timeout", "soon", &file]),
        (&["--config", &unknown], &[], &["helth-port", "health-port", &unknown]),
        (&["--config", "/nonexistent.yaml"], &[], &["settings file /nonexistent.yaml", "command line"]),
        (&["--helth-port=1"], &[], &["--helth-port", "--health-port"]),
        (&["--service-pool=a b"], &[], &["--service-pool", "a b"]),
        (&["--listen-address=localhost"], &[], &["--listen-address", "localhost"]),
        (&["--allowed-ports=80-"], &[], &["--allowed-ports", "80-"]),
        (&["--require-port=maybe"], &[], &["--require-port", "maybe", "true or false"]),
        (&["--manifests=/x", "--proxy=:8001"], &[], &["--manifests", "--proxy"]),
        (&["--manifests=/x"], &[("LBEX_KUBECONFIG", "/y")], &["--manifests", "--kubeconfig", "LBEX_KUBECONFIG"]),
        (
            &["--nginx=/nonexistent/nginx", "--manifests=/x"],
            &[("LBEX_METRICS_ADDRESS", "off")],
            &["/nonexistent/nginx"],
        ),
        (&["frobnicate"], &[], &["frobnicate"]),
    ];
    for (arguments, variables, words) in cases {
        let mut variables = variables.to_vec();
        // Should one of them start after all, it starts away from everything else.
        variables.push(("LBEX_HEALTH_CHECK", "false"));
        let prefix = folder.join("prefix").display().to_string();
        variables.push(("LBEX_NGINX_PREFIX", &prefix));
        check_run(arguments, &variables, 2, words).with_context(|| format!("{arguments:?}"))?;
        assert!(!folder.join("prefix").exists(), "{arguments:?} wrote something");
    }
    Ok(())
}

/// Known, and to come: exit code 2.
#[test]
fn not_in_this_version_yet() -> Result<()> {
    check_run(&["explain", "web"], &[], 2, &["not in this version yet"])
}

/// Access to the cluster that cannot be loaded: exit code 1, nothing else is tried.
#[test]
fn no_access() -> Result<()> {
    let folder = Scratch::new("access")?;
    let broken = folder.join("broken");
    std::fs::write(&broken, "apiVersion: v1\nkind: Config\nclusters: [\n")?;
    let broken = broken.display().to_string();
    let prefix = folder.join("prefix").display().to_string();
    let common = [
        ("LBEX_NGINX_PREFIX", prefix.as_str()),
        ("LBEX_HEALTH_CHECK", "false"),
        ("LBEX_METRICS_ADDRESS", "off"),
        ("LBEX_NGINX", "embedded"),
        // Not looked at.
        ("KUBECONFIG", "/nonexistent/kubeconfig-of-the-environment"),
        ("KUBERNETES_SERVICE_HOST", ""),
    ];
    let missing = "--kubeconfig=/nonexistent/kubeconfig";
    check_run(&[missing], &common, 1, &["--kubeconfig", "/nonexistent/kubeconfig:"])?;
    check_run(&["--kubeconfig", &broken], &common, 1, &[&broken])?;
    check_run(&[], &common, 1, &["service account", "--kubeconfig", "--proxy"])?;
    let port = free_port()?;
    let address = format!("127.0.0.1:{port}");
    check_run(&["--proxy", &address], &common, 1, &[&address, "--proxy"])
}

/// Command line before environment before settings file before default, seen in which pool is validated for.
#[test]
fn precedence() -> Result<()> {
    let folder = Scratch::new("precedence")?;
    let port = free_port()?;
    let pools = ["by-line", "by-variable", "by-file"];
    let services = pools.map(|pool| pods(pool, port).lbex("service-pool", pool));
    let unpooled = pods("unpooled", port);
    let manifest = folder.join("all.json");
    std::fs::write(&manifest, list(services.iter().map(|s| s as _).chain([&unpooled as _])))?;
    let manifest = manifest.display().to_string();
    let served = |arguments: &[&str], variables: &[(&str, &str)]| -> Result<Vec<String>> {
        let all: Vec<_> = ["validate", &manifest].into_iter().chain(arguments.iter().copied()).collect();
        let text = out(&run(&all, variables)?);
        Ok(text.lines().filter_map(|line| Some(line.strip_suffix(": served")?.to_owned())).collect())
    };
    for (name, text) in [
        ("lbex.yaml", "service-pool: by-file\nstrict-affinity: true\n"),
        ("lbex.toml", "service-pool = \"by-file\"\nstrict-affinity = true\n"),
        ("lbex.json", "{\"service-pool\": \"by-file\", \"strict-affinity\": true}\n"),
    ] {
        let file = folder.join(name);
        std::fs::write(&file, text)?;
        let config = format!("--config={}", file.display());
        let variables = [("LBEX_SERVICE_POOL", "by-variable")];
        assert_eq!(served(&[], &[])?, ["default/unpooled"]);
        assert_eq!(served(&[&config], &[])?, ["default/by-file"]);
        assert_eq!(served(&[], &[("LBEX_CONFIG", &file.display().to_string())])?, ["default/by-file"]);
        assert_eq!(served(&[&config], &variables)?, ["default/by-variable"]);
        assert_eq!(served(&[&config, "--service-pool=by-line"], &variables)?, ["default/by-line"]);
        assert_eq!(served(&[&config], &[("LBEX_SERVICE_POOL", "")])?, ["default/by-file"]);
        assert_eq!(
            served(&[&config, "--strict-affinity", "false"], &[("LBEX_SERVICE_POOL", "none")])?,
            ["default/unpooled"]
        );
    }
    // What Kubernetes puts into Pods beside a Service called lbex is no setting.
    let injected = [("LBEX_HEALTH_PORT", "tcp://10.0.0.1:7331"), ("LBEX_SERVICE_HOST", "10.0.0.1")];
    assert_eq!(served(&[], &injected)?, ["default/unpooled"]);
    Ok(())
}

/// 0: all is well; 1: something is wrong or gets a Warning; 2: unreadable. The text says what each Service gets.
#[test]
fn validate() -> Result<()> {
    let (folder, ports, servers) = (Scratch::new("validate")?, free_ports(3)?, servers(2)?);
    let write = |name: &str, text: &str| -> Result<String> {
        std::fs::write(folder.join(name), text)?;
        Ok(folder.join(name).display().to_string())
    };
    let good = write("good.json", &list([&pods("good", ports[0]) as _, &pods_slice("good", &servers) as _]))?;
    let listener = format!("TCP {} -> round_robin: ", ports[0]);
    let server = servers[0].address().to_string();
    check_run(&["validate", &good], &[], 0, &["default/good: served\n", &listener, &server, "0 with something wrong"])?;

    let warned = write("warned.json", &list([&pods("warned", ports[1]).lbex("algorithm", "fastest") as _]))?;
    let words = [
        "default/warned: served",
        "loadbalancer.lbex/algorithm",
        "\"fastest\"",
        "round_robin, least_conn",
        "no endpoints",
    ];
    check_run(&["validate", &warned], &[], 1, &words)?;

    let refused = pods("refused", ports[0]).annotate("loadbalancer-port.lbex/tcp", "70000");
    let refused = write("refused.json", &list([&refused.annotate("loadbalancer-port.lbex/udp", json!(null)) as _]))?;
    check_run(&["validate", &refused], &[], 1, &["default/refused: NOT SERVED", "70000", "1-65535"])?;

    // Together they are one cluster.
    check_run(&["validate", &good, &warned, &refused], &[], 1, &["3 Service(s): 2 served", "2 with something wrong"])?;
    let all = folder.path().display().to_string();
    check_run(&["validate", &all], &[], 1, &["3 Service(s): 2 served"])?;

    // Nothing is wrong with Services of other instances, or with those that are none of LBEX's business.
    let pooled = pods("pooled", ports[0]).lbex("service-pool", "edge");
    let quiet = lbex_test_harness::objects::service("quiet").tcp("web", 80, 0);
    let theirs = write("theirs.json", &list([&pooled as _, &quiet as _]))?;
    let words = ["default/pooled: for another instance", "its pool (edge)", "default/quiet: does not ask for LBEX"];
    let none = ["0 not served, 1 for other instances, 1 that do not ask for LBEX; 0 with something wrong"];
    check_run(&["validate", &theirs], &[], 0, &[&words[..], &none].concat())?;
    let named = ["default/good: for another instance", "--service-name"];
    check_run(&["validate", "--service-name=other", &good], &[], 0, &named)?;
    // A pool that is not valid is for nobody.
    let odd = write("odd.json", &list([&pods("odd", ports[0]).lbex("service-pool", "a b") as _]))?;
    check_run(&["validate", &odd], &[], 1, &["default/odd: NOT SERVED", "no instance serves it"])?;
    for file in [&theirs, &odd] {
        std::fs::remove_file(file)?;
    }

    let broken = write("broken.yaml", "kind: Service\nmetadata: {name: [}\n")?;
    check_run(&["validate", &broken, &good], &[], 1, &["broken.yaml:2:", "default/good: served"])?;
    check_run(&["validate", "/nonexistent/manifests", &good], &[], 2, &["/nonexistent/manifests"])?;
    check_run(&["validate"], &[], 2, &["FILES"])
}

/// One stream with a line before each file; written out, NGINX accepts it. Nothing is touched.
async fn render(nginx: Nginx) -> Result<()> {
    let (ports, servers) = (free_ports(2)?, servers(3)?);
    let manifests = Manifests::new()?;
    let nodes: Vec<_> = (1..=2).map(|n| node(&format!("n{n}")).internal(format!("10.0.0.{n}"))).collect();
    let other = lbex_test_harness::objects::service("by-node").ask().udp("ntp", 123, 30123).listen("ntp", ports[1]);
    manifests.put(
        "all.json",
        [
            &pods("web", ports[0]).lbex("algorithm", "least_conn") as _,
            &pods_slice("web", &servers) as _,
            &other.lbex("node-set", "all").spec(json!({"loadBalancerSourceRanges": ["10.0.0.0/8"]})) as _,
            &nodes[0] as _,
            &nodes[1] as _,
        ],
    )?;
    let folder = Scratch::for_nginx("render")?;
    let prefix = folder.join("prefix");
    let flags = [
        format!("--manifests={}", manifests.path().display()),
        format!("--nginx-prefix={}", prefix.display()),
        format!("--nginx={}", nginx.flag()?),
    ];
    let arguments: Vec<_> = ["render"].into_iter().chain(flags.iter().map(String::as_str)).collect();
    let output = run(&arguments, &[])?;
    check(&output, 0, &[]);
    assert!(!prefix.exists(), "render wrote to the prefix");
    let files = split(&out(&output))?;
    let names: Vec<_> = files.keys().cloned().collect();
    assert!(names[0] == "conf/nginx.conf" && names.len() == 3, "{names:?}");
    assert!(names[1].starts_with("services/default.by-node.") && names[2].starts_with("services/default.web."));
    assert_eq!(out(&run(&arguments, &[])?), out(&output), "not the same twice");

    // The embedded NGINX is where an LBEX of that prefix has put it.
    let empty = Manifests::new()?;
    let lbex = lbex_on(&empty, nginx).start().await?;
    lbex.wait_healthy().await?;
    let program = match nginx {
        Nginx::Embedded => lbex.prefix().join("bin/nginx"),
        other => other.flag()?.into(),
    };
    for (name, text) in &files {
        let path = prefix.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        std::fs::write(path, text)?;
    }
    for name in ["logs", "run"] {
        std::fs::create_dir_all(prefix.join(name))?;
    }
    let test = Command::new(program).arg("-t").arg("-p").arg(&prefix).args(["-c", "conf/nginx.conf"]).output()?;
    let said = String::from_utf8_lossy(&test.stderr).into_owned();
    assert!(test.status.success() && said.contains("test is successful"), "{said}");
    assert!(!said.contains("[warn]"), "{said}");
    Ok(())
}

/// What is wrong with manifests is on standard error and in the exit code; what could be rendered is printed all the same.
#[test]
fn render_of_what_is_wrong() -> Result<()> {
    let (folder, ports) = (Scratch::new("render-wrong")?, free_ports(2)?);
    let manifests = format!("--manifests={}", folder.path().display());
    let arguments = ["render", "--nginx=embedded", manifests.as_str()];
    std::fs::write(folder.join("good.json"), list([&pods("good", ports[0]) as _]))?;
    let run_it = |code: i32, words: &[&str]| -> Result<()> {
        let output = run(&arguments, &[])?;
        let (said, text) = (String::from_utf8_lossy(&output.stderr).into_owned(), out(&output));
        assert_eq!(output.status.code(), Some(code), "{said}");
        words.iter().for_each(|word| assert!(said.contains(word), "no {word:?} in: {said}"));
        assert!(split(&text)?.keys().any(|name| name.starts_with("services/default.good.")), "{text}");
        Ok(())
    };
    run_it(0, &[])?;
    // Of two objects with one name the first path's counts: that is a Warning.
    std::fs::write(folder.join("hood.json"), list([&pods("good", ports[1]) as _]))?;
    run_it(0, &["hood.json"])?;
    std::fs::write(folder.join("broken.yaml"), "kind: Service\nmetadata: {name: [}\n")?;
    run_it(1, &["broken.yaml:2:"])?;
    std::fs::remove_file(folder.join("broken.yaml"))?;
    let invalid = pods("invalid", ports[1]).spec(json!({"ports": [{"port": 0}]}));
    std::fs::write(folder.join("invalid.json"), list([&invalid as _]))?;
    run_it(1, &["invalid.json", "default/invalid"])
}

fn split(stream: &str) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    ensure!(stream.starts_with("# file: "), "the stream begins with {:?}", stream.lines().next());
    for file in stream.split("# file: ").skip(1) {
        let (name, text) = file.split_once('\n').context("a file without text")?;
        files.insert(name.to_owned(), text.to_owned());
    }
    Ok(files)
}

on_each_nginx!(render);
