//! The MQTT topic of a message: who sent it, and what it is.

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The metrics of a node or device, with their names, types and first values.
    Birth,
    /// Values.
    Data,
    /// It has gone.
    Death,
    /// A command to it, or what a host says of itself: no readings.
    Other,
}

/// `spBv1.0/{group}/{kind}/{edge}[/{device}]`, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Topic<'a> {
    pub(super) group: &'a str,
    pub(super) kind: Kind,
    pub(super) edge: &'a str,
    pub(super) device: Option<&'a str>,
}

impl<'a> Topic<'a> {
    /// Takes a topic apart.
    ///
    /// # Errors
    /// Why it is none of Sparkplug B.
    pub(super) fn parse(topic: &'a [u8]) -> Result<Self, &'static str> {
        const WRONG: &str = "is no spBv1.0/{group}/{message type}/{edge}[/{device}]";
        let topic = std::str::from_utf8(topic).map_err(|_| "is not UTF-8")?;
        let mut parts = topic.split('/');
        let mut next = || parts.next().filter(|part| !part.is_empty());
        let first = next().ok_or(WRONG)?;
        let none = Self { group: "", kind: Kind::Other, edge: "", device: None };
        if first == "STATE" {
            return Ok(none);
        }
        if first != "spBv1.0" {
            return Err(WRONG);
        }
        let group = next().ok_or(WRONG)?;
        let word = next().ok_or(WRONG)?;
        if group == "STATE" {
            return Ok(none);
        }
        let (edge, device) = (next().ok_or(WRONG)?, next());
        if parts.next().is_some() {
            return Err(WRONG);
        }
        let (kind, of_device) = match word {
            "NBIRTH" => (Kind::Birth, false),
            "NDATA" => (Kind::Data, false),
            "NDEATH" => (Kind::Death, false),
            "NCMD" => (Kind::Other, false),
            "DBIRTH" => (Kind::Birth, true),
            "DDATA" => (Kind::Data, true),
            "DDEATH" => (Kind::Death, true),
            "DCMD" => (Kind::Other, true),
            _ => return Err("has a message type that Sparkplug B does not know"),
        };
        if of_device != device.is_some() {
            return Err(if of_device { "names no device" } else { "names a device in a node's message" });
        }
        Ok(Self { group, kind, edge, device })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_taken_apart_or_refused() {
        let check = |text: &str, expected: Result<(Kind, &str, &str, Option<&str>), &str>| {
            let found = Topic::parse(text.as_bytes()).map(|t| (t.kind, t.group, t.edge, t.device));
            match expected {
                Ok(_) => assert_eq!(found, expected, "{text}"),
                Err(part) => assert!(found.unwrap_err().contains(part), "{text}"),
            }
        };
        check("spBv1.0/G/NBIRTH/E", Ok((Kind::Birth, "G", "E", None)));
        check("spBv1.0/G/DDATA/E/D 1", Ok((Kind::Data, "G", "E", Some("D 1"))));
        check("spBv1.0/G/NDEATH/E", Ok((Kind::Death, "G", "E", None)));
        check("spBv1.0/G/DCMD/E/D", Ok((Kind::Other, "G", "E", Some("D"))));
        check("spBv1.0/STATE/host", Ok((Kind::Other, "", "", None)));
        check("STATE/host", Ok((Kind::Other, "", "", None)));
        check("spBv1.0/G/DDATA/E", Err("no device"));
        check("spBv1.0/G/NDATA/E/D", Err("names a device"));
        check("spBv1.0/G/NDATA/E/D/x", Err("spBv1.0"));
        check("spBv1.0/G/XDATA/E", Err("message type"));
        check("spAv1.0/G/NDATA/E", Err("spBv1.0"));
        check("spBv1.0//NDATA/E", Err("spBv1.0"));
        check("", Err("spBv1.0"));
        assert!(Topic::parse(b"spBv1.0/\xff/NDATA/E").is_err());
    }
}
