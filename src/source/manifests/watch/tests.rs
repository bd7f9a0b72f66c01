//! Real files, real notices: every test awaits the reading that its change must bring.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

fn service(name: &str, port: u16) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n")
}

fn names(loaded: &Loaded) -> Vec<String> {
    loaded.services.iter().map(|s| format!("{}:{}", s.key.name, s.ports[0].port)).collect()
}

async fn open(path: &Path) -> (Follower, Loaded) {
    Follower::open(&[path.to_path_buf()], &[]).await.unwrap()
}

/// Readings until one is as wanted; a test that gets none fails.
async fn until(follower: &mut Follower, wanted: impl Fn(&Loaded) -> bool) -> Loaded {
    let deadline = Duration::from_secs(8);
    let mut last = None;
    let search = async {
        loop {
            let loaded = follower.next().await;
            if wanted(&loaded) {
                return loaded;
            }
            last = Some(loaded);
        }
    };
    let found = tokio::time::timeout(deadline, search).await.ok();
    found.unwrap_or_else(|| panic!("no such reading came; the last: {last:#?}"))
}

async fn until_names(follower: &mut Follower, wanted: &[&str]) -> Loaded {
    until(follower, |loaded| names(loaded) == wanted).await
}

#[tokio::test]
async fn writing_in_place_adding_and_deleting() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("a.yaml"), service("a", 1)).unwrap();
    let (mut follower, loaded) = open(temp.path()).await;
    assert_eq!(names(&loaded), ["a:1"]);
    fs::write(temp.path().join("a.yaml"), service("a", 2)).unwrap();
    until_names(&mut follower, &["a:2"]).await;
    fs::write(
        temp.path().join("b.json"),
        r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"b"},"spec":{"ports":[{"port":3}]}}"#,
    )
    .unwrap();
    until_names(&mut follower, &["a:2", "b:3"]).await;
    fs::remove_file(temp.path().join("a.yaml")).unwrap();
    until_names(&mut follower, &["b:3"]).await;
}

#[tokio::test]
async fn one_file_by_rename_and_replace() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("only.yaml");
    fs::write(&file, service("a", 1)).unwrap();
    let (mut follower, _) = open(&file).await;
    for port in 2..5 {
        // As editors do it: a new file beside, moved over the old one; the old one sometimes moved away before.
        let new = temp.path().join(".only.yaml.swp");
        fs::write(&new, service("a", port)).unwrap();
        if port == 3 {
            fs::rename(&file, temp.path().join("only.yaml~")).unwrap();
        }
        fs::rename(&new, &file).unwrap();
        let loaded = until(&mut follower, |_| true).await;
        assert_eq!(names(&loaded), [format!("a:{port}")], "a reading between the two would remove the Service");
    }
    fs::remove_file(&file).unwrap();
    until_names(&mut follower, &[]).await;
    fs::write(&file, service("a", 9)).unwrap();
    until_names(&mut follower, &["a:9"]).await;
}

#[tokio::test]
async fn a_config_map_mount() {
    let temp = tempfile::tempdir().unwrap();
    let at = |path: &str| temp.path().join(path);
    fs::create_dir(at("..1")).unwrap();
    fs::write(at("..1/a.yaml"), service("a", 1)).unwrap();
    symlink("..1", at("..data")).unwrap();
    symlink("..data/a.yaml", at("a.yaml")).unwrap();
    let (mut folder, _) = open(temp.path()).await;
    let (mut single, _) = open(&at("a.yaml")).await;
    fs::create_dir(at("..2")).unwrap();
    fs::write(at("..2/a.yaml"), service("a", 2)).unwrap();
    symlink("..2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    until_names(&mut folder, &["a:2"]).await;
    until_names(&mut single, &["a:2"]).await;
}

#[tokio::test]
async fn a_link_to_a_file_elsewhere_written_in_place() {
    let (temp, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let target = elsewhere.path().join("real.txt");
    fs::write(&target, service("a", 1)).unwrap();
    symlink(&target, temp.path().join("a.yaml")).unwrap();
    let (mut follower, _) = open(temp.path()).await;
    fs::write(&target, service("a", 2)).unwrap();
    until_names(&mut follower, &["a:2"]).await;
}

#[tokio::test]
async fn a_file_that_does_not_parse_is_unchanged() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("a.yaml"), service("a", 1)).unwrap();
    fs::write(temp.path().join("b.yaml"), service("b", 1)).unwrap();
    let (mut follower, _) = open(temp.path()).await;
    fs::write(temp.path().join("a.yaml"), "apiVersion: v1\nkind: Service\nmetadata: {name: [\n").unwrap();
    let loaded = until(&mut follower, |l| !l.problems.is_empty()).await;
    assert_eq!(names(&loaded), ["a:1", "b:1"]);
    let problem = loaded.problems[0].to_string();
    assert!(problem.contains("a.yaml:") && problem.contains("counts as unchanged"), "{problem}");
    assert!(loaded.problems[0].line >= 3, "{problem}");
    // Other files go on.
    fs::write(temp.path().join("b.yaml"), service("b", 2)).unwrap();
    until_names(&mut follower, &["a:1", "b:2"]).await;
    fs::write(temp.path().join("a.yaml"), service("a", 2)).unwrap();
    let loaded = until_names(&mut follower, &["a:2", "b:2"]).await;
    assert_eq!(loaded.problems, []);
}

