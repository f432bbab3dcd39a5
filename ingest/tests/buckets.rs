//! Archives in buckets, on a real S3-compatible server and on ways to it that fail.

mod support;

use std::future::Future;
use std::sync::Arc;

use stillwell_ingest::stage::Limits;
use stillwell_ingest::store::{self, ArchiveStore, Creation, ProbeError, probe};
use stillwell_schema::health::{Board, State};
use stillwell_schema::{ArchiveUrl, Offset, StoreOptions, paths};
use stillwell_source::lane::{LaneEnd, Stage};
use support::proxy::Proxy;
use support::versitygw::{ACCESS_KEY, BUCKET, SECRET_KEY, Versitygw};
use support::{LIMITS, audit, chunk, expected, ingest_on, lane, lane_id, live, see};

const ARCHIVE: &str = "s3://plant/line-1";

fn options(port: u16, more: &[(&str, &str)]) -> StoreOptions {
    let endpoint = format!("http://127.0.0.1:{port}");
    let usual = [
        ("endpoint", endpoint.as_str()),
        ("region", "us-east-1"),
        ("allow_http", "true"),
        ("access_key_id", ACCESS_KEY),
        ("secret_access_key", SECRET_KEY),
    ];
    let all = usual.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    StoreOptions { config: all.collect(), ..StoreOptions::default() }
}

fn open(port: u16) -> Arc<dyn ArchiveStore> {
    store::open(&ARCHIVE.parse().unwrap(), &options(port, &[])).unwrap()
}

/// The store's methods block, so the tests are no tasks themselves.
fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn sound(store: &dyn ArchiveStore, next: i64) {
    let report = audit(store);
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!(report.range.unwrap().next, Offset(next));
    assert_eq!(see(store), expected(0, next));
}

#[test]
fn a_real_server_does_what_an_archive_asks() {
    let Some(server) = Versitygw::start() else { return };
    let store = open(server.port);
    probe(&*store, ARCHIVE).unwrap();
    assert!(store.list(".tmp").unwrap().is_empty(), "the probe leaves nothing");
    for round in 0..20 {
        let path = format!("t/manifest/0/{round}");
        let (store, path) = (&*store, &path);
        let created: Vec<u8> = std::thread::scope(|scope| {
            let racers: Vec<_> =
                (0u8..16).map(|i| (i, scope.spawn(move || store.put_if_absent(path, &[i])))).collect();
            let ends = racers.into_iter().map(|(i, racer)| (i, racer.join().unwrap().unwrap()));
            ends.filter(|(_, end)| *end == Creation::Created).map(|(i, _)| i).collect()
        });
        assert_eq!(created.len(), 1, "round {round}");
        assert_eq!(store.get(path).unwrap().unwrap(), created);
    }
    store.put("t/readings/1/x", &vec![7; 3 << 20]).unwrap();
    assert_eq!(store.get("t/readings/1/x").unwrap().unwrap(), vec![7; 3 << 20]);
    assert!(server.object("line-1/t/readings/1/x").exists(), "the prefix counts");
    assert_eq!(store.folders("").unwrap(), ["t"]);
    assert_eq!(store.folders("t").unwrap(), ["manifest", "readings"]);
    let mut listed: Vec<_> =
        store.list("t/manifest/0").unwrap().into_iter().map(|l| (l.path, l.bytes)).collect();
    listed.sort();
    let mut names: Vec<_> = (0..20).map(|round| (format!("t/manifest/0/{round}"), 1)).collect();
    names.sort();
    assert_eq!(listed, names);
    let mut later = Vec::new();
    store.visit_after("t/manifest/0", "t/manifest/0/7", &mut |listed| later.push(listed.path)).unwrap();
    later.sort();
    assert_eq!(later, ["t/manifest/0/8", "t/manifest/0/9"]);
    assert!(store.list("t").unwrap().is_empty() && store.list("t/mani").unwrap().is_empty());
    assert!(store.get("t/none").unwrap().is_none() && !store.exists("t/none").unwrap());
    store.delete("t/none").unwrap();
    store.put(".tmp/left", b"x").unwrap();
    let written = store.list(".tmp").unwrap()[0].modified_us;
    store::sweep(&*store, written).unwrap();
    assert!(store.exists(".tmp/left").unwrap());
    store::sweep(&*store, written + 1).unwrap();
    assert!(!store.exists(".tmp/left").unwrap());
    for path in ["../x", "/etc/x"] {
        assert!(!store.put(path, b"").unwrap_err().is_transient(), "{path}");
    }
}

