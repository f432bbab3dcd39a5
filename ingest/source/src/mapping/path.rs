//! Paths into a foreign record, and text made of them.
//!
//! ```text
//! $.asset.id           from the record's root
//! $["asset id"][0].x   names with other signs than letters, digits, _ and - are quoted; [n] is the n-th of a list
//! @.v   @^.id          from the row that `each` is at; from the row around it, one ^ for each `[*]` further out
//! $.fields.*  $.list[*]   every member of an object, every element of a list (in `each` and `values` alone)
//! $key                 the key or number of the row within what `each` iterates
//! $name                the name of the value that is being read, in `sensor`, `kind` and `unit`
//! $kafka.key  $kafka.timestamp  $kafka.header.NAME    of the Kafka record itself
//! ```

use std::fmt;

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    pub(crate) root: Root,
    pub(crate) steps: Vec<Step>,
}

/// Where a path starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    Record,
    /// The row, or one so many rows further out.
    Row(usize),
    /// The row's key.
    Key,
    /// The value's name.
    Name,
    KafkaKey,
    KafkaTimestamp,
    KafkaHeader(String),
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Member(String),
    Item(usize),
    All,
}

/// What a name is made of: text with paths in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    Path(Path),
}

impl Path {
    /// Parses a whole path.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (path, rest) = Self::begin(text)?;
        if rest.is_empty() { Ok(path) } else { Err(format!("{rest:?} is no step of the path {text:?}")) }
    }

    /// Parses a path as far as it goes, and gives what follows.
    fn begin(text: &str) -> Result<(Self, &str), String> {
        let (root, mut rest) = root(text)?;
        let mut steps = Vec::new();
        while let Some((step, after)) = step(rest)? {
            steps.push(step);
            rest = after;
        }
        let walks = matches!(root, Root::Record | Root::Row(_));
        if !walks && !steps.is_empty() {
            return Err(format!("nothing lies below the start of the path {text:?}"));
        }
        Ok((Self { root, steps }, rest))
    }

    /// How many `*` it has.
    pub(crate) fn wildcards(&self) -> usize {
        self.steps.iter().filter(|step| **step == Step::All).count()
    }

    /// How far out of its row it starts.
    pub(crate) fn up(&self) -> usize {
        if let Root::Row(up) = self.root { up } else { 0 }
    }

    /// The name of what it leads to.
    pub(crate) fn name(&self) -> Option<String> {
        match self.steps.last()? {
            Step::Member(name) => Some(name.clone()),
            Step::Item(i) => Some(i.to_string()),
            Step::All => None,
        }
    }
}

fn root(text: &str) -> Result<(Root, &str), String> {
    if let Some(rest) = text.strip_prefix('@') {
        let inner = rest.trim_start_matches('^');
        return Ok((Root::Row(rest.len() - inner.len()), inner));
    }
    let Some(rest) = text.strip_prefix('$') else {
        return Err(format!("the path {text:?} starts with neither $ nor @"));
    };
    let word = &rest[..name_len(rest)];
    let after = &rest[word.len()..];
    match word {
        "" => Ok((Root::Record, rest)),
        "key" => Ok((Root::Key, after)),
        "name" => Ok((Root::Name, after)),
        "kafka" => {
            let field = after.strip_prefix('.').unwrap_or_default();
            let word = &field[..name_len(field)];
            let after = &field[word.len()..];
            match word {
                "key" => Ok((Root::KafkaKey, after)),
                "timestamp" => Ok((Root::KafkaTimestamp, after)),
                "header" => match step(after)? {
                    Some((Step::Member(name), after)) => Ok((Root::KafkaHeader(name), after)),
                    _ => Err(format!("{text:?} names no header, as $kafka.header.NAME does")),
                },
                _ => Err(format!("{text:?} is none of $kafka.key, $kafka.timestamp, $kafka.header.NAME")),
            }
        }
        _ => Err(format!("{text:?} is none of $.…, $key, $name, $kafka.…")),
    }
}

/// The next step, if one follows.
fn step(text: &str) -> Result<Option<(Step, &str)>, String> {
    if let Some(rest) = text.strip_prefix('.') {
        if let Some(rest) = rest.strip_prefix('*') {
            return Ok(Some((Step::All, rest)));
        }
        let len = name_len(rest);
        if len == 0 {
            return Err(format!("a name must follow the point in {text:?}"));
        }
        return Ok(Some((Step::Member(rest[..len].to_owned()), &rest[len..])));
    }
    let Some(rest) = text.strip_prefix('[') else { return Ok(None) };
    if let Some(rest) = rest.strip_prefix("*]") {
        return Ok(Some((Step::All, rest)));
    }
    if let Some(quoted) = rest.strip_prefix('"') {
        let found = quoted.split_once("\"]").filter(|(name, _)| !name.is_empty());
        return match found {
            Some((name, rest)) => Ok(Some((Step::Member(name.to_owned()), rest))),
            None => Err(format!("{text:?} does not end with \"]")),
        };
    }
    let number = rest.split_once(']').and_then(|(digits, rest)| Some((digits.parse().ok()?, rest)));
    match number {
        Some((number, rest)) => Ok(Some((Step::Item(number), rest))),
        None => Err(format!("{text:?} is none of [0], [*], [\"name\"]")),
    }
}