#[tokio::test]
async fn a_folder_that_vanishes_is_held_and_found_again() {
    let temp = tempfile::tempdir().unwrap();
    let (folder, aside) = (temp.path().join("conf"), temp.path().join("aside"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.yaml"), service("a", 1)).unwrap();
    let (mut follower, _) = open(&folder).await;
    fs::rename(&folder, &aside).unwrap();
    let loaded = until(&mut follower, |l| !l.problems.is_empty()).await;
    assert_eq!(names(&loaded), ["a:1"]);
    assert!(loaded.unreadable() && loaded.problems[0].text.contains("goes on being served"), "{:?}", loaded.problems);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.yaml"), service("a", 2)).unwrap();
    let loaded = until_names(&mut follower, &["a:2"]).await;
    assert_eq!(loaded.problems, []);
    // The new folder is the one that is watched now, and the same one moved away and back, too.
    fs::write(folder.join("a.yaml"), service("a", 3)).unwrap();
    until_names(&mut follower, &["a:3"]).await;
    fs::rename(&folder, temp.path().join("other")).unwrap();
    until(&mut follower, Loaded::unreadable).await;
    fs::rename(temp.path().join("other"), &folder).unwrap();
    until(&mut follower, |l| !l.unreadable()).await;
    fs::write(folder.join("a.yaml"), service("a", 4)).unwrap();
    until_names(&mut follower, &["a:4"]).await;
}

#[tokio::test]
async fn a_folder_that_is_a_link_made_anew() {
    let temp = tempfile::tempdir().unwrap();
    let at = |path: &str| temp.path().join(path);
    for (release, port) in [("1", 1), ("2", 2)] {
        fs::create_dir(at(release)).unwrap();
        fs::write(at(release).join("a.yaml"), service("a", port)).unwrap();
    }
    symlink("1", at("current")).unwrap();
    let (mut follower, _) = open(&at("current")).await;
    symlink("2", at("next")).unwrap();
    fs::rename(at("next"), at("current")).unwrap();
    until_names(&mut follower, &["a:2"]).await;
    fs::write(at("2/a.yaml"), service("a", 3)).unwrap();
    until_names(&mut follower, &["a:3"]).await;
}

#[tokio::test]
async fn a_slow_writer_is_waited_for() {
    use std::io::Write;
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("a.yaml");
    fs::write(&file, service("a", 1) + &service("b", 1)).unwrap();
    let (mut follower, _) = open(temp.path()).await;
    // Truncated, then half of it, then (after longer than a burst lasts) the rest: only the whole may be read.
    let mut writer = fs::File::create(&file).unwrap();
    writer.write_all(service("a", 2).as_bytes()).unwrap();
    let early = tokio::time::timeout(Duration::from_millis(400), follower.next()).await;
    assert!(early.is_err(), "a half-written file was read: {:?}", early.map(|l| names(&l)));
    writer.write_all(service("b", 2).as_bytes()).unwrap();
    drop(writer);
    assert_eq!(names(&until(&mut follower, |_| true).await), ["a:2", "b:2"]);
}

#[tokio::test]
async fn a_change_is_read_quickly() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("a.yaml");
    fs::write(&file, service("a", 1)).unwrap();
    let (mut follower, _) = open(temp.path()).await;
    let mut best = Duration::MAX;
    for port in 2..7 {
        fs::write(&file, service("a", port)).unwrap();
        let start = Instant::now();
        until_names(&mut follower, &[&format!("a:{port}")]).await;
        best = best.min(start.elapsed());
    }
    assert!(best < Duration::from_millis(100), "{best:?}");
}

#[tokio::test]
async fn nothing_readable_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    let missing = Follower::open(&[temp.path().join("none")], &[]).await.err().unwrap();
    assert!(missing.to_string().contains("none: it cannot be read"), "{missing}");
    fs::write(temp.path().join("a.yaml"), "a: b: c").unwrap();
    let broken = Follower::open(&[temp.path().join("a.yaml")], &[]).await.err().unwrap();
    assert!(broken.to_string().contains("a.yaml:1:"), "{broken}");
    // A folder without manifests is one to which they may come.
    fs::remove_file(temp.path().join("a.yaml")).unwrap();
    let (mut follower, loaded) = open(temp.path()).await;
    assert_eq!(names(&loaded), [""; 0]);
    fs::write(temp.path().join("a.yaml"), service("a", 1)).unwrap();
    until_names(&mut follower, &["a:1"]).await;
}

