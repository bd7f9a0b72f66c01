//! Up, up again, another version, down: call by call.

use anyhow::Result;

use super::{Project, UP};

/// The calls, without what is different in each run: temporary folders, and the checksum in a template's name.
fn tidy(project: &Project, calls: &[String]) -> String {
    let mut text = calls.join("\n");
    for name in template_names(&text) {
        text = text.replace(&name, "mylbex-instance-TEMPLATE");
    }
    let root = super::root().display().to_string();
    let temporary = std::env::temp_dir().join("tmp.").display().to_string();
    let mut tidy = String::new();
    let mut rest = text.replace(&root, "").replace(&project.folder.path().display().to_string(), "STANDIN");
    while let Some((before, after)) = rest.clone().split_once(&temporary) {
        tidy += before;
        tidy += "WORK";
        rest = after.chars().skip_while(char::is_ascii_alphanumeric).collect();
    }
    tidy + &rest
}

fn template_names(text: &str) -> Vec<String> {
    let parts =
        text.split("mylbex-instance-").skip(1).map(|rest| rest.chars().take_while(char::is_ascii_hexdigit).collect());
    parts.filter(|digits: &String| digits.len() == 10).map(|digits| format!("mylbex-instance-{digits}")).collect()
}

fn templates(project: &Project) -> Result<Vec<String>> {
    Ok(project.state()?.into_keys().filter(|name| name.starts_with("templates/")).collect())
}

#[test]
fn up_and_down_call_by_call() -> Result<()> {
    let project = Project::new()?;
    project.up(&[])?.succeeded()?;
    insta::assert_snapshot!("up", tidy(&project, &project.take_calls()?));
    project.down()?.succeeded()?;
    insta::assert_snapshot!("down", tidy(&project, &project.take_calls()?));
    assert!(project.state()?.is_empty(), "{:?}", project.state()?);
    Ok(())
}