#[test]
fn a_server_that_ignores_conditions_is_refused() {
    let Some(server) = Versitygw::start() else { return };
    let proxy = Proxy::to(server.port);
    proxy.forget_conditions(server.folder.path().to_owned());
    let error = probe(&*open(proxy.port), ARCHIVE).unwrap_err();
    assert!(matches!(error, ProbeError::Unfit { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains(ARCHIVE) && error.contains("If-None-Match"), "{error}");
    assert!(open(server.port).list(".tmp").unwrap().is_empty(), "the probe leaves nothing");
}

#[test]
fn a_creation_whose_answer_was_lost_is_an_error_and_found_to_be_ones_own() {
    let Some(server) = Versitygw::start() else { return };
    let proxy = Proxy::to(server.port);
    let store = open(proxy.port);
    proxy.lose_answers(1);
    let error = store.put_if_absent("t/manifest/0/a", b"own").unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(store.read_back("t/manifest/0/a").unwrap().unwrap(), b"own");
    // Both files and the entry of each commit, many times over.
    for (round, lost) in (0..).zip([1, 2, 3, 4, 5, 9]) {
        proxy.lose_answers(lost);
        let (stage, ..) = ingest_on(Arc::clone(&store), &format!("w{round}"), LIMITS);
        let end = run(async {
            let (lane, feed) = lane(round * 40);
            feed.chunks.send(chunk(round * 40, round * 40 + 40)).await.unwrap();
            drop(feed);
            stage.run(lane).await.unwrap()
        });
        assert_eq!((end, proxy.unlost()), (LaneEnd::Done, 0), "{lost}");
        sound(&*store, round * 40 + 40);
    }
}

#[test]
fn racing_writers_archive_each_offset_once() {
    let Some(server) = Versitygw::start() else { return };
    let store = open(server.port);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let writers = (0..3).map(|i| tokio::spawn(live(Arc::clone(&store), format!("w{i}"), i, 300)));
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    });
    sound(&*store, 300);
}

/// Waits until the lane says that it waits, for the reason that `part` is of.
async fn waits(board: &Board, part: &str) {
    loop {
        match board.read().remove("ingest/readings/3") {
            Some(status) if status.state == State::Waiting && status.detail.contains(part) => return,
            _ => tokio::task::yield_now().await,
        }
    }
}

#[test]
fn a_lane_waits_for_a_silent_or_absent_server_says_so_and_goes_on() {
    let Some(server) = Versitygw::start() else { return };
    let proxy = Proxy::to(server.port);
    let store = open(proxy.port);
    let (stage, _, board) = ingest_on(Arc::clone(&store), "a", Limits { file_bytes: 1, ..LIMITS });
    run(async {
        let (lane, mut feed) = lane(0);
        let running = tokio::spawn(async move { stage.run(lane).await });
        feed.chunks.send(chunk(0, 20)).await.unwrap();
        assert_eq!(feed.durable.recv().await.unwrap().1, Offset(20));
        proxy.silence();
        feed.chunks.send(chunk(20, 40)).await.unwrap();
        waits(&board, "takes long").await;
        assert!(feed.durable.try_recv().is_err());
        proxy.pass();
        assert_eq!(feed.durable.recv().await.unwrap().1, Offset(40));
        assert_eq!(board.read()["ingest/readings/3"].state, State::Ok);
        proxy.cut();
        feed.chunks.send(chunk(40, 80)).await.unwrap();
        waits(&board, "check endpoint").await;
        assert!(feed.durable.try_recv().is_err());
        proxy.pass();
        assert_eq!(feed.durable.recv().await.unwrap().1, Offset(80));
        assert_eq!(board.read()["ingest/readings/3"].state, State::Ok);
        drop(feed);
        assert_eq!(running.await.unwrap().unwrap(), LaneEnd::Done);
    });
    sound(&*store, 80);
}

#[test]
fn what_is_wrong_with_a_bucket_is_said_and_no_secret_is() {
    let Some(server) = Versitygw::start() else { return };
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (url, port, more, part) in [
        (ARCHIVE, server.port, ("access_key_id", "stranger"), "check the credentials"),
        (ARCHIVE, server.port, ("secret_access_key", "wrong"), "check the credentials"),
        ("s3://nowhere/line-1", server.port, ("region", "us-east-1"), "create the bucket"),
        (ARCHIVE, free, ("region", "us-east-1"), "check endpoint"),
    ] {
        let url: ArchiveUrl = url.parse().unwrap();
        let store = store::open(&url, &options(port, &[more])).unwrap();
        let path = paths::entry(&lane_id(), 0);
        let errors = [
            store.put(&path, b"x").unwrap_err(),
            store.get(&path).expect_err(&format!("{url} {more:?}")),
            store.list("readings/manifest/3").unwrap_err(),
        ];
        for error in errors {
            let said = error.to_string();
            assert!(error.is_transient() && said.contains(part), "{more:?}: {said}");
            assert!(!said.contains(SECRET_KEY) && !said.contains("wrong"), "{said}");
        }
    }
    let plain = store::open(&ARCHIVE.parse().unwrap(), &options(server.port, &[("allow_http", "false")]));
    let error = plain.unwrap().put("t/x", b"x").unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("allow_http"), "{error}");
    assert_eq!(BUCKET, "plant");
}
