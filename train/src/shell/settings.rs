//! The error of a setting that breaks its rule, and the rules that settings share.

use std::fmt::{Display, LowerExp, Write};

use hotlanes::HyperParamError;

/// A setting that breaks its rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} = {value}: {rule}")]
pub struct SettingError {
    /// The option's name, as typed, without the leading dashes.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// The rule, such as "must be at least 1".
    pub rule: String,
}

impl SettingError {
    /// The error for a value that [`number`] need not shorten.
    pub fn new(name: &'static str, value: impl Display, rule: impl Into<String>) -> Self {
        SettingError { name, value: value.to_string(), rule: rule.into() }
    }
}

impl From<HyperParamError> for SettingError {
    /// A kernel's hyper-parameter, under the name of the option that sets it.
    fn from(e: HyperParamError) -> Self {
        let name = match e.name {
            "weight_decay" => "weight-decay",
            "lr * weight_decay" => "lr * weight-decay",
            "max_norm" => "clip",
            name => name,
        };
        SettingError::new(name, number(e.value), e.rule)
    }
}

/// A value as a person would type it: 0.3, 1e300.
pub fn number<T: Copy + Display + LowerExp + Into<f64>>(value: T) -> String {
    let mut text = String::new();
    write_number(&mut text, value);
    text
}

/// Appends [`number`] to a text. It reads back to the bit.
pub fn write_number<T: Copy + Display + LowerExp + Into<f64>>(text: &mut String, value: T) {
    // A String takes everything.
    let _ = match value.into().abs() {
        size if size == 0.0 || !size.is_finite() || (1e-5..1e16).contains(&size) => write!(text, "{value}"),
        _ => write!(text, "{value:e}"),
    };
}

/// A rule of any kind.
///
/// # Errors
/// `holds` is false.
pub fn check(
    holds: bool,
    name: &'static str,
    value: impl Display,
    rule: impl Into<String>,
) -> Result<(), SettingError> {
    if holds { Ok(()) } else { Err(SettingError::new(name, value, rule)) }
}

/// A count: from 1 to `most`.
///
/// # Errors
/// It is out of this range.
pub fn count(name: &'static str, value: u64, most: u64) -> Result<(), SettingError> {
    check(value > 0, name, value, "must be at least 1")?;
    at_most(name, value, most)
}

/// A count that may be 0.
///
/// # Errors
/// It is above `most`.
pub fn at_most(name: &'static str, value: u64, most: u64) -> Result<(), SettingError> {
    if value <= most {
        Ok(())
    } else {
        Err(SettingError::new(name, value, format!("must be at most {most}")))
    }
}

/// A probability, or a share that may be nothing or all.
///
/// # Errors
/// It is not from 0 to 1.
pub fn share(name: &'static str, value: f64) -> Result<(), SettingError> {
    check((0.0..=1.0).contains(&value), name, number(value), "must be at least 0 and at most 1")
}

#[cfg(test)]
mod tests {
    use hotlanes::adamw::{AdamW, AdamWConfig};

    use super::*;

    #[test]
    fn rules_refuse_what_is_out_of_range_and_say_so() {
        let told = |result: Result<(), SettingError>| result.unwrap_err().to_string();
        assert_eq!(told(count("batch", 0, 8)), "batch = 0: must be at least 1");
        assert_eq!(told(count("batch", 9, 8)), "batch = 9: must be at most 8");
        assert_eq!(
            (count("batch", 1, 8), count("batch", 8, 8), at_most("batch", 0, 8)),
            (Ok(()), Ok(()), Ok(()))
        );
        for bad in [f64::NAN, -0.1, 1.1, f64::INFINITY, -1e-320] {
            assert!(told(share("cull", bad)).ends_with(": must be at least 0 and at most 1"), "{bad}");
        }
        assert_eq!((share("cull", 0.0), share("cull", 1.0)), (Ok(()), Ok(())));
        assert_eq!(told(check(false, "lr", number(1e300), "must be lower")), "lr = 1e300: must be lower");
    }

    #[test]
    fn numbers_are_short_and_read_back() {
        let texts = [0.3, 1e30, 1e-320, 128.0, -1.0, f64::NAN, f64::INFINITY, 0.0].map(number);
        assert_eq!(texts, ["0.3", "1e30", "1e-320", "128", "-1", "NaN", "inf", "0"]);
        for value in [f64::MAX, f64::MIN_POSITIVE, 5e-324, 123_456.75] {
            assert!(number(value).len() < 30 && number(value).parse() == Ok(value));
        }
    }

    #[test]
    fn hyper_parameters_have_the_names_of_options() {
        let told = |change: fn(&mut AdamWConfig)| {
            let mut config = AdamWConfig::default();
            change(&mut config);
            SettingError::from(AdamW::new(config).unwrap_err()).to_string()
        };
        assert_eq!(told(|c| c.lr = 1e300), "lr = 1e300: must be at least 0 and at most 1e30");
        assert_eq!(told(|c| c.weight_decay = -1.0), "weight-decay = -1: must be at least 0 and at most 1e12");
        assert!(told(|c| (c.lr, c.weight_decay) = (1e30, 1e12)).starts_with("lr * weight-decay = 1e42: "));
    }
}
