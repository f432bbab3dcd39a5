use super::*;

fn listed(kind: &str, first: i64, unique: &str, modified_us: i64) -> Listed {
    Listed { path: format!("t/{kind}/0/{first}-{}-{unique}.parquet", first + 10), bytes: 1, modified_us }
}

fn window(first: i64, files_max: usize, files: &[Listed]) -> Window {
    let mut window = Window::new(Offset(first), 100, files_max);
    files.iter().for_each(|file| window.offer(file.clone()));
    window
}

#[test]
fn windows_take_every_old_file_once_in_order() {
    let firsts = [50, 20, 20, 0, 40, 10, 20, 30, 10];
    let files: Vec<_> =
        (0..).zip(firsts).map(|(i, first)| listed("records", first, &format!("u-{i}"), 99)).collect();
    for files_max in 1..10 {
        let (mut first, mut seen) = (0, Vec::new());
        loop {
            let window = window(first, files_max, &files);
            let Some(last) = window.last() else { break };
            seen.extend(window.unnamed().cloned());
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
    let files = [listed("records", 30, "young", 100), listed("records", 10, "swept", 0), foreign];
    assert_eq!(window(20, 10, &files).last(), None);
}
