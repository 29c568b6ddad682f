use hotlanes_replay::*;
fn main() {
    let mode = std::env::args().nth(1).unwrap();
    let schema = Schema::new(vec![Column::new("x", Dtype::F32, &[])]).unwrap();
    let n = 1_000_000;
    let config = Config { episodes: false, priorities: Some(1.0), ..Config::new(n) };
    let buffer = Buffer::new(schema, config).unwrap();
    buffer.writer(1).unwrap().add(n, &[Data::F32(&vec![0.0; n])], &[]).unwrap();
    let mut s = buffer
        .sampler(Request {
            method: if mode == "uni" { Method::Uniform } else { Method::Prioritised { beta: 0.4 } },
            replace: true,
            unit: Unit::Record,
        })
        .unwrap();
    let mut ids: Vec<u64> = s.sample_into(256, &mut []).unwrap().ids.clone();
    let mut x = 1u32;
    let t = std::time::Instant::now();
    let k = 40000;
    for _ in 0..k {
        if mode != "upd" {
            ids.clone_from(&s.sample_into(256, &mut []).unwrap().ids);
        } else {
            for id in &mut ids {
                x = x.wrapping_mul(1664525).wrapping_add(1013904223);
                *id = (x % 1000000) as u64;
            }
        }
        if mode == "upd" || mode == "both" {
            let p: [f32; 256] = std::array::from_fn(|_| {
                x = x.wrapping_mul(1664525).wrapping_add(1013904223);
                (x >> 8) as f32 / 16777216.0
            });
            buffer.update_priorities(&ids, &p).unwrap();
        }
    }
    println!("{mode} wall {:.1} us", t.elapsed().as_secs_f64() / k as f64 * 1e6);
}
