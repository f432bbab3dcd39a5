use std::sync::Arc;

use super::*;
use crate::archive::Pin;
use crate::engine::{Engine, Request};
use crate::settings::Limits;

/// What the server gives the threads that plan and run statements.
const STACK_BYTES: usize = 8 << 20;

fn engine(folder: &std::path::Path) -> Engine {
    let limits = Limits { time: std::time::Duration::from_secs(600), ..Limits::default() };
    crate::engine::tests::engine(folder, limits)
}

/// A chain of `piece`s as long as the bounds let it be.
fn longest(start: &str, piece: impl Fn(usize) -> String) -> String {
    let mut sql = start.to_owned();
    for at in 0.. {
        let longer = format!("{sql}{}", piece(at));
        if check(&longer).is_err() {
            return sql;
        }
        sql = longer;
    }
    unreachable!()
}

/// Nests of all kinds: up to the bounds, or beyond what the parser takes.
fn nests() -> Vec<String> {
    let nest = |depth: usize, open: &str, close: &str| {
        format!("select {}1{}", open.repeat(depth), close.repeat(depth))
    };
    let of = |depth| {
        [
            nest(depth, "(", ")"),
            nest(depth, "(select ", ")"),
            nest(depth, "* from (select ", ") t"),
            nest(depth, "case when true then ", " end"),
            nest(depth, "abs(", ")"),
            nest(depth, "1 where exists (select ", ")"),
            nest(depth, "array[", "]"),
            nest(depth, "{'a': ", "}"),
            nest(depth, "not ", ""),
            nest(depth, "- ", ""),
            nest(depth, "1 in (", ")"),
            nest(depth, "1 = any (select ", ")"),
            format!("select 1 from {}readings{}", "(".repeat(depth), ")".repeat(depth)),
        ]
    };
    (2..60).step_by(4).flat_map(of).filter(|sql| check(sql).is_ok()).collect()
}

fn chains() -> Vec<String> {
    vec![
        longest("select 1", |_| " + 1".into()),
        longest("select 1.5", |_| " / 2".into()),
        longest("select 'a'", |_| " || 'b'".into()),
        longest("select true", |at| format!(" and {at} < 5")),
        longest("select true", |at| format!(" or {at} = 5")),
        longest("select 1 where 1 = 1", |at| format!(" or '{at}' like 'a%'")),
        longest("select 1", |_| "::bigint".into()),
        longest("select 1", |_| " is null".into()),
        longest("select '{}'", |_| " -> 'a'".into()),
        longest("select 1", |_| " union select 1".into()),
        longest("select 1", |_| " union all select 1".into()),
        longest("select 1 from (select 1) t", |at| format!(" cross join (select 1) t{at}")),
        longest("select 1 from readings t", |at| format!(", readings t{at}")),
        longest("select case", |at| format!(" when {at} = 1 then 2")) + " end",
        longest("with a0 as (select 1 as x)", |at| format!(", a{} as (select x from a{at})", at + 1))
            + "select 1",
    ]
}

/// Runs `work` where statements run, so that a stack that is too small ends this process as it would end the
/// server.
fn on_a_server_thread(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work).unwrap().join().unwrap();
}

#[test]
fn the_longest_chains_fit_the_stack_of_http() {
    on_a_server_thread(|| {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let engine = engine(folder.path());
            for sql in chains().into_iter().chain(nests()) {
                let request = Request { sql, ..Request::default() };
                // Whether it is a good statement does not matter here: it is parsed, planned and dropped.
                let _ = engine.run(&request, Arc::new(Pin::default())).await;
            }
        });
    });
}

#[test]
fn the_longest_chains_fit_the_stack_of_the_wire() {
    on_a_server_thread(|| {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let session = engine(folder.path()).connection();
            let parser = datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser::new();
            for sql in chains().into_iter().chain(nests()) {
                let Ok(statements) = parser.parse(&sql) else { continue };
                if let Ok(frame) = session.sql(&statements[0].clone().to_string()).await {
                    let _ = frame.collect().await;
                }
            }
        });
    });
}

#[test]
fn chains_beyond_the_bounds_are_refused_before_they_are_parsed() {
    let refused = |sql: String| {
        let error = check(&sql).unwrap_err().to_string();
        assert!(error.contains("more than"), "{error}");
    };
    refused(format!("select 1{}", "+1".repeat(200_000)));
    refused(format!("select 1{}", " union select 1".repeat(10_000)));
    refused(format!("select 1 from readings{}", ", readings".repeat(5_000)));
    refused(format!("select 1 from readings where (a in (1)){}", " and (b)".repeat(5_000)));
    refused(format!("select '{}'", "x".repeat(BYTES_MAX)));
    refused(format!("select {}1", "1, ".repeat(TOKENS_MAX)));
    refused(format!("select {}1{}", "abs(".repeat(30), ")".repeat(30)));
    refused(format!("select {}1{}", "(select ".repeat(30), ")".repeat(30)));
    refused(format!("select 1 from {}readings{}", "(".repeat(30), ")".repeat(30)));
}

#[test]
fn long_lists_are_no_chains() {
    let names = (0..5_000).map(|at| format!("'machine-{at}'")).collect::<Vec<_>>().join(", ");
    assert_eq!(check(&format!("select count(*) from readings where machine in ({names})")).unwrap(), 1);
    let rows = (0..2_000).map(|at| format!("({at}, 'x')")).collect::<Vec<_>>().join(", ");
    assert_eq!(check(&format!("select * from (values {rows}) as t(a, b)")).unwrap(), 1);
}

#[test]
fn grouping_is_no_nesting() {
    let grouped =
        format!("select 1 from readings where {}machine = 'a'{}", "(".repeat(40), " and (true))".repeat(40));
    assert_eq!(check(&grouped).unwrap(), 1);
    let usual = "with a as (select * from readings where machine in ('a', 'b')) \
                 select date_trunc('hour', to_timestamp(floor(round(abs(min(value)))))) from \
                 (select * from (select * from a) b join (a cross join records) using (topic)) c";
    assert_eq!(check(usual).unwrap(), 1);
    assert_eq!(check(")))] select 1").unwrap(), 1);
}

#[test]
fn statements_are_counted() {
    let counts = [("", 0), (" ; ; ", 0), ("select 1", 1), ("select 1;", 1), ("select ';'; select 2 -- ;", 2)];
    for (sql, expected) in counts {
        assert_eq!(check(sql).unwrap(), expected, "{sql}");
    }
}
