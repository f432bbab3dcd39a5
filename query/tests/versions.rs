//! What a later version wrote is no damage: whoever asks for it is told to upgrade, and to do nothing else.

mod common;

use std::path::Path;

use arrow::array::RecordBatch;
use common::{Both, Lane, Row};
use stillwell_query::QueryError;

fn row(second: i64) -> Row {
    let (machine, sensor) = ("m0".to_owned(), "temp".to_owned());
    Row { machine, sensor, time_us: second * 1_000_000, value: Some(1.0), quality: 0 }
}

/// Two commits, and one more or a cover of both that name this schema; how many readings are found then.
async fn readings(folder: &Path, schema: &'static str, covered: bool) -> Result<usize, QueryError> {
    let mut lane = Lane::new(folder, 0);
    let mut batches = vec![lane.commit(&[row(0)]), lane.commit(&[row(1)])];
    lane.schema = Some(schema);
    match covered {
        true => lane.merge(0, 2),
        false => batches.push(lane.commit(&[row(2)])),
    }
    let both = Both::new(folder, "readings", batches);
    let found = both.ask("SELECT sensor FROM readings").await?;
    Ok(found.iter().map(RecordBatch::num_rows).sum())
}

#[tokio::test]
async fn files_of_a_known_schema_are_read() {
    for schema in ["stillwell-1", "stillwell-2"] {
        for (covered, expected) in [(false, 3), (true, 2)] {
            let folder = tempfile::tempdir().unwrap();
            let found = readings(folder.path(), schema, covered).await.unwrap();
            assert_eq!(found, expected, "{schema} {covered}");
        }
    }
}

#[tokio::test]
async fn files_of_a_later_schema_ask_for_an_upgrade() {
    for (covered, path) in [(false, "readings/manifest/0/"), (true, "readings/readings/0/")] {
        let folder = tempfile::tempdir().unwrap();
        let error = readings(folder.path(), "stillwell-999", covered).await.unwrap_err();
        assert!(matches!(error, QueryError::Archive(_)), "{error:?}");
        let text = error.to_string();
        for part in [path, "stillwell-999", "upgrade stillwell"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("backup") && !text.contains("verify"), "{text}");
    }
}
