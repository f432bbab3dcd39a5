//! Little-endian fields back to back: how models and states are written.

use crate::error::ModelError;

#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Writes the bits, so that what is read back is the same to the last.
    pub(crate) fn f32s(&mut self, values: &[f32]) {
        for value in values {
            self.bytes.extend_from_slice(&value.to_le_bytes());
        }
    }

    pub(crate) fn u32s(&mut self, values: &[u32]) {
        values.iter().for_each(|&value| self.u32(value));
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.bytes.extend_from_slice(text.as_bytes());
    }
}

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(crate) fn wrong(&self, why: &'static str) -> ModelError {
        ModelError::Bytes { what: self.what, why }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], ModelError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.wrong("it ends too early"))?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn magic(&mut self, magic: &[u8]) -> Result<(), ModelError> {
        if self.take(magic.len())? == magic { Ok(()) } else { Err(self.wrong("it begins otherwise")) }
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ModelError> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes(bytes.try_into().unwrap_or_default()))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, ModelError> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().unwrap_or_default()))
    }

    /// A count of things of at least `size` bytes each, which must then be there.
    pub(crate) fn count(&mut self, size: usize) -> Result<usize, ModelError> {
        let count = self.u32()? as usize;
        if count.saturating_mul(size) > self.rest.len() {
            return Err(self.wrong("it counts more than it holds"));
        }
        Ok(count)
    }

    pub(crate) fn f32s(&mut self, count: usize) -> Result<Vec<f32>, ModelError> {
        let bytes = self.take(count.saturating_mul(4))?;
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap_or_default())).collect())
    }

    pub(crate) fn u32s(&mut self, count: usize) -> Result<Vec<u32>, ModelError> {
        let bytes = self.take(count.saturating_mul(4))?;
        Ok(bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap_or_default())).collect())
    }

    pub(crate) fn text(&mut self) -> Result<String, ModelError> {
        let len = self.u32()? as usize;
        String::from_utf8(self.take(len)?.to_vec()).map_err(|_| self.wrong("a name is not UTF-8"))
    }

    pub(crate) fn end(&self) -> Result<(), ModelError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.wrong("it goes on after its end")) }
    }
}
