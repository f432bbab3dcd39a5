//! Whether an offset is one of some: a condition that a file is read by.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::engine::leaf::only_child;
use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, Schema};
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::expressions::{BinaryExpr, col, lit};
use datafusion::physical_expr::{PhysicalExpr, conjunction};

/// The rows of `schema` whose `offset` is one of `offsets`, which ascend. Pages are left out by the first and the last.
pub(super) fn among(offsets: &Arc<[i64]>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else { return Ok(lit(false)) };
    let offset = col("offset", schema)?;
    let bound = |op, bound: i64| -> Arc<dyn PhysicalExpr> {
        Arc::new(BinaryExpr::new(Arc::clone(&offset), op, lit(bound)))
    };
    let mut conditions = vec![bound(Operator::GtEq, first), bound(Operator::LtEq, last)];
    let gapless = last.abs_diff(first) == offsets.len() as u64 - 1;
    if !gapless {
        conditions.push(Arc::new(Among { offset, offsets: Arc::clone(offsets) }));
    }
    Ok(conjunction(conditions))
}

/// A list as an expression of its own: thousands of literals would each be walked by all that rewrites a condition.
#[derive(Debug, Eq)]
struct Among {
    offset: Arc<dyn PhysicalExpr>,
    offsets: Arc<[i64]>,
}

impl PartialEq for Among {
    fn eq(&self, other: &Self) -> bool {
        self.offset.eq(&other.offset) && self.offsets == other.offsets
    }
}

impl Hash for Among {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.offset.hash(state);
        self.offsets.hash(state);
    }
}

impl fmt::Display for Among {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} among {} offsets", self.offset, self.offsets.len())
    }
}

impl PhysicalExpr for Among {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let column = self.offset.evaluate(batch)?.into_array(batch.num_rows())?;
        let offsets = column.as_primitive::<Int64Type>().values().iter();
        let found: Vec<bool> = offsets.map(|offset| self.offsets.binary_search(offset).is_ok()).collect();
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::from(found))))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.offset]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let offset = only_child(children)?;
        Ok(Arc::new(Self { offset, offsets: Arc::clone(&self.offsets) }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    #[test]
    fn rows_of_the_offsets_and_no_others_are_found() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![9, 4, 5, 6, 7, 5, 3]));
        let batch = RecordBatch::try_from_iter([("offset", column)]).unwrap();
        let check = |offsets: &[i64], expected: [u8; 7]| {
            let condition = among(&offsets.into(), &batch.schema()).unwrap();
            let found = condition.evaluate(&batch).unwrap().into_array(7).unwrap();
            let found = found.as_boolean().values().iter().map(u8::from).collect::<Vec<_>>();
            assert_eq!(found, expected, "{offsets:?}");
        };
        check(&[], [0; 7]);
        check(&[5], [0, 0, 1, 0, 0, 1, 0]);
        check(&[4, 5, 6], [0, 1, 1, 1, 0, 1, 0]);
        check(&[4, 6, 9], [1, 1, 0, 1, 0, 0, 0]);
    }
}
