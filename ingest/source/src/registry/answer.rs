//! What a registry answers, and what it means.
//!
//! Source: the Schema Registry API reference, docs.confluent.io/platform/current/schema-registry/develop/api.html:
//! `GET /schemas/ids/{id}` gives `{"schema", "schemaType", "references": [{"name", "subject", "version"}]}`, and
//! `GET /subjects/{subject}/versions/{version}` the same of what is referred to.

use std::collections::HashSet;
use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;

use super::http::{Answer, Client};
use super::{Failure, Kind, Registered};

/// The registry's own code for "schema not found".
const NO_SCHEMA: &[u32] = &[40403];
/// Those for "subject not found" and "version not found".
const NO_VERSION: &[u32] = &[40401, 40402];
/// A registry that follows another may not have a new schema yet, so its first no is not believed.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// Schemas that one may refer to, in all.
const REFERENCES_MAX: usize = 256;

/// What was found.
pub(super) enum Fetched {
    Schema(Registered),
    Absent,
}

#[derive(Deserialize)]
struct Schema {
    schema: String,
    #[serde(default, rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
}

#[derive(Deserialize)]
struct Reference {
    subject: String,
    version: i64,
}

#[derive(Deserialize)]
struct Refusal {
    error_code: u32,
    #[serde(default)]
    message: String,
}

/// The schema of that id, with all that it refers to.
///
/// # Errors
/// Why the registry gives none.
pub(super) async fn fetch(client: &Client, id: u32) -> Result<Fetched, Failure> {
    let Some(answer) = look(client, &format!("/schemas/ids/{id}"), NO_SCHEMA).await? else {
        return Ok(Fetched::Absent);
    };
    let Schema { schema: text, kind, references } = parse(&answer)?;
    let kind = match kind.as_deref() {
        None | Some("AVRO") => Kind::Avro,
        Some("PROTOBUF") => Kind::Protobuf,
        Some(other) => Kind::Other(other.to_owned()),
    };
    let references = follow(client, references.unwrap_or_default()).await?;
    Ok(Fetched::Schema(Registered { kind, text, references }))
}

/// The answer to a GET of `path`; none where the registry says twice, by one of `codes`, that there is no such thing.
async fn look(client: &Client, path: &str, codes: &[u32]) -> Result<Option<Answer>, Failure> {
    let answer = client.get(path).await?;
    if !is_not_found(&answer, codes) {
        return Ok(Some(answer));
    }
    tokio::time::sleep(SECOND_LOOK).await;
    let answer = client.get(path).await?;
    Ok(Some(answer).filter(|answer| !is_not_found(answer, codes)))
}

/// What is referred to, each after what it refers to itself.
async fn follow(client: &Client, first: Vec<Reference>) -> Result<Vec<String>, Failure> {
    let mut texts = Vec::new();
    let mut seen = HashSet::new();
    // Schemas whose references are being followed: the text, and what is left to follow.
    let mut open = vec![(None, first.into_iter())];
    while let Some((text, rest)) = open.last_mut() {
        let Some(Reference { subject, version }) = rest.next() else {
            texts.extend(text.take());
            open.pop();
            continue;
        };
        let path = format!("/subjects/{}/versions/{version}", percent_encoded(&subject));
        if !seen.insert(path.clone()) {
            continue;
        }
        if seen.len() > REFERENCES_MAX {
            return Err(Failure::Unusable(format!("it refers to more than {REFERENCES_MAX} others")));
        }
        let of = |reason: &str| format!("version {version} of {subject}, which it refers to: {reason}");
        let answer = match look(client, &path, NO_VERSION).await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(Failure::Unusable(of("the registry has it no more"))),
            Err(Failure::Unusable(reason)) => return Err(Failure::Unusable(of(&reason))),
            Err(away) => return Err(away),
        };
        let referred = parse(&answer).map_err(|reason| of(&reason))?;
        open.push((Some(referred.schema), referred.references.unwrap_or_default().into_iter()));
    }
    Ok(texts)
}

fn is_not_found(answer: &Answer, codes: &[u32]) -> bool {
    let refusal = serde_json::from_slice::<Refusal>(&answer.body);
    answer.status == StatusCode::NOT_FOUND && refusal.is_ok_and(|refusal| codes.contains(&refusal.error_code))
}

fn parse(answer: &Answer) -> Result<Schema, String> {
    let Answer { status, body } = answer;
    match *status {
        StatusCode::OK => serde_json::from_slice(body)
            .map_err(|error| format!("the answer is no schema ({error}): check the registry's url")),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(format!("the registry answers {status}: check user and password"))
        }
        status if status.is_redirection() => {
            Err(format!("the registry answers {status}: give the url that it leads to"))
        }
        status => match serde_json::from_slice::<Refusal>(body) {
            Ok(Refusal { message, error_code }) => {
                let message: String = message.chars().take(200).collect();
                Err(format!("the registry answers {status}, {error_code}: {message}"))
            }
            Err(_) => Err(format!("{status} is no answer of a schema registry: check its url")),
        },
    }
}

/// A subject as a part of a path.
fn percent_encoded(subject: &str) -> String {
    let mut encoded = String::with_capacity(subject.len());
    for byte in subject.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_registrys_own_no_means_that_there_is_none() {
        let check = |status: StatusCode, body: &'static str, expected: Result<bool, &str>| {
            let answer = Answer { status, body: body.into() };
            match expected {
                Ok(absent) => {
                    assert_eq!(is_not_found(&answer, NO_SCHEMA), absent);
                    assert!(absent || parse(&answer).is_ok());
                }
                Err(part) => {
                    assert!(!is_not_found(&answer, NO_SCHEMA));
                    let reason = parse(&answer).err().unwrap();
                    assert!(reason.contains(part), "{reason}");
                }
            }
        };
        check(StatusCode::OK, r#"{"schema":"\"long\""}"#, Ok(false));
        check(StatusCode::NOT_FOUND, r#"{"error_code":40403,"message":"Schema not found"}"#, Ok(true));
        check(StatusCode::NOT_FOUND, r#"{"error_code":40402,"message":"Version not found"}"#, Err("Version"));
        check(StatusCode::NOT_FOUND, "<html>", Err("check its url"));
        check(StatusCode::NOT_FOUND, r#"{"error_code":404,"message":"HTTP 404"}"#, Err("HTTP 404"));
        check(StatusCode::UNAUTHORIZED, "", Err("user and password"));
        check(StatusCode::FOUND, "", Err("leads to"));
        check(StatusCode::OK, "<html>", Err("no schema"));
        check(StatusCode::TOO_MANY_REQUESTS, "", Err("429"));
        assert_eq!(percent_encoded("a/b ü.v1"), "a%2Fb%20%C3%BC.v1");
    }
}
