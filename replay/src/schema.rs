//! The columns of a record, and the data that are added to them.

use std::fmt;

use crate::codec::Codec;
use crate::error::{Error, Result};

/// Bytes of a record at most, decoded: sizes of batches then stay within 64 bits.
const MOST_RECORD: usize = 1 << 31;
const MOST_COLUMNS: usize = 256;
const MOST_NAME: usize = 255;

/// The type of a column's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// `f32`.
    F32,
    /// bfloat16, the upper half of an `f32`, given as `u16`.
    Bf16,
    /// `u8`.
    U8,
    /// `i32`.
    I32,
    /// Bits, eight to a byte, the lowest first; each record begins at a byte.
    Bits,
}

impl Dtype {
    /// All, in the order of their numbers in files.
    pub const ALL: [Dtype; 5] = [Dtype::F32, Dtype::Bf16, Dtype::U8, Dtype::I32, Dtype::Bits];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
            Dtype::U8 => "u8",
            Dtype::I32 => "i32",
            Dtype::Bits => "bits",
        }
    }

    /// Bytes of so many elements, `None` where these are too many.
    fn bytes(self, elements: usize) -> Option<usize> {
        match self {
            Dtype::F32 | Dtype::I32 => elements.checked_mul(4),
            Dtype::Bf16 => elements.checked_mul(2),
            Dtype::U8 => Some(elements),
            Dtype::Bits => Some(elements.div_ceil(8)),
        }
    }

    /// Bytes of one element; of eight for bits.
    pub(crate) fn unit(self) -> usize {
        match self {
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::Bf16 => 2,
            Dtype::U8 | Dtype::Bits => 1,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A column: a name, a dtype and the shape of one record's elements (empty for a single one).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) codec: Codec,
    /// Bytes of a record on average, for a codec whose records differ in size.
    pub(crate) budget: Option<usize>,
}

impl Column {
    /// A column that is stored as it is.
    pub fn new(name: impl Into<String>, dtype: Dtype, shape: &[usize]) -> Column {
        Column { name: name.into(), dtype, shape: shape.to_vec(), codec: Codec::Raw, budget: None }
    }

    /// The same, stored by a codec.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Column {
        self.codec = codec;
        self
    }

    /// Bytes to reserve for a record where the codec's records differ in size (default: the most that one may take).
    /// With less, a segment that is full of bytes is sealed before it is full of records.
    #[must_use]
    pub fn budget(mut self, bytes: usize) -> Column {
        self.budget = Some(bytes);
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its dtype.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The shape of a record's elements.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How it is stored.
    pub fn storage(&self) -> Codec {
        self.codec
    }

    /// Elements of a record. Bits of different records share no byte.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of a record as it is added and sampled.
    pub fn record_bytes(&self) -> usize {
        self.dtype.bytes(self.elements()).expect("checked by Schema::new")
    }

    fn refuse<T>(&self, rule: impl Into<String>) -> Result<T> {
        Err(Error::Schema { column: self.name.clone(), rule: rule.into() })
    }

    fn check(&self) -> Result<usize> {
        if self.name.is_empty() || self.name.len() > MOST_NAME {
            return self.refuse(format!("a name must have 1 to {MOST_NAME} bytes"));
        }
        let elements = self.shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        let bytes = elements.and_then(|n| self.dtype.bytes(n));
        match bytes {
            Some(bytes) if (1..=MOST_RECORD).contains(&bytes) => {
                self.codec.check(self).or_else(|rule| self.refuse(rule))?;
                Ok(bytes)
            }
            _ => self.refuse(format!("a record of {:?} must have 1 to {MOST_RECORD} bytes", self.shape)),
        }
    }
}

/// The columns of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    columns: Vec<Column>,
}

