//! The machine registry from a spreadsheet to SQL: as known now, at the reading's time, and while ClickHouse is away.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::producer::Producer;
use crate::stack::{Stack, signal};

/// The press moves to line L2 a hundred seconds after the first reading, and will move again.
const FILE: &str = "\
machine,valid_from,site,line,model,sensor,unit,low,high,description
press-07,2024-01-01T00:00:00Z,Linz,L1,HP-400,oil,l/s,0,85,return line
press-07,2024-01-01T00:00:00Z,Linz,L1,HP-400,door,,,,
press-07,2024-06-01T00:01:40Z,Linz,L2,HP-400,oil,l/s,0,90,
press-07,2200-01-01T00:00:00Z,Graz,L9,HP-400,,,,,
saw-01,2024-01-01T00:00:00Z,Linz,L1,S,,,,,
";

const MACHINES: &str = "select machine, site, line, sensors from machines order by machine";
const JOINED: &str = "select cast(r.value as int), h.line from readings r join machines_history h \
    on r.machine = h.machine and r.time >= h.valid_from and (h.valid_until is null or r.time < h.valid_until) \
    order by 1";

/// A reading `n` seconds after the first, in the past on every clock.
fn reading(n: u64) -> String {
    let time_ms = 1_717_200_000_000 + n * 1000;
    format!(r#"{{"machine":"press-07","sensor":"oil","unit":"l/s","time":{time_ms},"value":{n}}}"#)
}

fn printed(output: &Output) -> String {
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{error}");
    out.into_owned()
}

fn import(stack: &Stack, file: &Path, more: &[&str]) -> Output {
    let mut args = vec!["machines", "import", file.to_str().unwrap()];
    args.extend(more);
    stack.run(&args)
}

fn row(cells: [&str; 3], sensors: i64) -> Vec<Value> {
    cells.into_iter().map(Value::from).chain([Value::from(sensors)]).collect()
}

#[test]
fn the_registry_is_imported_asked_and_survives_what_it_comes_from() {
    let mut stack = Stack::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("machines.csv");
    fs::write(&file, FILE.replace("85", "many")).unwrap();
    let refused = import(&stack, &file, &[]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("line 2: high \"many\" is no number"), "{said}");

    fs::write(&file, FILE).unwrap();
    let said = printed(&import(&stack, &file, &["--dry-run"]));
    assert!(said.contains("4 records would be published: 4 new"), "{said}");
    let said = printed(&import(&stack, &file, &[]));
    assert!(said.contains("4 records are published: 4 new"), "{said}");
    let said = printed(&import(&stack, &file, &[]));
    assert!(said.starts_with("nothing changes") && said.contains("4 the same"), "{said}");

    let listed = printed(&stack.run(&["machines", "list"]));
    assert!(listed.contains("press-07") && listed.contains("saw-01"), "{listed}");
    assert!(!listed.contains("L9"), "what is not valid yet is not listed: {listed}");
    let exported = printed(&stack.run(&["machines", "export", "--history", "--format", "csv"]));
    fs::write(&file, &exported).unwrap();
    assert!(printed(&import(&stack, &file, &["--prune"])).starts_with("nothing changes"), "{exported}");

    stack.wait_number("select count(*) from machines_history", "in sql", |n| n == 4);
    let expected = [row(["press-07", "Linz", "L2"], 1), row(["saw-01", "Linz", "L1"], 0)];
    assert_eq!(stack.rows(MACHINES), expected);
    assert_eq!(stack.number("select count(*) from machine_sensors"), 3);

    let producer = Producer::new(stack.endpoint("kafka"));
    for n in [0, 99, 100, 200] {
        producer.send("press-07", reading(n).as_bytes());
    }
    producer.flush();
    stack.wait_number("select count(*) from readings", "archived", |n| n == 4);
    let lines = [(0, "L1"), (99, "L1"), (100, "L2"), (200, "L2")];
    let joined = lines.map(|(n, line)| vec![Value::from(n), Value::from(line)]);
    assert_eq!(stack.rows(JOINED), joined);

    // A version that was wrong is taken back, another is mended.
    let mended: Vec<&str> = FILE.lines().filter(|line| !line.contains("2200")).collect();
    fs::write(
        &file,
        mended.join("\n").replace("saw-01,2024-01-01T00:00:00Z,Linz", "saw-01,2024-01-01T00:00:00Z,Wels"),
    )
    .unwrap();
    let said = printed(&import(&stack, &file, &["--prune"]));
    assert!(said.contains("2 records are published: 0 new, 1 changed, 1 taken back, 2 the same"), "{said}");
    stack.wait_number("select count(*) from machines_history", "taken back", |n| n == 3);
    let expected = [row(["press-07", "Linz", "L2"], 1), row(["saw-01", "Wels", "L1"], 0)];
    assert_eq!(stack.rows(MACHINES), expected);

    let engine = stack.process(" clickhouse-server ");
    signal(engine, "STOP");
    assert_eq!(stack.rows(MACHINES), expected, "from the copy");
    assert_eq!(stack.rows(JOINED), joined);
    stack.wait_number("select cast(age_s as int) from machines_registry", "it says its age", |age| age >= 3);
    signal(engine, "CONT");
    assert!(stack.data().join("machines.json").exists());

    let read_until = "select cast(max(read_until) as bigint) from machines_registry";
    let before = stack.number(read_until);
    assert!(stack.stop().success(), "{}", stack.log());
    stack.restart();
    assert_eq!(stack.rows(MACHINES), expected, "from the file, or read anew");
    stack.wait_number(read_until, "read again", |after| after > before);
    assert_eq!(stack.number("select count(*) from machines_history"), 3);
    let (_, health) = stack.http("GET", "/health", "").unwrap();
    let health: Value = serde_json::from_str(&health).unwrap();
    assert!(health["parts"].as_object().unwrap().contains_key("query/machines"), "{health}");
}
