use std::io::ErrorKind;

use stillwell_schema::ArchiveUrl;
use stillwell_schema::archive::Scheme;

use super::*;

fn options(set: &[(&str, &str)]) -> StoreOptions {
    let config = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    StoreOptions { config, ..StoreOptions::default() }
}

#[test]
fn options_that_no_store_knows_are_named_and_the_environments_are_left_alone() {
    let url: ArchiveUrl = "s3://plant/line".parse().unwrap();
    let mut given = options(&[("region", "here"), ("access_key_id", "k"), ("secret_access_key", "s")]);
    given.environment.insert("AWS_PAGER".into(), "less".into());
    check_options(&url, &given).unwrap();
    let error = check_options(&url, &options(&[("acces_key", "hush")])).unwrap_err();
    assert!(!error.is_transient());
    assert!(error.to_string().contains("acces_key") && !error.to_string().contains("hush"), "{error}");
    let folder: ArchiveUrl = "/archive".parse().unwrap();
    check_options(&folder, &options(&[])).unwrap();
    let error = check_options(&folder, &given).unwrap_err().to_string();
    assert!(error.contains("[archive_store]"), "{error}");
    for url in ["gs://plant/line", "az://plant/line"] {
        check_options(&url.parse().unwrap(), &options(&[("nonsense", "x")])).unwrap_err();
    }
}

#[test]
fn what_a_store_answers_is_classed_and_says_what_mends_it() {
    let generic =
        |text: &str| Fault::Store(object_store::Error::Generic { store: "S3", source: text.into() });
    for (text, kind, transient, remedy) in [
        ("error: 404 Not Found: <Code>NoSuchBucket</Code>", ErrorKind::NotFound, true, "create the bucket"),
        ("403 Forbidden: <Code>RequestTimeTooSkewed</Code>", ErrorKind::PermissionDenied, true, "clock"),
        ("403 Forbidden: <Code>InvalidAccessKeyId</Code>", ErrorKind::PermissionDenied, true, "credentials"),
        ("403 Forbidden: <Code>AccessDenied</Code>", ErrorKind::PermissionDenied, true, "right to"),
        ("503 Service Unavailable: SlowDown", ErrorKind::ResourceBusy, true, "by itself"),
        ("507 Insufficient Storage", ErrorKind::StorageFull, true, "free space"),
        ("501 Not Implemented", ErrorKind::Unsupported, false, ""),
        ("error sending request", ErrorKind::NotConnected, true, "endpoint"),
        ("URL scheme is not allowed", ErrorKind::InvalidInput, false, "allow_http"),
        ("something new", ErrorKind::Other, true, ""),
    ] {
        let error = generic(text).of("write", "t/x");
        assert_eq!((error.source.kind(), error.is_transient()), (kind, transient), "{text}");
        assert!(error.to_string().ends_with(error.remedy) && error.remedy.contains(remedy), "{error}");
    }
    let answer = "403: <Error><Code>AccessDenied</Code><Message>Not\n yours.</Message></Error>";
    assert_eq!(generic(answer).of("write", "t/x").source.to_string(), "AccessDenied: Not yours.");
    assert!(generic(&"ä".repeat(1000)).of("write", "t/x").to_string().len() < 700);
}

#[test]
fn a_missing_bucket_is_not_a_missing_object() {
    let missing =
        |text: &str| Fault::Store(object_store::Error::NotFound { path: "t/x".into(), source: text.into() });
    assert!(missing("404 Not Found: <Code>NoSuchKey</Code>").is_absent());
    assert!(missing("404 Not Found: <Code>BlobNotFound</Code>").may_be_absent());
    for bare in ["404 Not Found: ", "404 Not Found: <html>no such page</html>"] {
        assert!(!missing(bare).is_absent() && missing(bare).may_be_absent());
        let error = missing(bare).of("read", "t/x");
        assert!(error.is_transient() && error.remedy.contains("check endpoint"), "{error}");
    }
    assert!(!missing("404 Not Found: <Code>NoSuchBucket</Code>").may_be_absent());
    assert!(!missing("404 Not Found: <Code>NoSuchBucket</Code>").is_absent());
    assert!(!missing("404 Not Found: <Code>XAdminUserNotFound</Code>").is_absent());
}

#[test]
fn only_an_object_that_is_there_lets_a_creation_say_so() {
    let exists = |source: Box<dyn std::error::Error + Send + Sync>, scheme| {
        Fault::Store(object_store::Error::AlreadyExists { path: "t/x".into(), source }).exists(scheme)
    };
    let refused = object_store::Error::Precondition { path: "t/x".into(), source: "412".into() };
    assert!(exists(Box::new(refused), Scheme::S3));
    assert!(!exists("409 ConditionalRequestConflict".into(), Scheme::S3));
    assert!(exists("409 BlobAlreadyExists".into(), Scheme::Az));
}

#[test]
fn names_in_a_folder_are_told_from_those_below_it() {
    let name =
        |folder: &str, object: &str| name_in(&Path::from(folder), &Path::from(object)).map(str::to_owned);
    assert_eq!(name("a/t", "a/t/x.json").as_deref(), Some("x.json"));
    assert_eq!(name("a/t", "a/t/y/x.json"), None);
    assert_eq!(name("a/t", "a/tt"), None);
    assert_eq!(name("", "x"), Some("x".into()));
}

#[test]
fn a_large_file_may_take_longer() {
    assert_eq!(upload_within(0), SILENCE_MAX);
    assert!(upload_within(64 << 20) > Duration::from_secs(256));
}
