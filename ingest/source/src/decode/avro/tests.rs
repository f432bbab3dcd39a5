//! Schema resolution and decoding; the vectors were written and read by `fastavro` (`tests/vectors/README.md`).

use serde_json::{Value, json};

use super::super::mapped::{Scalar, Tree};
use super::*;

const EVOLUTION: &str = include_str!("../../../tests/vectors/avro-evolution.json");

/// What a tree holds, in the words of the vectors.
fn dump<T: Tree>(tree: &T, node: T::Node) -> Result<Value, DecodeError> {
    if tree.is_list(node) {
        let mut items = Vec::new();
        tree.children(node, &mut |_, child| {
            items.push(dump(tree, child)?);
            Ok(())
        })?;
        return Ok(Value::Array(items));
    }
    Ok(match tree.scalar(node)? {
        Scalar::Null => Value::Null,
        Scalar::Bool(yes) => json!(yes),
        Scalar::Int(int) => json!(int),
        Scalar::Unsigned(int) => json!(int),
        Scalar::Float(float) if float.is_finite() => json!(float),
        Scalar::Float(float) => json!({ "$float": float.to_string() }),
        Scalar::Text(text) => json!(text),
        Scalar::Time(us) => json!({ "$us": us }),
        Scalar::Other("a record" | "a map") => {
            let mut members = serde_json::Map::new();
            tree.children(node, &mut |name, child| {
                members.insert(name.to_owned(), dump(tree, child)?);
                Ok(())
            })?;
            Value::Object(members)
        }
        Scalar::Other("bytes") => json!({ "$bytes": true }),
        Scalar::Other(what) => json!({ "$other": what }),
    })
}

/// Reads `bytes` by two schemas.
fn read(writer: &str, reader: Option<&str>, bytes: &[u8]) -> Result<Value, String> {
    let writer = Schema::parse([], writer)?;
    let reader = reader.map(|text| Schema::parse([], text)).transpose()?;
    let plan = resolve::resolve(&writer, reader.as_ref())?;
    let mut nodes = Nodes::default();
    let tree = nodes.parse(&plan, bytes, 0).map_err(|error| error.to_string())?;
    dump(&tree, tree.root()).map_err(|error| error.to_string())
}

/// Equal, numbers by their value: a promoted one has another type. Text that a reader calls bytes stays text.
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            let [x, y] = [x, y].map(|n| n.as_f64().unwrap_or(f64::NAN));
            (x - y).abs() <= x.abs() * f64::EPSILON
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| alike(x, y)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(key, x)| y.get(key).is_some_and(|y| alike(x, y)))
        }
        (Value::String(_), Value::Object(y)) => y.contains_key("$bytes"),
        _ => a == b,
    }
}

