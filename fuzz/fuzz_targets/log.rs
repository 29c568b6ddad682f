//! Logs: any bytes, and lines whose chain is right.
#![no_main]

use std::fs;

use hotlanes_fuzz::scratch;
use hotlanes_train::store::files::System;
use hotlanes_train::store::log::{self, Log, Mark};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let directory = scratch();
    let path = directory.path().join("log.jsonl");
    let Some((&mode, bytes)) = bytes.split_first() else { return };
    if mode % 2 == 0 {
        fs::write(&path, bytes).expect("a scratch file");
        let read = log::read(&path);
        let bytes = u64::from(mode) / 2 * bytes.len() as u64 / 64;
        for bytes in [bytes, u64::MAX] {
            let mark = Mark { bytes, ..Mark::default() };
            let resumed = Log::resume(&System, &path, mark).map(|(_, lines)| lines);
            if let (Ok(read), Ok(resumed)) = (&read, resumed) {
                assert!(resumed.len() <= read.len() + 1);
            }
        }
        return;
    }
    // Each line of the input is an object's fields.
    let mut log = Log::new(&System, &path);
    let mut written = Vec::new();
    for (i, line) in bytes.split(|&b| b == b'\n').enumerate() {
        let Ok(Value::Object(fields)) = serde_json::from_slice(line) else { continue };
        let fields = Value::Object(fields).to_string();
        let event = if i == 0 { "run" } else { "step" };
        written.push(log.write(event, &fields, i % 3 != 2, &Value::Null).expect("a scratch file"));
    }
    if let Ok(read) = log::read(&path) {
        let read: Vec<Value> = read.into_iter().map(|line| line.value).collect();
        assert_eq!(read, written);
        let (_, resumed) = Log::resume(&System, &path, log.mark()).expect("it was read");
        assert_eq!(resumed.len(), written.len());
    }
});
