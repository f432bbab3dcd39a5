//! How large a statement may be, decided on its tokens before anything is parsed.
//!
//! The parser bounds its own recursion, but it builds chains (`1 + 1 + 1 …`, `… UNION …`, joins) by loop, as
//! trees as deep as the chain is long, and everything that walks such a tree later recurses: planner, optimiser,
//! even the tree's own drop. A stack that overflows takes the whole process with it, so the length of chains is
//! bounded here. Lists, however long, stay flat and are bounded by the tokens alone.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::error::{Mistake, QueryError};

/// The largest text of a statement.
pub(crate) const BYTES_MAX: usize = 1 << 20;

/// Tokens of a statement, white space not counted: room for lists of thousands of names.
pub(crate) const TOKENS_MAX: usize = 20_000;

/// Operators and keywords of a statement. A chain needs at least one for each level of its tree, and a tree of
/// this depth fits the stacks that statements run on, even unoptimised (`engine/bounds/tests.rs` walks them; there,
/// twice as many overflow).
pub(crate) const LINKS_MAX: usize = 500;

/// Tables that are joined, in all of a statement: the time to plan grows with more than their square, and nothing
/// cuts a plan's making short.
pub(crate) const JOINS_MAX: usize = 32;

/// Calls and subqueries inside one another: the parser's time doubles with each call, the optimiser's with each
/// subquery.
pub(crate) const NESTED_MAX: usize = 10;

/// Keywords after which a parenthesis opens no call.
const LEADS_TO_LIST: &[Keyword] = &[
    Keyword::ALL,
    Keyword::AND,
    Keyword::AS,
    Keyword::BY,
    Keyword::ELSE,
    Keyword::FROM,
    Keyword::IN,
    Keyword::JOIN,
    Keyword::NOT,
    Keyword::ON,
    Keyword::OR,
    Keyword::SELECT,
    Keyword::THEN,
    Keyword::UNION,
    Keyword::USING,
    Keyword::VALUES,
    Keyword::WHEN,
    Keyword::WHERE,
];

/// How many statements `sql` holds, if it is within the bounds.
///
/// # Errors
/// [`QueryError::Statement`] names the bound that it breaks.
pub(crate) fn check(sql: &str) -> Result<usize, QueryError> {
    if sql.len() > BYTES_MAX {
        return Err(over(sql.len(), "bytes", BYTES_MAX));
    }
    // What does not even tokenise is refused by the parser, which says where.
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize() else { return Ok(1) };
    let mut count = Count::default();
    tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))).for_each(|token| count.add(token));
    if count.tokens > TOKENS_MAX {
        return Err(over(count.tokens, "tokens", TOKENS_MAX));
    }
    if count.joins > JOINS_MAX {
        return Err(over(count.joins, "joins", JOINS_MAX));
    }
    if count.nested_most > NESTED_MAX {
        return Err(over(count.nested_most, "calls or subqueries inside one another", NESTED_MAX));
    }
    if count.links > LINKS_MAX {
        return Err(over(count.links, "operators and keywords", LINKS_MAX));
    }
    Ok(count.statements)
}

fn over(found: usize, what: &str, limit: usize) -> QueryError {
    let message = format!(
        "the statement has {found} {what}, more than the {limit} allowed; use a list (IN, VALUES) or split it"
    );
    QueryError::Statement { message, mistake: Mistake::TooComplex, position: None }
}

#[derive(Default)]
struct Count {
    tokens: usize,
    links: usize,
    joins: usize,
    nested: usize,
    nested_most: usize,
    statements: usize,
    in_statement: bool,
    after_name: bool,
    outside: Level,
    open: Vec<Level>,
}

/// What is known of a pair of brackets that is open, or of what is outside of all.
#[derive(Clone, Copy, Default)]
struct Level {
    /// A list of tables is being read.
    tables: bool,
    /// It holds the arguments of a call, a subquery, or tables.
    nests: bool,
}

impl Count {
    fn add(&mut self, token: &Token) {
        self.tokens += 1;
        self.links += usize::from(self.is_link(token));
        self.after_name = matches!(token, Token::Word(word) if !LEADS_TO_LIST.contains(&word.keyword));
        if matches!(token, Token::SemiColon) {
            self.in_statement = false;
        } else if !std::mem::replace(&mut self.in_statement, true) {
            self.statements += 1;
        }
    }

    /// Whether the token may make the statement's tree deeper.
    fn is_link(&mut self, token: &Token) -> bool {
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => self.open(token),
            Token::RParen | Token::RBracket | Token::RBrace => self.close(),
            // Tables in a list are joined, one level each.
            Token::Comma if self.level().tables => {
                self.joins += 1;
                return true;
            }
            Token::Word(word) if word.keyword != Keyword::NoKeyword => {
                self.joins += usize::from(word.keyword == Keyword::JOIN);
                self.clause(word.keyword);
                return true;
            }
            Token::Word(_) | Token::Comma | Token::Period | Token::SemiColon => {}
            Token::Number(..) | Token::Placeholder(_) => {}
            Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_) => {}
            _ => return true,
        }
        false
    }

    fn open(&mut self, token: &Token) {
        let call = self.after_name || !matches!(token, Token::LParen);
        let tables = self.level().tables && !call;
        self.open.push(Level { tables, nests: false });
        if call || tables {
            self.nest();
        }
    }

    fn close(&mut self) {
        let nested = self.open.pop().is_some_and(|level| level.nests);
        self.nested -= usize::from(nested);
    }

    fn nest(&mut self) {
        if let Some(level) = self.open.last_mut()
            && !std::mem::replace(&mut level.nests, true)
        {
            self.nested += 1;
            self.nested_most = self.nested_most.max(self.nested);
        }
    }

    fn level(&mut self) -> &mut Level {
        self.open.last_mut().unwrap_or(&mut self.outside)
    }

    fn clause(&mut self, keyword: Keyword) {
        match keyword {
            Keyword::FROM => self.level().tables = true,
            Keyword::SELECT => {
                self.level().tables = false;
                self.nest();
            }
            Keyword::WHERE | Keyword::GROUP | Keyword::ORDER | Keyword::HAVING | Keyword::VALUES => {
                self.level().tables = false;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
