//! The registry's client against a server of its REST interface: what is kept, what is asked again, and what waits.
//! How it was tried by hand with a registry itself stands in `tests/vectors/README.md`.

mod registry_server;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use registry_server::{Answer, RegistryServer};
use serde_json::json;
use stillwell_source::chunk::RecordRef;
use stillwell_source::columns::ReadingColumns;
use stillwell_source::decode::{DecodeFault, decoder_for};
use stillwell_source::registry::{
    Kind, Miss, Password, Registered, RegistryError, RegistrySettings, Schemas,
};
use stillwell_source::series::SeriesTable;
use stillwell_source::settings::{Format, TopicSettings};

fn settings(url: &str) -> RegistrySettings {
    RegistrySettings {
        url: url.to_owned(),
        user: String::new(),
        password: Password::Plain(String::new()),
        ca_file: None,
        timeout: Duration::from_secs(10),
    }
}

fn ca() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/tls/ca.pem")
}

/// Looks until the schema is here or known to be none, or until `enough` of a reason to wait.
fn wait(schemas: &Schemas, id: u32, enough: impl Fn(&str) -> bool) -> Result<Arc<Registered>, Miss> {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        match schemas.lookup(id) {
            Err(Miss::Away(reason)) if !enough(&reason) => assert!(Instant::now() < until, "{reason}"),
            found => return found,
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn until_here(schemas: &Schemas, id: u32) -> Result<Arc<Registered>, Miss> {
    wait(schemas, id, |_| false)
}

#[test]
fn a_schema_is_fetched_once_however_many_want_it() {
    let server = RegistryServer::start(|_| {
        Answer::json(200, &json!({ "schema": "\"long\"" })).after(Duration::from_millis(50))
    });
    let schemas = Schemas::open(settings(&server.url())).unwrap();
    assert!(
        matches!(schemas.lookup(7), Err(Miss::Away(reason)) if reason.contains("schema 7 is not here yet"))
    );
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(until_here(&schemas, 7).unwrap().text, "\"long\""));
        }
    });
    let found = schemas.clone().lookup(7).unwrap();
    assert_eq!((found.kind.clone(), server.asked("/schemas/ids/7")), (Kind::Avro, 1));
}

#[test]
fn what_a_schema_refers_to_comes_before_it() {
    let server = RegistryServer::start(|path| {
        let reference = |subject: &str| json!({ "name": "x", "subject": subject, "version": 1 });
        Answer::json(
            200,
            &match path {
                "/schemas/ids/1" => {
                    json!({ "schema": "root", "references": [reference("a"), reference("b")] })
                }
                "/subjects/a/versions/1" => json!({ "schema": "a", "references": [reference("c")] }),
                "/subjects/b/versions/1" => {
                    json!({ "schema": "b", "references": [reference("c"), reference("a")] })
                }
                _ => json!({ "schema": "c", "references": null }),
            },
        )
    });
    let schemas = Schemas::open(settings(&server.url())).unwrap();
    let found = until_here(&schemas, 1).unwrap();
    assert_eq!((&*found.text, &found.references[..]), ("root", &["c", "a", "b"].map(String::from)[..]));
    assert_eq!(server.asked("/subjects/c/versions/1"), 1);
}

#[test]
fn a_schema_that_there_is_not_is_asked_for_twice_and_then_believed() {
    let server =
        RegistryServer::start(|_| Answer::json(404, &json!({ "error_code": 40403, "message": "none" })));
    let schemas = Schemas::open(settings(&server.url())).unwrap();
    assert_eq!(until_here(&schemas, 5), Err(Miss::Unknown));
    assert_eq!(schemas.lookup(5), Err(Miss::Unknown));
    assert_eq!(server.asked("/schemas/ids/5"), 2);
}

