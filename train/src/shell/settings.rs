//! placeholder
/// A setting that breaks a rule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{name} = {value}: {rule}")]
pub struct SettingError {
    /// The setting, as its option is called.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// The rule that it breaks.
    pub rule: String,
}

impl From<crate::models::gpt::config::ConfigError> for SettingError {
    fn from(e: crate::models::gpt::config::ConfigError) -> Self {
        SettingError { name: e.name, value: e.value, rule: e.rule }
    }
}
impl From<crate::models::gpt::config::ConfigError> for super::error::Error {
    fn from(e: crate::models::gpt::config::ConfigError) -> Self {
        SettingError::from(e).into()
    }
}
impl From<crate::models::population::run::ConfigError> for super::error::Error {
    fn from(e: crate::models::population::run::ConfigError) -> Self {
        super::error::Error::Usage(e.to_string())
    }
}
