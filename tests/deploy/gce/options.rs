//! The command lines of the two scripts: those of the original, and what is refused before anything is looked at.

use anyhow::Result;

use super::{DOWN, Project, UP};

/// The flags of what was made, which options decide.
fn made_with(project: &Project, what: &str, flag: &str) -> Result<String> {
    let state = project.state()?;
    let found = state.iter().find(|(name, _)| name.starts_with(what)).map(|(_, made)| made.clone()).unwrap_or_default();
    let line = found.lines().find_map(|line| line.strip_prefix(&format!("{flag}=")).map(str::to_owned));
    Ok(line.unwrap_or_else(|| format!("{what} has no {flag}: {found}")))
}

#[test]
fn what_is_not_given_is_as_in_the_original() -> Result<()> {
    let project = Project::new()?;
    let least = "--name=mylbex --project=k8s-work --cluster-name=my-k8s-cluster --cluster-network=net";
    project.run("gce-up.sh", least.split(' '))?.succeeded()?;
    let of = |what: &str, flag: &str| made_with(&project, what, flag);
    assert_eq!(of("subnets/mylbex-subnetwork", "--range")?, "10.150.0.0/28");
    assert_eq!(of("subnets/mylbex-subnetwork", "--region")?, "us-central1");
    assert_eq!(of("rules/mylbex-all-traffic", "--source-ranges")?, "0.0.0.0/0");
    assert_eq!(of("health-checks/mylbex-healthcheck", "--port")?, "7331");
    assert_eq!(of("groups/mylbex-instance-group", "--size")?, "2");
    assert_eq!(of("groups/mylbex-instance-group", "--min-num-replicas")?, "2");
    assert_eq!(of("groups/mylbex-instance-group", "--max-num-replicas")?, "10");
    assert_eq!(of("groups/mylbex-instance-group", "--target-cpu-utilization")?, "0.7");
    assert_eq!(of("accounts/", "--description")?, "cluster=my-k8s-cluster location=us-central1-a region=us-central1");
    assert_eq!(of("templates/", "--machine-type")?, "n1-standard-1");
    // This version of LBEX, and the checksum that its release has.
    let release =
        format!("https://github.com/lbex/lbex/releases/download/v{}/linux_amd64.tar.gz", env!("CARGO_PKG_VERSION"));
    assert_eq!(of("templates/", "--metadata")?, format!("lbex-url={release},lbex-sha512={}", "7".repeat(128)));
    assert_eq!(
        std::fs::read_to_string(project.folder.join("metadata/lbex-settings"))?.lines().last(),
        Some("health-port: 7331")
    );
    Ok(())
}

#[test]
fn long_and_short_options_say_the_same() -> Result<()> {
    let long = "--name n --project work-1 --cidr 10.1.0.0/27 --region europe-west4 --cluster-name my-k8s-cluster --num-autoscale 3 \
                --cluster-zone europe-west4 --cluster-network net --health-port 80 --machine-type e2-small --ingress-cidr 192.0.2.0/24,2001:db8::/32";
    let short = "-n n -i work-1 -c 10.1.0.0/27 -r europe-west4 -m my-k8s-cluster -s 3 -z europe-west4 -t net -p 80 -a e2-small \
                 -g 192.0.2.0/24,2001:db8::/32";
    let (one, other) = (Project::new()?, Project::new()?);
    one.run("gce-up.sh", long.split_ascii_whitespace())?.succeeded()?;
    other.run("gce-up.sh", short.split_ascii_whitespace())?.succeeded()?;
    assert_eq!(one.state()?, other.state()?);
    assert_eq!(made_with(&one, "rules/n-all-traffic", "--source-ranges")?, "192.0.2.0/24,2001:db8::/32");
    assert_eq!(made_with(&one, "templates/", "--machine-type")?, "e2-small");
    assert_eq!(made_with(&one, "health-checks/", "--port")?, "80");
    other.run("gce-down.sh", short.split_ascii_whitespace())?.succeeded()?;
    assert!(other.state()?.is_empty());
    Ok(())
}

#[test]
fn another_release_can_be_asked_for() -> Result<()> {
    let project = Project::new()?;
    project.up(&["--lbex-version", "9.8.7-rc.1"])?.succeeded()?;
    let metadata = made_with(&project, "templates/", "--metadata")?;
    assert!(metadata.contains("download/v9.8.7-rc.1/linux_amd64.tar.gz"), "{metadata}");
    project.down()?.succeeded()?;
    let checksum = "ab".repeat(64);
    project.take_calls()?;
    project.up(&["--lbex-url=https://mirror.example.com/x.tar.gz", "--lbex-sha512", &checksum])?.succeeded()?;
    let metadata = made_with(&project, "templates/", "--metadata")?;
    assert_eq!(metadata, format!("lbex-url=https://mirror.example.com/x.tar.gz,lbex-sha512={checksum}"));
    assert!(!project.take_calls()?.iter().any(|call| call.contains("curl")), "the checksum was given and asked for");
    // What is there in its place is no checksum.
    std::fs::write(project.folder.join("checksum"), "<html>")?;
    let run = project.up(&[])?.failed(1)?;
    assert!(run.stderr.contains("SHA-512") && project.take_changes()?.is_empty(), "{}", run.stderr);
    Ok(())
}

