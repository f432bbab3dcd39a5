use std::collections::BTreeMap;

use proptest::prelude::*;

use super::version::{DESCRIPTION_BYTES_MAX, NAME_BYTES_MAX, SENSORS_MAX, sensors_of};
use super::*;

const PRESS: &str = r#"{"machine":"press-07","site":"Linz","line":"L2","model":"HP-400","valid_from":"2026-01-05T07:00:00+01:00","sensors":{"oil":{"unit":"°C","low":20,"high":85.5,"description":"return line"},"door":{"unit":""}}}"#;

fn press() -> MachineVersion {
    MachineVersion::parse(PRESS.as_bytes()).unwrap()
}

fn moment(us: i64) -> Moment {
    Moment::from_us(us).unwrap()
}

#[test]
fn a_version_is_read_and_has_one_key() {
    let version = press();
    assert_eq!(version.key().to_string(), "press-07@2026-01-05T06:00:00.000000Z");
    let oil = &version.sensors["oil"];
    assert_eq!((oil.low, oil.high, oil.description.as_str()), (Some(20.0), Some(85.5), "return line"));
    assert_eq!(version.sensors["door"], Sensor::default());
}

#[test]
fn what_is_wrong_is_named() {
    let check = |from: &str, to: &str, part: &str| {
        assert!(PRESS.contains(from), "{from}");
        let error = MachineVersion::parse(PRESS.replacen(from, to, 1).as_bytes()).unwrap_err();
        assert!(error.to_string().contains(part), "{to}: {error}");
    };
    check("\"site\"", "\"sight\"", "sight");
    check("\"site\":\"Linz\",", "", "site");
    check("\"high\"", "\"hihg\"", "hihg");
    check("\"site\":\"Linz\"", "\"site\":\"Linz\",\"site\":\"Graz\"", "site");
    check("\"door\"", "\"oil\"", "oil");
    check("press-07", "", "machine is empty");
    check("press-07", " press-07", "machine holds");
    check("Linz", "Li\\nz", "site holds");
    check("Linz", &"x".repeat(NAME_BYTES_MAX + 1), "site takes 257 bytes, 256 at most");
    check("return line", &"x".repeat(DESCRIPTION_BYTES_MAX + 1), "sensors.oil.description");
    check("85.5", "19.9", "sensors.oil.low 20 lies above high, which is 19.9");
    check("2026-01-05T07:00:00+01:00", "2026-01-05", "2026-01-05");
    check("2026-01-05T07:00:00+01:00", "1800-01-05T00:00:00Z", "1900");
    check("}}}", "}}} {}", "trailing");
}

#[test]
fn a_version_has_its_bounds() {
    let mut version = press();
    version.sensors = (0..=SENSORS_MAX).map(|n| (n.to_string(), Sensor::default())).collect();
    assert!(version.check().unwrap_err().to_string().contains("4097"));
    let description = "x".repeat(DESCRIPTION_BYTES_MAX);
    for sensor in version.sensors.values_mut() {
        sensor.description.clone_from(&description);
    }
    version.sensors.pop_last();
    assert!(matches!(version.check(), Err(MachineError::TooLarge { .. })));
    let not_finite = Sensor { high: Some(f64::NAN), ..Sensor::default() };
    version.sensors = BTreeMap::from([("oil".to_owned(), not_finite)]);
    assert_eq!(version.check(), Err(Fault::NotFinite.of("sensors.oil.high")));
}

#[test]
fn a_record_says_what_its_key_says() {
    let (version, key) = (press(), press().key().to_string());
    let value = version.value();
    let parse = |key: &str, value: Option<&[u8]>| Change::parse(Some(key.as_bytes()), value);
    assert_eq!(parse(&key, Some(&value)), Ok(Change::Put(version.clone())));
    assert_eq!(parse(&key, None), Ok(Change::TakeBack(version.key())));
    for other in ["press-07", "press-07@now", "@2026-01-05T06:00:00.000000Z", "press-07@2026-01-05T06:00:00Z"]
    {
        assert_eq!(parse(other, None), Err(MachineError::Key(other.to_owned())));
    }
    assert_eq!(Change::parse(None, Some(&value)), Err(MachineError::Key(String::new())));
    let other = parse("press-08@2026-01-05T06:00:00.000000Z", Some(&value));
    assert!(matches!(other, Err(MachineError::Differs { .. })));
}

prop_compose! {
    fn sensors()(
        named in prop::collection::btree_map(
            "[a-zü.@-]{1,6}",
            ("[a-z°/]{0,3}", prop::option::of(-1e9..0.0), prop::option::of(0.0..1e9), "[a-z\"]{0,6}"),
            0..4,
        )
    ) -> BTreeMap<String, Sensor> {
        let sensor = |(unit, low, high, description)| Sensor { unit, low, high, description };
        named.into_iter().map(|(name, of)| (name, sensor(of))).collect()
    }
}

prop_compose! {
    fn version()(
        machine in "[ab@]{1,2}",
        site in "[a-zß]{0,3}",
        from in 0i64..6,
        sensors in sensors(),
    ) -> MachineVersion {
        let (line, model) = (String::new(), "m".to_owned());
        MachineVersion { machine, site, line, model, valid_from: moment(from), sensors }
    }
}

proptest! {
    #[test]
    fn a_version_is_read_back_from_its_record(version in version(), at in -2_000_000_000_000_000i64..9_000_000_000_000_000) {
        let version = MachineVersion { valid_from: moment(at), ..version };
        prop_assert_eq!(version.check(), Ok(()));
        prop_assert_eq!(sensors_of(&version.sensors_json()), Ok(version.sensors.clone()));
        let change = Change::Put(version);
        let key = change.key().to_string();
        prop_assert_eq!(Change::parse(Some(key.as_bytes()), change.value().as_deref()), Ok(change));
    }

    #[test]
    fn a_registry_is_what_its_last_records_say(
        records in prop::collection::vec((version(), any::<bool>()), 0..24),
        time in -1i64..8,
    ) {
        let mut registry = MachineRegistry::default();
        let mut model = BTreeMap::new();
        for (version, is_put) in records {
            let key = version.key();
            let change = if is_put { Change::Put(version.clone()) } else { Change::TakeBack(key.clone()) };
            let was = if is_put { model.insert(key, version.clone()) } else { model.remove(&key) };
            let is_same = if is_put { was.as_ref() == Some(&version) } else { was.is_none() };
            prop_assert_eq!(registry.apply(change.clone()), !is_same);
            prop_assert!(!registry.apply(change));
        }
        prop_assert_eq!(&registry, &model.values().cloned().collect::<MachineRegistry>());
        // By definition: of each machine the version with the latest beginning up to then.
        let mut holding = BTreeMap::new();
        for version in model.values().filter(|version| version.valid_from.us() <= time) {
            holding.insert(version.machine.clone(), version);
        }
        let at: Vec<_> = registry.at(time).collect();
        prop_assert_eq!(at, holding.into_values().collect::<Vec<_>>());
        // The versions of a machine follow each other without a hole.
        let history: Vec<_> = registry.history().collect();
        for pair in history.windows(2) {
            let is_next = pair[0].0.machine == pair[1].0.machine;
            prop_assert_eq!(pair[0].1, is_next.then_some(pair[1].0.valid_from));
        }
        prop_assert_eq!(history.last().and_then(|last| last.1), None);
    }
}
