//! Every call that can fail does, once: before it has done anything, or after (its answer was lost).

use anyhow::{Context, Result, ensure};

use super::Project;

const MOMENTS: [&str; 2] = ["before", "after"];

/// How many changes and questions a whole run makes.
fn counted(run: impl Fn(&Project) -> Result<super::Run>, project: &Project) -> Result<(usize, usize)> {
    project.take_calls()?;
    run(project)?.succeeded()?;
    let calls = project.take_calls()?;
    let changes = calls.iter().filter(|call| call.starts_with('+')).count();
    Ok((changes, calls.len() - changes))
}

/// What it said about a failure is enough to go on.
fn says_how_to_go_on(run: &super::Run, script: &str) -> Result<()> {
    let same = format!("bin/{script} --name mylbex ");
    for text in ["told to fail here", "error: this failed with exit code 1", "goes on from there", &same] {
        ensure!(run.stderr.contains(text), "no {text:?} in: {}", run.stderr);
    }
    if script == "gce-up.sh" {
        ensure!(run.stderr.contains("bin/gce-down.sh --name mylbex --region us-central1 --project k8s-work"), "{}", run.stderr);
    }
    Ok(())
}

/// Nothing was done after what failed.
fn stopped_there(project: &Project, number: usize) -> Result<()> {
    let changes = project.take_changes()?;
    ensure!(changes.len() == number, "after the failure of change {number}: {changes:#?}");
    Ok(())
}

#[test]
fn each_change_of_up_fails_and_up_goes_on() -> Result<()> {
    let whole = Project::new()?;
    let (changes, _) = counted(|project| project.up(&[]), &whole)?;
    let expected = whole.state()?;
    ensure!(changes >= 12, "only {changes} changes");
    for (number, moment) in (1..=changes).flat_map(|number| MOMENTS.map(|moment| (number, moment))) {
        let failure = format!("{number} {moment}");
        let project = Project::new()?;
        project.fail(&failure)?;
        let run = project.up(&[])?.failed(1).context(failure.clone())?;
        says_how_to_go_on(&run, "gce-up.sh").context(failure.clone())?;
        stopped_there(&project, number)?;
        project.fail("")?;
        project.up(&[])?.succeeded().context(failure.clone())?;
        ensure!(project.state()? == expected, "{failure}: {:#?} instead of {expected:#?}", project.state()?);
    }
    Ok(())
}

#[test]
fn after_each_part_of_up_down_leaves_nothing() -> Result<()> {
    let (changes, _) = counted(|project| project.up(&[]), &Project::new()?)?;
    for (number, moment) in (1..=changes).flat_map(|number| MOMENTS.map(|moment| (number, moment))) {
        let failure = format!("{number} {moment}");
        let project = Project::new()?;
        project.fail(&failure)?;
        project.up(&[])?.failed(1)?;
        project.fail("")?;
        project.down()?.succeeded().context(failure.clone())?;
        ensure!(project.state()?.is_empty(), "{failure}: left {:#?}", project.state()?);
    }
    Ok(())
}

#[test]
fn each_change_of_an_update_fails_and_the_update_goes_on() -> Result<()> {
    let update = ["--lbex-version=0.9.0", "--health-port=80"];
    let whole = Project::new()?;
    whole.up(&[])?.succeeded()?;
    let (changes, _) = counted(|project| project.up(&update), &whole)?;
    let expected = whole.state()?;
    for (number, moment) in (1..=changes).flat_map(|number| MOMENTS.map(|moment| (number, moment))) {
        let failure = format!("{number} {moment}");
        let project = Project::new()?;
        project.up(&[])?.succeeded()?;
        project.take_calls()?;
        project.fail(&failure)?;
        project.up(&update)?.failed(1).context(failure.clone())?;
        stopped_there(&project, number)?;
        project.fail("")?;
        project.up(&update)?.succeeded().context(failure.clone())?;
        ensure!(project.state()? == expected, "{failure}: {:#?} instead of {expected:#?}", project.state()?);
    }
    Ok(())
}

#[test]
fn each_change_of_down_fails_and_down_goes_on() -> Result<()> {
    let whole = Project::new()?;
    whole.up(&[])?.succeeded()?;
    let (changes, _) = counted(Project::down, &whole)?;
    for (number, moment) in (1..=changes).flat_map(|number| MOMENTS.map(|moment| (number, moment))) {
        let failure = format!("{number} {moment}");
        let project = Project::new()?;
        project.up(&[])?.succeeded()?;
        project.take_calls()?;
        project.fail(&failure)?;
        let run = project.down()?.failed(1).context(failure.clone())?;
        says_how_to_go_on(&run, "gce-down.sh").context(failure.clone())?;
        stopped_there(&project, number)?;
        project.fail("")?;
        project.down()?.succeeded().context(failure.clone())?;
        ensure!(project.state()?.is_empty(), "{failure}: left {:#?}", project.state()?);
    }
    Ok(())
}

/// 'Not allowed to look' is never 'there is none'.
#[test]
fn each_question_fails_and_nothing_is_made_or_forgotten_for_it() -> Result<()> {
    let whole = Project::new()?;
    let (_, up) = counted(|project| project.up(&[]), &whole)?;
    let (_, down) = counted(Project::down, &whole)?;
    for number in 1..=up {
        let project = Project::new()?;
        project.fail(&format!("{number} look"))?;
        let run = project.up(&[])?.failed(1).with_context(|| format!("question {number} of up"))?;
        says_how_to_go_on(&run, "gce-up.sh")?;
        project.fail("")?;
        project.up(&[])?.succeeded()?;
    }
    for number in 1..=down {
        let project = Project::new()?;
        project.up(&[])?.succeeded()?;
        project.take_calls()?;
        project.fail(&format!("{number} look"))?;
        let run = project.down()?.failed(1).with_context(|| format!("question {number} of down"))?;
        says_how_to_go_on(&run, "gce-down.sh")?;
        project.fail("")?;
        project.down()?.succeeded()?;
        ensure!(project.state()?.is_empty(), "question {number} of down: left {:#?}", project.state()?);
    }
    Ok(())
}

/// A teardown that says yes and does nothing is noticed.
#[test]
fn what_is_left_is_told() -> Result<()> {
    let project = Project::new()?;
    project.up(&[])?.succeeded()?;
    std::fs::write(project.folder.join("sticky"), "subnets/mylbex-subnetwork")?;
    let run = project.down()?.failed(1)?;
    ensure!(run.stderr.contains("left, although") && run.stderr.contains("mylbex-subnetwork"), "{}", run.stderr);
    Ok(())
}
