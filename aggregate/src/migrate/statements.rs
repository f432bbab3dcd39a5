//! The statements of a step, and what the forms are that steps are written in.
//!
//! A step is text: each statement ends with a semicolon at the end of a line, lines of `--` stand before it, and
//! `{database}` is the database's name. A statement that names `{width}` is run for each of the four widths, one that
//! names `{longer}` for each but the shortest. `{shown_1m}` is the table that the views of that width are over.

/// The names of the four widths.
const WIDTHS: [&str; 4] = ["10s", "1m", "1h", "1d"];

/// What is asked of a database that may not be there yet.
pub(super) const DATABASE: &str = "CREATE DATABASE IF NOT EXISTS {database} ENGINE = Atomic";

/// The statements of a step, in order.
pub(super) fn statements(sql: &str) -> impl Iterator<Item = String> {
    sql.split(";\n")
        .map(|statement| code(statement.trim()))
        .filter(|statement| !statement.is_empty())
        .flat_map(|statement| {
            let forms = [("{width}", &WIDTHS[..]), ("{longer}", &WIDTHS[1..])];
            match forms.into_iter().find(|(name, _)| statement.contains(name)) {
                Some((name, widths)) => widths.iter().map(|width| statement.replace(name, width)).collect(),
                None => vec![statement.to_owned()],
            }
        })
}

/// Whether a statement is about tables that views of windows are over.
pub(super) fn has_shown(statement: &str) -> bool {
    statement.contains("{shown_")
}

/// A statement with the tables that the views of windows are over, of which `shown` knows those that are not the first of
/// their width, by the names of the views.
pub(super) fn with_shown<'a>(statement: &str, shown: impl Fn(&str) -> Option<&'a str>) -> String {
    WIDTHS.iter().fold(statement.to_owned(), |statement, width| {
        let table =
            shown(&format!("readings_{width}")).map_or_else(|| format!("windows_{width}"), str::to_owned);
        statement.replace(&format!("{{shown_{width}}}"), &table)
    })
}

/// A statement without the comment that stands before it.
fn code(statement: &str) -> &str {
    let mut rest = statement;
    while rest.starts_with("--") {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest).trim_start();
    }
    rest
}

