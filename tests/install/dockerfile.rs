//! The Dockerfile, built whole by buildah, makes what `make image` makes, which brings the files of its first stage along. (Docker builds
//! it in `container_page`.)

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lbex_test_harness::Scratch;

use crate::support::{debian_archive, program, repository, run};

#[test]
fn the_dockerfile_makes_the_same_image_as_make_image() -> Result<()> {
    let scratch = Scratch::new("dockerfile")?;
    let storage = |name: &str| scratch.join(name).display().to_string();
    let buildah = |arguments: &[&str]| {
        let mut buildah = Command::new("buildah");
        buildah.args(["--root", &storage("storage"), "--runroot", &storage("run"), "--storage-driver=vfs"]);
        run(buildah.args(arguments)).map(|said| said.trim().to_owned())
    };
    // In place of the Debian of a registry, the one of these tests.
    let debian = debian_archive()?.display().to_string();
    let tools = buildah(&["from", "scratch"])?;
    buildah(&["add", "--quiet", &tools, &debian, "/"])?;
    buildah(&["commit", "--quiet", &tools, "tools"])?;

    // What `.dockerignore` leaves of the repository after `make static`.
    let (context, binary) = (scratch.join("context"), "target/x86_64-unknown-linux-musl/release/lbex");
    fs::create_dir_all(context.join(binary).parent().context("a folder")?)?;
    fs::copy(program()?, context.join(binary))?;
    for path in ["LICENSE", "NOTICE", "packaging"] {
        run(Command::new("cp").arg("-r").args([repository(path), context.join(path)]))?;
    }
    let file = context.join("packaging/image/Dockerfile").display().to_string();
    let top = context.display().to_string();
    let build = ["bud", "--quiet", "--isolation=chroot", "--pull-never", "--build-arg=TOOLS=localhost/tools"];
    buildah(&[&build[..], &["--file", &file, "--tag=lbex", &top]].concat())?;

    let container = buildah(&["from", "--pull-never", "localhost/lbex"])?;
    let root = buildah(&["mount", &container])?;
    let capability = run(Command::new("getcap").arg(format!("{root}/usr/bin/lbex")))?;
    ensure!(capability.trim_end().ends_with(" cap_net_bind_service=p"), "{capability}");
    let said = run(Command::new(format!("{root}/usr/bin/lbex")).arg("--version"))?;
    ensure!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
    let listing = |folder: &str| {
        let mut find = Command::new("find");
        run(find.arg(folder).args(["-mindepth", "1", "-printf", "%P %M %U:%G\n"])).map(|text| {
            let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
            lines.sort();
            lines
        })
    };
    let ours = scratch.join("image");
    let mut image = Command::new(repository("packaging/image/build"));
    image.arg(&ours).arg(format!("{}={}", std::env::consts::ARCH, program()?.display()));
    let archive = format!("oci-archive:{}", run(&mut image)?.trim());
    let other = buildah(&["from", &archive])?;
    assert_eq!(listing(&root)?, listing(&buildah(&["mount", &other])?)?);
    let settings = |name: &str| -> Result<serde_json::Value> {
        let container: serde_json::Value = serde_json::from_str(&buildah(&["inspect", "--type=container", name])?)?;
        Ok(container["OCIv1"]["config"].clone())
    };
    let (one, same) = (settings(&container)?, settings(&other)?);
    for key in ["User", "Env", "Entrypoint", "Volumes", "ExposedPorts", "StopSignal"] {
        assert_eq!(one[key], same[key], "{key}");
    }
    assert_eq!(one["User"], "65532:65532");
    Ok(())
}