impl Schema {
    /// Checks columns.
    ///
    /// # Errors
    /// There are none or more than 256; two have one name; a record is too large; a codec does not fit its column.
    pub fn new(columns: Vec<Column>) -> Result<Schema> {
        if columns.is_empty() || columns.len() > MOST_COLUMNS {
            return Err(Error::setting("columns", columns.len(), "must be 1 to 256"));
        }
        let mut bytes = 0;
        for (i, column) in columns.iter().enumerate() {
            if columns[..i].iter().any(|other| other.name == column.name) {
                return column.refuse("there are two of this name");
            }
            bytes += column.check()?;
            if bytes > MOST_RECORD {
                return column.refuse(format!("with it, a record has more than {MOST_RECORD} bytes"));
            }
        }
        Ok(Schema { columns })
    }

    /// The columns in their order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Bytes of a record as it is added and sampled.
    pub fn record_bytes(&self) -> usize {
        self.columns.iter().map(Column::record_bytes).sum()
    }

    /// The place of a column.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn index(&self, name: &str) -> Result<usize> {
        let found = self.columns.iter().position(|column| column.name == name);
        found.ok_or_else(|| self.column_error(name, "is not in the schema"))
    }

    /// Named data in the order of the columns.
    ///
    /// # Errors
    /// A column is missing, is there twice or unknown.
    pub fn order<'a>(&self, named: &[(&str, Data<'a>)]) -> Result<Vec<Data<'a>>> {
        let mut ordered = vec![None; self.columns.len()];
        for &(name, data) in named {
            if ordered[self.index(name)?].replace(data).is_some() {
                return Err(self.column_error(name, "is given twice"));
            }
        }
        let missing = |(column, data): (&Column, Option<_>)| {
            data.ok_or_else(|| self.column_error(&column.name, "is missing"))
        };
        self.columns.iter().zip(ordered).map(missing).collect()
    }

    fn column_error(&self, column: &str, what: &'static str) -> Error {
        let names: Vec<_> = self.columns.iter().map(|column| column.name.as_str()).collect();
        Error::Column { column: column.into(), what, columns: names.join(", ") }
    }

    /// Checks the data of so many records, in the order of the columns.
    pub(crate) fn check(&self, records: usize, data: &[Data<'_>]) -> Result<()> {
        if data.len() != self.columns.len() {
            let expected = self.columns.len().to_string();
            return Err(Error::Count { what: "columns", expected, given: data.len() });
        }
        self.columns
            .iter()
            .zip(data)
            .try_for_each(|(column, data)| check_one(column, records, data.dtype(), data.len()))
    }
}

/// Checks dtype and number of elements (bytes for bits) of a column's data.
pub(crate) fn check_one(column: &Column, records: usize, dtype: Dtype, given: usize) -> Result<()> {
    if dtype != column.dtype {
        return Err(Error::Dtype { column: column.name.clone(), expected: column.dtype, given: dtype });
    }
    let elements = column.record_bytes() / dtype.unit();
    match records.checked_mul(elements) {
        Some(expected) if expected == given => Ok(()),
        expected => Err(Error::Length {
            column: column.name.clone(),
            expected: expected.unwrap_or(usize::MAX),
            records,
            shape: if dtype == Dtype::Bits { vec![elements] } else { column.shape.clone() },
            given,
        }),
    }
}

