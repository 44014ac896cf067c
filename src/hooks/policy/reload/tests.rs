//! The directory changes in all the ways that directories do; what is seen is the sets that are applied, the health and the metrics.

use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

struct Stand {
    place: TempDir,
    registry: Registry,
    health: watch::Receiver<Health>,
    sets: mpsc::UnboundedReceiver<PolicySet>,
    hangup: mpsc::Sender<()>,
}

fn text(name: &str) -> String {
    format!(
        "apiVersion: crihook.dev/v1\nkind: HookPolicy\nmetadata: {{name: {name}}}\nspec: {{hooks: [{{name: x, on: PreStop, sleep: {{seconds: 1}}}}]}}\n"
    )
}

fn names(set: &PolicySet) -> Vec<&str> {
    set.policies.iter().map(|policy| &*policy.name).collect()
}

impl Stand {
    /// Waits until a copy is kept.
    async fn kept(&self) {
        let (begun, current) = (std::time::Instant::now(), self.at("state/policies/current"));
        while !current.exists() {
            assert!(begun.elapsed() < Duration::from_secs(30), "no copy is kept");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A reloader that runs, and the set that it began with.
    fn start(place: TempDir) -> (Self, PolicySet) {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let (directory, state) = (place.path().join("hooks.d"), place.path().join("state"));
        let (reloader, set) = Reloader::start(&directory, &state, Defaults::default(), metrics);
        let health = reloader.health();
        let (applied, sets) = mpsc::unbounded_channel();
        let (hangup, told) = mpsc::channel(1);
        tokio::spawn(reloader.run(told, move |set| drop(applied.send(set))));
        (Self { place, registry, health, sets, hangup }, set)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Waits until this very set has been applied.
    async fn applied(&mut self, expected: &[&str]) {
        let found = async { while self.sets.recv().await.is_some_and(|set| names(&set) != expected) {} };
        timeout(Duration::from_secs(20), found).await.unwrap_or_else(|_| panic!("{expected:?} was not applied"));
    }

    async fn health(&mut self, holds: impl FnMut(&Health) -> bool) -> Health {
        timeout(Duration::from_secs(20), self.health.wait_for(holds)).await.expect("in time").unwrap().clone()
    }

    fn metrics(&self) -> String {
        String::from_utf8(crate::metrics::render(&self.registry).unwrap()).unwrap()
    }
}

fn with_hooks(files: &[(&str, String)]) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("hooks.d")).unwrap();
    for (name, text) in files {
        fs::write(place.path().join("hooks.d").join(name), text).unwrap();
    }
    place
}

#[tokio::test]
async fn files_that_come_change_and_go_are_heeded() {
    let (mut stand, set) = Stand::start(with_hooks(&[("a.yaml", text("a"))]));
    assert_eq!(names(&set), ["a"]);
    fs::write(stand.at("hooks.d/b.yaml"), text("b")).unwrap();
    stand.applied(&["a", "b"]).await;
    fs::write(stand.at("hooks.d/b.yaml"), text("c")).unwrap();
    stand.applied(&["a", "c"]).await;
    fs::remove_file(stand.at("hooks.d/a.yaml")).unwrap();
    stand.applied(&["c"]).await;
    fs::write(stand.at("new"), text("d")).unwrap();
    fs::rename(stand.at("new"), stand.at("hooks.d/b.yaml")).unwrap();
    stand.applied(&["d"]).await;
}

#[tokio::test]
async fn a_directory_may_come_later_go_and_be_replaced() {
    let (mut stand, set) = Stand::start(tempfile::tempdir().unwrap());
    assert!(names(&set).is_empty());
    fs::create_dir(stand.at("hooks.d")).unwrap();
    fs::write(stand.at("hooks.d/a.yaml"), text("a")).unwrap();
    stand.applied(&["a"]).await;
    fs::create_dir(stand.at("other")).unwrap();
    fs::write(stand.at("other/b.yaml"), text("b")).unwrap();
    fs::rename(stand.at("hooks.d"), stand.at("old")).unwrap();
    fs::rename(stand.at("other"), stand.at("hooks.d")).unwrap();
    stand.applied(&["b"]).await;
    fs::write(stand.at("hooks.d/c.yaml"), text("c")).unwrap();
    stand.applied(&["b", "c"]).await;
    fs::remove_dir_all(stand.at("hooks.d")).unwrap();
    stand.applied(&[]).await;
}

#[tokio::test]
async fn links_that_are_swapped_are_heeded_as_those_of_a_config_map_and_of_the_directory_itself() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    for version in ["v1", "v2"] {
        fs::create_dir_all(at("volume").join(version)).unwrap();
        fs::write(at("volume").join(version).join("a.yaml"), text(version)).unwrap();
    }
    symlink("v1", at("volume/..data")).unwrap();
    symlink("..data/a.yaml", at("volume/a.yaml")).unwrap();
    symlink("volume", at("hooks.d")).unwrap();
    let (mut stand, set) = Stand::start(place);
    assert_eq!(names(&set), ["v1"]);
    symlink("v2", stand.at("volume/..data_tmp")).unwrap();
    fs::rename(stand.at("volume/..data_tmp"), stand.at("volume/..data")).unwrap();
    stand.applied(&["v2"]).await;
    fs::create_dir(stand.at("elsewhere")).unwrap();
    fs::write(stand.at("elsewhere/x.yaml"), text("x")).unwrap();
    symlink("elsewhere", stand.at("link")).unwrap();
    fs::rename(stand.at("link"), stand.at("hooks.d")).unwrap();
    stand.applied(&["x"]).await;
}

