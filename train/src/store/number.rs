//! Stored numbers that need not be finite: JSON has none such, and serde_json writes `null`, which does not come back.
//! With `#[serde(with = "number")]` finite numbers are JSON numbers, the others the strings "NaN", "inf" and "-inf".
//!
//! All NaNs are one: their sign and payload differ between CPUs.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

/// Writes a number.
///
/// # Errors
/// Of the serializer.
pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match *value {
        v if v.is_finite() => serializer.serialize_f64(v),
        v if v.is_nan() => serializer.serialize_str("NaN"),
        v => serializer.serialize_str(if v > 0.0 { "inf" } else { "-inf" }),
    }
}

/// Reads a number.
///
/// # Errors
/// It is none, or the deserializer fails.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    deserializer.deserialize_any(Number)
}

struct Number;

impl Visitor<'_> for Number {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, \"NaN\", \"inf\" or \"-inf\"")
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<f64, E> {
        Ok(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<f64, E> {
        match text {
            "NaN" => Ok(f64::NAN),
            "inf" => Ok(f64::INFINITY),
            "-inf" => Ok(f64::NEG_INFINITY),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
        }
    }

    /// `null`, which earlier versions wrote for all that is not finite.
    fn visit_unit<E: Error>(self) -> Result<f64, E> {
        Ok(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct One {
        #[serde(with = "super")]
        x: f64,
    }

    fn back(x: f64) -> f64 {
        serde_json::from_str::<One>(&serde_json::to_string(&One { x }).unwrap()).unwrap().x
    }

    proptest! {
        #[test]
        fn every_number_comes_back_to_the_bit(bits in any::<u64>()) {
            let x = f64::from_bits(bits);
            prop_assert_eq!(back(x).to_bits(), if x.is_nan() { f64::NAN.to_bits() } else { bits });
        }
    }

    #[test]
    fn special_numbers_come_back_and_other_texts_do_not() {
        let special =
            [0.0, -0.0, 5e-324, -1e-320, f64::MAX, f64::MIN, f64::INFINITY, f64::NEG_INFINITY, 1.0, 2e63];
        assert!(special.iter().all(|&x| back(x).to_bits() == x.to_bits()));
        assert_eq!(back(-f64::NAN).to_bits(), f64::NAN.to_bits());
        let json = |x| serde_json::to_string(&One { x }).unwrap();
        assert_eq!(
            [json(0.5), json(-f64::NAN), json(-1.0 / 0.0)],
            [r#"{"x":0.5}"#, r#"{"x":"NaN"}"#, r#"{"x":"-inf"}"#]
        );
        let read = |text| serde_json::from_str::<One>(text).map(|one| one.x);
        assert_eq!((read(r#"{"x":3}"#).unwrap(), read(r#"{"x":-3}"#).unwrap()), (3.0, -3.0));
        assert!(read(r#"{"x":null}"#).unwrap().is_nan());
        assert!(read(r#"{"x":"1.0"}"#).is_err() && read("{}").is_err());
    }
}
