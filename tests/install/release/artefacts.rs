//! What the dry run leaves, for both machines.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::Scratch;
use lbex_test_harness::backends::Echo;
use lbex_test_harness::lbex::Lbex;
use lbex_test_harness::ports::free_port;
use lbex_test_harness::programs;
use serde_json::Value;

use super::{MACHINES, VERSION, command_for, dist, unpacked};
use crate::support::{at, manifests, run, serves};

fn json(path: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&fs::read(path).with_context(|| path.display().to_string())?)?)
}

#[test]
fn everything_is_there_and_is_what_the_checksums_say() -> Result<()> {
    let dist = dist()?;
    let mut wanted = BTreeSet::from([
        "SHA512SUMS".to_owned(),
        format!("lbex-{VERSION}.oci.tar"),
        format!("lbex-chart-{VERSION}.tgz"),
    ]);
    for (_, architecture) in MACHINES {
        wanted.insert(format!("lbex_{VERSION}_{architecture}.deb"));
        wanted.extend(["tar.gz", "sha512", "cdx.json"].map(|kind| format!("linux_{architecture}.{kind}")));
    }
    let found = fs::read_dir(&dist)?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let found: BTreeSet<String> = found.filter(|name| name != "SHA512SUMS.minisig").collect();
    assert_eq!(found, wanted);
    for sums in ["SHA512SUMS", "linux_amd64.sha512", "linux_arm64.sha512"] {
        run(Command::new("sha512sum").current_dir(&dist).args(["--check", "--strict", sums]))?;
    }
    Ok(())
}

#[test]
fn the_same_program_is_in_tarball_package_and_image_and_runs() -> Result<()> {
    let scratch = Scratch::new("artefacts")?;
    let dist = dist()?;
    let image = scratch.join("image");
    fs::create_dir(&image)?;
    run(Command::new("tar").arg("-xf").arg(dist.join(format!("lbex-{VERSION}.oci.tar"))).arg("-C").arg(&image))?;
    for (machine, architecture) in MACHINES {
        let program = unpacked(&scratch, architecture)?.join("lbex");
        let said = run(command_for(machine, &program).arg("--version"))?;
        ensure!(said.contains(VERSION) && said.contains("nginx"), "{machine}: {said}");

        let package = scratch.join(architecture);
        run(Command::new("dpkg-deb")
            .arg("-x")
            .arg(dist.join(format!("lbex_{VERSION}_{architecture}.deb")))
            .arg(&package))?;
        run(Command::new("cmp").args([&program, &package.join("usr/bin/lbex")]))?;

        let root = scratch.join(format!("root-{architecture}"));
        fs::create_dir(&root)?;
        for layer in layers(&image, architecture)? {
            run(Command::new("tar").arg("-xf").arg(layer).arg("-C").arg(&root))?;
        }
        run(Command::new("cmp").args([&program, &root.join("usr/bin/lbex")]))?;

        let sbom = json(&dist.join(format!("linux_{architecture}.cdx.json")))?;
        assert_eq!(sbom["bomFormat"], "CycloneDX");
        assert_eq!(sbom["metadata"]["component"]["version"], VERSION);
    }
    Ok(())
}

/// The files of an image's layers, by machine.
fn layers(image: &Path, architecture: &str) -> Result<Vec<std::path::PathBuf>> {
    let blob = |descriptor: &Value| -> Result<std::path::PathBuf> {
        let digest = descriptor["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
        Ok(image.join("blobs/sha256").join(digest.context("a digest")?))
    };
    let list = json(&blob(&json(&image.join("index.json"))?["manifests"][0])?)?;
    let entries = list["manifests"].as_array().context("a list of manifests")?;
    let entry = entries.iter().find(|entry| entry["platform"]["architecture"] == architecture);
    let manifest = json(&blob(entry.with_context(|| format!("an image for {architecture}"))?)?)?;
    manifest["layers"].as_array().context("layers")?.iter().map(blob).collect()
}

#[test]
fn the_chart_is_one() -> Result<()> {
    let chart = dist()?.join(format!("lbex-chart-{VERSION}.tgz"));
    let rendered = run(Command::new(programs::find("helm")?).arg("template").arg("lbex").arg(chart))?;
    ensure!(rendered.contains("kind: DaemonSet") && rendered.contains(&format!(":{VERSION}")), "{rendered}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_of_the_tarball_serves() -> Result<()> {
    let scratch = Scratch::new("tarball")?;
    let architecture = MACHINES.iter().find(|(machine, _)| *machine == std::env::consts::ARCH).context("a machine")?.1;
    let program = unpacked(&scratch, architecture)?.join("lbex");
    let (servers, listener) = ([Echo::new("a").start()?], free_port()?);
    let file = scratch.join("web.json");
    fs::write(&file, manifests(listener, &servers))?;
    let lbex = Lbex::builder(&program).arg(format!("--manifests={}", file.display())).arg("--nginx=embedded");
    let lbex = lbex.start().await?;
    lbex.wait_healthy().await?;
    serves(at(Ipv4Addr::LOCALHOST, listener)).await
}
