use stillwell_source::decode::{DecodeError, TransientError};

use super::*;

fn args(line: &[&str]) -> DecodeArgs {
    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        args: DecodeArgs,
    }
    <Only as clap::Parser>::parse_from(["decode"].iter().chain(line)).args
}

fn shown(config: &str, line: &[&str], bytes: &[u8]) -> String {
    let config: Config = toml::from_str(config).unwrap();
    let args = args(line);
    let topic = topic(&args, &config).unwrap();
    let mut decoder = decoder_for(&topic);
    let show = |(number, record)| {
        let outcome = decode(&args, &mut *decoder, number, record);
        if args.json { print::json(&outcome) } else { print::text(&outcome, args.explain, args.lines) }
    };
    records(bytes, args.lines).enumerate().map(show).collect()
}

#[test]
fn readings_are_a_table_with_where_they_came_from() {
    let config =
        "[[topic]]\nname = 'a'\n[topic.mapping]\nmachine = 'press-{$.id}'\ntime = '$.t'\nvalues = ['$.oil']";
    let expected = "\
machine  sensor  kind  unit  time                         value  text  quality
press-7  oil                 1970-01-01T00:00:00.001000Z  61.5         0
1 reading

press-7 oil
  machine  from \"press-\" + $.id (byte 6)
  time     from $.t (byte 12)
  value    from $.oil (byte 20)
  sensor   from $name = \"oil\"
";
    assert_eq!(shown(config, &["--explain"], br#"{"id":7,"t":1,"oil":61.5}"#), expected);
}

#[test]
fn an_error_shows_its_place_and_what_mends_it() {
    let expected = "\
cannot be read: \"1x\" is no field value: neither a number, nor one with i or u at its end, true, false, or a \"string\"
  class   bad_value
  at      byte 27 of 34
    m,host=h v=1x
               ^
  remedy  point mapping.value or mapping.values at numbers, true/false or text
";
    let lines = b"m,host=h v=1 1 \nm,host=h v=1x\nmore";
    assert_eq!(shown("", &["--format", "line", "--explain"], lines), expected);
    let binary = shown("", &["--format", "arrow", "--explain"], &[0xff, 0xff, 0xff, 0xff, 1]);
    assert!(binary.contains("    ff ff ff ff 01\n    ^^\n"), "{binary}");
}

#[test]
fn what_is_on_its_way_is_waited_for_and_what_is_wrong_is_not() {
    let mut tries = 0;
    let away = || DecodeFault::from(TransientError("schema 7 is not here yet".into()));
    let done = patiently(|| {
        tries += 1;
        if tries < 3 { Err(away()) } else { Ok(()) }
    });
    assert_eq!((done, tries), (Ok(()), 3));
    let wrong = || DecodeFault::from(DecodeError::new("syntax", 0, "no"));
    let mut tries = 0;
    let done = patiently(|| {
        tries += 1;
        Err(wrong())
    });
    assert_eq!((done, tries), (Err(wrong()), 1));
}

#[test]
fn json_has_one_line_a_record() {
    let lines = b"{\"machine\":\"m\",\"sensor\":\"s\",\"time\":1,\"value\":1.5}\n\nnope\n";
    let shown = shown("", &["--json", "--lines", "--explain"], lines);
    let lines: Vec<serde_json::Value> =
        shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["readings"][0]["value"], 1.5);
    assert_eq!(lines[0]["readings"][0]["from"]["time"], "$.time (byte 35)");
    assert_eq!((&lines[1]["record"], &lines[1]["error"]["class"]), (&1.into(), &"syntax".into()));
}

#[test]
fn a_mapping_that_is_wrong_is_named_by_topic_and_key() {
    let config: Config =
        toml::from_str("[[topic]]\nname='a'\n[topic.mapping]\nmachine = 'asset.{id}'").unwrap();
    let error = format!("{:#}", topic(&args(&[]), &config).unwrap_err());
    assert!(error.contains("[[topic]] a") && error.contains("mapping.machine"), "{error}");
}

#[test]
fn the_documented_mapping_is_right() {
    let from = crate::config::DOCUMENTED.split_once("# [topic.mapping]\n").unwrap().1;
    let lines: Vec<&str> = from.lines().map_while(|line| line.strip_prefix("# ")).collect();
    for without in [&["values = "][..], &["value = ", "text = "]] {
        let kept = lines.iter().filter(|line| !without.iter().any(|key| line.starts_with(key)));
        let toml = format!(
            "[[topic]]\nname = 'a'\n[topic.mapping]\n{}",
            kept.copied().collect::<Vec<_>>().join("\n")
        );
        let config: Config = toml::from_str(&toml).unwrap_or_else(|error| panic!("{toml}\n{error}"));
        topic(&args(&[]), &config).unwrap();
    }
}
