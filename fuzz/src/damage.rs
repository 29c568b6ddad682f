//! Damage that reaches what lies behind a checkpoint's hash: a valid pair of files is changed in a few places that the
//! fuzzer's bytes choose, and the hash is computed again.

use std::fs;
use std::path::Path;

use hotlanes_train::store::checkpoint;
use hotlanes_train::store::hash::Sha;
use safetensors::SafeTensors;
use serde_json::{Value, json};

/// Numbers out of a fuzzer's bytes; zeros after their end.
pub struct Choices<'a>(pub &'a [u8]);

impl Choices<'_> {
    /// Whether any are left.
    pub fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// A number below `n`, or 0.
    pub fn below(&mut self, n: usize) -> usize {
        let two = usize::from(self.byte()) << 8 | usize::from(self.byte());
        two.checked_rem(n).unwrap_or(0)
    }

    /// Eight bytes.
    fn word(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }
}

/// A tensor as the header of a safetensors file has it.
struct Tensor {
    name: String,
    about: Value,
}

/// Writes a damaged copy of a checkpoint.
pub fn write(directory: &Path, kind: &str, mut index: Value, tensors: &[u8], choices: &mut Choices<'_>) {
    let (mut head, mut data) = split(tensors);
    while choices.any() {
        match choices.byte() % 4 {
            0 | 1 => damage_value(&mut index, choices),
            2 => damage_head(&mut head, data.len(), choices),
            _ => damage_data(&mut data, choices),
        }
    }
    let bytes = join(&head, &data);
    let newest = &mut index["saved"];
    let newest = if newest.is_array() { &mut newest[0] } else { newest };
    if newest.is_object() {
        let hash = digest(&newest["snapshot"], &bytes);
        if let Some(hash) = hash {
            newest["sha256"] = hash.into();
        }
    }
    let step = newest.get("step").and_then(Value::as_u64).unwrap_or(0);
    fs::write(checkpoint::tensors_path(directory, kind, step), bytes).expect("a scratch file");
    fs::write(checkpoint::index_path(directory, kind), index.to_string()).expect("a scratch file");
}

/// The hash that the index must give, if the file can be read at all.
fn digest(snapshot: &Value, bytes: &[u8]) -> Option<String> {
    let tensors = SafeTensors::deserialize(bytes).ok()?;
    let mut all = tensors.tensors();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let sha = Sha::default().part(snapshot.to_string().as_bytes());
    let sha = all.iter().fold(sha, |sha, (name, view)| {
        let head = format!("{name} {:?} {:?}", view.dtype(), view.shape());
        sha.part(head.as_bytes()).part(view.data())
    });
    Some(sha.hex())
}

fn split(file: &[u8]) -> (Vec<Tensor>, Vec<u8>) {
    let len = u64::from_le_bytes(file[..8].try_into().expect("eight bytes")) as usize;
    let head: serde_json::Map<String, Value> = serde_json::from_slice(&file[8..8 + len]).expect("a header");
    let head = head.into_iter().map(|(name, about)| Tensor { name, about }).collect();
    (head, file[8 + len..].to_vec())
}

/// By hand, since a header may name a tensor twice.
fn join(head: &[Tensor], data: &[u8]) -> Vec<u8> {
    let entries: Vec<String> =
        head.iter().map(|t| format!("{}:{}", Value::from(t.name.as_str()), t.about)).collect();
    let text = format!("{{{}}}", entries.join(","));
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), data].concat()
}

/// Values at which readers break.
fn value(choices: &mut Choices<'_>) -> Value {
    match choices.byte() % 16 {
        0 => json!(0),
        1 => json!(1),
        2 => json!(u64::MAX),
        3 => json!(u64::MAX - 1),
        4 => json!(i64::MIN),
        5 => json!(-1),
        6 => json!(1e300),
        7 => json!("NaN"),
        8 => json!("-inf"),
        9 => Value::Null,
        10 => json!([]),
        11 => json!({}),
        12 => json!(100_000_000),
        13 => json!(1_u64 << 63),
        14 => json!(choices.byte()),
        _ => json!(choices.word()),
    }
}

/// Changes one leaf, or drops or doubles what is on the way to it.
fn damage_value(at: &mut Value, choices: &mut Choices<'_>) {
    match at {
        Value::Object(fields) if !fields.is_empty() => {
            let nth = choices.below(fields.len());
            let name = fields.keys().nth(nth).expect("below its length").clone();
            match choices.byte() {
                255 => drop(fields.remove(&name)),
                _ => damage_value(&mut fields[&name], choices),
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let nth = choices.below(items.len());
            match choices.byte() {
                255 => items.push(items[nth].clone()),
                _ => damage_value(&mut items[nth], choices),
            }
        }
        leaf => *leaf = value(choices),
    }
}

fn damage_head(head: &mut Vec<Tensor>, len: usize, choices: &mut Choices<'_>) {
    if head.is_empty() {
        return;
    }
    let (i, j) = (choices.below(head.len()), choices.below(head.len()));
    match choices.byte() % 8 {
        0 => {
            head[i].about["dtype"] =
                json!(["U8", "U16", "U32", "U64", "F32", "F64", "BF16"][choices.below(7)])
        }
        1 => head[i].about["shape"] = json!([choices.word(), choices.word()]),
        2 => head[i].about["data_offsets"] = json!([choices.below(len + 1), choices.below(len + 1)]),
        3 => head[i].about = head[j].about.clone(),
        4 => head[i].name = head[j].name.clone(),
        5 => drop(head.remove(i)),
        6 => damage_value(&mut head[i].about, choices),
        // Another split of the same bytes between two tensors: lengths that do not go together.
        _ => {
            let shape = head[i].about["shape"].clone();
            let end = head[i].about["data_offsets"][1].as_u64().unwrap_or(0);
            if let Some(n) = shape[0].as_u64().filter(|&n| n % 2 == 0) {
                head[i].about["shape"] = json!([n / 2, 2]);
                head[j].about["data_offsets"][0] = json!(end);
            }
        }
    }
}

/// Writes a number that is special in some type, anywhere.
fn damage_data(data: &mut [u8], choices: &mut Choices<'_>) {
    let word = match choices.byte() % 8 {
        0 => u64::MAX,
        1 => u64::from(f32::NAN.to_bits()),
        2 => u64::from((-f32::INFINITY).to_bits()),
        3 => f64::NAN.to_bits(),
        4 => 0,
        5 => 1 << 63,
        _ => choices.word(),
    };
    let width = 1 << (choices.byte() % 4);
    let places = data.len() / width;
    if places > 0 {
        let at = choices.below(places) * width;
        data[at..at + width].copy_from_slice(&word.to_le_bytes()[..width]);
    }
}