/// A statement, taken apart as far as a layout changes it. Names are those of tables, without the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statement<'a> {
    /// [`DATABASE`].
    Database,
    /// `CREATE TABLE IF NOT EXISTS …`.
    Table(Table<'a>),
    /// `CREATE [OR REPLACE] VIEW name AS …`: what is before the name, and from `AS` on.
    View { verb: &'a str, name: &'a str, query: &'a str },
    /// `ALTER TABLE name …`.
    Alter { name: &'a str, change: &'a str },
    /// `DROP TABLE IF EXISTS name`.
    Drop { name: &'a str },
    /// `EXCHANGE TABLES one AND other`.
    Exchange { one: &'a str, other: &'a str },
    /// `INSERT INTO …`.
    Insert,
}

/// A table of the MergeTree family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table<'a> {
    pub(super) name: &'a str,
    pub(super) columns: Columns<'a>,
    /// Such as `ReplacingMergeTree`.
    pub(super) engine: &'a str,
    /// What stands in the engine's parentheses.
    pub(super) arguments: &'a str,
    /// From `PARTITION BY` or `ORDER BY` on.
    pub(super) rest: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Columns<'a> {
    /// A list, with its parentheses.
    Listed(&'a str),
    /// Those of another table.
    Of(&'a str),
}

impl<'a> Statement<'a> {
    /// Takes a statement apart; none where it has another form.
    pub(super) fn parse(sql: &'a str) -> Option<Self> {
        if sql == DATABASE {
            return Some(Self::Database);
        }
        if let Some((name, rest)) = named(sql, "CREATE TABLE IF NOT EXISTS ") {
            return Table::parse(name, rest).map(Self::Table);
        }
        for verb in ["CREATE OR REPLACE VIEW ", "CREATE VIEW IF NOT EXISTS "] {
            if let Some((name, query)) = named(sql, verb) {
                return query.starts_with("AS").then_some(Self::View { verb, name, query });
            }
        }
        if let Some((name, change)) = named(sql, "ALTER TABLE ") {
            return Some(Self::Alter { name, change });
        }
        if let Some((name, "")) = named(sql, "DROP TABLE IF EXISTS ") {
            return Some(Self::Drop { name });
        }
        if let Some((one, rest)) = named(sql, "EXCHANGE TABLES ")
            && let Some((other, "")) = named(rest, "AND ")
        {
            return Some(Self::Exchange { one, other });
        }
        sql.starts_with("INSERT INTO {database}.").then_some(Self::Insert)
    }
}

impl<'a> Table<'a> {
    fn parse(name: &'a str, rest: &'a str) -> Option<Self> {
        let (columns, rest) = match rest.strip_prefix("AS ") {
            Some(of) => word(of.strip_prefix("{database}.")?).map(|(of, rest)| (Columns::Of(of), rest))?,
            None => parenthesis(rest).map(|(list, rest)| (Columns::Listed(list), rest))?,
        };
        let (engine, rest) = word(rest.trim_start().strip_prefix("ENGINE = ")?)?;
        let (arguments, rest) = match parenthesis(rest) {
            Some((list, rest)) => (&list[1..list.len() - 1], rest),
            None => ("", rest),
        };
        engine.ends_with("MergeTree").then(|| Self { name, columns, engine, arguments, rest: rest.trim() })
    }

    /// The columns that `ORDER BY` names; none where it names anything else. Rows that agree in all of them are
    /// one row to a ReplacingMergeTree.
    pub(super) fn key(&self) -> Option<Vec<&'a str>> {
        let (_, order) = self.rest.split_once("ORDER BY ")?;
        let list = match parenthesis(order) {
            Some((list, _)) => &list[1..list.len() - 1],
            None => word(order).filter(|(_, rest)| !rest.starts_with('('))?.0,
        };
        let columns = between_commas(list);
        let is_known =
            |rest: &str| rest.is_empty() || parenthesis(rest).is_some_and(|(_, rest)| rest.is_empty());
        columns.iter().all(|column| word(column).is_some_and(|(_, rest)| is_known(rest))).then_some(columns)
    }
}

/// What stands between the commas of a list, but for those in parentheses.
fn between_commas(list: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut parts) = (0_usize, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(list[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(list[begin..].trim());
    parts
}

/// The name of what a verb is about, and what follows.
fn named<'a>(sql: &'a str, verb: &str) -> Option<(&'a str, &'a str)> {
    let (name, rest) = word(sql.strip_prefix(verb)?.strip_prefix("{database}.")?)?;
    Some((name, rest.trim_start()))
}

/// A name at the beginning, and what follows.
fn word(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// What a parenthesis at the beginning holds, with it, and what follows; quotes may hold parentheses.
fn parenthesis(text: &str) -> Option<(&str, &str)> {
    let (mut depth, mut quote) = (0_usize, None::<char>);
    let mut skip = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if std::mem::take(&mut skip) => {}
            (Some(_), '\\') => skip = true,
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '`' | '"') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') if depth == 1 => return Some(text.split_at(at + 1)),
            (None, ')') => depth = depth.checked_sub(1)?,
            (None, _) => {}
        }
        if depth == 0 {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_cut_into_its_statements() {
        let sql = "-- One.\n-- More of it.\n\nCREATE a;\n-- Two, of each width.\nALTER b_{width}\n    c;\n";
        let found: Vec<String> = statements(sql).collect();
        assert_eq!(found[0], "CREATE a");
        assert_eq!(found[1..], ["10s", "1m", "1h", "1d"].map(|width| format!("ALTER b_{width}\n    c")));
        let longer: Vec<String> = statements("DROP t_{longer};\n").collect();
        assert_eq!(longer, ["DROP t_1m", "DROP t_1h", "DROP t_1d"]);
    }

    #[test]
    fn views_stay_over_the_tables_that_they_show() {
        let statement = "SELECT * FROM {database}.{shown_1m}, {database}.{shown_1h}";
        assert!(has_shown(statement));
        let shown = with_shown(statement, |view| (view == "readings_1m").then_some("windows_1m_g7"));
        assert_eq!(shown, "SELECT * FROM {database}.windows_1m_g7, {database}.windows_1h");
        assert!(!has_shown(&shown));
    }

    #[test]
    fn a_table_is_taken_apart() {
        let sql = "CREATE TABLE IF NOT EXISTS {database}.t (\n    a String DEFAULT ')', b Map(String, Int64)\n)\n\
                   ENGINE = ReplacingMergeTree(v)\nPARTITION BY toYYYYMM(a)\nORDER BY (a, b)";
        let table = Table {
            name: "t",
            columns: Columns::Listed("(\n    a String DEFAULT ')', b Map(String, Int64)\n)"),
            engine: "ReplacingMergeTree",
            arguments: "v",
            rest: "PARTITION BY toYYYYMM(a)\nORDER BY (a, b)",
        };
        assert_eq!(table.key(), Some(vec!["a", "b"]));
        assert_eq!(Statement::parse(sql), Some(Statement::Table(table)));
        let sql = "CREATE TABLE IF NOT EXISTS {database}.u AS {database}.t ENGINE = MergeTree ORDER BY a";
        let Some(Statement::Table(table)) = Statement::parse(sql) else { panic!() };
        assert_eq!((table.columns, table.arguments, table.key()), (Columns::Of("t"), "", Some(vec!["a"])));
    }

    #[test]
    fn other_forms_are_not_guessed() {
        for sql in [
            "CREATE TABLE {database}.t (a String) ENGINE = MergeTree ORDER BY a",
            "CREATE TABLE IF NOT EXISTS {database}.t (a String) ENGINE = Log",
            "CREATE TABLE IF NOT EXISTS {database}.t (a String",
            "CREATE MATERIALIZED VIEW {database}.v TO {database}.t AS SELECT 1",
            "CREATE OR REPLACE VIEW other.v AS SELECT 1",
            "DROP TABLE IF EXISTS {database}.t SYNC",
            "RENAME TABLE {database}.a TO {database}.b",
        ] {
            assert_eq!(Statement::parse(sql), None, "{sql}");
        }
        let table = |order| Table {
            name: "t",
            columns: Columns::Listed("(a String)"),
            engine: "MergeTree",
            arguments: "",
            rest: order,
        };
        assert_eq!(table("ORDER BY toDate(a)").key(), None);
        assert_eq!(table("ORDER BY tuple()").key(), None);
    }
}
