//! Names to series codes, by expecting the series that followed the last one the time before.

use crate::series::{Series, SeriesCode, SeriesTable};

/// What a lane's readings were called so far.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The series that came after each series the last time.
    followers: Vec<SeriesCode>,
    /// Whether a series' names stand in JSON as they are, so that its bytes can be compared.
    plain: Vec<bool>,
    last: SeriesCode,
}

/// Names found in a reading: all as expected, or spelled out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Named<'a> {
    Expected(SeriesCode),
    Spelled { machine: &'a str, sensor: &'a str, kind: Option<&'a str>, unit: Option<&'a str> },
}

impl Names {
    /// The series that is expected next, if its names can be compared as bytes.
    #[inline]
    pub(super) fn expected(&self) -> Option<SeriesCode> {
        let code = *self.followers.get(self.last as usize)?;
        self.plain[code as usize].then_some(code)
    }

    #[inline]
    pub(super) fn resolve(&mut self, named: Named<'_>, table: &mut SeriesTable) -> SeriesCode {
        match named {
            Named::Expected(code) => {
                self.last = code;
                code
            }
            Named::Spelled { machine, sensor, kind, unit } => self.intern(machine, sensor, kind, unit, table),
        }
    }

    /// The code of a series by its names; it becomes the one expected after the last.
    pub(super) fn intern(
        &mut self,
        machine: &str,
        sensor: &str,
        kind: Option<&str>,
        unit: Option<&str>,
        table: &mut SeriesTable,
    ) -> SeriesCode {
        let names = [Some(machine), Some(sensor), kind, unit];
        let [machine, sensor, kind, unit] = names.map(|name| name.map(|name| table.intern_name(name)));
        let series =
            Series { machine: machine.unwrap_or_default(), sensor: sensor.unwrap_or_default(), kind, unit };
        let code = table.intern(series);
        // A table that another decoder filled holds series that this one has not seen.
        while self.followers.len() < table.len() {
            let new = self.followers.len();
            self.plain.push(is_plain(table.series(u32::try_from(new).unwrap_or(code)), table));
            self.followers.push(u32::try_from(new).unwrap_or(code));
        }
        if let Some(follower) = self.followers.get_mut(self.last as usize) {
            *follower = code;
        }
        self.last = code;
        code
    }
}

fn is_plain(series: Series, table: &SeriesTable) -> bool {
    let names = [Some(series.machine), Some(series.sensor), series.kind, series.unit];
    names.into_iter().flatten().all(|code| is_plain_text(table.name(code).as_bytes()))
}

/// Whether a string stands in JSON byte for byte.
pub(super) fn is_plain_text(text: &[u8]) -> bool {
    text.iter().all(|&byte| byte >= 0x20 && byte != b'"' && byte != b'\\')
}
