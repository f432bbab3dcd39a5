//! The page in a real browser: what it shows of a plant with faults.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::stack::Stack;

/// How much of its own time the page gets to draw itself.
const BUDGET_MS: u32 = 15_000;

#[test]
fn the_page_shows_machines_charts_and_anomalies() {
    let Some(chromium) = chromium() else {
        assert!(std::env::var_os("STILLWELL_TEST_ALL").is_none(), "no chromium: apt-get install chromium");
        eprintln!("no chromium (apt-get install chromium): the page was not looked at");
        return;
    };
    let stack = Stack::start(&[]);
    let size = ["--machines", "3", "--sensors", "4", "--rate", "0", "--count", "36000"];
    let faults = ["--faults-every", "2m", "--faults-after", "15m"];
    let out = stack.run(&[&["generate", "--quiet"], &size[..], &faults].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    stack.wait_number("select count(*) from anomalies", "anomalies", |n| n > 0);
    let machines = stack.rows("select distinct machine from readings order by machine");
    let suspect = stack.rows("select machine from anomalies order by time desc limit 1");
    let suspect = suspect[0][0].as_str().unwrap();

    let overview = shown(&chromium, &stack, "");
    for machine in &machines {
        let machine = machine[0].as_str().unwrap();
        assert!(overview.contains(machine), "the overview names no {machine}:\n{overview}");
    }
    assert!(overview.contains("Readings per second"), "the overview shows no rate:\n{overview}");
    let machine = shown(&chromium, &stack, &format!("#/machine/{suspect}"));
    assert!(machine.contains(suspect) && machine.contains("<canvas"), "no chart of {suspect}:\n{machine}");
    let anomalies = shown(&chromium, &stack, "#/anomalies");
    assert!(anomalies.contains(suspect), "no anomaly of {suspect}:\n{anomalies}");
}

/// The document as it stands when the page has drawn itself.
fn shown(chromium: &PathBuf, stack: &Stack, place: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let url = format!("{}/{place}", stack.endpoint("http").trim_end_matches('/'));
    let out = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--virtual-time-budget={BUDGET_MS}"))
        .args(["--dump-dom", &url])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn chromium() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&folders)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|program| program.is_file())
}
