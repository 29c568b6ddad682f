//! placeholder
/// limit
pub fn limit() -> Option<f64> {
    None
}
