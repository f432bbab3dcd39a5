//! What can go wrong with a statement, told apart by what the caller can do about it.

use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use serde::Serialize;
use thiserror::Error;

use crate::archive::ArchiveError;
use crate::engine::running::Cut;
use crate::views::ViewsError;

/// A place in a statement, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Position {
    /// Line.
    pub line: u64,
    /// Column, in characters.
    pub column: u64,
}

impl Position {
    /// The same place as a count of characters from 1, if `text` has it.
    pub(crate) fn in_characters(self, text: &str) -> Option<usize> {
        let before = usize::try_from(self.line.checked_sub(1)?).ok()?;
        let column = usize::try_from(self.column).ok()?;
        let mut lines = text.split_inclusive('\n');
        let ahead: usize = lines.by_ref().take(before).map(|line| line.chars().count()).sum();
        let reaches = lines.next().map_or(0, |line| line.chars().count()) + 1;
        (1..=reaches).contains(&column).then_some(ahead + column)
    }
}

/// What is wrong with a statement, as far as clients tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// It does not parse.
    Syntax,
    /// It is too long or too deep.
    TooComplex,
    /// It names a table that is not there.
    UnknownTable,
    /// It names a column that is not there.
    UnknownColumn,
    /// It names a column that several tables have.
    AmbiguousColumn,
    /// It calls a function that is not there.
    UnknownFunction,
    /// It divides by zero.
    DivisionByZero,
    /// A number does not fit its type.
    OutOfRange,
    /// A value cannot be read as the type it should have.
    InvalidValue,
    /// It asks for what this engine does not do.
    Unsupported,
    /// Anything else.
    Other,
}

/// Why a statement has no answer, or the server does not run.
#[derive(Debug, Error)]
pub enum QueryError {
    /// The statement is wrong: mend it.
    #[error("{message}")]
    Statement {
        /// What is wrong.
        message: String,
        /// Which kind of mistake it is.
        mistake: Mistake,
        /// Where.
        position: Option<Position>,
    },
    /// The statement would change something.
    #[error(
        "{statement} is refused: this service is read only, it runs SELECT, WITH, EXPLAIN, SHOW and DESCRIBE"
    )]
    ReadOnly {
        /// What was asked for.
        statement: String,
    },
    /// It took too long.
    #[error("the statement took longer than {0:?} and was cancelled; narrow it by time or machine")]
    Timeout(std::time::Duration),
    /// Its client cancelled it.
    #[error("the statement was cancelled at the client's request")]
    Cancelled,
    /// Too many others run.
    #[error("no free slot within {0:?}: other statements are running; try again")]
    Busy(std::time::Duration),
    /// The answer is too large.
    #[error("the answer is larger than {limit} bytes; select fewer columns or rows, or aggregate")]
    TooLarge {
        /// The cap.
        limit: usize,
    },
    /// It needs more memory than there is for statements.
    #[error("the statement needs more memory than allowed: {0}; narrow it or aggregate in steps")]
    Memory(String),
    /// ClickHouse does not answer.
    #[error(transparent)]
    Views(ViewsError),
    /// The archive cannot be trusted or read.
    #[error("{0}")]
    Archive(String),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another address, port 0 takes any free one")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A fault of ours.
    #[error("{0}")]
    Internal(String),
}

impl QueryError {
    /// A statement error without a position.
    pub(crate) fn statement(message: impl Into<String>) -> Self {
        Self::Statement { message: message.into(), mistake: Mistake::Other, position: None }
    }

    /// Where in the statement it is, where that is known.
    pub(crate) fn position(&self) -> Option<Position> {
        match self {
            Self::Statement { position, .. } => *position,
            _ => None,
        }
    }

    /// The outcome's name in metrics.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Statement { .. } => "statement",
            Self::ReadOnly { .. } => "read_only",
            Self::Timeout(_) => "timeout",
            Self::Cancelled => "cancelled",
            Self::Busy(_) => "busy",
            Self::TooLarge { .. } | Self::Memory(_) => "too_large",
            Self::Views(_) => "views",
            Self::Archive(_) => "archive",
            Self::Listen { .. } | Self::Internal(_) => "internal",
        }
    }

    /// The class of SQLSTATE that PostgreSQL clients know for this.
    pub(crate) fn sqlstate(&self) -> &'static str {
        match self {
            Self::Statement { mistake, .. } => match mistake {
                Mistake::Syntax => "42601",
                Mistake::TooComplex => "54001",
                Mistake::UnknownTable => "42P01",
                Mistake::UnknownColumn => "42703",
                Mistake::AmbiguousColumn => "42702",
                Mistake::UnknownFunction => "42883",
                Mistake::DivisionByZero => "22012",
                Mistake::OutOfRange => "22003",
                Mistake::InvalidValue => "22P02",
                Mistake::Unsupported => "0A000",
                Mistake::Other => "42000",
            },
            Self::ReadOnly { .. } => "25006",
            Self::Timeout(_) | Self::Cancelled => "57014",
            Self::Busy(_) => "53300",
            Self::TooLarge { .. } | Self::Memory(_) => "53200",
            Self::Views(_) => "57P03",
            Self::Archive(_) => "58030",
            Self::Listen { .. } | Self::Internal(_) => "XX000",
        }
    }
}

