//! What mends a record that cannot be read, by the class of its error.

/// What to do about records of an error class.
#[must_use]
pub fn remedy(class: &str) -> &'static str {
    match class {
        "syntax" | "utf8" => {
            "the bytes are not of this format: check the topic's `format`, or the sender's content-type header"
        }
        "missing_field" => "name where the field is in [topic.mapping], or have the sender give it",
        "empty_name" | "bad_name" => {
            "machine and sensor are short text: point [topic.mapping] at another field"
        }
        "bad_time" => "give the topic the sender's `time_unit`, or point mapping.time at the timestamp",
        "bad_value" => "point mapping.value or mapping.values at numbers, true/false or text",
        "bad_quality" => "say in mapping.quality_codes what the sender's quality means",
        "duplicate_key" => "have the sender give each name once; which of two is meant cannot be told",
        "length_mismatch" => "have the sender give as many values as times",
        "too_deep" | "too_large" => "have the sender write smaller records",
        "content_type" => {
            "have the sender name a known content type, or none, so that the topic's `format` counts"
        }
        "framing" => {
            "name the schema registry in [registry], or give the topic schema_files, as the sender writes"
        }
        "unknown_schema" => {
            "the sender's registry is another than the config's: name it in [registry], then send the record again"
        }
        "bad_schema" | "unresolvable" => {
            "mend the schema, or the topic's reader_schema, so that one reads the other"
        }
        "wire_type" => "have the sender write the messages of reading.proto",
        "unresolved_alias" | "unknown_datatype" => {
            "have the node send its birth anew (a rebirth command), then send the record again"
        }
        "bad_topic" => {
            "have the bridge give the MQTT topic: in the header sparkplug.topic_header, or as the key"
        }
        "bad_sequence" | "duplicate_alias" => "the sender does not keep to Sparkplug B: have it mended",
        "unsupported" => "leave that column out, or write it as a plain type",
        "no_value" => "tombstones hold no reading: produce to a topic without compaction, or ignore them",
        "panic" => "please report this record: its bytes are in the archive",
        _ => {
            "see the message; the record is kept in the archive, and can be sent again from the dead letters"
        }
    }
}
