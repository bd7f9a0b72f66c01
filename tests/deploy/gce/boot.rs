//! What a machine of the group does when it boots: from the metadata that `gce-up.sh` gave it to traffic, with a real API server where
//! the machine may do what `gce-up.sh` let it do, and nothing else.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use k8s_openapi::ByteString;
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::backends::{Echo, tcp_ask};
use lbex_test_harness::lbex::{Builder, Lbex};
use lbex_test_harness::objects::{Objects, node, service, slice};
use lbex_test_harness::ports::free_port;
use lbex_test_harness::wait::{SOON, eventually};
use lbex_test_harness::{Scratch, programs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rights;

use super::{Project, Run, UP, output, standin};

/// The account that the machines of the examples have.
const ACCOUNT: &str = "lbex-mylbex@k8s-work.iam.gserviceaccount.com";

/// A release with this binary, laid out as the real one's tarball, in place of that of the web; its checksum is the one that
/// `gce-up.sh` will find.
fn release(project: &Project, binary: &Path) -> Result<()> {
    let folder = project.folder.join("lbex-0.0.0-linux-amd64");
    std::fs::create_dir(&folder)?;
    std::fs::copy(binary, folder.join("lbex"))?;
    std::fs::write(folder.join("install.sh"), "#!/bin/sh\nset -eu\ncp \"${0%/*}/lbex\" /usr/bin/lbex\n")?;
    std::fs::set_permissions(folder.join("install.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let archive = project.folder.join("release.tar.gz");
    let mut tar = std::process::Command::new(programs::find("tar")?);
    output(tar.arg("-czf").arg(&archive).arg("-C").arg(project.folder.path()).arg("lbex-0.0.0-linux-amd64"))?
        .succeeded()?;
    let sum = output(std::process::Command::new(programs::find("sha512sum")?).arg(&archive))?.succeeded()?;
    let sum = sum.stdout.split(' ').next().context("no checksum")?.to_owned();
    Ok(std::fs::write(project.folder.join("checksum"), sum)?)
}

/// A program of a few bytes.
fn small(project: &Project) -> Result<std::path::PathBuf> {
    let path = project.folder.join("small");
    std::fs::write(&path, "a program\n")?;
    Ok(path)
}

/// The startup script that the template has, on a machine of this name. `PATH` is the stand-ins' and this.
fn boot(project: &Project, machine: &Path, path: &str) -> Result<Run> {
    let mut command = project.script("../tests/deploy/standin/machine");
    command.arg(machine).arg("bash").arg(project.folder.join("metadata/startup-script"));
    command.env("PATH", format!("{}:{path}", standin().display())).env("LBEX_BOOT_PAUSE", "0");
    output(&mut command)
}

fn plugin() -> String {
    format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", standin().join("plugin").display())
}

/// A machine's metadata server, as far as the real plugin asks it: for a token of the machine's account.
async fn metadata_server() -> Result<std::net::SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.is_ok_and(|count| count > 0) {}
            let wants_token = request.windows(6).any(|word| word == b"/token");
            let body = if wants_token {
                r#"{"access_token":"machine-token","expires_in":3600,"token_type":"Bearer"}"#
            } else {
                "k8s-work"
            };
            let head =
                "HTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\nContent-Type: application/json\r\nConnection: close\r\n";
            let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            if let Err(error) = stream.write_all(answer.as_bytes()).await {
                eprintln!("the plugin did not take its answer: {error}");
            }
        }
    });
    Ok(address)
}

/// The variables with which LBEX finds a plugin that gives it the machine's token: the real one where it is installed.
async fn with_plugin(lbex: Builder, project: &Project) -> Result<Builder> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let real = std::env::split_paths(&path).find(|folder| folder.join("gke-gcloud-auth-plugin").is_file());
    if let Some(folder) = real {
        eprintln!("the plugin is the real one, in {}", folder.display());
        let server = metadata_server().await?.to_string();
        let home = project.folder.path().to_str().context("a path")?;
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", folder.display());
        return Ok(lbex.env("PATH", &path).env("GCE_METADATA_HOST", &server).env("HOME", home));
    }
    eprintln!("gke-gcloud-auth-plugin is not installed: its stand-in is used");
    let token = project.folder.join("token");
    std::fs::write(&token, "machine-token")?;
    Ok(lbex.env("PATH", &plugin()).env("STANDIN_TOKEN", token.to_str().context("a path")?))
}