impl From<&DataFusionError> for QueryError {
    fn from(error: &DataFusionError) -> Self {
        if let Some(ours) = find_ours(error) {
            return ours;
        }
        let position = position(error);
        match error.find_root() {
            DataFusionError::ResourcesExhausted(message) => Self::Memory(message.clone()),
            root @ (DataFusionError::ObjectStore(_)
            | DataFusionError::ParquetError(_)
            | DataFusionError::IoError(_)) => {
                Self::Archive(format!("an archive file cannot be read: {root}"))
            }
            root @ (DataFusionError::Internal(_)
            | DataFusionError::External(_)
            | DataFusionError::ExecutionJoin(_)) => Self::Internal(root.strip_backtrace()),
            root => Self::Statement { message: message(root), mistake: mistake(root), position },
        }
    }
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        Self::from(&error)
    }
}

impl From<ViewsError> for QueryError {
    fn from(error: ViewsError) -> Self {
        Self::Views(error)
    }
}

impl From<ArchiveError> for QueryError {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error.to_string())
    }
}

impl From<Cut> for QueryError {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Time(time) => Self::Timeout(time),
            Cut::Cancelled => Self::Cancelled,
        }
    }
}

/// Our own errors travel through the engine boxed; this takes them out again.
fn find_ours(error: &DataFusionError) -> Option<QueryError> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(at) = source {
        if let Some(views) = at.downcast_ref::<ViewsError>() {
            return Some(QueryError::Views(views.clone()));
        }
        if let Some(archive) = at.downcast_ref::<ArchiveError>() {
            return Some(QueryError::Archive(archive.to_string()));
        }
        if let Some(cut) = at.downcast_ref::<Cut>() {
            return Some((*cut).into());
        }
        if let Some(inner) = at.downcast_ref::<DataFusionError>()
            && let DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) = inner
        {
            source = Some(&**inner);
            continue;
        }
        source = at.source();
    }
    None
}

fn mistake(error: &DataFusionError) -> Mistake {
    match error {
        DataFusionError::SQL(..) => Mistake::Syntax,
        DataFusionError::NotImplemented(_) => Mistake::Unsupported,
        DataFusionError::SchemaError(error, _) => match **error {
            SchemaError::FieldNotFound { .. } => Mistake::UnknownColumn,
            SchemaError::AmbiguousReference { .. } => Mistake::AmbiguousColumn,
            _ => Mistake::Other,
        },
        DataFusionError::ArrowError(error, _) => match **error {
            ArrowError::DivideByZero => Mistake::DivisionByZero,
            ArrowError::ArithmeticOverflow(_) => Mistake::OutOfRange,
            ArrowError::CastError(_) | ArrowError::ParseError(_) => Mistake::InvalidValue,
            ArrowError::NotYetImplemented(_) => Mistake::Unsupported,
            _ => Mistake::Other,
        },
        // The engine tells these apart by their words alone.
        DataFusionError::Plan(text) if text.starts_with("table '") => Mistake::UnknownTable,
        DataFusionError::Plan(text) if text.starts_with("Invalid function '") => Mistake::UnknownFunction,
        DataFusionError::Plan(text) if text.starts_with("column '") => Mistake::UnknownColumn,
        _ => Mistake::Other,
    }
}

fn message(error: &DataFusionError) -> String {
    match error {
        DataFusionError::SQL(parser, _) => {
            parser.to_string().trim_start_matches("sql parser error: ").to_owned()
        }
        other => other.message().into_owned(),
    }
}

/// Where the engine says it is: a diagnostic's span, or the end of the parser's message.
fn position(error: &DataFusionError) -> Option<Position> {
    if let Some(span) = error.diagnostic().and_then(|diagnostic| diagnostic.span) {
        return Some(Position { line: span.start.line, column: span.start.column });
    }
    let text = error.to_string();
    let (_, after) = text.rsplit_once("at Line: ")?;
    let (line, after) = after.split_once(", Column: ")?;
    let column: String = after.chars().take_while(char::is_ascii_digit).collect();
    Some(Position { line: line.parse().ok()?, column: column.parse().ok()? })
}