#[test]
fn what_asking_again_does_not_mend_is_no_reason_to_wait() {
    let server = RegistryServer::start(|path| {
        let to = |subject: String| json!({ "name": "x", "subject": subject, "version": 1 });
        let schema =
            |references: Vec<serde_json::Value>| json!({ "schema": "root", "references": references });
        match path {
            "/schemas/ids/1" => Answer::json(200, &schema(vec![to("gone".to_owned())])),
            "/subjects/gone/versions/1" => {
                Answer::json(404, &json!({ "error_code": 40402, "message": "Version 1 not found." }))
            }
            "/schemas/ids/2" => Answer::text(200, &" ".repeat((4 << 20) + 1)),
            "/schemas/ids/3" => Answer::json(200, &schema((0..257).map(|n| to(format!("s{n}"))).collect())),
            // What is too large and no schema may be a proxy's.
            "/schemas/ids/4" => Answer::text(404, &" ".repeat((4 << 20) + 1)),
            _ => Answer::json(200, &json!({ "schema": "leaf" })),
        }
    });
    let schemas = Schemas::open(settings(&server.url())).unwrap();
    let parts = [(1, "version 1 of gone"), (2, "more than 4194304 bytes"), (3, "more than 256 others")];
    for (id, part) in parts {
        let found = until_here(&schemas, id).unwrap_err();
        assert!(matches!(&found, Miss::Unusable(reason) if reason.contains(part)), "{id}: {found:?}");
        assert_eq!(schemas.lookup(id), Err(found));
    }
    assert_eq!(server.asked("/subjects/gone/versions/1"), 2);
    let found = wait(&schemas, 4, |reason| reason.contains("cannot be read"));
    assert!(matches!(found, Err(Miss::Away(_))), "{found:?}");

    let mut topic = TopicSettings::new("t");
    topic.format.format = Format::Avro;
    topic.format.schemas = Some(schemas);
    let (mut table, mut out) = (SeriesTable::default(), ReadingColumns::default());
    let decoded =
        decoder_for(&topic).decode(&RecordRef::new(0, None, &[0, 0, 0, 0, 1, 2]), 0, &mut table, &mut out);
    assert!(matches!(&decoded, Err(DecodeFault::Data(error)) if error.class == "bad_schema"), "{decoded:?}");
}

#[test]
fn a_registry_that_is_away_is_asked_until_it_is_back() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = RegistryServer::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Answer::text(503, ""),
        // No registry says so: something stands before it.
        1 => Answer::text(404, "<html>"),
        2 => Answer::text(200, "<html>"),
        _ => Answer::json(200, &json!({ "schema": "message A {}", "schemaType": "PROTOBUF" })),
    });
    let schemas = Schemas::open(settings(&server.url())).unwrap();
    for part in ["503", "404 Not Found is no answer of a schema registry", "the answer is no schema"] {
        assert!(matches!(wait(&schemas, 3, |reason| reason.contains(part)), Err(Miss::Away(_))), "{part}");
    }
    assert_eq!(until_here(&schemas, 3).unwrap().kind, Kind::Protobuf);
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}

#[test]
fn the_second_address_serves_where_the_first_does_not() {
    let server = RegistryServer::start(|_| Answer::json(200, &json!({ "schema": "\"int\"" })));
    let gone = {
        let other = RegistryServer::start(|_| Answer::text(500, ""));
        other.url()
    };
    let schemas = Schemas::open(settings(&format!("{gone}, {}", server.url()))).unwrap();
    assert_eq!(until_here(&schemas, 1).unwrap().text, "\"int\"");
}

#[test]
fn a_registry_that_does_not_answer_in_time_is_away() {
    let server = RegistryServer::start(|_| Answer::text(200, "").after(Duration::from_secs(5)));
    let slow = RegistrySettings { timeout: Duration::from_millis(50), ..settings(&server.url()) };
    let schemas = Schemas::open(slow).unwrap();
    let found = wait(&schemas, 3, |reason| reason.contains("does not answer in 50ms"));
    assert!(matches!(found, Err(Miss::Away(_))));
}