#[tokio::test]
async fn a_machine_serves_with_what_it_was_given() -> Result<()> {
    let project = Project::new()?;
    let tokens = project.folder.join("tokens");
    std::fs::write(&tokens, format!("machine-token,{ACCOUNT},1\n"))?;
    let server = ApiServer::builder().flag(&format!("--token-auth-file={}", tokens.display())).start().await?;
    let authority = serde_json::to_string(&ByteString(server.ca_pem().as_bytes().to_vec()))?;
    project.add(
        "clusters",
        "my-k8s-cluster",
        &format!("--endpoint={}\n--ca={}\n", server.address(), authority.trim_matches('"')),
    )?;
    release(&project, Path::new(env!("CARGO_BIN_EXE_lbex")))?;

    let with_kubectl = |script: &str, arguments: &str| {
        let mut command = project.script(script);
        command.args(arguments.split_ascii_whitespace());
        command.env("STANDIN_KUBECTL", programs::find("kubectl")?).env("STANDIN_KUBECONFIG", server.kubeconfig_admin());
        output(&mut command)?.succeeded()
    };
    with_kubectl("gce-up.sh", UP)?;
    let machine = project.folder.join("machine");
    boot(&project, &machine, &plugin())?.succeeded()?;

    // As the release's unit runs it, on that machine; the harness adds ports and a prefix of its own.
    let objects = Objects::new(server.client().await?, server.namespace().await?);
    let backend = Echo::new("web").start()?;
    let port = free_port()?;
    objects.create(&node("here").internal(std::net::Ipv4Addr::LOCALHOST)).await?;
    objects.create(&slice("web-1", "web").tcp("http", 80).ready("198.51.100.1", "here")).await?;
    objects.create(&service("web").ask().tcp("http", 80, backend.port()).listen("http", port)).await?;
    let under = [standin().join("machine").display().to_string(), machine.display().to_string()];
    let lbex = Lbex::builder(Path::new("/usr/bin/lbex")).args(["--config", "/etc/lbex/lbex.yaml"]).under(under);
    let lbex = with_plugin(lbex, &project).await?.start().await?;
    lbex.wait_healthy().await?;
    let answer = eventually("the Service answers", SOON, || tcp_ask(([127, 0, 0, 1], port).into())).await?;
    assert_eq!(answer, "web");

    // It may read what the shipped role allows, and nothing else.
    assert_eq!(rights::of(&server, "lbex-mylbex").await?, rights::of_the_example(&server).await?);
    let user = format!("--as={ACCOUNT}");
    ensure!(
        server.kubectl(&["auth", "can-i", "get", "secrets", &user], "").await.is_err(),
        "the machines may read secrets"
    );
    drop(lbex);

    with_kubectl("gce-down.sh", super::DOWN)?;
    assert!(project.state()?.is_empty());
    for kind in ["clusterrole", "clusterrolebinding"] {
        let left = server.kubectl(&["get", kind, "lbex-mylbex"], "").await;
        ensure!(left.is_err_and(|error| error.to_string().contains("NotFound")), "the {kind} is left");
    }
    Ok(())
}

#[test]
fn a_release_with_another_checksum_is_not_installed() -> Result<()> {
    let project = Project::new()?;
    release(&project, &small(&project)?)?;
    project.up(&[])?.succeeded()?;
    let archive = std::fs::read(project.folder.join("release.tar.gz"))?;
    std::fs::write(project.folder.join("release.tar.gz"), [&archive[..], b"x"].concat())?;
    let machine = project.folder.join("machine");
    let run = boot(&project, &machine, &plugin())?.failed(1)?;
    ensure!(run.stdout.contains("is not the file with the checksum"), "{run:?}");
    ensure!(!machine.join("usr/bin/lbex").exists(), "it was installed");
    // The release comes right; the machine boots again, and once more.
    std::fs::write(project.folder.join("release.tar.gz"), archive)?;
    project.take_calls()?;
    boot(&project, &machine, &plugin())?.succeeded()?;
    let downloads = |calls: &[String]| calls.iter().filter(|call| call.contains("linux_amd64.tar.gz")).count();
    assert_eq!(downloads(&project.take_calls()?), 1);
    boot(&project, &machine, &plugin())?.succeeded()?;
    let calls = project.take_calls()?;
    assert_eq!(downloads(&calls), 0, "{calls:#?}");
    ensure!(calls.iter().any(|call| call == "+ systemctl start lbex.service"), "{calls:#?}");
    Ok(())
}

#[test]
fn the_plugin_comes_from_googles_packages_where_the_image_has_none() -> Result<()> {
    let project = Project::new()?;
    release(&project, &small(&project)?)?;
    project.up(&[])?.succeeded()?;
    // All programs of this machine but the plugin.
    let programs = Scratch::new("programs")?;
    for folder in ["/usr/sbin", "/usr/bin", "/sbin", "/bin"] {
        for program in
            std::fs::read_dir(folder)?.flatten().filter(|program| program.file_name() != "gke-gcloud-auth-plugin")
        {
            let link = programs.join(program.file_name());
            if link.symlink_metadata().is_err() {
                std::os::unix::fs::symlink(program.path(), link)?;
            }
        }
    }
    let machine = project.folder.join("machine");
    let path = format!("/usr/local/bin:{}", programs.path().display());
    project.take_calls()?;
    boot(&project, &machine, &path)?.succeeded()?;
    let installs =
        |calls: &[String]| calls.iter().filter(|call| call.contains("apt-get") && call.contains("install")).count();
    assert_eq!(installs(&project.take_calls()?), 1);
    let list = std::fs::read_to_string(machine.join("etc/apt/sources.list.d/lbex-google-cloud.list"))?;
    assert_eq!(
        list,
        "deb [signed-by=/usr/share/keyrings/lbex-google-cloud.asc] https://packages.cloud.google.com/apt cloud-sdk main\n"
    );
    assert_eq!(std::fs::read_to_string(machine.join("usr/share/keyrings/lbex-google-cloud.asc"))?, "a key\n");
    boot(&project, &machine, &path)?.succeeded()?;
    assert_eq!(installs(&project.take_calls()?), 0);
    Ok(())
}
