//! Positions of random games under chess rules, as an AlphaZero-like program stores them.

#[path = "../benches/chess/mod.rs"]
mod chess;

use hotlanes_replay::{Buffer, Config, Data, DataMut, Method, Of, Request, Target, Unit};

#[test]
fn chess_records_are_twenty_times_smaller_and_the_same() {
    let positions = chess::positions(7, 300);
    let schema = chess::schema();
    let plain = schema.record_bytes();
    assert_eq!(plain, 49_924);
    let config = Config { episodes: false, segments: 8, ..Config::new(300) };
    let buffer = Buffer::new(schema, config).unwrap();
    let mut writer = buffer.writer(1).unwrap();
    let (planes, policy, value) = (&positions.planes, &positions.policy, &positions.value);
    writer.add(300, &[Data::F32(planes), Data::F32(policy), Data::F32(value)], &[]).unwrap();
    let per_record = buffer.bytes() as f64 / 300.0;
    let ratio = plain as f64 / per_record;
    println!("{per_record:.0} bytes a record with the spare segment: {ratio:.1} times smaller");
    assert!(ratio >= 20.0, "{ratio}");
    let mut sampler =
        buffer.sampler(Request { method: Method::Newest, replace: false, unit: Unit::Record }).unwrap();
    let (mut a, mut b, mut c) = (vec![0.5; planes.len()], vec![0.5; policy.len()], vec![0.5; value.len()]);
    let mut targets = [
        Target { column: 0, of: Of::Drawn, data: DataMut::F32(&mut a) },
        Target { column: 1, of: Of::Drawn, data: DataMut::F32(&mut b) },
        Target { column: 2, of: Of::Drawn, data: DataMut::F32(&mut c) },
    ];
    sampler.sample_into(300, &mut targets).unwrap();
    // The newest first.
    for (got, added, size) in [(&a, planes, 122 * 64), (&b, policy, 4672), (&c, value, 1)] {
        assert!(got.chunks(size).eq(added.chunks(size).rev()));
    }
}