#[test]
fn help_is_given_and_has_every_option_and_the_examples() -> Result<()> {
    let project = Project::new()?;
    for (script, option) in
        [("gce-up.sh", "--help"), ("gce-up.sh", "-h"), ("gce-down.sh", "--help"), ("gce-down.sh", "-h")]
    {
        let run = project.run(script, [option])?.succeeded()?;
        for long in UP.split_ascii_whitespace().filter(|word| word.starts_with("--")) {
            assert!(run.stdout.contains(&format!(", {long} ")), "{script} {option} lacks {long}");
        }
        assert!(
            run.stdout.contains(&format!("gce-up.sh {UP}\n")) && run.stdout.contains(&format!("gce-down.sh {DOWN}\n"))
        );
    }
    assert!(project.take_calls()?.is_empty());
    Ok(())
}

#[test]
fn wrong_usage_is_told_and_ends_with_2_before_anything_is_asked() -> Result<()> {
    let project = Project::new()?;
    // What is added to the example, and what the message has.
    let wrong = [
        ("--bogus 1", "unknown option --bogus"),
        ("--bogus", "unknown option --bogus"),
        ("-q", "unknown option -q"),
        ("left-over", "unknown option left-over"),
        ("--cidr", "--cidr needs a value"),
        ("--name Upper", "--name 'Upper'"),
        ("--name a_b", "--name 'a_b'"),
        ("--name -x", "--name '-x'"),
        ("--name x-", "--name 'x-'"),
        ("--name=", "--name is required"),
        ("--name aaaaaaaaaabbbbbbbbbbccccccccccddddddddddx", "longer than 40"),
        ("--name $(reboot)", "--name '$(reboot)'"),
        ("--project=", "--project is required"),
        ("--project x", "--project 'x'"),
        ("--region us-central1-a", "--region 'us-central1-a'"),
        ("--cluster-zone here", "--cluster-zone 'here'"),
        ("--machine-type n1_standard", "--machine-type"),
        ("--cluster-name My", "--cluster-name 'My'"),
        ("--cluster-network a,b", "--cluster-network 'a,b'"),
        ("--health-port 0", "--health-port '0' is not a number from 1 to 65535"),
        ("--health-port 65536", "--health-port '65536'"),
        ("--health-port 080", "--health-port '080'"),
        ("--health-port 99999999999999999999", "--health-port"),
        ("--num-autoscale 1", "--num-autoscale '1'"),
        ("--num-autoscale ten", "--num-autoscale 'ten'"),
        ("--num-autoscale 13", "room for 12 machines"),
        ("--cidr 10.128.0.0", "--cidr '10.128.0.0' is not a CIDR"),
        ("--cidr 10.128.0.256/28", "is not a CIDR"),
        ("--cidr 10.128.0.1/28", "bits set beyond its prefix"),
        ("--cidr 10.128.0.0/30", "room for 0 machines"),
        ("--cidr fd00::/64", "--cidr 'fd00::/64' is not a CIDR"),
        ("--ingress-cidr=", "--ingress-cidr '' is not a CIDR"),
        ("--ingress-cidr 192.0.2.0/24,x", "--ingress-cidr 'x'"),
        ("--ingress-cidr 0.0.0.1/0", "bits set beyond its prefix"),
        ("--lbex-version latest", "--lbex-version 'latest'"),
        ("--lbex-sha512 abc", "--lbex-sha512"),
        ("--lbex-url http://example.com/x", "--lbex-url"),
        ("--lbex-url https://example.com/x,y=z", "--lbex-url"),
    ];
    for script in ["gce-up.sh", "gce-down.sh"] {
        for (more, message) in wrong {
            let run = project.run(script, UP.split_ascii_whitespace().chain(more.split(' ')))?.failed(2)?;
            assert!(run.stderr.contains(message), "{script} {more}: {}", run.stderr);
            assert!(run.stderr.contains("Usage:") && run.stdout.is_empty(), "{script} {more}: {run:?}");
        }
        project.run(script, [])?.failed(2)?;
    }
    for missing in ["--cluster-name=", "--cluster-network="] {
        let run = project.up(&[missing])?.failed(2)?;
        assert!(run.stderr.contains("is required"), "{}", run.stderr);
    }
    assert!(project.take_calls()?.is_empty());
    Ok(())
}

#[test]
fn a_program_that_is_missing_is_named_before_anything_is_made() -> Result<()> {
    let project = Project::new()?;
    let some = project.folder.join("programs");
    std::fs::create_dir(&some)?;
    for name in ["bash", "env", "dirname"] {
        std::os::unix::fs::symlink(lbex_test_harness::programs::find(name)?, some.join(name))?;
    }
    let mut command = project.script("gce-up.sh");
    let run = super::output(command.args(UP.split_ascii_whitespace()).env("PATH", &some))?.failed(1)?;
    assert!(
        run.stderr.contains("missing on this machine: gcloud kubectl gke-gcloud-auth-plugin curl"),
        "{}",
        run.stderr
    );
    Ok(())
}
