//! Every call that can fail does, once, and what is left is gone on from, or removed.

use anyhow::{Context, Result, ensure};

use super::Project;

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
        ensure!(
            run.stderr.contains("bin/gce-down.sh --name mylbex --region us-central1 --project k8s-work"),
            "{}",
            run.stderr
        );
    }
    Ok(())
}

/// Each change of `run` fails, on a copy of `before`; `then` gets the project as it is after that, and what failed.
fn each_change(
    before: &Project,
    run: impl Fn(&Project) -> Result<super::Run>,
    then: impl Fn(&Project, &super::Run) -> Result<()>,
) -> Result<()> {
    let (changes, _) = counted(&run, &before.copy()?)?;
    ensure!(changes >= 10, "only {changes} changes");
    // What failed after it was made leaves the same as the next one that fails before: only the last has no next.
    for (number, moment) in (1..=changes).map(|number| (number, "before")).chain([(changes, "after")]) {
        let failure = format!("change {number} failed, {moment} it was made");
        let project = before.copy()?;
        project.fail(&format!("{number} {moment}"))?;
        let failed = run(&project)?.failed(1).context(failure.clone())?;
        project.fail("")?;
        let done = project.take_changes()?;
        ensure!(done.len() == number, "{failure}, and it went on: {done:#?}");
        then(&project, &failed).context(failure)?;
    }
    Ok(())
}

fn nothing_is_left(project: &Project) -> Result<()> {
    let state = project.state()?;
    ensure!(state.is_empty(), "left: {state:#?}");
    Ok(())
}

fn is_as(project: &Project, expected: &Project) -> Result<()> {
    let (state, expected) = (project.state()?, expected.state()?);
    ensure!(state == expected, "{state:#?} instead of {expected:#?}");
    Ok(())
}

#[test]
fn each_change_of_up_fails_and_up_goes_on_and_down_leaves_nothing() -> Result<()> {
    let whole = Project::new()?;
    whole.up(&[])?.succeeded()?;
    each_change(
        &Project::new()?,
        |project| project.up(&[]),
        |project, failed| {
            says_how_to_go_on(failed, "gce-up.sh")?;
            let partial = project.copy()?;
            project.up(&[])?.succeeded()?;
            is_as(project, &whole)?;
            partial.down()?.succeeded()?;
            nothing_is_left(&partial)
        },
    )
}

#[test]
fn each_change_of_an_update_fails_and_the_update_goes_on() -> Result<()> {
    let update = ["--lbex-version=0.9.0", "--num-autoscale=11"];
    let before = Project::new()?;
    before.up(&[])?.succeeded()?;
    let whole = before.copy()?;
    whole.up(&update)?.succeeded()?;
    each_change(
        &before,
        |project| project.up(&update),
        |project, _| {
            project.up(&update)?.succeeded()?;
            is_as(project, &whole)
        },
    )
}

#[test]
fn each_change_of_down_fails_and_down_goes_on() -> Result<()> {
    let before = Project::new()?;
    before.up(&[])?.succeeded()?;
    each_change(&before, Project::down, |project, failed| {
        says_how_to_go_on(failed, "gce-down.sh")?;
        project.down()?.succeeded()?;
        nothing_is_left(project)
    })
}

/// 'Not allowed to look' is never 'there is none'.
#[test]
fn each_question_fails_and_nothing_is_made_or_forgotten_for_it() -> Result<()> {
    let made = Project::new()?;
    let (_, up) = counted(|project| project.up(&[]), &made)?;
    let (_, down) = counted(Project::down, &made.copy()?)?;
    for number in 1..=up {
        let project = Project::new()?;
        project.fail(&format!("{number} look"))?;
        let run = project.up(&[])?.failed(1).with_context(|| format!("question {number} of up"))?;
        says_how_to_go_on(&run, "gce-up.sh")?;
        ensure!(
            project.take_calls()?.last().is_some_and(|last| last.starts_with('-')),
            "question {number}: it went on"
        );
    }
    for number in 1..=down {
        let project = made.copy()?;
        project.fail(&format!("{number} look"))?;
        let run = project.down()?.failed(1).with_context(|| format!("question {number} of down"))?;
        says_how_to_go_on(&run, "gce-down.sh")?;
        project.fail("")?;
        project.down()?.succeeded()?;
        nothing_is_left(&project)?;
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