#[test]
fn every_vector_reads_as_fastavro_reads_it() {
    let vectors: Vec<Value> = serde_json::from_str(EVOLUTION).unwrap();
    let (mut read_well, mut refused) = (0, 0);
    for (i, vector) in vectors.iter().enumerate() {
        let text = |key: &str| Some(&vector[key]).filter(|value| !value.is_null()).map(Value::to_string);
        let writer = text("writer").unwrap();
        let reader = text("reader");
        let bytes = unhex(vector["hex"].as_str().unwrap());
        let found = read(&writer, reader.as_deref(), &bytes);
        match (&vector["value"], vector.get("error").is_some()) {
            (_, true) => {
                assert!(
                    found.is_err(),
                    "vector {i}: {writer} as {reader:?} is {found:?}, and should be refused"
                );
                refused += 1;
            }
            (value, false) => {
                let found =
                    found.unwrap_or_else(|error| panic!("vector {i}: {writer} as {reader:?}: {error}"));
                assert!(alike(&found, value), "vector {i}: {writer} as {reader:?}: {found}, not {value}");
                read_well += 1;
            }
        }
        // No part of it is a record.
        for end in 0..bytes.len() {
            assert!(read(&writer, reader.as_deref(), &bytes[..end]).is_err(), "vector {i} cut at {end}");
        }
    }
    assert!(read_well >= 200 && refused >= 10, "{read_well} read, {refused} refused");
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

#[test]
fn schemas_resolve_by_the_rules_of_avro() {
    let check = |writer: Value, reader: Value, bytes: &[u8], expected: Result<Value, &str>| {
        let found = read(&writer.to_string(), Some(&reader.to_string()), bytes);
        match (&found, expected) {
            (Ok(found), Ok(expected)) => assert!(alike(found, &expected), "{writer} as {reader}: {found}"),
            (Err(reason), Err(part)) => assert!(reason.contains(part), "{writer} as {reader}: {reason}"),
            _ => panic!("{writer} as {reader}: {found:?}"),
        }
    };
    let record = |fields: Value| json!({ "type": "record", "name": "n.R", "fields": fields });
    check(json!("int"), json!("double"), &[3], Ok(json!(-2)));
    // A float has 24 bits.
    check(json!("int"), json!("float"), &[0xfe, 0xff, 0xff, 0xff, 0x0f], Ok(json!(2_147_483_648.0)));
    check(json!("long"), json!("int"), &[2], Err("writer's long cannot be read as int"));
    check(json!("string"), json!("bytes"), &[2, b'a'], Ok(json!("a")));
    check(json!("bytes"), json!("string"), &[2, 0xff], Err("utf8"));
    check(json!(["null", "int"]), json!("int"), &[2, 4], Ok(json!(2)));
    check(json!(["null", "int"]), json!("int"), &[0], Err("null cannot be read as int"));
    check(json!(["null", "int"]), json!("int"), &[4], Err("no branch 2"));
    check(json!("int"), json!(["null", "string", "double", "int"]), &[4], Ok(json!(2)));
    check(json!("int"), json!(["null", "string"]), &[4], Err("int cannot be read"));
    // Aliases count where the name itself is not there.
    let writer = record(json!([{ "name": "a", "type": "int" }, { "name": "x", "type": "string" }]));
    let reader = record(json!([
        { "name": "b", "aliases": ["a"], "type": "long" },
        { "name": "c", "type": { "type": "array", "items": "int" }, "default": [7, 8] },
        { "name": "d", "type": ["null", "string"], "default": null }
    ]));
    check(writer.clone(), reader, &[2, 2, b'x'], Ok(json!({ "b": 1, "c": [7, 8], "d": null })));
    let reader = record(json!([{ "name": "e", "type": "int" }]));
    check(writer.clone(), reader, &[2, 0], Err("gives no default"));
    let reader = record(json!([{ "name": "e", "type": "int", "default": "text" }]));
    check(writer, reader, &[2, 0], Err("no default of its type"));
    // Enums.
    let symbols = |symbols: Value, default: Value| json!({ "type": "enum", "name": "E", "symbols": symbols, "default": default });
    let plain = json!({ "type": "enum", "name": "E", "symbols": ["A"] });
    check(
        symbols(json!(["A", "B"]), json!("A")),
        symbols(json!(["B", "C"]), json!("C")),
        &[0],
        Ok(json!("C")),
    );
    check(symbols(json!(["A", "B"]), json!("A")), plain.clone(), &[2], Err("knows no symbol"));
    check(plain, json!("string"), &[0], Err("enum E cannot be read as string"));
    // A type that holds itself.
    let list = json!({ "type": "record", "name": "L", "fields": [
        { "name": "v", "type": "int" }, { "name": "next", "type": ["null", "L"] }
    ] });
    check(list.clone(), list.clone(), &[2, 2, 4, 0], Ok(json!({ "v": 1, "next": { "v": 2, "next": null } })));
    let deep: Vec<u8> = [2u8, 2].repeat(100);
    check(list.clone(), list, &[&deep[..], &[2, 0]].concat(), Err("too_deep"));
    // Decimals must be the same; the writer's time counts.
    let decimal =
        |scale: u32| json!({ "type": "bytes", "logicalType": "decimal", "precision": 4, "scale": scale });
    check(decimal(2), decimal(2), &[4, 0xff, 0x38], Ok(json!(-2)));
    check(decimal(2), decimal(3), &[0], Err("differ in precision or scale"));
    let millis = json!({ "type": "long", "logicalType": "timestamp-millis" });
    check(millis.clone(), json!("long"), &[2], Ok(json!({ "$us": 1000 })));
    check(json!("long"), millis, &[2], Ok(json!({ "$us": 1000 })));
}

#[test]
fn schemas_that_are_wrong_are_refused() {
    let check = |text: &str, part: &str| {
        let found = Schema::parse([], text).map(|_| ());
        assert!(found.as_ref().is_err_and(|reason| reason.contains(part)), "{text}: {found:?}");
    };
    check("{", "no JSON");
    check("\"Other\"", "no type is known");
    check("[]", "no branches");
    check("[[\"int\"]]", "holds a union");
    check("{\"type\":\"array\"}", "items");
    check("{\"type\":\"record\",\"name\":\"R\"}", "fields");
    check(
        "{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"a\",\"type\":\"int\"},{\"name\":\"a\",\"type\":\"int\"}]}",
        "two fields",
    );
    check(
        "[{\"type\":\"fixed\",\"name\":\"F\",\"size\":1},{\"type\":\"fixed\",\"name\":\"F\",\"size\":1}]",
        "twice",
    );
    check("{\"type\":\"enum\",\"name\":\"E\",\"symbols\":[\"A\"],\"default\":\"B\"}", "default");
    let nested = "{\"type\":\"array\",\"items\":".repeat(80) + "\"int\"" + &"}".repeat(80);
    check(&nested, "deeper");
    // Names lead far down where brackets do not.
    let chain: Vec<String> = (0..2000)
        .map(|i| {
            let kind = if i == 0 { "\"int\"".to_owned() } else { format!("\"R{}\"", i - 1) };
            format!(
                "{{\"type\":\"record\",\"name\":\"R{i}\",\"fields\":[{{\"name\":\"f\",\"type\":{kind}}}]}}"
            )
        })
        .collect();
    let chain: Vec<&str> = chain.iter().map(String::as_str).collect();
    let schema = Schema::parse(chain[..1999].iter().copied(), chain[1999]).unwrap();
    assert!(resolve::resolve(&schema, None).unwrap_err().contains("deeper"));
}

#[test]
fn blocks_may_tell_their_bytes_and_nothing_is_set_aside_for_what_is_only_announced() {
    let list = "{\"type\":\"array\",\"items\":\"int\"}";
    assert_eq!(read(list, None, &[4, 2, 4, 0]), Ok(json!([1, 2])));
    assert_eq!(read(list, None, &[3, 4, 2, 4, 2, 6, 0]), Ok(json!([1, 2, 3])));
    let many = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    assert!(read(list, None, &many).unwrap_err().contains("does not end"));
    let nulls = "{\"type\":\"array\",\"items\":\"null\"}";
    assert!(read(nulls, None, &many).unwrap_err().contains("too_large"));
    assert_eq!(read(nulls, None, &[4, 0]), Ok(json!([null, null])));
    assert!(read("\"string\"", None, &many).is_err());
    assert!(read("\"int\"", None, &[2, 2]).unwrap_err().contains("left after"));
    assert!(read("\"boolean\"", None, &[2]).is_err());
    assert!(read("\"int\"", None, &[0x80, 0x80, 0x80, 0x80, 0x20]).unwrap_err().contains("32 bits"));
}

proptest::proptest! {
    /// A schema comes from outside as well: whatever its text, it is parsed and compiled, or refused.
    #[test]
    fn a_damaged_schema_is_read_or_refused(
        pick in 0..300usize,
        cuts in proptest::collection::vec((0..4000usize, 0..4000usize), 1..6),
    ) {
        let vectors: Vec<Value> = serde_json::from_str(EVOLUTION).unwrap();
        let [mut writer, reader] = ["writer", "reader"].map(|key| vectors[pick][key].to_string());
        for (from, to) in cuts {
            // One stretch of the text takes the place of another.
            let place = |at: usize| (0..=at.min(writer.len())).rev().find(|at| writer.is_char_boundary(*at)).unwrap();
            let (from, to) = (place(from), place(to));
            let stretch = writer[from..].chars().take(12).collect::<String>();
            let end = (to..=writer.len()).find(|end| *end >= to + 6 && writer.is_char_boundary(*end));
            writer.replace_range(to..end.unwrap_or(writer.len()), &stretch);
        }
        let bytes = unhex(vectors[pick]["hex"].as_str().unwrap());
        let _ = read(&writer, None, &bytes);
        let _ = read(&writer, Some(&reader).filter(|text| *text != "null").map(String::as_str), &bytes);
    }
}
