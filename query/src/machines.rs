//! The machine registry as SQL tables, from a local copy: they answer while Kafka and ClickHouse are away, and say how
//! old what they say is.
//!
//! [`refresh`] brings the copy up to date from the views' server; [`held`] is what is held of it, [`file`] keeps it over
//! a restart, and [`tables`] shows it.
//!
//! | table | one row per |
//! |---|---|
//! | `machines` | machine, as known now: `machine`, `site`, `line`, `model`, `valid_from`, `sensors` (their number) |
//! | `machines_history` | version: the same without `sensors`, and `valid_until`, null while it is the machine's last |
//! | `machine_sensors` | sensor of a version: `machine`, `sensor`, `unit`, `low`, `high`, `description`, and both times |
//! | `machines_registry` | registry: `versions`, `read_until`, `copied_at`, `age_s` |
//!
//! A reading joins the version of its own time:
//!
//! ```sql
//! SELECT r.time, r.value, h.line FROM readings r LEFT JOIN machines_history h
//! ON r.machine = h.machine AND r.time >= h.valid_from AND (h.valid_until IS NULL OR r.time < h.valid_until)
//! ```

mod file;
mod held;
mod refresh;
mod tables;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use stillwell_schema::Clock;

use held::Held;
pub(crate) use tables::{MachineTable, Shown};

/// The copy, which statements read and [`refresh`] replaces.
pub struct Machines {
    file: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    held: RwLock<Arc<Held>>,
}

impl Machines {
    /// The copy that `file` keeps, or an empty one that is kept in memory alone. Reads the file: give it a thread that
    /// may wait for a disk.
    #[must_use]
    pub fn open(file: Option<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        let held = file.as_deref().and_then(file::read).unwrap_or_else(Held::empty);
        Self { file, clock, held: RwLock::new(Arc::new(held)) }
    }

    fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, held: Held) {
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(held);
    }
}

impl fmt::Debug for Machines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machines").field("file", &self.file).finish_non_exhaustive()
    }
}