#[tokio::test]
async fn what_is_wrong_changes_nothing_and_is_said_until_it_is_right() {
    let (mut stand, set) = Stand::start(with_hooks(&[("a.yaml", text("a"))]));
    fs::write(stand.at("hooks.d/b.yaml"), text("b").replace("PreStop", "Never")).unwrap();
    let health = stand.health(|health| !health.errors.is_empty()).await;
    assert!(health.errors[0].contains("b.yaml:4:30: `Never` is not a point"), "{:?}", health.errors);
    assert_eq!((health.hash, health.policies, health.hooks, health.from_last_good), (set.hash.clone(), 1, 1, true));
    assert!(stand.sets.try_recv().is_err(), "nothing was applied");
    let told = stand.metrics();
    assert!(told.contains(r#"crihook_policy_reloads_total{result="error"} 1"#), "{told}");
    assert!(told.contains("crihook_policy_last_reload_successful 0"), "{told}");
    assert!(told.contains(&format!(r#"crihook_policy_info{{hash="{}"}} 1"#, set.hash)), "{told}");

    fs::write(stand.at("hooks.d/b.yaml"), text("b")).unwrap();
    stand.applied(&["a", "b"]).await;
    let health = stand.health(|health| health.errors.is_empty()).await;
    assert!(!health.from_last_good && health.hash != set.hash && health.policies == 2);
    let told = stand.metrics();
    assert_eq!(told.matches("crihook_policy_info{").count(), 1, "the set before is gone: {told}");
    assert!(told.contains("crihook_policy_last_reload_successful 1"), "{told}");
}

#[tokio::test]
async fn sighup_reads_again_what_has_not_changed() {
    let (mut stand, set) = Stand::start(with_hooks(&[("a.yaml", text("a"))]));
    stand.hangup.send(()).await.unwrap();
    stand.applied(&["a"]).await;
    assert_eq!(stand.health.borrow().hash, set.hash);
    assert!(stand.metrics().contains(r#"crihook_policy_reloads_total{result="success"} 2"#));
}

#[test]
fn reading_and_what_editors_leave_behind_is_no_change() {
    use notify::event::{CreateKind, ModifyKind, RenameMode};
    let place = PathBuf::from("/etc/crihook/hooks.d");
    let is_change =
        |kind, path: &str| concerns(&notify::Event::new(kind).add_path(path.into()), std::slice::from_ref(&place));
    let created = EventKind::Create(CreateKind::File);
    for (kind, path, expected) in [
        (EventKind::Access(AccessKind::Open(AccessMode::Any)), "/etc/crihook/hooks.d/a.yaml", false),
        (EventKind::Access(AccessKind::Open(AccessMode::Any)), "/etc/crihook/hooks.d", false),
        (EventKind::Access(AccessKind::Close(AccessMode::Write)), "/etc/crihook/hooks.d/a.yaml", true),
        (created, "/etc/crihook/hooks.d/.a.yaml.swp", false),
        (created, "/etc/crihook/hooks.d/README", false),
        (created, "/etc/crihook/hooks.d/sub/a.yaml", false),
        (created, "/etc/crihook/other", false),
        (created, "/etc/crihook/hooks.d", true),
        (created, "/etc/crihook", true),
        (EventKind::Modify(ModifyKind::Name(RenameMode::To)), "/etc/crihook/hooks.d/..data", true),
    ] {
        assert_eq!(is_change(kind, path), expected, "{kind:?} {path}");
    }
}

#[tokio::test]
async fn a_restart_finds_the_last_good_policies_when_the_directory_is_wrong() {
    let place = with_hooks(&[("a.yaml", text("a"))]);
    let (stand, set) = Stand::start(place);
    stand.kept().await;
    let Stand { place, .. } = stand;
    fs::write(place.path().join("hooks.d/b.yaml"), "nothing: [").unwrap();
    let (stand, again) = Stand::start(place);
    assert_eq!((names(&again), &again.hash), (vec!["a"], &set.hash));
    let health = stand.health.borrow().clone();
    assert!(health.from_last_good && health.errors.len() == 1 && health.policies == 1, "{health:?}");
}

#[tokio::test]
async fn without_a_last_good_set_no_hooks_run_and_it_is_said() {
    let (stand, set) = Stand::start(with_hooks(&[("a.yaml", "nothing: [".to_owned())]));
    assert!(set.policies.is_empty());
    let health = stand.health.borrow().clone();
    assert!(!health.from_last_good && health.errors.len() == 1 && health.policies == 0, "{health:?}");
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_written_changes_nothing_else() {
    let place = with_hooks(&[("a.yaml", text("a"))]);
    fs::write(place.path().join("state"), "a file").unwrap();
    let (mut stand, set) = Stand::start(place);
    assert_eq!(names(&set), ["a"]);
    fs::write(stand.at("hooks.d/b.yaml"), text("b")).unwrap();
    stand.applied(&["a", "b"]).await;
}
