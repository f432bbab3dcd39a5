//! Sums in JSON, which has no infinities: those that are no numbers are texts, `inf`, `-inf` or `NaN`.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum Sum {
    Number(f64),
    Text(String),
}

pub(super) fn serialize<S: Serializer>(sum: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match sum.is_finite() {
        true => serializer.serialize_f64(*sum),
        false => serializer.collect_str(sum),
    }
}

pub(super) fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<f64, D::Error> {
    match Sum::deserialize(deserializer)? {
        Sum::Number(sum) => Ok(sum),
        Sum::Text(text) => text.parse().map_err(D::Error::custom),
    }
}
