//! Whether a `.proto` file, as a registry has it, holds our message at a given place.
//!
//! Most registries give its text, some the descriptor that a client registered, in Base64 ([`super::descriptor`]). Only
//! what is needed of the text is understood: packages, messages and their fields. All else is passed over.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::descriptor;

/// What we read of `Reading`, by number.
const READING: &[(u64, &str)] = &[
    (1, "string"),
    (2, "string"),
    (3, "string"),
    (4, "string"),
    (5, "int64"),
    (6, "double"),
    (7, "string"),
    (8, "uint32"),
];
const PACKAGE: &str = "stillwell.v1";
/// Messages nest no deeper than this.
pub(super) const DEPTH_MAX: usize = 32;

/// A file.
#[derive(Debug, Default)]
pub(super) struct File<'a> {
    pub(super) package: &'a str,
    pub(super) messages: Vec<Message<'a>>,
}

/// A message of a file.
#[derive(Debug, Default)]
pub(super) struct Message<'a> {
    pub(super) name: &'a str,
    /// Number, type, and whether it is repeated.
    pub(super) fields: Vec<(u64, &'a str, bool)>,
    pub(super) messages: Vec<Self>,
}

/// Whether the message at `path` of the file `text` is a `Reading` or a `ReadingBatch`.
///
/// # Errors
/// Why it is none.
pub(super) fn check(text: &str, path: &[usize]) -> Result<(), String> {
    // No text of a file is Base64: it has blanks, or signs such as semicolons.
    if let Ok(bytes) = STANDARD.decode(text.trim()) {
        let file = descriptor::parse(&bytes).map_err(|error| format!("its descriptor is none: {error}"))?;
        return check_file(&file, path);
    }
    check_file(&Words { text, at: 0 }.file()?, path)
}

fn check_file(file: &File<'_>, path: &[usize]) -> Result<(), String> {
    let File { package, messages } = file;
    let mut within = messages;
    let mut found = None;
    let mut name = (*package).to_owned();
    for &index in path {
        let message = within.get(index).ok_or_else(|| format!("it has no message {path:?}"))?;
        name = format!("{name}.{}", message.name);
        within = &message.messages;
        found = Some(message);
    }
    let message = found.ok_or("it names no message")?;
    if name == format!("{PACKAGE}.Reading") {
        return check_reading(message);
    }
    if name != format!("{PACKAGE}.ReadingBatch") {
        return Err(format!("its message is {name}, neither {PACKAGE}.Reading nor {PACKAGE}.ReadingBatch"));
    }
    for (number, kind, repeated) in &message.fields {
        let local = kind.trim_start_matches('.');
        let local = local.strip_prefix(PACKAGE).map_or(local, |rest| rest.trim_start_matches('.'));
        match number {
            15 if local == "Reading" && *repeated => {}
            1..=8 | 15 => return Err(format!("field {number} of {name} is {kind}, which is not ours")),
            _ => {}
        }
    }
    // It may come from another file of ours.
    messages.iter().find(|message| message.name == "Reading").map_or(Ok(()), check_reading)
}

fn check_reading(message: &Message<'_>) -> Result<(), String> {
    for (number, kind, repeated) in &message.fields {
        let ours = READING.iter().find(|(known, _)| known == number);
        if *number == 15 || ours.is_some_and(|(_, ours)| ours != kind || *repeated) {
            return Err(format!("field {number} of {PACKAGE}.Reading is {kind}, which is not ours"));
        }
    }
    Ok(())
}

struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    fn file(&mut self) -> Result<File<'a>, String> {
        let mut file = File::default();
        while let Some(word) = self.next()? {
            match word {
                "package" => {
                    file.package = self.word()?;
                    self.rest(";")?;
                }
                "message" => file.messages.push(self.message(0)?),
                ";" => {}
                _ => self.statement()?,
            }
        }
        Ok(file)
    }

    fn message(&mut self, depth: usize) -> Result<Message<'a>, String> {
        if depth == DEPTH_MAX {
            return Err(format!("its messages nest deeper than {DEPTH_MAX}"));
        }
        let mut message = Message { name: self.word()?, ..Message::default() };
        self.expect("{")?;
        loop {
            match self.word()? {
                "}" => return Ok(message),
                ";" => {}
                "message" => message.messages.push(self.message(depth + 1)?),
                "oneof" => {
                    self.word()?;
                    self.expect("{")?;
                    loop {
                        match self.word()? {
                            "}" => break,
                            ";" => {}
                            "option" => self.statement()?,
                            kind => message.fields.extend(self.field(kind)?),
                        }
                    }
                }
                "enum" | "extend" | "option" | "reserved" | "extensions" => self.statement()?,
                kind => message.fields.extend(self.field(kind)?),
            }
        }
    }

    /// A field that begins with `first`; none where it is something else.
    fn field(&mut self, first: &'a str) -> Result<Option<(u64, &'a str, bool)>, String> {
        let kind = if matches!(first, "optional" | "required" | "repeated") { self.word()? } else { first };
        if kind == "group" {
            return Err("it has groups".to_owned());
        }
        let repeated = first == "repeated";
        let mut word = self.word()?;
        if kind == "map" {
            while word != ">" {
                word = self.word()?;
            }
            self.word()?;
        }
        self.expect("=")?;
        let number = self.word()?;
        let radix = number.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16));
        let number =
            radix.unwrap_or_else(|| number.parse()).map_err(|_| format!("{number:?} numbers no field"))?;
        self.rest(";")?;
        Ok(Some((number, kind, repeated)))
    }

    /// Passes over a statement whose first word was read: to its semicolon, or over its braces.
    fn statement(&mut self) -> Result<(), String> {
        let mut depth = 0usize;
        loop {
            match self.word()? {
                "{" => depth += 1,
                "}" if depth <= 1 => return Ok(()),
                "}" => depth -= 1,
                ";" if depth == 0 => return Ok(()),
                _ => {}
            }
        }
    }

    fn rest(&mut self, end: &str) -> Result<(), String> {
        while self.word()? != end {}
        Ok(())
    }

    fn expect(&mut self, wanted: &str) -> Result<(), String> {
        let found = self.word()?;
        if found == wanted { Ok(()) } else { Err(format!("{found:?} stands in the place of {wanted:?}")) }
    }

    fn word(&mut self) -> Result<&'a str, String> {
        self.next()?.ok_or_else(|| "its file ends too early".to_owned())
    }

    /// The next word: a name with its points, a number, text in quotes, or a sign.
    fn next(&mut self) -> Result<Option<&'a str>, String> {
        let text = self.text;
        loop {
            let rest = text[self.at..].trim_start();
            self.at = text.len() - rest.len();
            let skipped = if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if let Some(comment) = rest.strip_prefix("/*") {
                2 + comment.find("*/").ok_or("a comment does not end")? + 2
            } else {
                break;
            };
            self.at += skipped;
        }
        let rest = &text[self.at..];
        let Some(first) = rest.chars().next() else { return Ok(None) };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '+');
        let len = if is_name(first) {
            rest.find(|c| !is_name(c)).unwrap_or(rest.len())
        } else if first == '"' || first == '\'' {
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let ends = c == first && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            end.ok_or("a text does not end")? + 2
        } else {
            first.len_utf8()
        };
        self.at += len;
        Ok(Some(&rest[..len]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = include_str!("../../../proto/reading.proto");

    #[test]
    fn our_messages_are_known_and_others_are_not() {
        let check =
            |text: &str, path: &[usize], expected: Result<(), &str>| match (check(text, path), expected) {
                (Ok(()), Ok(())) => {}
                (Err(reason), Err(part)) => assert!(reason.contains(part), "{reason}"),
                (found, expected) => panic!("{path:?}: {found:?}, not {expected:?}"),
            };
        check(OURS, &[0], Ok(()));
        check(OURS, &[1], Ok(()));
        check(OURS, &[2], Err("no message [2]"));
        check(OURS, &[0, 0], Err("no message [0, 0]"));
        // As Confluent's Python client registers it, and Apicurio gives it back.
        let registered = include_str!("../../../tests/vectors/protobuf-descriptor.txt");
        check(registered, &[0], Ok(()));
        check(registered, &[1], Ok(()));
        check(registered, &[2], Err("no message [2]"));
        check("AAAA", &[0], Err("descriptor"));
        check("", &[0], Err("no message"));
        check("message Reading { string machine = 1; }", &[0], Err("its message is .Reading"));
        let v1 = |body: &str| format!("package stillwell.v1; option java_package = \"a;b}}\"; {body}");
        check(&v1("message Reading { bytes machine = 1; }"), &[0], Err("field 1"));
        check(&v1("message Reading { repeated string machine = 1; }"), &[0], Err("field 1"));
        check(
            &v1("enum E { A = 0; } message Reading { string m = 0x1 [deprecated = true]; reserved 9, 10; }"),
            &[0],
            Ok(()),
        );
        check(&v1("message A { message Reading { string machine = 1; } }"), &[0, 0], Err("A.Reading"));
        check(
            &v1(
                "message ReadingBatch { repeated .stillwell.v1.Reading all = 15; map<string, int32> m = 100; oneof o { string x = 101; } }",
            ),
            &[0],
            Ok(()),
        );
        check(&v1("message ReadingBatch { repeated Other all = 15; }"), &[0], Err("field 15"));
        check(&v1("message Reading { /* never ends"), &[0], Err("comment"));
        check(&v1("message Reading {"), &[0], Err("ends too early"));
    }
}
