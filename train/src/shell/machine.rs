//! placeholder
/// cpu
pub fn cpu() -> String {
    String::new()
}
/// Seconds since 1970.
pub fn unix_time() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_secs())
}
