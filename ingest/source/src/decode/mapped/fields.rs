//! Where the fields of a reading stand: names, texts, times and qualities, by the paths of a mapping.

use std::borrow::Cow;
use std::fmt::Write;

use super::super::DecodeError;
use super::super::json::time;
use super::{Found, Lead, Scalar, Tree, Walk};
use crate::mapping::Source;
use crate::mapping::path::{Path, Piece, Root, Step};
use crate::settings::TimeUnit;

impl<'w, T: Tree> Walk<'w, '_, T> {
    /// Writes a name to `out`; false where nothing that it can be made of is there.
    pub(super) fn name(
        &mut self,
        source: &'w Source,
        field: &'static str,
        name: &str,
        out: &mut String,
    ) -> Result<bool, DecodeError> {
        'forms: for pieces in source {
            out.clear();
            for piece in pieces {
                match piece {
                    Piece::Text(text) => out.push_str(text),
                    Piece::Path(path) if path.root == Root::Name => out.push_str(name),
                    Piece::Path(path) => {
                        if !self.text(path, out)? {
                            continue 'forms;
                        }
                    }
                }
            }
            if !out.is_empty() {
                self.name_origin(field, pieces, name);
                return Ok(true);
            }
        }
        out.clear();
        self.sink.forget(field);
        Ok(false)
    }

    /// Appends the text that `path` leads to; false where it leads nowhere.
    pub(super) fn text(&self, path: &'w Path, out: &mut String) -> Result<bool, DecodeError> {
        let tree = self.tree;
        match self.find(path)? {
            None => Ok(false),
            Some(Found::Text(text)) => {
                out.push_str(&text);
                Ok(true)
            }
            Some(Found::KafkaTime(ms)) => {
                // Writing to a String never fails.
                let _ = write!(out, "{ms}");
                Ok(true)
            }
            Some(Found::Node(node)) => match tree.scalar(node)? {
                Scalar::Null => Ok(false),
                Scalar::Text(text) => {
                    out.push_str(&text);
                    Ok(true)
                }
                scalar => {
                    let text = scalar.into_text().ok_or_else(|| {
                        DecodeError::new("bad_name", tree.at(node), format!("{path} is no text or number"))
                    })?;
                    out.push_str(&text);
                    Ok(true)
                }
            },
        }
    }

    pub(super) fn time(&mut self, row: T::Node) -> Result<i64, DecodeError> {
        let mapping = self.mapping;
        for path in &mapping.time {
            let found = self.find(path)?;
            let (scalar, node) = match found {
                None => continue,
                Some(Found::Node(node)) => (self.tree.scalar(node)?, Some(node)),
                Some(Found::Text(text)) => (Scalar::Text(text), None),
                Some(Found::KafkaTime(ms)) => match time::from_epoch(ms, TimeUnit::Millis) {
                    Some(us) => (Scalar::Time(us), None),
                    None => continue,
                },
            };
            if matches!(scalar, Scalar::Null) {
                continue;
            }
            let time_us = scalar.time_us(self.unit).ok_or_else(|| {
                let at = self.tree.at(node.unwrap_or(row));
                let message = format!(
                    "{path} is no time: neither a timestamp nor RFC 3339 nor an epoch from 1678 to 2262"
                );
                DecodeError::new("bad_time", at, message)
            })?;
            self.origin("time", path, node);
            return Ok(time_us);
        }
        let tried: Vec<String> = mapping.time.iter().map(ToString::to_string).collect();
        let message = format!("time is missing; mapping.time is {}", tried.join(", then "));
        Err(DecodeError::new("missing_field", self.tree.at(row), message))
    }

    pub(super) fn quality(&mut self) -> Result<u32, DecodeError> {
        let mapping = self.mapping;
        for path in &mapping.quality {
            let (scalar, node) = match self.find(path)? {
                Some(Found::Node(node)) => (self.tree.scalar(node)?, Some(node)),
                Some(Found::Text(text)) => (Scalar::Text(text), None),
                _ => continue,
            };
            if matches!(scalar, Scalar::Null) {
                continue;
            }
            let quality = scalar.quality(&mapping.quality_codes).ok_or_else(|| {
                let message = format!(
                    "{path} is no quality that is known; name it in mapping.quality_codes with its OPC UA status code"
                );
                DecodeError::new("bad_quality", node.map_or(0, |node| self.tree.at(node)), message)
            })?;
            self.origin("quality", path, node);
            return Ok(quality);
        }
        Ok(0)
    }

    /// The first of `paths` that leads to a node, null or not.
    pub(super) fn first(&self, paths: &'w [Path]) -> Result<Option<(&'w Path, T::Node)>, DecodeError> {
        for path in paths {
            if let Some(Found::Node(node)) = self.find(path)? {
                return Ok(Some((path, node)));
            }
        }
        Ok(None)
    }

    pub(super) fn find(&self, path: &'w Path) -> Result<Option<Found<'_, T::Node>>, DecodeError> {
        self.follow(&path.root, &path.steps)
    }

    /// What `steps` lead to from `root`.
    pub(super) fn follow(
        &self,
        root: &Root,
        steps: &'w [Step],
    ) -> Result<Option<Found<'_, T::Node>>, DecodeError> {
        let from = match root {
            Root::Record => self.tree.root(),
            Root::Row(up) => match self.rows.len().checked_sub(up + 1) {
                Some(row) => self.rows[row],
                None => self.tree.root(),
            },
            Root::Key => return Ok(self.keys.last().map(|key| Found::Text(Cow::Borrowed(key)))),
            Root::Name => return Ok(None),
            Root::KafkaKey => {
                return Ok(self.record.key.map(|key| Found::Text(String::from_utf8_lossy(key))));
            }
            Root::KafkaTimestamp => {
                let ms = self.record.timestamp_ms;
                return Ok((ms >= 0).then_some(Found::KafkaTime(ms)));
            }
            Root::KafkaHeader(wanted) => {
                let header = self.record.headers().find(|(name, _)| name == wanted);
                let value = header.and_then(|(_, value)| value);
                return Ok(value.map(|value| Found::Text(String::from_utf8_lossy(value))));
            }
        };
        if steps.is_empty() {
            return Ok(Some(Found::Node(from)));
        }
        let mut leads = self.leads.borrow_mut();
        // Steps of one mapping are the same where they stand at the same place.
        let known = leads.iter().position(|lead| std::ptr::eq(lead.steps, steps));
        if let Some(lead) = known.map(|i| &leads[i])
            && lead.from == from
        {
            return Ok(lead.to.map(Found::Node));
        }
        let to = self.walk(from, steps)?;
        let lead = Lead { steps, from, to };
        match known {
            Some(i) => leads[i] = lead,
            None => leads.push(lead),
        }
        Ok(to.map(Found::Node))
    }

    fn walk(&self, from: T::Node, steps: &[Step]) -> Result<Option<T::Node>, DecodeError> {
        let mut node = from;
        for step in steps {
            let next = match step {
                Step::Member(name) => self.tree.member(node, name)?,
                Step::Item(i) => self.tree.item(node, *i),
                Step::All => None,
            };
            match next {
                Some(next) => node = next,
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }
}