#[test]
fn tls_with_an_authority_of_ones_own_and_basic_authentication() {
    let file = std::env::temp_dir().join(format!("stillwell-registry-password-{}", std::process::id()));
    std::fs::write(&file, "wrong\n").unwrap();
    // "plant:geheim"
    let answer = |_: &str| Answer::json(200, &json!({ "schema": "\"int\"" }));
    let server = RegistryServer::start_tls(answer, Some("Basic cGxhbnQ6Z2VoZWlt"));
    let secure = RegistrySettings {
        user: "plant".to_owned(),
        password: Password::File(file.clone()),
        ca_file: Some(ca()),
        ..settings(&server.url())
    };
    let schemas = Schemas::open(secure.clone()).unwrap();
    let refused = wait(&schemas, 1, |reason| reason.contains("check user and password"));
    assert!(matches!(refused, Err(Miss::Away(_))));
    // The file is read anew for every request.
    std::fs::write(&file, "geheim\n").unwrap();
    assert_eq!(until_here(&schemas, 1).unwrap().text, "\"int\"");
    std::fs::remove_file(&file).unwrap();

    let plain = RegistrySettings { password: Password::Plain("geheim".to_owned()), ..secure.clone() };
    assert!(!format!("{plain:?}").contains("geheim"));
    assert!(until_here(&Schemas::open(plain).unwrap(), 1).is_ok());

    // Whom the authority does not vouch for is not asked for anything.
    let before = server.asked("/schemas/ids/2");
    let other = format!("https://127.0.0.2:{}", server.url().rsplit(':').next().unwrap());
    let stranger = Schemas::open(RegistrySettings { url: other, ..secure }).unwrap();
    let refused = wait(&stranger, 2, |reason| reason.contains("127.0.0.2"));
    assert!(matches!(refused, Err(Miss::Away(_))));
    assert_eq!(server.asked("/schemas/ids/2"), before);
}

#[test]
fn settings_that_are_wrong_are_refused_at_once() {
    assert!(matches!(settings("registry:8081").check(), Err(RegistryError::Url { .. })));
    assert!(matches!(Schemas::open(settings("registry:8081")), Err(RegistryError::Url { .. })));
    let missing =
        RegistrySettings { ca_file: Some("/nowhere/ca.pem".into()), ..settings("https://localhost") };
    missing.check().unwrap();
    assert!(matches!(Schemas::open(missing), Err(RegistryError::Ca { .. })));
    let empty = RegistrySettings { ca_file: Some("/dev/null".into()), ..settings("https://localhost") };
    let error = Schemas::open(empty).unwrap_err();
    assert!(error.to_string().contains("/dev/null"), "{error}");
}

#[test]
fn a_record_waits_for_its_schema_and_is_then_read() {
    let schema = json!({ "type": "record", "name": "Reading", "fields": [
        { "name": "machine", "type": "string" }, { "name": "sensor", "type": "string" },
        { "name": "time", "type": "long" }, { "name": "value", "type": "double" },
    ] });
    let server = RegistryServer::start(move |_| Answer::json(200, &json!({ "schema": schema.to_string() })));
    let mut topic = TopicSettings::new("t");
    topic.format.format = Format::Avro;
    topic.format.schemas = Some(Schemas::open(settings(&server.url())).unwrap());
    let (mut table, mut out) = (SeriesTable::default(), ReadingColumns::default());
    let record = [&[0, 0, 0, 0, 9, 2, b'm', 2, b's', 2][..], &2.5f64.to_le_bytes()].concat();
    let record = RecordRef::new(0, None, &record);
    let mut decoder = decoder_for(&topic);
    let first = decoder.decode(&record, 0, &mut table, &mut out);
    assert!(matches!(first, Err(DecodeFault::Transient(_))), "{first:?}");
    let schemas = topic.format.schemas.clone().unwrap();
    until_here(&schemas, 9).unwrap();
    assert_eq!(decoder.decode(&record, 0, &mut table, &mut out), Ok(()));
    assert_eq!((out.time_us[0], out.value[0]), (1000, 2.5));
    assert_eq!(server.asked("/schemas/ids/9"), 1);
}
