//! What went wrong with a bucket: whether waiting helps, and what does.

use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::time::Duration;

use object_store::Error;
use stillwell_schema::archive::Scheme;

use super::super::StoreError;

/// How much of a server's answer is shown.
const SHOWN_MAX: usize = 300;

/// Words of a fault, the kind of error they stand for, and what mends it. The first that fits counts: what is
/// specific stands before what is general.
const REMEDIES: &[(&str, ErrorKind, &str)] = &[
    ("NoSuchBucket", ErrorKind::NotFound, "; create the bucket, or mend [ingest] archive"),
    ("ContainerNotFound", ErrorKind::NotFound, "; create the container, or mend [ingest] archive"),
    ("specified bucket does not exist", ErrorKind::NotFound, "; create the bucket, or mend [ingest] archive"),
    (
        "RequestTimeTooSkewed",
        ErrorKind::PermissionDenied,
        "; set this machine's clock, which is too far from the store's; it goes on by itself",
    ),
    ("ExpiredToken", ErrorKind::PermissionDenied, "; renew the credentials' session token"),
    ("InvalidAccessKeyId", ErrorKind::PermissionDenied, CREDENTIALS),
    ("SignatureDoesNotMatch", ErrorKind::PermissionDenied, CREDENTIALS),
    ("XAdminUserNotFound", ErrorKind::PermissionDenied, CREDENTIALS),
    ("AuthorizationHeaderMalformed", ErrorKind::PermissionDenied, REGION),
    ("PermanentRedirect", ErrorKind::Other, REGION),
    ("incorrectly configured region", ErrorKind::Other, REGION),
    ("401 Unauthorized", ErrorKind::PermissionDenied, CREDENTIALS),
    (
        "403 Forbidden",
        ErrorKind::PermissionDenied,
        "; give these credentials the right to read, write, list and delete there",
    ),
    ("URL scheme is not allowed", ErrorKind::InvalidInput, PLAIN),
    ("507 Insufficient Storage", ErrorKind::StorageFull, FULL),
    ("XMinioStorageFull", ErrorKind::StorageFull, FULL),
    ("QuotaExceeded", ErrorKind::QuotaExceeded, FULL),
    ("No space left", ErrorKind::StorageFull, FULL),
    ("501 Not Implemented", ErrorKind::Unsupported, ""),
    ("SlowDown", ErrorKind::ResourceBusy, "; the store asks for fewer requests, it goes on by itself"),
    ("429 Too Many", ErrorKind::ResourceBusy, "; the store asks for fewer requests, it goes on by itself"),
    ("getting credentials", ErrorKind::PermissionDenied, CREDENTIALS),
    ("metadata endpoint", ErrorKind::PermissionDenied, CREDENTIALS),
    ("error sending request", ErrorKind::NotConnected, AWAY),
    ("404 Not Found", ErrorKind::Other, NO_STORE),
];
/// How stores say that an object is not there: S3 and Google, Azure.
const ABSENT: [&str; 2] = ["NoSuchKey", "BlobNotFound"];

const CREDENTIALS: &str = "; check the credentials in [archive_store] or the environment";
const REGION: &str = "; set region in [archive_store] to the bucket's";
const PLAIN: &str = "; set allow_http = true in [archive_store] for a store without TLS";
const NO_STORE: &str =
    "; no store answers so: check endpoint in [archive_store], and what stands before the store";
const FULL: &str = "; free space there, it goes on by itself";
const AWAY: &str = "; check endpoint in [archive_store] and the network, it goes on by itself";

/// What a request met.
#[derive(Debug)]
pub(super) enum Fault {
    /// What the store or the way to it says.
    Store(Error),
    /// What we say.
    Own(io::Error, &'static str),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl Fault {
    pub(super) fn silent(within: Duration) -> Self {
        let text = format!("no answer within {} s", within.as_secs());
        Self::Own(io::Error::new(ErrorKind::TimedOut, text), AWAY)
    }

    pub(super) fn cut(bytes: usize, whole: usize) -> Self {
        let text = format!("the answer ended after {bytes} of {whole} bytes");
        Self::Own(io::Error::new(ErrorKind::UnexpectedEof, text), "")
    }

    pub(super) fn outside() -> Self {
        Self::Own(io::Error::new(ErrorKind::InvalidFilename, "path leaves the archive"), "")
    }

    pub(super) fn needless() -> Self {
        let text = "[archive_store] has options, but the archive is a folder";
        Self::Own(
            io::Error::new(ErrorKind::InvalidInput, text),
            "; take them out, or name a bucket in [ingest] archive",
        )
    }

    /// There is no such object. A 404 may also stand for a bucket or a user that the store does not know, or come
    /// from a proxy before it, and to take that for an empty archive would be a grave error.
    pub(super) fn is_absent(&self) -> bool {
        let code = |text: &str| element(text, "Code").is_some_and(|code| ABSENT.contains(&code));
        matches!(self, Self::Store(error @ Error::NotFound { .. }) if code(&error.to_string()))
    }

    /// The same of an answer that may say no more than 404: one to HEAD has no body, and Azure's parts of a deletion
    /// have no code. Never for what is read.
    pub(super) fn may_be_absent(&self) -> bool {
        let has_code = |text: &str| element(text, "Code").is_some();
        let is_bare =
            matches!(self, Self::Store(error @ Error::NotFound { .. }) if !has_code(&error.to_string()));
        is_bare || self.is_absent()
    }

    /// A creation met an object that is there. S3 says 412 then; its 409 means that it is busy with another
    /// creation of that name, which may yet fail, so the outcome is unknown. Azure's 409 is plain.
    pub(super) fn exists(&self, scheme: Scheme) -> bool {
        let Self::Store(Error::AlreadyExists { source, .. }) = self else { return false };
        scheme != Scheme::S3 || source.downcast_ref::<Error>().is_some()
    }

    /// The error of an operation.
    pub(super) fn of(self, action: &'static str, path: &str) -> StoreError {
        let (source, remedy) = match self {
            Self::Own(source, remedy) => (source, remedy),
            Self::Store(error) => {
                let whole = whole(&error);
                let (kind, remedy) =
                    remedy_of(&whole).map_or((kind_of(&error), ""), |(_, kind, remedy)| (*kind, *remedy));
                (io::Error::new(kind, shown(&whole)), remedy)
            }
        };
        let mut error = StoreError::new(action, path, source);
        if !remedy.is_empty() {
            error.remedy = remedy;
        }
        error
    }
}

fn remedy_of(text: &str) -> Option<&'static (&'static str, ErrorKind, &'static str)> {
    REMEDIES.iter().find(|(word, ..)| text.contains(word))
}

/// Everything but wrong options and paths passes, or can be mended on the other side.
fn kind_of(error: &Error) -> ErrorKind {
    match error {
        Error::InvalidPath { .. } => ErrorKind::InvalidFilename,
        Error::UnknownConfigurationKey { .. } => ErrorKind::InvalidInput,
        Error::NotSupported { .. } | Error::NotImplemented { .. } => ErrorKind::Unsupported,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => ErrorKind::PermissionDenied,
        _ => ErrorKind::Other,
    }
}

/// What the error and its causes say.
fn whole(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// The text of an element of an S3 or Azure answer.
fn element<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = answer.split_once(&format!("<{name}>"))?;
    Some(rest.split_once('<')?.0)
}

/// The part for people: code and message of an S3 answer, or the beginning, on one line.
fn shown(whole: &str) -> String {
    let text = match (element(whole, "Code"), element(whole, "Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => whole.to_owned(),
    };
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}