#[tokio::test]
async fn without_notices_the_poll_sees_changes() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("a.yaml");
    fs::write(&file, service("a", 1)).unwrap();
    let pace = Pace { notices: false, poll: Duration::from_secs(100), poll_blind: Duration::from_millis(20) };
    let (mut follower, _) = Follower::open_at(pace, &[temp.path().to_path_buf()], &[]).await.unwrap();
    fs::write(&file, service("a", 2)).unwrap();
    let start = Instant::now();
    until_names(&mut follower, &["a:2"]).await;
    // It might be half-written, as far as anybody can tell without notices.
    assert!(start.elapsed() > BLIND_PATIENCE / 2, "{:?}", start.elapsed());
    fs::remove_file(&file).unwrap();
    until_names(&mut follower, &[]).await;
}

/// The host's clock was a year ahead when the file was written, and is right again: it must not take a year until it is read.
#[tokio::test]
async fn without_notices_a_file_from_the_future_is_read() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("a.yaml");
    fs::write(&file, service("a", 1)).unwrap();
    let pace = Pace { notices: false, poll: Duration::from_secs(100), poll_blind: Duration::from_millis(20) };
    let (mut follower, _) = Follower::open_at(pace, &[temp.path().to_path_buf()], &[]).await.unwrap();
    let year = Duration::from_secs(365 * 24 * 3600);
    for port in [2, 3] {
        fs::write(&file, service("a", port)).unwrap();
        let written = fs::File::options().append(true).open(&file).unwrap();
        written.set_modified(std::time::SystemTime::now() + year).unwrap();
        until_names(&mut follower, &[&format!("a:{port}")]).await;
    }
}

#[tokio::test]
async fn a_reading_that_nobody_waited_for_is_not_lost() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("a.yaml");
    fs::write(&file, service("a", 1)).unwrap();
    let (mut follower, _) = open(temp.path()).await;
    fs::write(&file, service("a", 2)).unwrap();
    for _ in 0..20 {
        // Given up at any point of the reading.
        if tokio::time::timeout(Duration::from_millis(3), follower.next()).await.is_ok() {
            return;
        }
    }
    // Whatever was given up, the change is found, at the latest by looking again.
    fs::write(temp.path().join("b.yaml"), service("b", 1)).unwrap();
    until_names(&mut follower, &["a:2", "b:1"]).await;
}

#[tokio::test]
async fn what_was_reported_is_not_held_twice() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("a.yaml"), service("a", 1) + &service("b", 1)).unwrap();
    let (mut follower, loaded) = open(temp.path()).await;
    let mut cluster = lbex_core::snapshot::Snapshot::default();
    let mut take = |loaded: Loaded| {
        loaded.into_changes().into_iter().for_each(|change| drop(cluster.apply(change)));
        // Beside the cluster's there is the follower's, of the same object.
        cluster.services().map(Arc::strong_count).collect::<Vec<_>>()
    };
    assert_eq!(take(loaded), [2, 2]);
    // Also where it is read again and is as it was.
    fs::write(temp.path().join("a.yaml"), service("a", 1) + &service("b", 2)).unwrap();
    assert_eq!(take(until_names(&mut follower, &["a:1", "b:2"]).await), [2, 2]);
}
