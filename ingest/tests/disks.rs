//! Archives on disks that are full, read-only or slow: a lane waits, says why, and goes on by itself.

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};

use metrics_exporter_prometheus::PrometheusBuilder;
use stillwell_ingest::stage::Limits;
use stillwell_ingest::store::{ArchiveStore, Creation, Listed, LocalStore, ProbeError, StoreError, probe};
use stillwell_schema::Offset;
use stillwell_schema::health::{Board, State};
use stillwell_source::lane::{LaneEnd, Stage};
use support::{CRASH, LIMITS, MemoryStore, Op, audit, chunk, expected, ingest_on, lane, see};

/// A small file system of its own; taken away with the test.
struct Disk(tempfile::TempDir);

impl Disk {
    /// None, with the reason printed, where this user may not mount; with `STILLWELL_TEST_ALL` set, that is a
    /// failure.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let why = match mount(&["-t", "tmpfs", "-o", "size=2m", "none"], folder.path()) {
            Ok(()) => return Some(Self(folder)),
            Err(why) => why,
        };
        assert!(std::env::var_os("STILLWELL_TEST_ALL").is_none(), "{why}");
        eprintln!("left out: {why}");
        None
    }

    fn remount(&self, how: &str) {
        mount(&["-o", &format!("remount,{how}")], self.0.path()).unwrap();
    }

    /// Takes all the space that is left.
    fn fill(&self) {
        use std::io::Write;
        let mut ballast = std::fs::File::create(self.ballast()).unwrap();
        while ballast.write_all(&[0; 4096]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.0.path().join("ballast")
    }

    fn archive(&self) -> std::path::PathBuf {
        self.0.path().join("archive")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn mount(args: &[&str], folder: &Path) -> Result<(), String> {
    let mounted = Command::new("mount").args(args).arg(folder).output();
    let mounted = mounted.map_err(|error| format!("a small file system is mounted by mount(8): {error}"))?;
    let said = String::from_utf8_lossy(&mounted.stderr).into_owned();
    mounted
        .status
        .success()
        .then_some(())
        .ok_or_else(|| format!("a small file system cannot be mounted: {said}"))
}

fn sound(store: &dyn ArchiveStore, next: i64) {
    let report = audit(store);
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!(report.range.unwrap().next, Offset(next));
    assert_eq!(see(store), expected(0, next));
}

async fn waits(board: &Board, part: &str) {
    loop {
        match board.read().remove("ingest/readings/3") {
            Some(status) if status.state == State::Waiting && status.detail.contains(part) => return,
            _ => tokio::task::yield_now().await,
        }
    }
}

/// Feeds a lane while `spoil` holds, until it says that it waits for what `part` is of; then mends it.
async fn waits_and_goes_on(store: Arc<dyn ArchiveStore>, part: &str, spoil: impl Fn(), mend: impl Fn()) {
    let prometheus = PrometheusBuilder::new().build_recorder();
    let metrics = prometheus.handle();
    // The lane's tasks run on this thread, and so does what they count.
    let _here = metrics::set_default_local_recorder(&prometheus);
    let state = |name: &str, is: u8| {
        let line = format!(
            r#"stillwell_lane_state{{stage="ingest",topic="readings",partition="3",state="{name}"}} {is}"#
        );
        let all = metrics.render();
        assert!(all.contains(&line), "{line} in {all}");
    };
    let (stage, _, board) = ingest_on(Arc::clone(&store), "a", Limits { file_bytes: 1, ..LIMITS });
    let (lane, mut feed) = lane(0);
    let running = tokio::spawn(async move { stage.run(lane).await });
    feed.chunks.send(chunk(0, 20)).await.unwrap();
    assert_eq!(feed.durable.recv().await.unwrap().1, Offset(20));
    state("ok", 1);
    spoil();
    feed.chunks.send(chunk(20, 60)).await.unwrap();
    waits(&board, part).await;
    state("waiting", 1);
    state("ok", 0);
    let waiting = metrics.render();
    let waited = waiting.lines().find(|line| line.starts_with("stillwell_store_wait_seconds{")).unwrap();
    assert!(!waited.ends_with(" 0"), "{waited}");
    assert!(feed.durable.try_recv().is_err());
    mend();
    assert_eq!(feed.durable.recv().await.unwrap().1, Offset(60));
    assert_eq!(board.read()["ingest/readings/3"].state, State::Ok);
    state("waiting", 0);
    state("ok", 1);
    drop(feed);
    assert_eq!(running.await.unwrap().unwrap(), LaneEnd::Done);
    assert!(metrics.render().contains(r#"stillwell_store_wait_seconds{topic="readings",partition="3"} 0"#));
    sound(&*store, 60);
}

#[tokio::test]
async fn a_full_disk_is_waited_for() {
    let Some(disk) = Disk::mount() else { return };
    let store = Arc::new(LocalStore::open(&disk.archive()).unwrap());
    waits_and_goes_on(store, "free space", || disk.fill(), || disk.free()).await;
}

#[tokio::test]
async fn a_read_only_folder_is_waited_for() {
    let Some(disk) = Disk::mount() else { return };
    let store = Arc::new(LocalStore::open(&disk.archive()).unwrap());
    waits_and_goes_on(store, "remount it writable", || disk.remount("ro"), || disk.remount("rw")).await;
}

#[test]
fn a_write_that_failed_leaves_its_space_to_others() {
    let Some(disk) = Disk::mount() else { return };
    let store = LocalStore::open(&disk.archive()).unwrap();
    store.put("t/readings/0/a", b"1").unwrap();
    assert!(store.put("t/readings/0/b", &vec![1; 4 << 20]).unwrap_err().is_transient());
    assert!(store.put_if_absent("t/manifest/0/b", &vec![1; 4 << 20]).unwrap_err().is_transient());
    assert!(!store.exists("t/readings/0/b").unwrap() && !store.exists("t/manifest/0/b").unwrap());
    assert!(store.list(".tmp").unwrap().is_empty());
    store.put("t/readings/0/c", &vec![1; 1 << 20]).unwrap();
}

#[test]
fn a_folder_is_probed_too() {
    let folder = tempfile::tempdir().unwrap();
    probe(&LocalStore::open(folder.path()).unwrap(), "here").unwrap();
    if let Some(disk) = Disk::mount() {
        let store = LocalStore::open(&disk.archive()).unwrap();
        disk.fill();
        let error = probe(&store, "here").unwrap_err();
        assert!(matches!(&error, ProbeError::Store(error) if error.is_transient()), "{error}");
    }
}

/// A store that stands still when told, and one that does not keep its word.
#[derive(Default)]
struct Odd {
    inner: MemoryStore,
    /// Whether it stands still.
    still: Mutex<bool>,
    moves: Condvar,
    /// How it creates.
    creates: Creates,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Creates {
    #[default]
    Rightly,
    /// Looks first and writes then.
    InTwoSteps,
    /// Not at all, as a file system without hard links.
    Never,
}

impl Odd {
    fn set_still(&self, still: bool) {
        *self.still.lock().unwrap() = still;
        self.moves.notify_all();
    }
}

impl ArchiveStore for Odd {
    fn put(&self, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
        drop(self.moves.wait_while(self.still.lock().unwrap(), |still| *still).unwrap());
        self.inner.put(path, bytes)
    }

    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> Result<Creation, StoreError> {
        match self.creates {
            Creates::Rightly => self.inner.put_if_absent(path, bytes),
            Creates::InTwoSteps if self.inner.exists(path)? => Ok(Creation::AlreadyExists),
            Creates::InTwoSteps => {
                std::thread::sleep(std::time::Duration::from_millis(5));
                self.inner.put(path, bytes).map(|()| Creation::Created)
            }
            Creates::Never => Err(StoreError::new("create", path, std::io::Error::from_raw_os_error(1))),
        }
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(path)
    }

    fn visit(&self, folder: &str, each: &mut dyn FnMut(Listed)) -> Result<(), StoreError> {
        self.inner.visit(folder, each)
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.inner.folders(folder)
    }

    fn delete(&self, path: &str) -> Result<(), StoreError> {
        self.inner.delete(path)
    }
}

#[tokio::test]
async fn a_slow_store_is_waited_for() {
    let store = Arc::new(Odd::default());
    let dynamic = Arc::clone(&store) as Arc<dyn ArchiveStore>;
    waits_and_goes_on(dynamic, "takes long", || store.set_still(true), || store.set_still(false)).await;
}

#[test]
fn a_store_that_cannot_create_is_refused() {
    for (creates, part) in [(Creates::InTwoSteps, "under load"), (Creates::Never, "hard links")] {
        let store = Odd { creates, ..Odd::default() };
        let error = probe(&store, "somewhere").unwrap_err();
        assert!(matches!(error, ProbeError::Unfit { .. }), "{error}");
        assert!(error.to_string().contains("somewhere") && error.to_string().contains(part), "{error}");
        assert!(store.list(".tmp").unwrap().is_empty(), "the probe leaves nothing");
    }
    probe(&Odd::default(), "somewhere").unwrap();
    let away = MemoryStore::default();
    away.fail(Op::Put, false, CRASH);
    assert!(matches!(probe(&away, "somewhere").unwrap_err(), ProbeError::Store(_)));
}
