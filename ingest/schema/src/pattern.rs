//! Patterns of machine names, as retention and legal hold state them: `press-*`, where `*` stands for any text,
//! also none, and every other character for itself.

/// Whether `name` is one of those that `pattern` stands for.
///
/// ```
/// use stillwell_schema::pattern::matches;
/// assert!(matches("press-*", "press-07") && matches("*", "") && matches("*-7*", "press-07-7b"));
/// assert!(!matches("press-*", "old-press-07") && !matches("press", "press-07"));
/// ```
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(head) else { return false };
    // Between two stars the first place that fits leaves most for what follows.
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    name.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, character by character.
    fn by_definition(pattern: &[char], name: &[char]) -> bool {
        match (pattern.first(), name.first()) {
            (None, None) => true,
            (Some('*'), _) if by_definition(&pattern[1..], name) => true,
            (Some('*'), Some(_)) => by_definition(pattern, &name[1..]),
            (Some(a), Some(b)) if a == b => by_definition(&pattern[1..], &name[1..]),
            _ => false,
        }
    }

    proptest::proptest! {
        #[test]
        fn a_pattern_matches_what_its_definition_says(pattern in "[ab*]{0,6}", name in "[ab]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            assert_eq!(matches(&pattern, &name), by_definition(&chars(&pattern), &chars(&name)));
        }
    }
}
