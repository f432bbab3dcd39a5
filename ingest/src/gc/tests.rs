use super::*;

fn listed(kind: &str, first: i64, unique: &str, modified_us: i64) -> Listed {
    Listed { path: format!("t/{kind}/0/{first}-{}-{unique}.parquet", first + 10), bytes: 1, modified_us }
}

/// The paths of a window's candidates, in a lane that ends at 1000 and was swept up to 20, where the last is from.
fn window(first: i64, files_max: usize, files: &[Listed]) -> (Vec<String>, Option<Offset>) {
    let at = |next| Head { next: Some(Offset(next)), ..Head::genesis() };
    let (from, head, view) = (at(first.min(20)), at(1000), View::default());
    let scope = Scope { from: &from, head: &head, view: &view, before_us: 100, superseded_before_us: 100 };
    let mut window = Window::new(Offset(first), scope, files_max);
    files.iter().for_each(|file| window.offer(file.clone()));
    (window.unnamed().map(|found| found.path.clone()).collect(), window.last())
}

#[test]
fn windows_take_every_old_file_once_in_order() {
    let firsts = [50, 20, 20, 0, 40, 10, 20, 30, 10];
    let files: Vec<_> =
        (0..).zip(firsts).map(|(i, first)| listed("records", first, &format!("u-{i}"), 99)).collect();
    for files_max in 1..10 {
        let (mut first, mut seen) = (0, Vec::new());
        loop {
            let (paths, last) = window(first, files_max, &files);
            let Some(last) = last else { break };
            seen.extend(paths);
            first = last.0 + 1;
        }
        assert_eq!(seen.len(), files.len(), "{files_max}");
        assert!(seen.is_sorted_by_key(|path| paths::data_first(path)), "{seen:?}");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), files.len(), "{files_max}");
    }
}

#[test]
fn what_is_young_foreign_or_swept_before_is_no_candidate() {
    let foreign = Listed { path: "t/records/0/notes.txt".into(), bytes: 1, modified_us: 0 };
    let files = [
        listed("records", 30, "young", 100),
        listed("records", 10, "swept", 0),
        listed("records", 1000, "at the head", 0),
        listed("records", 30, &paths::unique_of_act(0, "to come"), 0),
        foreign,
    ];
    assert_eq!(window(20, 10, &files), (Vec::new(), None));
}