/// Bytes of the name that `text` starts with.
fn name_len(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).unwrap_or(text.len())
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.root {
            Root::Record => f.write_str("$")?,
            Root::Row(up) => write!(f, "@{}", "^".repeat(*up))?,
            Root::Key => f.write_str("$key")?,
            Root::Name => f.write_str("$name")?,
            Root::KafkaKey => f.write_str("$kafka.key")?,
            Root::KafkaTimestamp => f.write_str("$kafka.timestamp")?,
            Root::KafkaHeader(name) => write!(f, "$kafka.header{}", Step::Member(name.clone()))?,
        }
        self.steps.iter().try_for_each(|step| step.fmt(f))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(name) if name_len(name) == name.len() => write!(f, ".{name}"),
            Self::Member(name) => write!(f, "[\"{name}\"]"),
            Self::Item(i) => write!(f, "[{i}]"),
            Self::All => f.write_str("[*]"),
        }
    }
}

/// Parses text in which `{…}` holds a path; `{{` and `}}` are the signs themselves. Text that begins with `$` or
/// `@` is one path.
pub(crate) fn template(text: &str) -> Result<Vec<Piece>, String> {
    if text.starts_with(['$', '@']) {
        return Ok(vec![Piece::Path(Path::parse(text)?)]);
    }
    let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        plain.push_str(&rest[..at]);
        let (sign, after) = rest[at..].split_at(1);
        if let Some(after) = after.strip_prefix(sign) {
            plain.push_str(sign);
            rest = after;
            continue;
        }
        if sign == "}" {
            return Err(format!("}} without {{ in {text:?}; write }}}} for the sign itself"));
        }
        let (path, after) = Path::begin(after)?;
        rest = after.strip_prefix('}').ok_or_else(|| format!("no }} after the path in {text:?}"))?;
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(Piece::Path(path));
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    if pieces.is_empty() { Err("it is empty".to_owned()) } else { Ok(pieces) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let found = Path::parse(text).map(|path| path.to_string());
        match expected {
            Ok(shown) => assert_eq!(found.as_deref(), Ok(shown)),
            Err(part) => assert!(found.as_ref().unwrap_err().contains(part), "{text}: {found:?}"),
        }
    }

    #[test]
    fn paths_are_parsed_and_shown() {
        for same in [
            "$",
            "@",
            "$.asset.id",
            "@.v",
            "@^^.id",
            "$.a[0].b",
            "$[\"asset id\"].x",
            "$[*]",
            "$key",
            "$name",
            "$kafka.key",
            "$kafka.timestamp",
            "$kafka.header.unit",
            "$kafka.header[\"x y\"]",
            "$.größe",
        ] {
            check(same, Ok(same));
        }
        check("$.fields.*", Ok("$.fields[*]"));
        check("$[\"plain\"]", Ok("$.plain"));
        check("asset.id", Err("neither $ nor @"));
        check("$.", Err("name must follow"));
        check("$..a", Err("name must follow"));
        check("$.a b", Err("\" b\""));
        check("$[x]", Err("[0], [*]"));
        check("$[\"x", Err("end with"));
        check("$[\"\"]", Err("end with"));
        check("$asset.id", Err("$key"));
        check("$name.x", Err("nothing lies below"));
        check("$kafka.offset", Err("$kafka.timestamp"));
        check("$kafka.header", Err("names no header"));
    }

    #[test]
    fn templates_hold_text_and_paths() {
        let check = |text: &str, expected: &[&str]| {
            let shown = |piece: &Piece| match piece {
                Piece::Text(text) => format!("'{text}'"),
                Piece::Path(path) => path.to_string(),
            };
            let found: Vec<String> = template(text).unwrap().iter().map(shown).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("$.a", &["$.a"]);
        check("press", &["'press'"]);
        check("{$.m}.{$name}", &["$.m", "'.'", "$name"]);
        check("a{{b}}{@.c}d", &["'a{b}'", "@.c", "'d'"]);
        check("{$[\"a}b\"]}", &["$[\"a}b\"]"]);
        for wrong in ["", "{", "}", "a{b}", "{$.a", "{$.a b}", "x}"] {
            assert!(template(wrong).is_err(), "{wrong}");
        }
    }
}