/// Data of one column: those of one record after another.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// `f32`.
    F32(&'a [f32]),
    /// bfloat16.
    Bf16(&'a [u16]),
    /// `u8`.
    U8(&'a [u8]),
    /// `i32`.
    I32(&'a [i32]),
    /// Bits, each record in whole bytes.
    Bits(&'a [u8]),
}

/// The same, to be written to.
#[derive(Debug)]
pub enum DataMut<'a> {
    /// `f32`.
    F32(&'a mut [f32]),
    /// bfloat16.
    Bf16(&'a mut [u16]),
    /// `u8`.
    U8(&'a mut [u8]),
    /// `i32`.
    I32(&'a mut [i32]),
    /// Bits, each record in whole bytes.
    Bits(&'a mut [u8]),
}

macro_rules! data {
    ($name:ident) => {
        impl $name<'_> {
            /// The dtype.
            pub fn dtype(&self) -> Dtype {
                match self {
                    $name::F32(_) => Dtype::F32,
                    $name::Bf16(_) => Dtype::Bf16,
                    $name::U8(_) => Dtype::U8,
                    $name::I32(_) => Dtype::I32,
                    $name::Bits(_) => Dtype::Bits,
                }
            }

            /// Elements; bytes for bits.
            pub fn len(&self) -> usize {
                match self {
                    $name::F32(x) => x.len(),
                    $name::Bf16(x) => x.len(),
                    $name::I32(x) => x.len(),
                    $name::U8(x) | $name::Bits(x) => x.len(),
                }
            }

            /// Whether there are none.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }
        }
    };
}

data!(Data);
data!(DataMut);

impl<'a> Data<'a> {
    /// Its bytes.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Data::F32(x) => bytemuck::cast_slice(x),
            Data::Bf16(x) => bytemuck::cast_slice(x),
            Data::I32(x) => bytemuck::cast_slice(x),
            Data::U8(x) | Data::Bits(x) => x,
        }
    }
}

impl DataMut<'_> {
    /// Its bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        match self {
            DataMut::F32(x) => bytemuck::cast_slice_mut(x),
            DataMut::Bf16(x) => bytemuck::cast_slice_mut(x),
            DataMut::I32(x) => bytemuck::cast_slice_mut(x),
            DataMut::U8(x) | DataMut::Bits(x) => x,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::new(vec![
            Column::new("obs", Dtype::U8, &[2, 3]),
            Column::new("reward", Dtype::F32, &[]),
            Column::new("legal", Dtype::Bits, &[9]),
        ])
        .unwrap()
    }

    #[test]
    fn errors_name_column_expected_and_given() {
        let schema = schema();
        let (obs, reward, legal) = ([0; 12], [0.0; 2], [0; 4]);
        let good = [Data::U8(&obs), Data::F32(&reward), Data::Bits(&legal)];
        schema.check(2, &good).unwrap();
        let told = |records, data: &[Data<'_>]| schema.check(records, data).unwrap_err().to_string();
        assert_eq!(told(3, &good), "column obs: expected 18 elements (3 x [2, 3]), given 12");
        assert_eq!(told(2, &[good[0], good[0], good[2]]), "column reward: expected f32, given u8");
        assert_eq!(told(2, &good[..2]), "columns: expected 3, given 2");
        assert_eq!(
            told(2, &[good[0], good[1], Data::Bits(&obs)]),
            "column legal: expected 4 elements (2 x [2]), given 12"
        );
        let named = |names: &[&str]| {
            let data: Vec<_> = names.iter().map(|&name| (name, good[0])).collect();
            schema.order(&data).unwrap_err().to_string()
        };
        assert_eq!(
            named(&["obs", "legal"]),
            "column reward: is missing (the columns are obs, reward, legal)"
        );
        assert_eq!(named(&["obs", "obs"]), "column obs: is given twice (the columns are obs, reward, legal)");
        assert_eq!(named(&["x"]), "column x: is not in the schema (the columns are obs, reward, legal)");
        let ordered = schema.order(&[("legal", good[2]), ("obs", good[0]), ("reward", good[1])]).unwrap();
        schema.check(2, &ordered).unwrap();
    }

    #[test]
    fn a_schema_that_makes_no_sense_is_refused() {
        let told = |columns: Vec<Column>| Schema::new(columns).unwrap_err().to_string();
        assert_eq!(told(vec![]), "columns is 0: must be 1 to 256");
        let x = Column::new("x", Dtype::F32, &[2]);
        assert_eq!(told(vec![x.clone(), x.clone()]), "column x: there are two of this name");
        assert!(told(vec![Column::new("", Dtype::F32, &[])]).contains("a name must have"));
        for shape in [&[0][..], &[usize::MAX, 2], &[1 << 30]] {
            assert!(told(vec![Column::new("x", Dtype::F32, shape)]).contains("must have 1 to"), "{shape:?}");
        }
        assert_eq!(schema().record_bytes(), 6 + 4 + 2);
    }
}