#[test]
fn up_again_changes_nothing_and_down_again_does_no_harm() -> Result<()> {
    let project = Project::new()?;
    project.up(&[])?.succeeded()?;
    let state = project.state()?;
    project.take_calls()?;
    project.up(&[])?.succeeded()?;
    assert_eq!(project.state()?, state);
    let changes = project.take_changes()?;
    assert!(
        !changes.iter().any(|call| [" create ", "delete", "start-update"].iter().any(|word| call.contains(word))),
        "{changes:#?}"
    );
    project.down()?.succeeded()?;
    project.take_calls()?;
    project.down()?.succeeded()?;
    assert_eq!(project.take_changes()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn another_version_replaces_machine_by_machine() -> Result<()> {
    let project = Project::new()?;
    project.up(&[])?.succeeded()?;
    let old = templates(&project)?;
    project.take_calls()?;
    project.up(&["--lbex-version=0.9.0", "--num-autoscale=12"])?.succeeded()?;
    insta::assert_snapshot!("update", tidy(&project, &project.take_changes()?));
    let new = templates(&project)?;
    assert!(new.len() == 1 && new != old, "{old:?}, {new:?}");
    let group = project.state()?.remove("groups/mylbex-instance-group").unwrap_or_default();
    assert!(group.contains(&format!("--template={}\n", new[0].trim_start_matches("templates/"))), "{group}");
    assert!(group.contains("--size=2\n"), "the autoscaler's size was overwritten: {group}");
    Ok(())
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_nothing() -> Result<()> {
    let project = Project::new()?;
    let would = |run: &super::Run| run.stdout.lines().filter(|line| line.contains("would run: ")).count();
    let planned = project.up(&["--dry-run"])?.succeeded()?;
    assert_eq!((project.state()?.len(), project.take_changes()?.len()), (0, 0));
    project.up(&[])?.succeeded()?;
    let made = project.take_changes()?;
    assert_eq!(would(&planned), made.len(), "{}\n{made:#?}", planned.stdout);
    // Every command is said as it is run, but for the names of temporary files.
    for (said, done) in planned.stdout.lines().filter(|line| line.contains("would run: ")).zip(&made) {
        let command = said.split_once("would run: ").map_or("", |(_, command)| command);
        let words = |text: &str| {
            text.split(' ').filter(|word| !word.contains("/tmp")).take(5).map(str::to_owned).collect::<Vec<_>>()
        };
        let command = command.trim_start_matches("env ");
        let command = command
            .split_once(" gcloud ")
            .filter(|_| command.starts_with("KUBECONFIG"))
            .map_or(command.to_owned(), |(_, rest)| format!("gcloud {rest}"));
        assert_eq!(words(&command), words(done.trim_start_matches("+ ")));
    }
    let state = project.state()?;
    let run = project.run("gce-down.sh", super::DOWN.split_ascii_whitespace().chain(["--dry-run"]))?.succeeded()?;
    assert_eq!(project.state()?, state);
    project.take_calls()?;
    project.down()?.succeeded()?;
    assert_eq!(would(&run), project.take_changes()?.len());
    Ok(())
}

#[test]
fn neighbours_with_similar_names_are_left_alone() -> Result<()> {
    let project = Project::new()?;
    let neighbours = ["other-mylbex", "mylbex-2", "mylbex-instance"];
    for name in neighbours {
        let options = UP.replace("--name mylbex ", &format!("--name {name} "));
        project.run("gce-up.sh", options.split_ascii_whitespace())?.succeeded()?;
    }
    let before = project.state()?;
    project.up(&[])?.succeeded()?;
    project.up(&["--lbex-version=0.9.0"])?.succeeded()?;
    project.down()?.succeeded()?;
    let mut after = project.state()?;
    // The stand-in keeps one cluster's role.
    after.insert("cluster/role".to_owned(), before["cluster/role"].clone());
    assert_eq!(after, before);
    Ok(())
}

#[test]
fn what_the_originals_scripts_made_is_taken_over_and_removed() -> Result<()> {
    let project = Project::new()?;
    project.add(
        "subnets",
        "mylbex-subnetwork",
        "--network=my-cluster-network\n--range=10.128.0.0/28\n--region=us-central1\n",
    )?;
    for rule in ["all-traffic", "cluster-traffic"] {
        project.add("rules", &format!("mylbex-{rule}"), "--network=my-cluster-network\n")?;
    }
    project.add("templates", "mylbex-instance", "--subnet=mylbex-subnetwork\n")?;
    project.add("http-health-checks", "mylbex-healthcheck", "--port=1337\n")?;
    project.add("groups", "mylbex-instance-group", "--template=mylbex-instance\n--size=4\n")?;
    project.up(&[])?.succeeded()?;
    let state = project.state()?;
    assert!(state["groups/mylbex-instance-group"].contains("--health-check=mylbex-healthcheck\n"), "{state:#?}");
    assert!(state["groups/mylbex-instance-group"].contains("--size=4\n"), "{state:#?}");
    assert!(!state.contains_key("templates/mylbex-instance"), "{state:#?}");
    project.down()?.succeeded()?;
    assert!(project.state()?.is_empty());
    Ok(())
}

#[test]
fn what_cannot_be_changed_is_told_and_left() -> Result<()> {
    let project = Project::new()?;
    project.up(&[])?.succeeded()?;
    let state = project.state()?;
    project.take_calls()?;
    for (more, message) in [
        ("--cidr=10.129.0.0/28", "cannot be changed"),
        ("--cluster-network=another", "cannot be changed"),
        ("--cluster-name=another", "there is no cluster another"),
        ("--health-port=80", "have the health port 1337, which cannot be changed"),
    ] {
        let run = project.up(&[more])?.failed(1)?;
        assert!(run.stderr.contains(message), "{more}: {}", run.stderr);
    }
    project.add("clusters", "another", "--endpoint=203.0.113.6\n--ca=Q0E=\n")?;
    let run = project.up(&["--cluster-name=another"])?.failed(1)?;
    assert!(run.stderr.contains("cluster=my-k8s-cluster") && run.stderr.contains("gce-down.sh"), "{}", run.stderr);
    let run = project.up(&["--region=europe-west4"])?.failed(1)?;
    assert!(run.stderr.contains("region=us-central1") && run.stderr.contains("gce-down.sh"), "{}", run.stderr);
    let run = project.run("gce-down.sh", "-n mylbex -i k8s-work -r europe-west4".split(' '))?.failed(1)?;
    assert!(run.stderr.contains("mylbex is in region us-central1: give --region us-central1"), "{}", run.stderr);
    assert_eq!(project.take_changes()?, Vec::<String>::new());
    std::fs::remove_file(project.folder.join("state/clusters/another"))?;
    assert_eq!(project.state()?, state);
    // The cluster may go first.
    std::fs::remove_file(project.folder.join("state/clusters/my-k8s-cluster"))?;
    std::fs::remove_dir_all(project.folder.join("state/cluster"))?;
    let run = project.down()?.succeeded()?;
    assert!(run.stdout.contains("cluster my-k8s-cluster is gone"), "{}", run.stdout);
    assert!(project.state()?.is_empty());
    Ok(())
}

#[test]
fn an_account_that_was_edited_by_hand_needs_the_cluster_named() -> Result<()> {
    let project = Project::new()?;
    project.up(&[])?.succeeded()?;
    project.add("accounts", "lbex-mylbex@k8s-work.iam.gserviceaccount.com", "--description=ours\n")?;
    project.take_calls()?;
    let run = project.down()?.failed(1)?;
    assert!(run.stderr.contains("give --cluster-name and --cluster-zone"), "{}", run.stderr);
    assert_eq!(project.take_changes()?, Vec::<String>::new());
    project.run("gce-down.sh", UP.split_ascii_whitespace())?.succeeded()?;
    assert!(project.state()?.is_empty());
    Ok(())
}
